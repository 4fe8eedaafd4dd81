//! What every message can do, and how it fails.
//!
//! The generated modules under [`crate::messages`] implement these traits, one file per API.

use bytes::Bytes;
use thiserror::Error;

use crate::api_key::ApiKey;
use crate::reader::Reader;
use crate::writer::{Encoded, Writer};

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// A value reaches beyond the end.
    #[error("{needed} bytes needed, {remaining} remain")]
    UnexpectedEnd {
        /// What the value takes.
        needed: usize,
        /// What is there.
        remaining: usize,
    },
    /// An array announces more elements than the remaining bytes can hold.
    #[error("an array of {count} elements in {remaining} bytes")]
    CountTooLarge {
        /// The announced number of elements.
        count: usize,
        /// What is there.
        remaining: usize,
    },
    /// The decoded value would be out of proportion to its encoding.
    #[error("{wanted} more bytes of memory wanted, {left} left for this input")]
    OverBudget {
        /// What the next value takes.
        wanted: usize,
        /// What this input may still allocate.
        left: usize,
    },
    /// A string longer than Kafka accepts.
    #[error("a string of {len} bytes")]
    StringTooLong {
        /// The announced length.
        len: usize,
    },
    /// Null where a value must be.
    #[error("null where a value must be")]
    UnexpectedNull,
    /// A varint that does not end or does not fit into 32 bits.
    #[error("a varint of more than 32 bits")]
    VarintTooLong,
    /// Bytes behind the end of the message or of a tagged field.
    #[error("{count} bytes follow the end")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A version outside the message's range.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// The message's name.
        message: &'static str,
        /// The asked version.
        version: i16,
    },
    /// An API key that no Kafka knows, or whose messages are not part of this crate.
    #[error("unknown API key {key}")]
    UnknownApiKey {
        /// The key.
        key: i16,
    },
}

/// Why a value cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The value does not fit into the wire's length field.
    #[error("{len} bytes or elements are too long for the wire")]
    TooLong {
        /// The length.
        len: usize,
    },
    /// The field holds a value that this version cannot carry.
    #[error("{field} is set, but version {version} cannot carry it")]
    FieldNotInVersion {
        /// `Structure.field`.
        field: &'static str,
        /// The version.
        version: i16,
    },
    /// The field is null, and this version has no null for it.
    #[error("{field} is null, but version {version} has no null for it")]
    NullNotInVersion {
        /// `Structure.field`.
        field: &'static str,
        /// The version.
        version: i16,
    },
    /// A version outside the message's range.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// The message's name.
        message: &'static str,
        /// The asked version.
        version: i16,
    },
}

/// A value that can be read from the wire.
pub trait Decode: Sized {
    /// The fewest bytes that any version takes.
    const WIRE_LEN_MIN: usize = 1;

    /// Reads one value in `version`'s form.
    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError>;
}

/// A value that can be written to the wire.
pub trait Encode {
    /// Writes the value in `version`'s form.
    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError>;
}

/// A whole message: a request, a response, a header or the content of an internal record.
pub trait Message: Decode + Encode + Default {
    /// Kafka's name for it.
    const NAME: &'static str;
    /// The oldest version described.
    const VERSION_MIN: i16;
    /// The newest version described.
    const VERSION_MAX: i16;
    /// The first version in the flexible form (compact lengths, tagged fields).
    const FLEXIBLE_FROM: Option<i16>;

    /// Whether `version` is described.
    fn has_version(version: i16) -> bool {
        (Self::VERSION_MIN..=Self::VERSION_MAX).contains(&version)
    }

    /// Reads a message from a reader that stands at its start; what follows it is left unread.
    ///
    /// So a broker reads requests, as Kafka does: librdkafka 2.16 sends three bytes too many with a
    /// Metadata request for all topics.
    fn decode_start(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        if !Self::has_version(version) {
            return Err(DecodeError::UnsupportedVersion { message: Self::NAME, version });
        }
        Self::decode(r, version)
    }

    /// Reads a message from a reader that stands at its start and ends with it.
    fn decode_whole(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let message = Self::decode_start(r, version)?;
        r.finish()?;
        Ok(message)
    }

    /// Reads a message that fills `bytes`.
    fn from_bytes(bytes: Bytes, version: i16) -> Result<Self, DecodeError> {
        Self::decode_whole(&mut Reader::new(bytes), version)
    }

    /// Writes the message after checking that `version` is described.
    fn encode_checked(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        if !Self::has_version(version) {
            return Err(EncodeError::UnsupportedVersion { message: Self::NAME, version });
        }
        self.encode(w, version)
    }

    /// Writes the message alone; see [`Encoded`] for what a response with file contents needs.
    fn to_encoded(&self, version: i16) -> Result<Encoded, EncodeError> {
        let mut w = Writer::new();
        self.encode_checked(&mut w, version)?;
        Ok(w.finish())
    }
}

/// What a client asks.
pub trait Request: Message {
    /// The API that it belongs to.
    const KEY: ApiKey;
    /// What it is answered with.
    type Response: Response;
}

/// What a broker answers.
pub trait Response: Message {
    /// The API that it belongs to.
    const KEY: ApiKey;
}

/// Record batches in a response: at hand, or to be sent from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    /// The batches themselves.
    Inline(Bytes),
    /// Only their length is written; the writer notes a [`crate::Gap`] for them.
    External {
        /// Their length in bytes.
        len: u32,
    },
}

impl Records {
    /// The length on the wire.
    pub fn len(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::External { len } => *len as usize,
        }
    }

    /// Whether there are no batches.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Records {
    fn default() -> Self {
        Self::Inline(Bytes::new())
    }
}

/// Refuses a value that this version would silently lose.
pub(crate) fn absent(
    is_default: bool,
    field: &'static str,
    version: i16,
) -> Result<(), EncodeError> {
    if is_default { Ok(()) } else { Err(EncodeError::FieldNotInVersion { field, version }) }
}

/// Refuses a null where this version has none.
pub(crate) fn present<'a, T: ?Sized>(
    value: Option<&'a T>,
    field: &'static str,
    version: i16,
) -> Result<&'a T, EncodeError> {
    value.ok_or(EncodeError::NullNotInVersion { field, version })
}
