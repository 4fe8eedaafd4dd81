//! Making a log durable: group commit of its data.
//!
//! It goes in three steps, as a checkpoint does, so that the partition's lock is not held during the sync: begin (under
//! the lock) takes note of what there is, run (off it) does the work, end (under it) says what is
//! durable now, unless the log was truncated in between.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use klamm_env::files::{File, is_out_of_descriptors};

use crate::dir::LogDir;
use crate::epochs::EpochCache;
use crate::error::Offline;
use crate::log::{Active, Log};
use crate::new_files::NewFile;

/// Counts truncations, and the deletion. The auxiliary files are written only in the generation that
/// their content is of, so that a checkpoint begun before a truncation writes nothing after it.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    /// Changes only under `writing`; read without it, since writing takes several syncs.
    number: AtomicU64,
    writing: Mutex<()>,
}

impl Generation {
    /// Begins the next one, when nobody writes in this one any more.
    pub(crate) fn advance(&self) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.number.fetch_add(1, Ordering::AcqRel);
    }

    /// Runs `write` in the generation of that number, which lasts until it is done; `None` where
    /// another one has begun.
    pub(crate) fn run_in<T>(&self, number: u64, write: impl FnOnce() -> T) -> Option<T> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        (self.number.load(Ordering::Acquire) == number).then(write)
    }
}

/// What is durable of a log, and what is not yet.
pub(crate) struct SyncState {
    pub(crate) generation: Arc<Generation>,
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
    pub(crate) new_files: Vec<NewFile>,
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
        self.generation.number.load(Ordering::Acquire)
    }
}

/// A sync that has begun. Run it off the lock, then give it back to [`Log::end_sync`].
pub struct SyncPoint {
    pub(super) log_dir: Arc<LogDir>,
    pub(super) generation: u64,
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
    /// The first error; give it to [`Log::end_sync`]. The data may be lost, so there is no second
    /// try, unless it only says that a directory could not be opened for want of a descriptor.
    pub fn run(&self) -> io::Result<()> {
        for file in &self.dirty {
            file.sync_data()?;
        }
        for dir in &self.dirs {
            self.log_dir.sync_folder(dir)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for SyncPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyncPoint").field("end_offset", &self.end_offset).finish_non_exhaustive()
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

    pub(super) fn sync_point(&self) -> SyncPoint {
        let sync = &self.sync;
        let new_files = sync.new_files.iter().map(|new| Arc::clone(&new.file));
        let mut dirty: Vec<Arc<dyn File>> = new_files.collect();
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
            log_dir: Arc::clone(&self.dir),
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
    /// counts for nothing (hazard 94), and so does one that lacked a descriptor: begin another.
    ///
    /// # Errors
    /// When the sync failed: the log directory is offline from now on, without a second try (R23).
    pub fn end_sync(
        &mut self,
        point: SyncPoint,
        outcome: io::Result<()>,
    ) -> Result<Option<i64>, Offline> {
        match outcome {
            Ok(()) => Ok(self.synced(&point)),
            Err(error) if is_out_of_descriptors(&error) => Ok(None),
            Err(error) => Err(self.poison(&error)),
        }
    }

    pub(super) fn synced(&mut self, point: &SyncPoint) -> Option<i64> {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_told_while_files_are_written_and_ends_when_they_are() {
        let generation = Generation::default();
        let told = generation.run_in(0, || generation.number.load(Ordering::Acquire));
        assert_eq!(told, Some(0));
        generation.advance();
        assert_eq!(generation.run_in(0, || ()), None);
        assert_eq!(generation.run_in(1, || ()), Some(()));
    }
}
