//! Cutting the end of a log (R16), and deleting it.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use klamm_env::files::is_out_of_descriptors;
use uuid::Uuid;

use crate::error::{Offline, TruncateError};
use crate::files::SegmentFile;
use crate::index::{Entry, Index, OffsetEntry, TimeEntry};
use crate::log::{Active, Log};
use crate::names::{
    INDEX_SUFFIX, LEADER_EPOCHS, LOG_SUFFIX, SNAPSHOT_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX,
};
use crate::reader::View;
use crate::recovery;
use crate::segment::{IndexLens, Indexer, Indexes, Segment};

/// Readers that may still read or send what a truncation is about to cut.
#[derive(Debug, Default)]
pub struct Drain {
    views: Vec<Weak<View>>,
    files: Vec<Weak<SegmentFile>>,
}

impl Drain {
    /// How many reads and sends are in flight; at 0 the file may be changed.
    pub fn in_flight(&self) -> usize {
        let views: usize = self.views.iter().map(Weak::strong_count).sum();
        let files: usize = self.files.iter().map(Weak::strong_count).sum();
        views + files
    }
}

/// The part of a log that a truncation keeps.
struct Kept {
    segments: Vec<Arc<Segment>>,
    active: Active,
    end_offset: i64,
    removed: Vec<i64>,
}

/// Where a truncation failed.
enum Failed {
    /// The log's files are as they were.
    Before(io::Error),
    /// Some part of the log may be gone.
    Within(io::Error),
}

impl Log {
    /// Cuts the log at `offset`: that record and all after it are gone, and with them the rest of
    /// a batch that `offset` lies within. Durable when it returns. Cutting below the first offset
    /// leaves an empty log that begins at `offset`.
    ///
    /// The readers' view is cut first. While a read that began before is in flight the files are
    /// left alone and the answer is [`TruncateError::InFlight`]: wait for [`Log::drain`] to run
    /// empty, or cut the connections, and call again; append nothing in between.
    ///
    /// # Errors
    /// When reads are in flight, a descriptor is wanting, or the disk fails.
    pub fn truncate_to(&mut self, offset: i64) -> Result<(), TruncateError> {
        self.check_online()?;
        let sends = self.retire_readers(offset)? + usize::from(self.swapping);
        if sends > 0 {
            return Err(TruncateError::InFlight { sends });
        }
        if offset >= self.next_offset {
            // It may have led in an epoch that has no records, and no other replica knows.
            self.forget_epochs_from(self.next_offset);
            return Ok(());
        }
        self.sync.generation.advance();
        let cut = self.cut(offset);
        cut.map_err(|failed| self.after(failed))
    }

    /// The readers that the last call of [`Log::truncate_to`] waits for.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Empties the log, which then begins at `offset`; as [`Log::truncate_to`] otherwise.
    ///
    /// # Errors
    /// When reads are in flight, a descriptor is wanting, or the disk fails.
    pub fn truncate_fully_and_start_at(&mut self, offset: i64) -> Result<(), TruncateError> {
        self.check_online()?;
        let sends = self.retire_readers(i64::MIN)? + usize::from(self.swapping);
        if sends > 0 {
            return Err(TruncateError::InFlight { sends });
        }
        self.sync.generation.advance();
        let cut = self.empty(offset);
        cut.map_err(|failed| self.after(failed))
    }

    /// Once a cut has begun there is no way back from an error; before, only the readers' view is
    /// another one, and what lacked a descriptor may be tried again.
    fn after(&mut self, failed: Failed) -> TruncateError {
        match failed {
            Failed::Before(error) if is_out_of_descriptors(&error) => TruncateError::Io(error),
            Failed::Before(error) | Failed::Within(error) => self.poison(&error).into(),
        }
    }

    /// Shows readers nothing from `offset` on, and returns how many reads began before.
    fn retire_readers(&mut self, offset: i64) -> Result<usize, Offline> {
        let end_offset = offset.max(self.log_start_offset()).min(self.next_offset);
        let visible = self.shared.log_end_offset.load(Ordering::Relaxed);
        if end_offset < visible {
            self.shared.log_end_offset.store(end_offset, Ordering::Release);
            self.sync.synced_end = self.sync.synced_end.min(end_offset);
            self.sync.generation.advance();
            let segments = self.shared.view.load().segments.clone();
            let first = segments.partition_point(|segment| segment.end_offset() <= offset);
            let files = segments[first..].iter().map(|segment| Arc::downgrade(&segment.file));
            self.drain.files.extend(files);
            let fresh = segments.iter().enumerate().map(|(at, segment)| {
                if at < first { Arc::clone(segment) } else { Arc::new(segment.reincarnate()) }
            });
            let fresh: Vec<_> = fresh.collect();
            for sealed in &mut self.sync.sealed {
                let base_offset = sealed.segment.base_offset;
                let place = fresh.partition_point(|segment| segment.base_offset < base_offset);
                sealed.segment = Arc::clone(&fresh[place]);
            }
            self.active.segment = Arc::clone(fresh.last().expect("never empty"));
            let retired = self.swap_view(fresh);
            self.drain.views.push(Arc::downgrade(&retired));
        }
        self.drain.views.retain(|view| view.strong_count() > 0);
        self.drain.files.retain(|file| file.strong_count() > 0);
        Ok(self.drain.in_flight())
    }

    fn cut(&mut self, offset: i64) -> Result<(), Failed> {
        if offset <= self.shared.view.load().segments[0].base_offset {
            return self.empty(offset);
        }
        let kept = self.keep_below(offset).map_err(Failed::Before)?;
        self.lower_recovery_point(kept.end_offset).map_err(Failed::Before)?;
        self.cut_to(kept).map_err(Failed::Within)
    }

    fn empty(&mut self, offset: i64) -> Result<(), Failed> {
        self.lower_recovery_point(0).map_err(Failed::Before)?;
        self.cut_all(offset).map_err(Failed::Within)
    }

    fn cut_to(&mut self, kept: Kept) -> io::Result<()> {
        self.remove_segments(&kept.removed)?;
        let active = &kept.active;
        active.handle.set_len(active.size)?;
        active.handle.sync_data()?;
        // Entries past the end must not stand beside those of what comes.
        self.cut_aborted(active.segment.base_offset, active.segment.aborted().len())?;
        self.dir.sync_folder(&self.place.dir)?;
        self.install_cut(kept)
    }

    /// What is left below `offset`: whole batches only.
    fn keep_below(&self, offset: i64) -> io::Result<Kept> {
        let view = self.shared.view.load();
        let place = view.segments.partition_point(|segment| segment.base_offset < offset) - 1;
        let segment = &view.segments[place];
        let (size, end_offset) = match segment.locate(offset)? {
            Some((position, header)) => (position, header.base_offset),
            // The segment ends before the offset, which began the next one.
            None => (segment.size(), segment.end_offset()),
        };
        let active = self.reopen_active(segment, size, end_offset)?;
        let mut segments = view.segments[..place].to_vec();
        segments.push(Arc::clone(&active.segment));
        let removed = view.segments[place + 1..].iter().map(|s| s.base_offset).collect();
        Ok(Kept { segments, active, end_offset, removed })
    }

    /// `segment` up to `size`, to be appended to.
    fn reopen_active(&self, segment: &Segment, size: u64, end_offset: i64) -> io::Result<Active> {
        let base_offset = segment.base_offset;
        let indexes = segment.indexes()?;
        let mut offsets = indexes.offsets.read(0, indexes.offsets.len())?;
        let mut times = indexes.times.read(0, indexes.times.len())?;
        offsets.retain(|entry| u64::from(entry.position) < size);
        times.retain(|entry| base_offset + i64::from(entry.offset) < end_offset);
        let mut aborted = segment.aborted().read(0, segment.aborted().len())?;
        aborted.retain(|entry| entry.last_offset < end_offset);
        let kept = IndexLens { offsets: offsets.len(), times: times.len(), aborted: aborted.len() };
        let written = if indexes.offsets.is_in_memory() {
            let known = self.sync.sealed.iter().chain([&self.active]);
            let known = known.filter(|known| known.segment.base_offset == base_offset);
            let written = known.map(|known| known.written).next().unwrap_or_default();
            IndexLens {
                offsets: written.offsets.min(kept.offsets),
                times: written.times.min(kept.times),
                aborted: written.aborted.min(kept.aborted),
            }
        } else {
            kept
        };
        let fresh = Indexes::in_memory(&offsets, &times);
        let aborted = Index::in_memory(&aborted);
        let interval_bytes = self.config.index_interval_bytes;
        let mut indexer = Indexer::resume(base_offset, interval_bytes, &fresh)?;
        let mut scan = crate::segment::HeaderScan::new(&segment.file, indexer.last_position, size);
        while let Some((position, header)) = scan.next()? {
            indexer.add(&fresh, &header, position);
        }
        let first = crate::segment::HeaderScan::new(&segment.file, 0, size).next()?;
        let handle = segment.file.handle()?;
        let file = Arc::new(segment.file.reincarnate());
        Ok(Active {
            segment: Arc::new(Segment::active(file, fresh, aborted, &indexer, size, end_offset)),
            handle,
            indexer,
            size,
            first_timestamp: first.map(|(_, header)| header.max_timestamp),
            created_ms: self.active.created_ms,
            written,
        })
    }

    /// The stored recovery point must never be above a log's end that is about to shrink.
    fn lower_recovery_point(&mut self, end_offset: i64) -> io::Result<()> {
        if self.sync.recovery_point <= end_offset {
            return Ok(());
        }
        self.dir.set_recovery_point(&self.partition, end_offset);
        let stored = self.dir.write_recovery_points();
        match stored {
            Ok(()) => self.sync.recovery_point = end_offset,
            // It is stored when the cut is tried again.
            Err(_) => self.dir.set_recovery_point(&self.partition, self.sync.recovery_point),
        }
        stored
    }

    /// What comes where the log was cut was never cleaned.
    fn lower_cleaner_offset(&self, end_offset: i64) -> io::Result<()> {
        if self.dir.cleaner_offset(&self.partition) <= end_offset {
            return Ok(());
        }
        self.dir.set_cleaner_offset(&self.partition, end_offset);
        self.dir.write_cleaner_offsets()
    }

    /// Last one first, so that at no time a gap is left.
    fn remove_segments(&self, base_offsets: &[i64]) -> io::Result<()> {
        for base_offset in base_offsets.iter().rev() {
            for suffix in [LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX] {
                self.place.remove(&self.place.segment_path(*base_offset, suffix))?;
            }
        }
        Ok(())
    }

    fn install_cut(&mut self, kept: Kept) -> io::Result<()> {
        let Kept { segments, active, end_offset, .. } = kept;
        for suffix in [(INDEX_SUFFIX, OffsetEntry::BYTES), (TIME_INDEX_SUFFIX, TimeEntry::BYTES)] {
            let (suffix, bytes) = suffix;
            let IndexLens { offsets, times, .. } = active.written;
            let entries = if suffix == INDEX_SUFFIX { offsets } else { times };
            let base_offset = active.segment.base_offset;
            let file = SegmentFile::lazy(&self.place, base_offset, suffix);
            match file.set_len((entries * bytes) as u64) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let base_offset = active.segment.base_offset;
        self.sync.sealed.retain(|sealed| sealed.segment.base_offset < base_offset);
        self.active = active;
        self.next_offset = end_offset;
        self.swap_view(segments);
        self.shared.log_end_offset.store(end_offset, Ordering::Release);
        self.sync.synced_end = self.sync.synced_end.min(end_offset);
        if end_offset < self.log_start_offset() {
            // The start lay within a batch that is cut as a whole.
            self.shared.log_start_offset.store(end_offset, Ordering::Release);
            self.dir.set_log_start_offset(&self.partition, end_offset);
            self.dir.write_log_start_offsets()?;
        }
        self.forget_past(end_offset)?;
        self.lower_cleaner_offset(end_offset)?;
        self.reload_producers()
    }

    /// Drops epochs and snapshots past the new end, the latter for good.
    fn forget_past(&mut self, end_offset: i64) -> io::Result<()> {
        self.forget_epochs_from(end_offset);
        let stale = self.sync.snapshots.split_off(&(end_offset + 1));
        for offset in &stale {
            self.place.remove(&self.place.segment_path(*offset, SNAPSHOT_SUFFIX))?;
        }
        if !stale.is_empty() {
            self.dir.sync_folder(&self.place.dir)?;
        }
        Ok(())
    }

    fn forget_epochs_from(&self, end_offset: i64) {
        let mut epochs = (*self.shared.epochs.load_full()).clone();
        if epochs.truncate_from_end(end_offset) {
            self.shared.epochs.store(Arc::new(epochs));
        }
    }

    pub(crate) fn reload_producers(&mut self) -> io::Result<()> {
        let view = self.shared.view.load();
        let (snapshots, end) = (&self.sync.snapshots, self.next_offset);
        let now_ms = self.producers.newest_activity_ms();
        let mut producers = recovery::load_producers(&self.place, &view, snapshots, end, now_ms)?;
        producers.keep_ended(&self.producers, end);
        self.producers = producers;
        Ok(())
    }

    /// Empties the log. Its first segment stays, without records, until the new one is there: of
    /// several names that go at once a power loss may take the first and leave a later one, and the
    /// log would begin there.
    pub(crate) fn cut_all(&mut self, offset: i64) -> io::Result<()> {
        self.lower_recovery_point(0)?;
        let view = self.shared.view.load_full();
        let bases: Vec<i64> = view.segments.iter().map(|segment| segment.base_offset).collect();
        self.remove_segments(&bases[1..])?;
        self.remove_snapshots_and_epochs()?;
        self.dir.sync_folder(&self.place.dir)?;
        self.dir.set_log_start_offset(&self.partition, offset);
        self.dir.write_log_start_offsets()?;
        let first = view.segments[0].file.handle()?;
        first.set_len(0)?;
        first.sync_data()?;
        let created_ms = self.active.created_ms;
        let active = self.create_segment(offset, created_ms)?;
        active.handle.sync_data()?;
        self.dir.sync_folder(&self.place.dir)?;
        if bases[0] != offset {
            self.remove_segments(&bases[..1])?;
            self.dir.sync_folder(&self.place.dir)?;
        }
        self.begin_anew(active, offset);
        self.lower_cleaner_offset(0)
    }

    /// The producers and epochs of what is cut must not stand above those of what comes.
    fn remove_snapshots_and_epochs(&mut self) -> io::Result<()> {
        for snapshot in std::mem::take(&mut self.sync.snapshots) {
            self.place.remove(&self.place.segment_path(snapshot, SNAPSHOT_SUFFIX))?;
        }
        self.sync.epochs = Arc::default();
        self.place.remove(&self.place.path(LEADER_EPOCHS))
    }

    fn begin_anew(&mut self, active: Active, offset: i64) {
        self.active = active;
        self.next_offset = offset;
        self.sync.sealed.clear();
        self.sync.synced_end = offset;
        self.producers.clear();
        self.shared.epochs.store(Arc::default());
        self.shared.log_start_offset.store(offset, Ordering::Release);
        self.swap_view(vec![Arc::clone(&self.active.segment)]);
        self.shared.log_end_offset.store(offset, Ordering::Release);
        self.sync.recovery_point = offset;
        self.dir.set_recovery_point(&self.partition, offset);
    }

    /// First step of deleting the log: its directory gets a name that nothing opens. Durable when
    /// it returns. The files are removed with [`klamm_env::Files::remove_dir_all`] of the returned
    /// path, at any later time; readers that have them open may go on until then.
    ///
    /// # Errors
    /// When the disk fails, or the directory is another topic's by now.
    pub fn delete(self, unique: Uuid) -> io::Result<PathBuf> {
        // A checkpoint under way knows the files by paths that may soon be the next topic's.
        self.sync.generation.advance();
        self.dir.rename_deleted(&self.partition, self.topic_id, &self.place, unique)
    }
}
