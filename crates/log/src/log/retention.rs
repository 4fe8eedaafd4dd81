//! Moving the start of a log: DeleteRecords, and retention by time and size.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use klamm_env::files::is_out_of_descriptors;

use crate::dir::LogDir;
use crate::error::AppendError;
use crate::files::Place;
use crate::log::Log;
use crate::names::{
    DELETED_FILE_SUFFIX, INDEX_SUFFIX, LOG_SUFFIX, SNAPSHOT_SUFFIX, TIME_INDEX_SUFFIX,
    TXN_INDEX_SUFFIX,
};
use crate::segment::Segment;

/// Files of segments that the log has let go of; readers that hold them may go on.
#[derive(Clone)]
pub struct Deletion {
    dir: Arc<LogDir>,
    place: Place,
    base_offsets: Vec<i64>,
    snapshots: Vec<i64>,
}

impl Deletion {
    /// Number of segments.
    pub fn segment_count(&self) -> usize {
        self.base_offsets.len()
    }

    /// Removes the files; off the partition's lock. The recovery point, which has passed them, and
    /// the log's new start are stored before: whatever part of the files a crash leaves then lies
    /// below both, and goes when the log is opened. A gap between two of them would otherwise be
    /// taken for the end of the log.
    ///
    /// # Errors
    /// When the disk fails; opening the log anew removes the rest.
    pub fn run(&self) -> io::Result<()> {
        self.dir.write_recovery_points()?;
        self.dir.write_log_start_offsets()?;
        for base_offset in &self.base_offsets {
            for suffix in [LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX] {
                self.remove(*base_offset, suffix)?;
            }
        }
        for offset in &self.snapshots {
            self.remove(*offset, SNAPSHOT_SUFFIX)?;
        }
        Ok(())
    }

    fn remove(&self, offset: i64, suffix: &str) -> io::Result<()> {
        let path = self.place.segment_path(offset, suffix);
        let mut aside = path.clone().into_os_string();
        aside.push(DELETED_FILE_SUFFIX);
        match self.place.files.rename(&path, aside.as_ref()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.place.remove(aside.as_ref()),
        }
    }
}

impl std::fmt::Debug for Deletion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deletion").field("base_offsets", &self.base_offsets).finish_non_exhaustive()
    }
}

impl Log {
    /// Hides everything below `offset` (DeleteRecords); the segments go with the next
    /// [`Log::delete_old_segments`]. Returns whether anything changed. It outlives a crash once
    /// [`LogDir::write_log_start_offsets`] was called.
    pub fn advance_log_start(&mut self, offset: i64) -> bool {
        let offset = offset.min(self.next_offset);
        if offset <= self.log_start_offset() {
            return false;
        }
        self.shared.log_start_offset.store(offset, Ordering::Release);
        self.dir.set_log_start_offset(&self.partition, offset);
        let mut epochs = (*self.shared.epochs.load_full()).clone();
        if epochs.truncate_from_start(offset) {
            self.shared.epochs.store(Arc::new(epochs));
        }
        true
    }

    /// Lets go of segments that retention or the log's start no longer keep: oldest first, whole
    /// segments, nothing at or past `high_watermark` or the recovery point (the producers of what
    /// lies past it are in no snapshot yet; a checkpoint is then due). `None` where there is none.
    ///
    /// # Errors
    /// When the disk is full or fails, or a descriptor is wanting.
    pub fn delete_old_segments(
        &mut self,
        now_ms: i64,
        high_watermark: i64,
    ) -> Result<Option<Deletion>, AppendError> {
        self.check_online()?;
        if self.swapping {
            return Ok(None);
        }
        let wanted = self.count_deletable(now_ms, high_watermark);
        let doomed = match wanted.map(|wanted| self.keep_past_recovery_point(wanted)) {
            Ok(0) => return Ok(None),
            Ok(doomed) => doomed,
            Err(error) if is_out_of_descriptors(&error) => {
                return Err(AppendError::Shortage(error));
            }
            Err(error) => return Err(self.poison(&error).into()),
        };
        if doomed == self.segment_count() {
            self.roll(self.next_offset, now_ms)?;
        }
        let segments = self.shared.view.load().segments.clone();
        let (gone, kept) = segments.split_at(doomed);
        let new_start = kept[0].base_offset;
        self.advance_log_start(new_start);
        self.swap_view(kept.to_vec());
        self.sync.sealed.retain(|sealed| sealed.segment.base_offset >= new_start);
        let snapshots = self.sync.snapshots.split_off(&new_start);
        let snapshots = std::mem::replace(&mut self.sync.snapshots, snapshots);
        Ok(Some(Deletion {
            dir: Arc::clone(&self.dir),
            place: self.place.clone(),
            base_offsets: gone.iter().map(|segment| segment.base_offset).collect(),
            snapshots: snapshots.into_iter().collect(),
        }))
    }

    fn count_deletable(&self, now_ms: i64, high_watermark: i64) -> io::Result<usize> {
        let view = self.shared.view.load();
        let mut excess = match self.config.retention_bytes {
            limit if limit >= 0 && self.config.delete => {
                i64::try_from(self.size_bytes()).unwrap_or(i64::MAX) - limit
            }
            _ => 0,
        };
        let mut count = 0;
        for segment in &view.segments {
            let size = i64::try_from(segment.size()).unwrap_or(i64::MAX);
            if segment.end_offset() > high_watermark || size == 0 {
                break;
            }
            let below_start = segment.end_offset() <= self.log_start_offset();
            let too_much = excess >= size;
            if !(below_start || too_much || self.is_expired(segment, now_ms)?) {
                break;
            }
            excess -= size;
            count += 1;
        }
        Ok(count)
    }

    fn keep_past_recovery_point(&mut self, wanted: usize) -> usize {
        let view = self.shared.view.load();
        let below = |segment: &Arc<Segment>| segment.end_offset() <= self.sync.recovery_point;
        let doomed = view.segments[..wanted].partition_point(below);
        self.sync.checkpoint_wanted |= doomed < wanted;
        doomed
    }

    fn is_expired(&self, segment: &Segment, now_ms: i64) -> io::Result<bool> {
        if !self.config.delete || self.config.retention_ms < 0 {
            return Ok(false);
        }
        let timestamp = match segment.max_timestamp()?.timestamp {
            // Records without timestamps age from the last change of their file.
            timestamp if timestamp < 0 => {
                let found = self.place.files.metadata(&segment.file.path())?;
                found.map_or(now_ms, |found| found.modified_ms)
            }
            timestamp => timestamp,
        };
        Ok(now_ms.saturating_sub(timestamp) > self.config.retention_ms)
    }
}
