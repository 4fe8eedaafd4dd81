//! Reading a segment whose content is not trusted.

use std::io;
use std::sync::Arc;

use klamm_env::files::File;
use klamm_protocol::records::{ATTRIBUTES_OFFSET, BatchHeader, HEADER_LEN};

/// Bytes read at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// Where a segment begins and its file ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) base_offset: i64,
    /// No batch begins below.
    pub(crate) next_offset: i64,
    /// No batch past the recovery point is of an earlier epoch.
    pub(crate) epoch: i32,
    /// Below, the headers alone are read.
    pub(crate) recovery_point: i64,
    /// Length of the file.
    pub(crate) end: u64,
}

/// What comes next in a segment.
pub(crate) enum Scanned {
    /// A batch that holds, and its position.
    Batch(u64, BatchHeader),
    /// The file ends between two batches.
    End,
    /// What comes is no batch that continues the log.
    Damaged(String),
}

/// Reads batches one after the other and checks them: whole, CRC, offsets rising, epochs not
/// falling. Below the recovery point the headers alone are read.
pub(crate) struct BatchScan {
    file: Arc<dyn File>,
    limits: Limits,
    position: u64,
    /// Where checking began.
    checked_from: Option<u64>,
    buffer: Vec<u8>,
    buffer_start: u64,
    buffered: usize,
}

impl BatchScan {
    /// A scan from `position` on.
    pub(crate) fn new(file: &Arc<dyn File>, position: u64, limits: Limits) -> BatchScan {
        BatchScan {
            file: Arc::clone(file),
            limits,
            position,
            checked_from: None,
            buffer: Vec::new(),
            buffer_start: 0,
            buffered: 0,
        }
    }

    /// Where the next batch would begin.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of batches that were checked.
    pub(crate) fn checked_bytes(&self) -> u64 {
        self.checked_from.map_or(0, |from| self.position - from)
    }

    /// The next batch.
    pub(crate) fn next(&mut self) -> io::Result<Scanned> {
        let left = self.limits.end.saturating_sub(self.position);
        if left == 0 {
            return Ok(Scanned::End);
        }
        if left < HEADER_LEN as u64 {
            return Ok(self.damaged("the file ends within a batch header"));
        }
        let header = match BatchHeader::parse(self.bytes(self.position, HEADER_LEN)?) {
            Ok(header) => header,
            Err(error) => return Ok(self.damaged(&error.to_string())),
        };
        if header.size() as u64 > left {
            return Ok(self.damaged("the file ends within a batch"));
        }
        if let Some(reason) = self.fault(&header) {
            return Ok(self.damaged(&reason));
        }
        if header.last_offset() >= self.limits.recovery_point {
            self.limits.epoch = header.partition_leader_epoch;
            self.checked_from.get_or_insert(self.position);
            let computed = self.crc(&header)?;
            if computed != header.crc {
                let stored = header.crc;
                return Ok(self.damaged(&format!("CRC is {computed:#010x}, not {stored:#010x}")));
            }
        }
        let position = self.position;
        self.position += header.size() as u64;
        self.limits.next_offset = header.next_offset();
        Ok(Scanned::Batch(position, header))
    }

    /// What is wrong with a header.
    fn fault(&self, header: &BatchHeader) -> Option<String> {
        let BatchHeader { base_offset, last_offset_delta, records_count, .. } = *header;
        let next = self.limits.next_offset;
        if base_offset < next {
            return Some(format!("offset {base_offset} comes after {}", next - 1));
        }
        if last_offset_delta < 0 || records_count < 0 {
            return Some(format!("{records_count} records, offset delta {last_offset_delta}"));
        }
        let last = base_offset.checked_add(i64::from(last_offset_delta));
        let relative = last.map(|last| last - self.limits.base_offset);
        if relative.is_none_or(|relative| relative > i64::from(i32::MAX)) {
            return Some(format!("offset {base_offset} is too far from the segment's base"));
        }
        let (found, epoch) = (header.partition_leader_epoch, self.limits.epoch);
        if found < epoch && header.last_offset() >= self.limits.recovery_point {
            return Some(format!("epoch {found} comes after {epoch}"));
        }
        header.compression().err().map(|error| error.to_string())
    }

    fn damaged(&self, reason: &str) -> Scanned {
        Scanned::Damaged(format!("at byte {}: {reason}", self.position))
    }

    fn crc(&mut self, header: &BatchHeader) -> io::Result<u32> {
        let end = self.position + header.size() as u64;
        let mut at = self.position + ATTRIBUTES_OFFSET as u64;
        let mut crc = 0;
        while at < end {
            let part = usize::try_from(end - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let part = part.min(self.left_in_buffer(at).max(1));
            let bytes = self.bytes(at, part)?;
            crc = crc32c::crc32c_append(crc, bytes);
            at += part as u64;
        }
        Ok(crc)
    }

    /// Buffered bytes from `at` on, or as many as the next read would give.
    fn left_in_buffer(&self, at: u64) -> usize {
        let within = at.wrapping_sub(self.buffer_start);
        match usize::try_from(within) {
            Ok(within) if within < self.buffered => self.buffered - within,
            _ => CHUNK_BYTES,
        }
    }

    /// `len` bytes at `at`, both within the file.
    fn bytes(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let within = at.wrapping_sub(self.buffer_start);
        let hit = usize::try_from(within).is_ok_and(|within| {
            within.checked_add(len).is_some_and(|needed| needed <= self.buffered)
        });
        if !hit {
            let left = usize::try_from(self.limits.end - at).unwrap_or(CHUNK_BYTES);
            let want = left.min(CHUNK_BYTES).max(len);
            self.buffered = 0;
            self.buffer.resize(want, 0);
            self.file.read_exact_at(&mut self.buffer, at)?;
            self.buffer_start = at;
            self.buffered = want;
        }
        let within = usize::try_from(at - self.buffer_start).expect("within the buffer");
        Ok(&self.buffer[within..within + len])
    }

    /// Writes what was checked once more: after a failed sync the page cache may hold what the
    /// disk does not, and only a new write brings it there (R23).
    pub(crate) fn rewrite_checked(&mut self) -> io::Result<()> {
        let mut at = self.checked_from.unwrap_or(self.position);
        let end = self.position;
        let mut part = Vec::new();
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            part.resize(len, 0);
            self.file.read_exact_at(&mut part, at)?;
            self.file.write_all_at(&part, at)?;
            at += len as u64;
        }
        Ok(())
    }
}
