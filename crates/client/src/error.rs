//! How a call fails.

use klamm_protocol::{ApiKey, DecodeError, EncodeError, ErrorCode};

use crate::metadata::TopicPartition;

/// Why a call of the client failed. Cloned to everybody whom one failure concerns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// A setting that cannot be.
    #[error("{0}")]
    Config(String),
    /// No connection could be made.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// `host:port`.
        address: String,
        /// What the system says.
        reason: String,
    },
    /// The connection ended before the answer came.
    #[error("connection to {address} lost: {reason}")]
    Disconnected {
        /// `host:port`.
        address: String,
        /// What the system says.
        reason: String,
    },
    /// No answer in time.
    #[error("{what} took longer than {after_ms} ms{}", last_error(last))]
    TimedOut {
        /// What was asked.
        what: String,
        /// The time it was given.
        after_ms: u64,
        /// What failed while it was tried again and again, if anything did.
        last: Option<Box<ClientError>>,
    },
    /// The broker serves no version of the API that this client knows.
    #[error("{address} serves no version of {api} that this client speaks")]
    NoCommonVersion {
        /// `host:port`.
        address: String,
        /// Which API.
        api: ApiKey,
    },
    /// An answer that cannot be read.
    #[error("the answer to {api} cannot be read: {source}")]
    Decode {
        /// Which API.
        api: ApiKey,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A request that cannot be written.
    #[error("{api} cannot be written: {source}")]
    Encode {
        /// Which API.
        api: ApiKey,
        /// What is wrong with it.
        source: EncodeError,
    },
    /// The broker refused.
    #[error("{what}: {}{}", code, broker_says(message))]
    Broker {
        /// Kafka's code.
        code: ErrorCode,
        /// What was asked.
        what: String,
        /// The broker's own words.
        message: Option<String>,
    },
    /// An answer that leaves out what it was asked for.
    #[error("the answer to {api} lacks {what}")]
    Incomplete {
        /// Which API.
        api: ApiKey,
        /// What is missing.
        what: String,
    },
    /// Records that cannot be read.
    #[error("{partition} at offset {offset}: {reason}")]
    Records {
        /// Where they are.
        partition: TopicPartition,
        /// The position of the reader.
        offset: i64,
        /// What is wrong with them.
        reason: String,
    },
    /// Records that cannot be written.
    #[error("records cannot be compressed: {0}")]
    Compress(String),
    /// A record that could never be sent.
    #[error("a record of {bytes} bytes is above the limit of {bytes_max}")]
    RecordTooLarge {
        /// The record's size.
        bytes: usize,
        /// The producer's bound.
        bytes_max: usize,
    },
    /// A topic has fewer partitions.
    #[error("{0} does not exist")]
    NoSuchPartition(TopicPartition),
    /// A position is needed, and there is neither a committed one nor a rule for such a case.
    #[error("{0} has no position to start from")]
    NoPosition(TopicPartition),
    /// Producer or consumer has been closed.
    #[error("closed")]
    Closed,
}

impl ClientError {
    /// A broker's refusal of `what`.
    pub fn broker(code: ErrorCode, what: impl Into<String>) -> Self {
        Self::Broker { code, what: what.into(), message: None }
    }

    /// Whether trying again may help.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Disconnected { .. } | Self::TimedOut { .. } => true,
            Self::Broker { code, .. } => code.is_retriable(),
            _ => false,
        }
    }

    /// The broker's code, if a broker answered with one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Broker { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// Success, or the broker's refusal of what `what` describes.
pub(crate) fn check(
    error_code: i16,
    message: Option<&str>,
    what: impl FnOnce() -> String,
) -> Result<(), ClientError> {
    match ErrorCode::from_wire(error_code) {
        ErrorCode::None => Ok(()),
        code => {
            Err(ClientError::Broker { code, what: what(), message: message.map(str::to_owned) })
        }
    }
}

fn last_error(last: &Option<Box<ClientError>>) -> String {
    last.as_ref().map_or_else(String::new, |last| format!("; last: {last}"))
}

fn broker_says(message: &Option<String>) -> String {
    message.as_ref().map_or_else(String::new, |message| format!(" ({message})"))
}
