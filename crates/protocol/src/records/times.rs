//! Offsets and timestamps of the records of a batch, read as a stream: neither the payload nor any
//! record is held as a whole, so a small batch that decompresses to much takes no memory for it.

use std::io::{self, BufRead, BufReader, Read};

use crate::compression::{BATCH_DECOMPRESSED_BYTES_MAX, stream};

use super::header::{BatchHeader, TimestampType};
use super::varint;

/// Longest variable-length integer.
const VARINT_LEN_MAX: usize = 10;

/// Offset and timestamp of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordTime {
    /// Position in the partition.
    pub offset: i64,
    /// Milliseconds since 1970, or -1.
    pub timestamp: i64,
}

/// Iterator over the records of a batch; ends where something is not readable, or where more was
/// decompressed than one batch may hold. Keys, values and headers are passed over unseen.
pub struct RecordTimes<'a> {
    input: BufReader<io::Take<Box<dyn Read + 'a>>>,
    left: i32,
    header: BatchHeader,
}

impl<'a> RecordTimes<'a> {
    /// The records in `payload`, the bytes after `header`; none where the codec is unknown.
    pub fn new(header: &BatchHeader, payload: &'a [u8]) -> RecordTimes<'a> {
        let opened = header.compression().ok().and_then(|codec| stream(codec, payload).ok());
        let left = if opened.is_some() { header.records_count } else { 0 };
        let input = opened.unwrap_or_else(|| Box::new(io::empty()));
        let input = BufReader::new(input.take(BATCH_DECOMPRESSED_BYTES_MAX as u64));
        RecordTimes { input, left, header: *header }
    }

    fn read(&mut self) -> Option<RecordTime> {
        let (length, _) = self.number(|bytes| varint::read_i32(bytes).ok().map(i64::from))?;
        let mut attributes = [0];
        self.input.read_exact(&mut attributes).ok()?;
        let (timestamp_delta, first) = self.number(|bytes| varint::read_i64(bytes).ok())?;
        let (offset_delta, second) =
            self.number(|bytes| varint::read_i32(bytes).ok().map(i64::from))?;
        let rest = length.checked_sub(i64::try_from(1 + first + second).ok()?)?;
        self.skip(u64::try_from(rest).ok()?)?;
        let timestamp = match self.header.timestamp_type() {
            TimestampType::LogAppendTime => self.header.max_timestamp,
            TimestampType::CreateTime => self.header.base_timestamp.wrapping_add(timestamp_delta),
        };
        Some(RecordTime { offset: self.header.base_offset.wrapping_add(offset_delta), timestamp })
    }

    /// A number and how many bytes it took.
    fn number(&mut self, read: impl Fn(&mut &[u8]) -> Option<i64>) -> Option<(i64, usize)> {
        let mut bytes = [0; VARINT_LEN_MAX];
        for at in 0..VARINT_LEN_MAX {
            self.input.read_exact(&mut bytes[at..=at]).ok()?;
            if bytes[at] & 0x80 == 0 {
                return Some((read(&mut &bytes[..=at])?, at + 1));
            }
        }
        None
    }

    fn skip(&mut self, mut len: u64) -> Option<()> {
        while len > 0 {
            let buffered = match self.input.fill_buf() {
                Ok([]) => return None,
                Ok(buffered) => buffered.len() as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return None,
            };
            let step = buffered.min(len);
            self.input.consume(usize::try_from(step).ok()?);
            len -= step;
        }
        Some(())
    }
}

impl Iterator for RecordTimes<'_> {
    type Item = RecordTime;

    fn next(&mut self) -> Option<RecordTime> {
        if self.left <= 0 {
            return None;
        }
        self.left -= 1;
        let record = self.read();
        if record.is_none() {
            self.left = 0;
        }
        record
    }
}
