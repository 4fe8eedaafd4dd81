//! Reading the batches of old segments and writing those of a new one.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use klamm_env::files::{File, OpenMode};
use klamm_protocol::records::{Batch, BatchHeader, HEADER_LEN};

use super::pass::{CleaningError, Progress};
use crate::files::{Place, SegmentFile};
use crate::index::{Entry, Index};
use crate::names::{
    CLEANED_FILE_SUFFIX, INDEX_SUFFIX, LOG_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX,
};
use crate::segment::{Indexer, Indexes, Segment};
use crate::transactions::AbortedTransaction;

/// Bytes read or gathered for a write at once.
const BUFFER_BYTES: usize = 1 << 20;

pub(super) fn damaged(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

/// Reads the batches of a file one after the other, their CRC checked (hazard 46).
pub(super) struct BatchReader<'a> {
    file: &'a SegmentFile,
    position: u64,
    end: u64,
    buffer: Bytes,
}

impl BatchReader<'_> {
    pub(super) fn new(file: &SegmentFile, end: u64) -> BatchReader<'_> {
        BatchReader { file, position: 0, end, buffer: Bytes::new() }
    }

    pub(super) fn next(&mut self, progress: Progress<'_>) -> Result<Option<Batch>, CleaningError> {
        if self.buffer.is_empty() && self.position >= self.end {
            return Ok(None);
        }
        self.fill(HEADER_LEN, progress)?;
        let size = BatchHeader::parse(&self.buffer).map_err(|error| self.damaged(error))?.size();
        self.fill(size, progress)?;
        let bytes = self.buffer.split_to(size);
        Ok(Some(Batch::parse_stored(&bytes).map_err(|error| self.damaged(error))?))
    }

    /// Sees to it that `bytes` are in the buffer.
    fn fill(&mut self, bytes: usize, progress: Progress<'_>) -> Result<(), CleaningError> {
        if self.buffer.len() >= bytes {
            return Ok(());
        }
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        if self.buffer.len().saturating_add(left) < bytes {
            return Err(self.damaged("a batch goes on past the end of the segment").into());
        }
        let known = self.buffer.len();
        let more = left.min(BUFFER_BYTES.max(bytes - known));
        let mut buffer = Vec::new();
        let reserved = buffer.try_reserve_exact(known + more);
        reserved.map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        buffer.extend_from_slice(&self.buffer);
        buffer.resize(known + more, 0);
        self.file.read_exact_at(&mut buffer[known..], self.position)?;
        self.position += more as u64;
        self.buffer = buffer.into();
        if progress(more as u64) { Ok(()) } else { Err(CleaningError::Cancelled) }
    }

    fn damaged(&self, error: impl std::fmt::Display) -> io::Error {
        let at = self.position - self.buffer.len() as u64;
        damaged(format!("{} at byte {at}: {error}", self.file.path().display()))
    }
}

/// A segment being written, under names that opening a log removes.
pub(super) struct Output {
    place: Place,
    file: Arc<dyn File>,
    buffer: Vec<u8>,
    written: u64,
    indexes: Indexes,
    indexer: Indexer,
    aborted: Index<AbortedTransaction>,
}

impl Output {
    pub(super) fn create(place: &Place, base: i64, interval_bytes: u32) -> io::Result<Output> {
        let file = place.files.open(&cleaned_path(place, base, LOG_SUFFIX), OpenMode::Create)?;
        file.set_len(0)?;
        Ok(Output {
            place: place.clone(),
            file,
            buffer: Vec::new(),
            written: 0,
            indexes: Indexes::in_memory(&[], &[]),
            indexer: Indexer::new(base, interval_bytes),
            aborted: Index::in_memory(&[]),
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub(super) fn add(
        &mut self,
        batch: &Bytes,
        progress: Progress<'_>,
    ) -> Result<(), CleaningError> {
        let header = BatchHeader::parse(batch).map_err(damaged)?;
        self.indexer.add(&self.indexes, &header, self.size());
        self.buffer.extend_from_slice(batch);
        if self.buffer.len() >= BUFFER_BYTES { self.flush(progress) } else { Ok(()) }
    }

    /// The batch that is looked at is the marker of this transaction, and stays.
    pub(super) fn add_aborted(&self, aborted: Option<AbortedTransaction>) {
        aborted.into_iter().for_each(|aborted| self.aborted.push(aborted));
    }

    fn flush(&mut self, progress: Progress<'_>) -> Result<(), CleaningError> {
        self.file.write_all_at(&self.buffer, self.written)?;
        let bytes = self.buffer.len() as u64;
        self.written += bytes;
        self.buffer.clear();
        if progress(bytes) { Ok(()) } else { Err(CleaningError::Cancelled) }
    }

    /// The segment, on stable storage with its indexes, still under names of its own.
    pub(super) fn finish(
        mut self,
        end_offset: i64,
        progress: Progress<'_>,
    ) -> Result<Segment, CleaningError> {
        self.flush(progress)?;
        self.file.sync_data()?;
        self.indexer.add_time(&self.indexes);
        self.write_index(INDEX_SUFFIX, &self.indexes.offsets)?;
        self.write_index(TIME_INDEX_SUFFIX, &self.indexes.times)?;
        if self.aborted.len() > 0 {
            self.write_index(TXN_INDEX_SUFFIX, &self.aborted)?;
        }
        self.place.files.sync_dir(&self.place.dir)?;
        let base = self.indexer.base_offset;
        let file = Arc::new(SegmentFile::opened(&self.place, base, LOG_SUFFIX, self.file));
        let (indexes, aborted) = (self.indexes, self.aborted);
        Ok(Segment::active(file, indexes, aborted, &self.indexer, self.written, end_offset))
    }

    fn write_index<E: Entry>(&self, suffix: &str, index: &Index<E>) -> io::Result<()> {
        let path = cleaned_path(&self.place, self.indexer.base_offset, suffix);
        let file = self.place.files.open(&path, OpenMode::Create)?;
        file.set_len(0)?;
        file.write_all_at(&index.encode(0, index.len())?, 0)?;
        file.sync_data()
    }

    pub(super) fn discard(self) -> io::Result<()> {
        self.place.remove(&cleaned_path(&self.place, self.indexer.base_offset, LOG_SUFFIX))
    }
}

/// Where a file of a segment lies while it is written.
pub(super) fn cleaned_path(place: &Place, base: i64, suffix: &str) -> std::path::PathBuf {
    let mut path = place.segment_path(base, suffix).into_os_string();
    path.push(CLEANED_FILE_SUFFIX);
    path.into()
}
