//! Checkpoints: moving the recovery point, with all that recovery needs to start there.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use klamm_env::files::{File, OpenMode, is_out_of_descriptors};

use crate::checkpoint::{encode_epochs, replace_file_unsynced};
use crate::dir::LogDir;
use crate::epochs::{EpochCache, EpochEntry};
use crate::error::Offline;
use crate::files::{Place, free_preallocated};
use crate::index::{Entry, Index, OffsetEntry, TimeEntry};
use crate::log::sync::Generation;
use crate::log::{Active, Log, SyncPoint, is_full};
use crate::names::{
    INDEX_SUFFIX, LEADER_EPOCHS, SNAPSHOT_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX,
    TopicPartition,
};
use crate::segment::{IndexLens, Indexes};
use crate::snapshot;
use crate::transactions::AbortedTransaction;

/// Bytes that may lie past the recovery point before a checkpoint is due; what a restart reads.
const CHECKPOINT_BYTES: u64 = 32 << 20;

/// A checkpoint that has begun. Run it off the lock, then give it back to
/// [`Log::end_checkpoint`].
pub struct CheckpointPoint {
    sync: SyncPoint,
    place: Place,
    generation: Arc<Generation>,
    auxiliary: Auxiliary,
    /// Entries of the active segment's indexes after this.
    active_written: IndexLens,
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
    /// What the file has past these bytes is none of its entries.
    is_end: bool,
}

impl Auxiliary {
    fn add_indexes(&mut self, active: &Active) -> io::Result<IndexLens> {
        let Indexes { offsets, times } = active.segment.own_indexes();
        let base_offset = active.segment.base_offset;
        let written = active.written;
        self.add_index::<OffsetEntry>(base_offset, INDEX_SUFFIX, offsets, written.offsets)?;
        self.add_index::<TimeEntry>(base_offset, TIME_INDEX_SUFFIX, times, written.times)?;
        let (aborted, from) = (active.segment.aborted(), written.aborted);
        if aborted.len() > from {
            self.add_index::<AbortedTransaction>(base_offset, TXN_INDEX_SUFFIX, aborted, from)?;
        }
        Ok(active.segment.index_lens())
    }

    fn add_index<E: Entry>(
        &mut self,
        base_offset: i64,
        suffix: &'static str,
        index: &Index<E>,
        from: usize,
    ) -> io::Result<()> {
        let bytes = index.encode(from, index.len())?;
        let at = (from * E::BYTES) as u64;
        // That of aborted transactions has grown where one was aborted since.
        let is_end = suffix != TXN_INDEX_SUFFIX;
        self.indexes.push(IndexWrite { base_offset, suffix, at, bytes, is_end });
        Ok(())
    }

    /// Writes everything, each file followed by `sync`.
    fn write(&self, place: &Place, sync: fn(&dyn File) -> io::Result<()>) -> io::Result<()> {
        for index in &self.indexes {
            let path = place.segment_path(index.base_offset, index.suffix);
            let file = place.files.open(&path, OpenMode::Create)?;
            file.write_all_at(&index.bytes, index.at)?;
            if index.is_end {
                file.set_len(index.at + index.bytes.len() as u64)?;
            }
            sync(&*file)?;
        }
        if let Some((offset, bytes)) = &self.snapshot {
            let path = place.segment_path(*offset, SNAPSHOT_SUFFIX);
            let file = place.files.open(&path, OpenMode::Create)?;
            file.set_len(0)?;
            file.write_all_at(bytes, 0)?;
            sync(&*file)?;
        }
        if let Some(epochs) = &self.epochs {
            let text = encode_epochs(epochs);
            let path = place.path(LEADER_EPOCHS);
            replace_file_unsynced(&*place.files, &path, text.as_bytes(), sync)?;
        }
        Ok(())
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
        let write = || {
            self.auxiliary.write(&self.place, |file| file.sync_data())?;
            self.sync.log_dir.sync_folder(&self.place.dir)
        };
        self.generation.run_in(self.sync.generation, write).unwrap_or(Ok(()))
    }

    /// The same without a sync: one of the whole volume is to follow. A power loss before it may
    /// leave these files damaged, which recovery tells and builds them anew.
    fn write_unsynced(&self) -> io::Result<()> {
        self.auxiliary.write(&self.place, |_| Ok(()))
    }
}

impl std::fmt::Debug for CheckpointPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointPoint").field("sync", &self.sync).finish_non_exhaustive()
    }
}

impl Log {
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
        // An epoch without records is of no use to recovery: many elections change no file.
        let epochs_changed = !self.with_records(&epochs).eq(self.with_records(&self.sync.epochs));
        let moved = self.sync.recovery_point < self.next_offset || !self.sync.sealed.is_empty();
        if self.sync.checkpointing || !(moved || epochs_changed) {
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

    fn with_records<'a>(
        &self,
        epochs: &'a EpochCache,
    ) -> impl Iterator<Item = &'a EpochEntry> + use<'a> {
        let end_offset = self.next_offset;
        epochs.entries().iter().filter(move |entry| entry.start_offset < end_offset)
    }

    /// Ends a checkpoint: the recovery point moves to where the log ended when it began. The
    /// directory's file of recovery points is written by [`crate::LogDir::write_recovery_points`].
    ///
    /// # Errors
    /// When a sync failed: the log directory is offline from now on. A full disk is no error, nor is
    /// want of a descriptor; the recovery point stays where it is.
    pub fn end_checkpoint(
        &mut self,
        point: CheckpointPoint,
        outcome: io::Result<()>,
    ) -> Result<(), Offline> {
        self.sync.checkpointing = false;
        if let Err(error) = outcome {
            let data_synced = point.data_synced.load(Ordering::Relaxed);
            if (is_full(&error) || is_out_of_descriptors(&error)) && data_synced {
                self.synced(&point.sync);
                return Ok(());
            }
            if is_out_of_descriptors(&error) {
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
        let end_offset = point.sync.end_offset();
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
        let Some(point) = self.begin_close()? else { return Ok(()) };
        let outcome = point.run();
        self.end_checkpoint(point, outcome)
    }

    /// [`Log::close`] of many logs of `dir` with one sync of the volume instead of several a log;
    /// log by log where there is no such sync, or it fails. Answers those that are not in order.
    pub fn close_all(dir: &LogDir, logs: Vec<Log>) -> Vec<(TopicPartition, Offline)> {
        let mut failed = Vec::new();
        let mut begun = Vec::new();
        for mut log in logs {
            match log.begin_close() {
                Ok(None) => {}
                Ok(Some(point)) => {
                    let written = point.write_unsynced();
                    begun.push((log, point, written));
                }
                Err(offline) => failed.push((log.partition.clone(), offline)),
            }
        }
        let is_synced = dir.sync_volume().is_ok();
        for (mut log, point, written) in begun {
            let outcome = if is_synced && written.is_ok() { Ok(()) } else { point.run() };
            if let Err(offline) = log.end_checkpoint(point, outcome) {
                failed.push((log.partition.clone(), offline));
            }
        }
        failed
    }

    fn begin_close(&mut self) -> Result<Option<CheckpointPoint>, Offline> {
        self.check_online()?;
        if self.sync.recovery_point < self.next_offset {
            self.active.indexer.add_time(self.active.segment.own_indexes());
        }
        if self.config.preallocate {
            let Active { segment, handle, size, .. } = &self.active;
            free_preallocated(&**handle, &segment.file.path(), *size);
        }
        // One that is under way proves nothing yet, and must write nothing after this one.
        self.sync.generation.advance();
        self.sync.checkpointing = false;
        self.begin_checkpoint().map_err(|error| self.poison(&error))
    }
}
