//! The records inside of a batch.

use bytes::{Buf, Bytes};

use crate::compression::{DecompressError, UnknownCodec, decompress};

use super::header::{BatchHeader, TimestampType};
use super::varint::{self, VarintError};

/// The smallest header of a record: an empty key's length and a null value's.
const RECORD_HEADER_LEN_MIN: usize = 2;

/// A record's header: a name, which is UTF-8 by custom, and a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// The name as sent.
    pub key: Bytes,
    /// The value, which may be null.
    pub value: Option<Bytes>,
}

/// One record; key, value and headers are slices of the batch or of its decompressed payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Position in the partition.
    pub offset: i64,
    /// Milliseconds since 1970, or -1.
    pub timestamp: i64,
    /// What the record is filed under, which may be null.
    pub key: Option<Bytes>,
    /// What the record says; null deletes the key from a compacted topic.
    pub value: Option<Bytes>,
    /// In the order sent; names may repeat.
    pub headers: Vec<Header>,
}

/// What is wrong with a batch's records, with the values that say so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The payload could not be decompressed.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// The attributes name no codec.
    #[error(transparent)]
    UnknownCodec(#[from] UnknownCodec),
    /// Something goes on after its record, or the record after the batch ends.
    #[error("{what} is cut off")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// A number has more bytes than its type can need.
    #[error("the number in {what} is too long")]
    VarintTooLong {
        /// What was being read.
        what: &'static str,
    },
    /// A length that cannot be.
    #[error("{what} has length {length}")]
    BadLength {
        /// What was being read.
        what: &'static str,
        /// As found.
        length: i32,
    },
    /// A record ends before its length says so.
    #[error("a record leaves {bytes} of its bytes unread")]
    RecordNotRead {
        /// The bytes left over.
        bytes: usize,
    },
    /// More or fewer headers than there can be.
    #[error("a record of {bytes} bytes left claims {count} headers")]
    HeaderCount {
        /// As found.
        count: i32,
        /// What is left of the record.
        bytes: usize,
    },
    /// The batch goes on after its last record.
    #[error("{bytes} bytes follow the last of {records_count} records")]
    TrailingBytes {
        /// The bytes left over.
        bytes: usize,
        /// As the header has it.
        records_count: i32,
    },
}

/// Iterator over the records of a batch; ends at the first error.
#[derive(Clone, Debug)]
pub struct Records {
    payload: Bytes,
    left: i32,
    header: BatchHeader,
}

impl Records {
    /// The records in `payload`, the bytes after `header`, decompressed to at most `bytes_max`.
    pub fn new(
        header: &BatchHeader,
        payload: &Bytes,
        bytes_max: usize,
    ) -> Result<Self, RecordError> {
        let payload = decompress(header.compression()?, payload, bytes_max)?;
        Ok(Self { payload, left: header.records_count, header: *header })
    }

    fn read_record(&mut self) -> Result<Record, RecordError> {
        let mut record = self.take_record()?;
        // The attributes of a record are unused.
        take_byte(&mut record, "attributes")?;
        let timestamp_delta = take_i64(&mut record, "timestamp delta")?;
        let offset_delta = take_i32(&mut record, "offset delta")?;
        let key = take_nullable(&mut record, "key")?;
        let value = take_nullable(&mut record, "value")?;
        let headers = take_headers(&mut record)?;
        if !record.is_empty() {
            return Err(RecordError::RecordNotRead { bytes: record.len() });
        }
        let timestamp = match self.header.timestamp_type() {
            TimestampType::LogAppendTime => self.header.max_timestamp,
            TimestampType::CreateTime => self.header.base_timestamp.wrapping_add(timestamp_delta),
        };
        let offset = self.header.base_offset.wrapping_add(i64::from(offset_delta));
        Ok(Record { offset, timestamp, key, value, headers })
    }

    fn take_record(&mut self) -> Result<Bytes, RecordError> {
        let length = take_i32(&mut self.payload, "record length")?;
        take(&mut self.payload, length, "record")
    }

    fn finish(&mut self) -> Option<RecordError> {
        let bytes = std::mem::take(&mut self.payload).len();
        let records_count = self.header.records_count;
        (bytes > 0).then_some(RecordError::TrailingBytes { bytes, records_count })
    }
}

impl Iterator for Records {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return self.finish().map(Err);
        }
        self.left -= 1;
        let record = self.read_record();
        if record.is_err() {
            self.left = 0;
            self.payload.clear();
        }
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The count is a claim, so it is no lower bound; one error may stand in for records.
        (0, Some(usize::try_from(self.left).unwrap_or(0) + 1))
    }
}

fn take_headers(record: &mut Bytes) -> Result<Vec<Header>, RecordError> {
    let count = take_i32(record, "header count")?;
    let bytes = record.len();
    let len = usize::try_from(count)
        .ok()
        .filter(|len| *len <= bytes / RECORD_HEADER_LEN_MIN)
        .ok_or(RecordError::HeaderCount { count, bytes })?;
    let mut headers = Vec::new();
    for _ in 0..len {
        let length = take_i32(record, "header key length")?;
        let key = take(record, length, "header key")?;
        let value = take_nullable(record, "header value")?;
        headers.push(Header { key, value });
    }
    Ok(headers)
}

fn take_nullable(from: &mut Bytes, what: &'static str) -> Result<Option<Bytes>, RecordError> {
    // Java takes any negative length for null.
    match take_i32(from, what)? {
        length if length < 0 => Ok(None),
        length => take(from, length, what).map(Some),
    }
}

fn take(from: &mut Bytes, length: i32, what: &'static str) -> Result<Bytes, RecordError> {
    let len = usize::try_from(length).map_err(|_| RecordError::BadLength { what, length })?;
    if len > from.len() {
        return Err(RecordError::Truncated { what });
    }
    Ok(from.split_to(len))
}

fn take_byte(from: &mut Bytes, what: &'static str) -> Result<u8, RecordError> {
    from.try_get_u8().map_err(|_| RecordError::Truncated { what })
}

fn take_i32(from: &mut Bytes, what: &'static str) -> Result<i32, RecordError> {
    take_number(from, what, varint::read_i32)
}

fn take_i64(from: &mut Bytes, what: &'static str) -> Result<i64, RecordError> {
    take_number(from, what, varint::read_i64)
}

fn take_number<T>(
    from: &mut Bytes,
    what: &'static str,
    read: fn(&mut &[u8]) -> Result<T, VarintError>,
) -> Result<T, RecordError> {
    let mut bytes = &from[..];
    let value = read(&mut bytes).map_err(|error| match error {
        VarintError::Truncated => RecordError::Truncated { what },
        VarintError::TooLong => RecordError::VarintTooLong { what },
    })?;
    from.advance(from.len() - bytes.len());
    Ok(value)
}
