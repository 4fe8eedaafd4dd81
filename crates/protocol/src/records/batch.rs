//! One batch as it lies in memory.

use std::ops::Deref;

use bytes::Bytes;

use super::header::{BatchHeader, HEADER_LEN};
use super::reader::{RecordError, Records};
use super::validate::{BatchError, validate_header, validate_stored};

/// A whole batch and its header; the bytes are shared, not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
    header: BatchHeader,
}

impl Batch {
    /// The batch at the start of `bytes`; what follows it is left out. The CRC is not checked.
    pub fn parse(bytes: &Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let size = header.size();
        if bytes.len() < size {
            return Err(BatchError::Truncated { size, bytes: bytes.len() });
        }
        Ok(Self { bytes: bytes.slice(..size), header })
    }

    /// As [`parse`](Self::parse), with all checks for what producers send.
    pub fn parse_produced(bytes: &Bytes) -> Result<Self, BatchError> {
        let header = validate_header(bytes)?;
        Ok(Self { bytes: bytes.slice(..header.size()), header })
    }

    /// As [`parse`](Self::parse), with all checks for what logs hold.
    pub fn parse_stored(bytes: &Bytes) -> Result<Self, BatchError> {
        let header = validate_stored(bytes)?;
        Ok(Self { bytes: bytes.slice(..header.size()), header })
    }

    /// The header's fields.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All bytes of the batch.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// All bytes of the batch.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The bytes after the header, compressed as the attributes say.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(HEADER_LEN..)
    }

    /// The records in order, decompressed to at most `bytes_max` bytes.
    pub fn records(&self, bytes_max: usize) -> Result<Records, RecordError> {
        Records::new(&self.header, &self.payload(), bytes_max)
    }
}

impl Deref for Batch {
    type Target = BatchHeader;

    fn deref(&self) -> &BatchHeader {
        &self.header
    }
}
