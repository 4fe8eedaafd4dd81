//! What can go wrong, one enum per operation.

use std::io;
use std::sync::Arc;

use klamm_protocol::ErrorCode;
use klamm_protocol::records::{BatchError, RecordError};
use uuid::Uuid;

use crate::producers::ProducerError;

/// The log directory, or this log, met an I/O error and takes no more part until the process is
/// started anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("offline: {reason}")]
pub struct Offline {
    /// The first error.
    pub reason: Arc<str>,
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory holds a log of another topic of that name.
    #[error("the directory belongs to topic id {found}, not {expected}")]
    OtherTopic {
        /// In `partition.metadata`.
        found: Uuid,
        /// As asked for.
        expected: Uuid,
    },
    /// The log directory is offline.
    #[error(transparent)]
    Offline(#[from] Offline),
    /// The disk failed, which takes the log directory offline; or it is full, or the process has no
    /// descriptors left, which passes.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One record that made the leader refuse its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRecord {
    /// Its place in the batch.
    pub batch_index: i32,
    /// Why, for people.
    pub message: String,
}

/// Why nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The log takes no appends any more in this process.
    #[error(transparent)]
    Offline(#[from] Offline),
    /// No room; the log is as before and the append may be tried again.
    #[error("the disk is full")]
    DiskFull,
    /// A new segment could not be opened for want of descriptors or memory; the log is as before and
    /// the append may be tried again.
    #[error("no segment can be opened: {0}")]
    Shortage(io::Error),
    /// The batch is damaged or of an unknown format.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The records of the batch are damaged.
    #[error("records: {0}")]
    Records(#[from] RecordError),
    /// Not exactly one batch.
    #[error("{bytes} bytes follow the batch")]
    MoreThanOneBatch {
        /// Bytes after the first batch.
        bytes: usize,
    },
    /// Larger than `max.message.bytes`.
    #[error("a batch of {size} bytes is above max.message.bytes {max}")]
    TooLarge {
        /// Bytes of the batch.
        size: usize,
        /// The limit.
        max: u32,
    },
    /// Larger than `segment.bytes`.
    #[error("{size} bytes are above segment.bytes {max}")]
    LargerThanSegment {
        /// Bytes of the append.
        size: usize,
        /// The limit.
        max: u32,
    },
    /// Records that break a rule of the topic.
    #[error("{message}")]
    InvalidRecord {
        /// Why, for people.
        message: String,
        /// The records at fault.
        records: Vec<RejectedRecord>,
    },
    /// Timestamps out of bounds, or of the wrong type.
    #[error("{message}")]
    InvalidTimestamp {
        /// Why, for people.
        message: String,
        /// The records at fault.
        records: Vec<RejectedRecord>,
    },
    /// The batch is part of a transaction, which this log does not take.
    #[error("transactions are not offered")]
    Transactional,
    /// The producer's epoch or sequence is wrong.
    #[error(transparent)]
    Producer(#[from] ProducerError),
    /// The append carries an older leader epoch than the log.
    #[error("leader epoch {epoch} is older than the log's {latest}")]
    StaleLeaderEpoch {
        /// As given.
        epoch: i32,
        /// The newest in the log.
        latest: i32,
    },
    /// A follower was given a batch of an epoch that its leader does not lead in yet.
    #[error("a batch of leader epoch {epoch}, which is newer than its leader's {leader_epoch}")]
    EpochAboveLeaders {
        /// The batch's.
        epoch: i32,
        /// The leader's.
        leader_epoch: i32,
    },
    /// A follower was given a batch that does not continue its log.
    #[error("offset {offset} does not continue the log, which ends at {log_end_offset}")]
    OffsetsOutOfOrder {
        /// Base offset of the batch.
        offset: i64,
        /// End of the log.
        log_end_offset: i64,
    },
}

impl AppendError {
    /// What a producer is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            AppendError::Offline(_) | AppendError::DiskFull | AppendError::Shortage(_) => {
                ErrorCode::KafkaStorageError
            }
            AppendError::Batch(error) => batch_code(error),
            AppendError::Records(_) => ErrorCode::InvalidRecord,
            AppendError::MoreThanOneBatch { .. } => ErrorCode::InvalidRecord,
            AppendError::TooLarge { .. } => ErrorCode::MessageTooLarge,
            AppendError::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
            AppendError::InvalidRecord { .. } => ErrorCode::InvalidRecord,
            AppendError::InvalidTimestamp { .. } => ErrorCode::InvalidTimestamp,
            AppendError::Transactional => ErrorCode::InvalidTxnState,
            AppendError::Producer(ProducerError::OutOfOrderSequence { .. }) => {
                ErrorCode::OutOfOrderSequenceNumber
            }
            AppendError::Producer(ProducerError::StaleEpoch { .. }) => {
                ErrorCode::InvalidProducerEpoch
            }
            AppendError::StaleLeaderEpoch { .. } => ErrorCode::NotLeaderOrFollower,
            AppendError::EpochAboveLeaders { .. } | AppendError::OffsetsOutOfOrder { .. } => {
                ErrorCode::UnknownServerError
            }
        }
    }

    /// The records at fault, where the answer can name them.
    pub fn rejected_records(&self) -> &[RejectedRecord] {
        match self {
            AppendError::InvalidRecord { records, .. }
            | AppendError::InvalidTimestamp { records, .. } => records,
            _ => &[],
        }
    }
}

/// Damage is told apart from a whole batch that breaks a rule, as Apache Kafka does.
fn batch_code(error: &BatchError) -> ErrorCode {
    match error {
        BatchError::HeaderTruncated { .. }
        | BatchError::Truncated { .. }
        | BatchError::OldMagic { .. }
        | BatchError::NegativeCount { .. }
        | BatchError::NegativeOffsetDelta { .. }
        | BatchError::CountAboveOffsets { .. }
        | BatchError::OffsetOverflow { .. }
        | BatchError::Empty
        | BatchError::OffsetsNotDense { .. }
        | BatchError::BaseOffsetNotZero { .. }
        | BatchError::Control
        | BatchError::SequenceMissing { .. } => ErrorCode::InvalidRecord,
        BatchError::UnknownMagic { .. }
        | BatchError::LengthTooSmall { .. }
        | BatchError::CrcMismatch { .. }
        | BatchError::UnknownCodec(_) => ErrorCode::CorruptMessage,
    }
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log does not hold that offset.
    #[error("offset {offset} is outside of {log_start_offset} to {log_end_offset}")]
    OffsetOutOfRange {
        /// As asked for.
        offset: i64,
        /// First offset of the log.
        log_start_offset: i64,
        /// The offset after the last.
        log_end_offset: i64,
    },
    /// The disk failed, or what it holds is damaged (`InvalidData`).
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ReadError {
    /// What a consumer is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            ReadError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            ReadError::Io(_) => ErrorCode::KafkaStorageError,
        }
    }
}

/// Why a log was not truncated.
#[derive(Debug, thiserror::Error)]
pub enum TruncateError {
    /// Readers hold what is to be cut; try again when they are done.
    #[error("{sends} reads are in flight")]
    InFlight {
        /// Files and views that are still held.
        sends: usize,
    },
    /// The log is offline.
    #[error(transparent)]
    Offline(#[from] Offline),
    /// The disk failed; the log is now offline. For want of a descriptor nothing was cut yet: call
    /// again.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why a log directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogDirError {
    /// Another process holds the lock.
    #[error("{path} is in use by another process")]
    InUse {
        /// The directory.
        path: String,
    },
    /// `meta.properties` or another file of the directory cannot be read.
    #[error("{path}: {reason}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory belongs to another cluster or broker.
    #[error("{path} belongs to {found}, not to {expected}")]
    Foreign {
        /// The directory.
        path: String,
        /// What `meta.properties` says.
        found: String,
        /// What this broker is.
        expected: String,
    },
    /// The disk failed.
    #[error("{path}: {error}")]
    Io {
        /// The directory.
        path: String,
        /// What it said.
        error: io::Error,
    },
}
