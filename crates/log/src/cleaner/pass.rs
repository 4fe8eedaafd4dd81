//! One pass over a log: the newest offset of every key, then group after group of segments.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use klamm_protocol::compression::BATCH_DECOMPRESSED_BYTES_MAX;
use klamm_protocol::records::Batch;
use thiserror::Error;

use super::filter::{Filter, Kept, LastBatch};
use super::offset_map::{KeyHashing, OffsetMap, OffsetMapLimits};
use super::rewrite::{BatchReader, Output};
use super::swap::Cleaned;
use super::transactions::Transactions;
use crate::config::LogConfig;
use crate::dir::LogDir;
use crate::error::Offline;
use crate::files::Place;
use crate::index::{Entry, OffsetEntry};
use crate::segment::Segment;
use crate::transactions::AbortedTransaction;

/// Told how many bytes were read or written; may wait (`log.cleaner.io.max.bytes.per.second`), and
/// ends the pass by answering false.
pub type Progress<'a> = &'a mut dyn FnMut(u64) -> bool;

/// Why a pass ended early. What was swapped in before stays.
#[derive(Debug, Error)]
pub enum CleaningError {
    /// Somebody wanted it to end, or the log is no longer what it was.
    #[error("ended before its end")]
    Cancelled,
    /// The disk is full or failed, or a batch is damaged (`InvalidData`).
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The log is offline.
    #[error(transparent)]
    Offline(#[from] Offline),
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of the segments that were rewritten, before.
    pub bytes_before: u64,
    /// And after.
    pub bytes_after: u64,
    /// Segments that were read and had nothing to lose.
    pub segments_unchanged: u64,
}

/// A pass over one log; see the steps in `cleaner`'s documentation.
pub struct Cleaning {
    pub(super) dir: Arc<LogDir>,
    pub(super) place: Place,
    pub(super) config: LogConfig,
    pub(super) generation: u64,
    pub(super) first_dirty: i64,
    /// The end of what the map knows.
    pub(super) map_end: i64,
    pub(super) segments: Vec<Arc<Segment>>,
    /// Transactions that began in them, with markers behind them.
    pub(super) aborted_later: Vec<AbortedTransaction>,
    /// The first segment that was not rewritten yet.
    pub(super) next: usize,
    pub(super) last_batches: HashMap<i64, LastBatch>,
    pub(super) now_ms: i64,
    pub(super) map: Option<OffsetMap>,
    pub(super) transactions: Option<Transactions>,
    pub(super) stats: Stats,
}

impl Cleaning {
    /// Reads the newest offset of each key of the dirty part, as far as the map has room.
    ///
    /// # Errors
    /// When it is to end, or the disk fails.
    pub fn read_dirty_keys(
        &mut self,
        limits: OffsetMapLimits,
        hashing: KeyHashing,
        progress: Progress<'_>,
    ) -> Result<(), CleaningError> {
        let offsets = u64::try_from(self.map_end - self.first_dirty).unwrap_or(0);
        let mut map = OffsetMap::new(offsets, limits, hashing)?;
        let mut transactions = Transactions::of(&self.segments, &self.aborted_later)?;
        let first = self.segments.partition_point(|s| s.end_offset() <= self.first_dirty);
        'segments: for segment in &self.segments[first..] {
            let mut batches = BatchReader::new(&segment.file, segment.size());
            while let Some(batch) = batches.next(progress)? {
                let aborted = transactions.on_batch(&batch);
                if batch.is_control() || aborted || batch.last_offset() < self.first_dirty {
                    continue;
                }
                if let Some(end) = put_keys(&mut map, &batch, self.first_dirty) {
                    self.map_end = end;
                    break 'segments;
                }
            }
        }
        self.map = Some(map);
        self.transactions = Some(Transactions::of(&self.segments, &self.aborted_later)?);
        Ok(())
    }

    /// Rewrites the next group of segments that loses something, into files of their own; `None`
    /// where no more does.
    ///
    /// # Errors
    /// When it is to end, or the disk is full or fails.
    ///
    /// # Panics
    /// Before [`Cleaning::read_dirty_keys`].
    pub fn rewrite_next(
        &mut self,
        progress: Progress<'_>,
    ) -> Result<Option<Cleaned>, CleaningError> {
        while let Some(group) = self.next_group() {
            self.next = group.end;
            if let Some(cleaned) = self.rewrite(group, progress)? {
                return Ok(Some(cleaned));
            }
        }
        Ok(None)
    }

    /// What the pass has done so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Segments that together are not larger than one may be.
    fn next_group(&self) -> Option<Range<usize>> {
        let start = self.next;
        let first = self.segments.get(start).filter(|first| first.base_offset < self.map_end)?;
        let (mut bytes, mut entries) = (0, 0);
        let fits = |segment: &&Arc<Segment>| {
            bytes += segment.size();
            entries += segment.own_indexes().offsets.len();
            segment.base_offset < self.map_end
                && bytes <= u64::from(self.config.segment_bytes)
                && entries * OffsetEntry::BYTES <= self.config.segment_index_bytes as usize
                && segment.end_offset() - first.base_offset <= i64::from(i32::MAX)
        };
        let count = self.segments[start..].iter().take_while(fits_once(fits)).count();
        Some(start..start + count.max(1))
    }

    fn rewrite(
        &mut self,
        group: Range<usize>,
        progress: Progress<'_>,
    ) -> Result<Option<Cleaned>, CleaningError> {
        let segments = self.segments[group].to_vec();
        let (first, last) = (&segments[0], segments.last().expect("a group has one at least"));
        let mut filter = Filter {
            map: self.map.as_ref().expect("the keys were read"),
            map_end: self.map_end,
            transactions: self.transactions.as_mut().expect("the keys were read"),
            last_batches: &self.last_batches,
            now_ms: self.now_ms,
            delete_retention_ms: self.config.delete_retention_ms,
            group_end: last.end_offset(),
        };
        let interval_bytes = self.config.index_interval_bytes;
        let mut output = Output::create(&self.place, first.base_offset, interval_bytes)?;
        let mut changed = segments.len() > 1;
        for segment in &segments {
            let mut batches = BatchReader::new(&segment.file, segment.size());
            while let Some(batch) = batches.next(progress)? {
                let kept = filter.keep(&batch);
                output.add_aborted(filter.transactions.take_aborted());
                match kept {
                    Kept::All => output.add(batch.bytes(), progress)?,
                    Kept::Part(bytes) => {
                        changed = true;
                        output.add(&bytes, progress)?;
                    }
                    Kept::Nothing => changed = true,
                }
            }
        }
        if !changed {
            self.stats.segments_unchanged += 1;
            output.discard()?;
            return Ok(None);
        }
        self.stats.bytes_before += segments.iter().map(|segment| segment.size()).sum::<u64>();
        self.stats.bytes_after += output.size();
        let segment = output.finish(last.end_offset(), progress)?;
        Ok(Some(Cleaned {
            dir: Arc::clone(&self.dir),
            place: self.place.clone(),
            generation: self.generation,
            old: segments,
            new: segment,
        }))
    }
}

/// A predicate with state, for `take_while`.
fn fits_once<'a>(
    mut fits: impl FnMut(&&'a Arc<Segment>) -> bool,
) -> impl FnMut(&&'a Arc<Segment>) -> bool {
    move |segment| fits(segment)
}

/// Notes the keys of a batch from offset `from` on; the offset that found no room.
fn put_keys(map: &mut OffsetMap, batch: &Batch, from: i64) -> Option<i64> {
    let records = batch.records(BATCH_DECOMPRESSED_BYTES_MAX).ok()?;
    // What cannot be read is kept as it is, and says nothing of any key.
    let records: Vec<_> = records.collect::<Result<_, _>>().ok()?;
    for record in records.iter().filter(|record| record.offset >= from) {
        if let Some(key) = &record.key
            && !map.put(key, record.offset)
        {
            return Some(record.offset);
        }
    }
    None
}

impl std::fmt::Debug for Cleaning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cleaning")
            .field("first_dirty", &self.first_dirty)
            .field("map_end", &self.map_end)
            .finish_non_exhaustive()
    }
}
