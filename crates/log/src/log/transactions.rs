//! Transactions in a log: the index of the aborted ones as it is written, and the last stable offset.

use std::io;

use klamm_env::files::{OpenMode, is_shortage};
use klamm_protocol::records::ControlType;

use super::append::NewBatch;
use crate::error::AppendError;
use crate::index::Entry;
use crate::log::Log;
use crate::names::TXN_INDEX_SUFFIX;
use crate::transactions::{AbortedTransaction, encode_aborted};

impl Log {
    /// First offset of the oldest transaction that is open, or whose marker is at or past the highest
    /// high watermark that [`Log::last_stable_offset`] was told; `None` where there is none.
    pub fn first_unstable_offset(&self) -> Option<i64> {
        self.producers.first_unstable_offset()
    }

    /// Below it everything is decided and committed: the high watermark, or the beginning of a
    /// transaction below it that is open or whose marker is not below it. Such a one that begins
    /// below the log's start counts from there.
    pub fn last_stable_offset(&mut self, high_watermark: i64) -> i64 {
        self.producers.on_high_watermark(high_watermark);
        let unstable = self.first_unstable_offset().unwrap_or(i64::MAX);
        high_watermark.min(unstable.max(self.log_start_offset()))
    }

    /// Writes what the markers in `batches` abort to the segment's index. That comes before the
    /// markers themselves, so that no transaction is over that the index does not know, and an error
    /// leaves the log as it was (hazard 42). An entry without its marker is cut by recovery.
    pub(super) fn write_aborted(&mut self, batches: &[NewBatch]) -> Result<(), AppendError> {
        let aborted = self.aborted_by(batches);
        if aborted.is_empty() {
            return Ok(());
        }
        let segment = &self.active.segment;
        let known = segment.aborted().len();
        let path = self.place.segment_path(segment.base_offset, TXN_INDEX_SUFFIX);
        let file = match self.place.files.open(&path, OpenMode::Create) {
            Ok(file) => file,
            Err(error) if is_shortage(&error) => return Err(AppendError::Shortage(error)),
            Err(error) => return Err(self.undo_write(error)),
        };
        if known == 0 {
            self.sync.names += 1;
        }
        let position = (known * AbortedTransaction::BYTES) as u64;
        let written = file.write_all_at(&encode_aborted(&aborted), position);
        written.map_err(|error| self.undo_write(error))
    }

    fn aborted_by(&self, batches: &[NewBatch]) -> Vec<AbortedTransaction> {
        let aborts = |batch: &NewBatch| {
            batch.marker.is_some_and(|marker| marker.control_type == ControlType::Abort)
        };
        if !batches.iter().any(aborts) {
            return Vec::new();
        }
        let mut open = self.producers.open_transactions().clone();
        let ended = batches.iter().filter_map(|batch| open.apply(&batch.header, batch.marker));
        ended.filter(|ended| ended.is_aborted).map(|ended| ended.entry).collect()
    }

    /// Cuts entries whose markers could not be written.
    pub(super) fn take_back_aborted(&mut self) -> io::Result<()> {
        let segment = &self.active.segment;
        self.cut_aborted(segment.base_offset, segment.aborted().len())
    }

    /// Cuts a segment's index of aborted transactions to `len` entries, for good once the directory is
    /// synced; without any there is no file.
    pub(super) fn cut_aborted(&self, base_offset: i64, len: usize) -> io::Result<()> {
        let path = self.place.segment_path(base_offset, TXN_INDEX_SUFFIX);
        let bytes = (len * AbortedTransaction::BYTES) as u64;
        match self.place.files.metadata(&path)? {
            None => Ok(()),
            Some(found) if found.len <= bytes && len > 0 => Ok(()),
            Some(_) if len == 0 => self.place.remove(&path),
            Some(_) => {
                let file = self.place.files.open(&path, OpenMode::ReadWrite)?;
                file.set_len(bytes)?;
                file.sync_data()
            }
        }
    }
}
