//! Making a log durable: group commit of its data, and checkpoints of what recovery starts from.
//!
//! Both go in three steps, so that the partition's lock is not held during the sync: begin (under
//! the lock) takes note of what there is, run (off it) does the work, end (under it) says what is
//! durable now, unless the log was truncated in between.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use klamm_env::Files;
use klamm_env::files::{File, OpenMode};

use crate::checkpoint::{encode_epochs, replace_file};
use crate::epochs::EpochCache;
use crate::error::Offline;
use crate::files::Place;
use crate::index::{Entry, Index, OffsetEntry, TimeEntry};
use crate::log::{Active, Log, is_full};
use crate::names::{INDEX_SUFFIX, LEADER_EPOCHS, SNAPSHOT_SUFFIX, TIME_INDEX_SUFFIX};
use crate::segment::Indexes;
use crate::snapshot;

/// Bytes that may lie past the recovery point before a checkpoint is due; what a restart reads.
const CHECKPOINT_BYTES: u64 = 32 << 20;

/// What is durable of a log, and what is not yet.
pub(crate) struct SyncState {
    /// Counts truncations. The auxiliary files are written only while it is held, so that a
    /// checkpoint begun before a truncation writes nothing after it.
    pub(crate) generation: Arc<Mutex<u64>>,
    /// Everything below is on stable storage.
    pub(crate) synced_end: i64,
    /// Recovery starts here: everything below is on stable storage with its indexes, epochs and
    /// producers.
    pub(crate) recovery_point: i64,
    /// Complete segments that are not below the recovery point, oldest first.
    pub(crate) sealed: Vec<Active>,
    /// Changes of names in the log's directory, so far and when last synced.
    pub(crate) names: u64,
    pub(crate) names_synced: u64,
    /// Files besides segments that the next sync must cover.
    pub(crate) new_files: Vec<Arc<dyn File>>,
    /// The log's directory is new: its own name is to be synced too.
    pub(crate) dir_is_new: bool,
    /// Bytes appended so far, and up to the recovery point.
    pub(crate) bytes: u64,
    pub(crate) checkpointed_bytes: u64,
    /// Offsets of the producer snapshots on disk.
    pub(crate) snapshots: BTreeSet<i64>,
    /// The epochs that are on disk.
    pub(crate) epochs: Arc<EpochCache>,
    pub(crate) checkpointing: bool,
    /// Retention waits for a checkpoint.
    pub(crate) checkpoint_wanted: bool,
}

impl SyncState {
    /// A log that is durable up to `end_offset`, with a checkpoint at `recovery_point`.
    pub(crate) fn new(recovery_point: i64, end_offset: i64, epochs: Arc<EpochCache>) -> SyncState {
        SyncState {
            generation: Arc::default(),
            synced_end: end_offset,
            recovery_point,
            sealed: Vec::new(),
            names: 0,
            names_synced: 0,
            new_files: Vec::new(),
            dir_is_new: false,
            bytes: 0,
            checkpointed_bytes: 0,
            snapshots: BTreeSet::new(),
            epochs,
            checkpointing: false,
            checkpoint_wanted: false,
        }
    }

    /// A segment was completed and another begun.
    pub(crate) fn sealed(&mut self, segment: Active) {
        self.sealed.push(segment);
        self.names += 1;
    }

    pub(crate) fn generation(&self) -> u64 {
        *self.generation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sync that has begun. Run it off the lock, then give it back to [`Log::end_sync`].
pub struct SyncPoint {
    files: Arc<dyn Files>,
    generation: u64,
    end_offset: i64,
    names: u64,
    new_files: usize,
    dirty: Vec<Arc<dyn File>>,
    dirs: Vec<PathBuf>,
    dir_was_new: bool,
}

impl SyncPoint {
    /// The log's end when the sync began.
    pub fn end_offset(&self) -> i64 {
        self.end_offset
    }

    /// Files that [`SyncPoint::run`] would sync.
    pub fn file_count(&self) -> usize {
        self.dirty.len() + self.dirs.len()
    }

    /// Makes everything appended before the sync began durable, file by file. A sync of the whole
    /// volume that began after this one does the same for many logs at once.
    ///
    /// # Errors
    /// The first error. The data may be lost; give it to [`Log::end_sync`] and do not try again.
    pub fn run(&self) -> io::Result<()> {
        for file in &self.dirty {
            file.sync_data()?;
        }
        for dir in &self.dirs {
            self.files.sync_dir(dir)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for SyncPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyncPoint").field("end_offset", &self.end_offset).finish_non_exhaustive()
    }
}

/// A checkpoint that has begun. Run it off the lock, then give it back to
/// [`Log::end_checkpoint`].
pub struct CheckpointPoint {
    sync: SyncPoint,
    place: Place,
    generation: Arc<Mutex<u64>>,
    auxiliary: Auxiliary,
    /// Entries of the active segment's indexes after this.
    active_written: (usize, usize),
    active_base_offset: i64,
    bytes: u64,
    data_synced: AtomicBool,
}

/// Files that are written with a checkpoint.
#[derive(Default)]
pub(crate) struct Auxiliary {
    indexes: Vec<IndexWrite>,
    /// Offset and content of a producer snapshot.
    snapshot: Option<(i64, Vec<u8>)>,
    epochs: Option<Arc<EpochCache>>,
}

struct IndexWrite {
    base_offset: i64,
    suffix: &'static str,
    at: u64,
    bytes: Vec<u8>,
}

impl Auxiliary {
    fn add_indexes(&mut self, active: &Active) -> io::Result<(usize, usize)> {
        let Indexes { offsets, times } = active.segment.own_indexes();
        let base_offset = active.segment.base_offset;
        let (from_offsets, from_times) = active.written;
        self.add_index::<OffsetEntry>(base_offset, INDEX_SUFFIX, offsets, from_offsets)?;
        self.add_index::<TimeEntry>(base_offset, TIME_INDEX_SUFFIX, times, from_times)?;
        Ok((offsets.len(), times.len()))
    }

    fn add_index<E: Entry>(
        &mut self,
        base_offset: i64,
        suffix: &'static str,
        index: &Index<E>,
        from: usize,
    ) -> io::Result<()> {
        let bytes = index.encode(from, index.len())?;
        self.indexes.push(IndexWrite { base_offset, suffix, at: (from * E::BYTES) as u64, bytes });
        Ok(())
    }

    /// Writes and syncs everything, names apart from the last `sync_dir`.
    fn write(&self, place: &Place) -> io::Result<()> {
        for index in &self.indexes {
            let path = place.segment_path(index.base_offset, index.suffix);
            let file = place.files.open(&path, OpenMode::Create)?;
            file.write_all_at(&index.bytes, index.at)?;
            file.set_len(index.at + index.bytes.len() as u64)?;
            file.sync_data()?;
        }
        if let Some((offset, bytes)) = &self.snapshot {
            let path = place.segment_path(*offset, SNAPSHOT_SUFFIX);
            let file = place.files.open(&path, OpenMode::Create)?;
            file.set_len(0)?;
            file.write_all_at(bytes, 0)?;
            file.sync_data()?;
        }
        if let Some(epochs) = &self.epochs {
            let text = encode_epochs(epochs);
            replace_file(&*place.files, &place.path(LEADER_EPOCHS), text.as_bytes())?;
        }
        place.files.sync_dir(&place.dir)
    }
}

impl CheckpointPoint {
    /// Makes durable what was appended before, then the indexes, producers and epochs of it.
    ///
    /// # Errors
    /// The first error; give it to [`Log::end_checkpoint`].
    pub fn run(&self) -> io::Result<()> {
        self.sync.run()?;
        self.data_synced.store(true, Ordering::Relaxed);
        let generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        if *generation != self.sync.generation {
            return Ok(());
        }
        self.auxiliary.write(&self.place)
    }
}

impl std::fmt::Debug for CheckpointPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointPoint").field("sync", &self.sync).finish_non_exhaustive()
    }
}

impl Log {
    /// Everything below is on stable storage.
    pub fn synced_end_offset(&self) -> i64 {
        self.sync.synced_end
    }

    /// Recovery would start here.
    pub fn recovery_point(&self) -> i64 {
        self.sync.recovery_point
    }

    /// Begins a sync of all that is not durable; `None` where all is (R18b).
    pub fn begin_sync(&mut self) -> Option<SyncPoint> {
        let names_dirty = self.sync.names > self.sync.names_synced || self.sync.dir_is_new;
        if self.sync.synced_end >= self.next_offset && !names_dirty {
            return None;
        }
        Some(self.sync_point())
    }

    fn sync_point(&self) -> SyncPoint {
        let sync = &self.sync;
        let mut dirty: Vec<Arc<dyn File>> = sync.new_files.clone();
        let unsynced = |end_offset: i64| end_offset > sync.synced_end;
        let sealed = sync.sealed.iter().filter(|sealed| unsynced(sealed.segment.end_offset()));
        dirty.extend(sealed.map(|sealed| Arc::clone(&sealed.handle)));
        if self.active.size > 0 && unsynced(self.next_offset) {
            dirty.push(Arc::clone(&self.active.handle));
        }
        let mut dirs = Vec::new();
        if sync.names > sync.names_synced {
            dirs.push(self.place.dir.to_path_buf());
        }
        if sync.dir_is_new {
            dirs.push(self.dir.path().to_owned());
        }
        SyncPoint {
            files: Arc::clone(&self.place.files),
            generation: sync.generation(),
            end_offset: self.next_offset,
            names: sync.names,
            new_files: sync.new_files.len(),
            dirty,
            dirs,
            dir_was_new: sync.dir_is_new,
        }
    }

    /// Ends a sync: returns the new synced end if it moved. A sync that a truncation overtook
    /// counts for nothing (hazard 94).
    ///
    /// # Errors
    /// When the sync failed: the log directory is offline from now on, without a second try (R23).
    pub fn end_sync(
        &mut self,
        point: SyncPoint,
        outcome: io::Result<()>,
    ) -> Result<Option<i64>, Offline> {
        if let Err(error) = outcome {
            return Err(self.poison(&error));
        }
        Ok(self.synced(&point))
    }

    fn synced(&mut self, point: &SyncPoint) -> Option<i64> {
        let sync = &mut self.sync;
        if point.generation != sync.generation() {
            return None;
        }
        sync.names_synced = sync.names_synced.max(point.names);
        sync.new_files.drain(..point.new_files.min(sync.new_files.len()));
        sync.dir_is_new &= !point.dir_was_new;
        if point.end_offset <= sync.synced_end {
            return None;
        }
        sync.synced_end = point.end_offset;
        Some(point.end_offset)
    }

    /// Whether so much lies past the recovery point that a checkpoint is due.
    pub fn needs_checkpoint(&self) -> bool {
        let sync = &self.sync;
        !sync.checkpointing
            && (!sync.sealed.is_empty()
                || sync.checkpoint_wanted
                || sync.bytes - sync.checkpointed_bytes > CHECKPOINT_BYTES)
    }

    /// Begins a checkpoint; `None` where the recovery point is the end of the log already, or a
    /// checkpoint is under way.
    ///
    /// # Errors
    /// When an index cannot be read.
    pub fn begin_checkpoint(&mut self) -> io::Result<Option<CheckpointPoint>> {
        let epochs = self.shared.epochs.load_full();
        let epochs_changed = *epochs != *self.sync.epochs;
        let moved = self.sync.recovery_point < self.next_offset || !self.sync.sealed.is_empty();
        let names_dirty = self.sync.names > self.sync.names_synced || self.sync.dir_is_new;
        if self.sync.checkpointing || !(moved || epochs_changed || names_dirty) {
            return Ok(None);
        }
        let mut auxiliary = Auxiliary::default();
        for sealed in &self.sync.sealed {
            auxiliary.add_indexes(sealed)?;
        }
        let active_written = auxiliary.add_indexes(&self.active)?;
        if moved {
            auxiliary.snapshot = Some((self.next_offset, snapshot::encode(&self.producers)));
        }
        auxiliary.epochs = epochs_changed.then_some(epochs);
        self.sync.checkpointing = true;
        Ok(Some(CheckpointPoint {
            sync: self.sync_point(),
            place: self.place.clone(),
            generation: Arc::clone(&self.sync.generation),
            auxiliary,
            active_written,
            active_base_offset: self.active.segment.base_offset,
            bytes: self.sync.bytes,
            data_synced: AtomicBool::new(false),
        }))
    }

    /// Ends a checkpoint: the recovery point moves to where the log ended when it began. The
    /// directory's file of recovery points is written by [`crate::LogDir::write_recovery_points`].
    ///
    /// # Errors
    /// When a sync failed: the log directory is offline from now on. A full disk is no error; the
    /// recovery point stays where it is.
    pub fn end_checkpoint(
        &mut self,
        point: CheckpointPoint,
        outcome: io::Result<()>,
    ) -> Result<(), Offline> {
        self.sync.checkpointing = false;
        if let Err(error) = outcome {
            if is_full(&error) && point.data_synced.load(Ordering::Relaxed) {
                self.synced(&point.sync);
                return Ok(());
            }
            return Err(self.poison(&error));
        }
        if point.sync.generation != self.sync.generation() {
            return Ok(());
        }
        self.synced(&point.sync);
        self.checkpointed(point);
        Ok(())
    }

    fn checkpointed(&mut self, point: CheckpointPoint) {
        let end_offset = point.sync.end_offset;
        // Segments completed since have their end past the checkpoint.
        let (done, rest) = std::mem::take(&mut self.sync.sealed)
            .into_iter()
            .partition(|sealed: &Active| sealed.segment.base_offset < point.active_base_offset);
        self.sync.sealed = rest;
        self.use_index_files(done);
        if self.active.segment.base_offset == point.active_base_offset {
            self.active.written = point.active_written;
        } else if let Some(sealed) = self.sync.sealed.first_mut()
            && sealed.segment.base_offset == point.active_base_offset
        {
            sealed.written = point.active_written;
        }
        if let Some((offset, _)) = point.auxiliary.snapshot {
            self.sync.snapshots.insert(offset);
        }
        if let Some(epochs) = point.auxiliary.epochs {
            self.sync.epochs = epochs;
        }
        self.sync.recovery_point = self.sync.recovery_point.max(end_offset);
        self.sync.checkpointed_bytes = point.bytes;
        self.sync.checkpoint_wanted = false;
        self.dir.set_recovery_point(&self.partition, self.sync.recovery_point);
        self.remove_old_snapshots();
    }

    /// Lets go of indexes in memory that are in their files now.
    fn use_index_files(&self, done: Vec<Active>) {
        if done.is_empty() {
            return;
        }
        let view = self.shared.view.load();
        let replaced = view.segments.iter().map(|segment| {
            match done.iter().find(|done| Arc::ptr_eq(&done.segment, segment)) {
                Some(_) => Arc::new(segment.with_index_files(&self.place)),
                None => Arc::clone(segment),
            }
        });
        let replaced = replaced.collect();
        self.swap_view(replaced);
    }

    /// Keeps the newest snapshot of every segment and the last two: a truncation starts from the
    /// one before it.
    fn remove_old_snapshots(&mut self) {
        let view = self.shared.view.load();
        let known: Vec<i64> = self.sync.snapshots.iter().copied().collect();
        let old: Vec<i64> = known
            .windows(3)
            .filter(|next| view.place_of(next[0]) == view.place_of(next[1]))
            .map(|next| next[0])
            .collect();
        for offset in old {
            // One that stays behind is older than the recovery point and does no harm.
            if self.place.remove(&self.place.segment_path(offset, SNAPSHOT_SUFFIX)).is_ok() {
                self.sync.snapshots.remove(&offset);
            }
        }
    }

    /// Makes the log durable and its recovery point its end: what a clean shutdown does for every
    /// log before the directory's clean marker is written.
    ///
    /// # Errors
    /// When the disk fails; the log directory is offline then.
    pub fn close(mut self) -> Result<(), Offline> {
        self.check_online()?;
        if self.sync.recovery_point < self.next_offset {
            self.active.indexer.add_time(self.active.segment.own_indexes());
        }
        let point = match self.begin_checkpoint() {
            Ok(Some(point)) => point,
            Ok(None) => return Ok(()),
            Err(error) => return Err(self.poison(&error)),
        };
        let outcome = point.run();
        self.end_checkpoint(point, outcome)
    }
}
