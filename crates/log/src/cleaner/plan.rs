//! Which part of a log may be cleaned, and whether it is worth it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use klamm_protocol::records::NO_TIMESTAMP;

use super::filter::LastBatch;
use super::pass::{Cleaning, Stats};
use crate::files::Disk;
use crate::log::Log;
use crate::segment::Segment;
use crate::transactions::collect_aborted;

/// How much of a log was never cleaned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dirt {
    /// The share of the bytes that could be cleaned and were not yet, of all up to there.
    pub ratio: f64,
    /// Those bytes.
    pub bytes: u64,
    /// Whether the oldest of them is older than `max.compaction.lag.ms`.
    pub overdue: bool,
}

impl Log {
    /// How dirty the log is, if its topic is compacted; `None` where nothing can be cleaned.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn dirt(&mut self, now_ms: i64, high_watermark: i64) -> io::Result<Option<Dirt>> {
        if !self.config.compact || self.offline().is_some() {
            return Ok(None);
        }
        let cleanable = self.cleanable(now_ms, high_watermark)?;
        let first_dirty = self.first_dirty_offset();
        let (clean, dirty): (Vec<_>, Vec<_>) =
            cleanable.iter().partition(|segment| segment.end_offset() <= first_dirty);
        let bytes = |of: &[&Arc<Segment>]| of.iter().map(|segment| segment.size()).sum::<u64>();
        let (clean_bytes, dirty_bytes) = (bytes(&clean), bytes(&dirty));
        if dirty_bytes == 0 {
            return Ok(None);
        }
        let overdue = match dirty[0].scan(0).next()? {
            Some((_, header)) if header.max_timestamp > NO_TIMESTAMP => {
                now_ms.saturating_sub(header.max_timestamp) > self.config.max_compaction_lag_ms
            }
            _ => false,
        };
        let ratio = dirty_bytes as f64 / (clean_bytes + dirty_bytes) as f64;
        Ok(Some(Dirt { ratio, bytes: dirty_bytes, overdue }))
    }

    /// Plans a pass over all that may be cleaned; `None` where there is nothing.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn begin_cleaning(
        &mut self,
        now_ms: i64,
        high_watermark: i64,
    ) -> io::Result<Option<Cleaning>> {
        let segments = self.cleanable(now_ms, high_watermark)?;
        let first_dirty = self.first_dirty_offset();
        let Some(end) = segments.last().map(|segment| segment.end_offset()) else {
            return Ok(None);
        };
        if end <= first_dirty {
            return Ok(None);
        }
        // A transaction of these segments may have been aborted in a later one.
        let mut aborted_later = Vec::new();
        let view = self.shared.view.load();
        for later in &view.segments[view.place_of(end)..] {
            if collect_aborted(Disk::Wait, later.aborted(), end, end, &mut aborted_later)? {
                break;
            }
        }
        Ok(Some(Cleaning {
            dir: Arc::clone(&self.dir),
            place: self.place.clone(),
            config: self.config.clone(),
            generation: self.sync.generation(),
            first_dirty,
            map_end: end,
            segments,
            aborted_later,
            next: 0,
            last_batches: self.last_batches(),
            now_ms,
            map: None,
            transactions: None,
            stats: Stats::default(),
        }))
    }

    /// Ends a pass that has swapped in all its segments: the next one begins where it ended. The
    /// offset is stored by [`crate::LogDir::write_cleaner_offsets`].
    pub fn end_cleaning(&mut self, cleaning: &Cleaning) {
        if cleaning.generation == self.sync.generation() {
            self.dir.set_cleaner_offset(&self.partition, cleaning.map_end);
        }
    }

    /// Complete segments below all that may still change or be needed (hazard 68): last stable offset,
    /// recovery point, and records younger than `min.compaction.lag.ms`.
    fn cleanable(&mut self, now_ms: i64, high_watermark: i64) -> io::Result<Vec<Arc<Segment>>> {
        let stable = self.last_stable_offset(high_watermark);
        let view = self.shared.view.load();
        let first = view.place_of(self.log_start_offset());
        let (_, complete) = view.segments[first..].split_last().expect("a view is never empty");
        let mut cleanable = Vec::new();
        for segment in complete {
            let lag_ms = self.config.min_compaction_lag_ms;
            let too_young =
                lag_ms > 0 && segment.max_timestamp()?.timestamp > now_ms.saturating_sub(lag_ms);
            if segment.end_offset() > stable || too_young {
                break;
            }
            if segment.end_offset() > self.sync.recovery_point {
                self.sync.checkpoint_wanted = true;
                break;
            }
            cleanable.push(Arc::clone(segment));
        }
        Ok(cleanable)
    }

    /// Where the part begins that was never cleaned. A stored offset past the end is of a log that
    /// is no more.
    fn first_dirty_offset(&self) -> i64 {
        let stored = self.dir.cleaner_offset(&self.partition);
        let start = self.log_start_offset();
        if stored > self.next_offset { start } else { stored.max(start) }
    }

    fn last_batches(&self) -> HashMap<i64, LastBatch> {
        let entries = self.producers.entries();
        let last = entries.iter().map(|entry| {
            let last_offset = entry.batches.last().map(|batch| batch.last_offset);
            (entry.producer_id, LastBatch { last_offset, producer_epoch: entry.producer_epoch })
        });
        last.collect()
    }
}
