//! One partition's log.

mod append;
mod checkpoints;
mod retention;
mod sync;
mod transactions;
mod truncate;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use klamm_env::files::{File, is_out_of_descriptors};
use uuid::Uuid;

use crate::config::LogConfig;
use crate::dir::LogDir;
use crate::epochs::EpochCache;
use crate::error::{Offline, OpenError};
use crate::files::Place;
use crate::names::TopicPartition;
use crate::open_files::make_room;
use crate::producers::{ProducerEntry, ProducerState};
use crate::reader::{LogReader, Shared, View};
use crate::recovery::{self, RecoveryReport};
use crate::segment::{IndexLens, Indexer, Segment};

pub use append::{Appended, LeaderAppend, Origin};
pub use checkpoints::CheckpointPoint;
pub use retention::Deletion;
pub use sync::SyncPoint;
pub use truncate::Drain;

pub(crate) use sync::SyncState;

/// What [`Log::open`] needs.
#[derive(Clone, Debug)]
pub struct OpenLog {
    /// The directory that holds the log; knows its recovery point and log start offset.
    pub dir: Arc<LogDir>,
    /// Whose log it is.
    pub partition: TopicPartition,
    /// The topic's id; a directory of another topic of that name is refused.
    pub topic_id: Uuid,
    /// The topic's settings.
    pub config: LogConfig,
    /// The wall clock.
    pub now_ms: i64,
}

/// One partition on disk. The broker keeps it under the partition's lock; readers use
/// [`Log::reader`].
pub struct Log {
    pub(crate) dir: Arc<LogDir>,
    pub(crate) partition: TopicPartition,
    pub(crate) topic_id: Uuid,
    pub(crate) config: LogConfig,
    pub(crate) place: Place,
    pub(crate) shared: Arc<Shared>,
    pub(crate) active: Active,
    pub(crate) next_offset: i64,
    pub(crate) producers: ProducerState,
    pub(crate) sync: SyncState,
    /// Reads that a truncation waits for.
    pub(crate) drain: Drain,
    /// Cleaned segments are being put in the place of others: nothing may be cut or deleted.
    pub(crate) swapping: bool,
    /// Set by the first write error of this log, for the life of the process.
    pub(crate) poisoned: Option<Offline>,
}

/// The segment that is appended to.
pub(crate) struct Active {
    pub(crate) segment: Arc<Segment>,
    pub(crate) handle: Arc<dyn File>,
    pub(crate) indexer: Indexer,
    pub(crate) size: u64,
    /// Greatest timestamp of the first batch; time-based rolling counts from it.
    pub(crate) first_timestamp: Option<i64>,
    /// When the segment was created or opened, by the wall clock.
    pub(crate) created_ms: i64,
    /// Entries that the index files have already, for good.
    pub(crate) written: IndexLens,
}

impl Log {
    /// Opens the log, created when missing, and recovers it: everything past the recovery point is
    /// read and checked, what cannot be trusted is cut, what is kept is on stable storage.
    ///
    /// # Errors
    /// When the directory is of another topic or the disk fails.
    pub fn open(open: OpenLog) -> Result<(Log, RecoveryReport), OpenError> {
        if let Some(offline) = open.dir.offline() {
            return Err(offline.into());
        }
        make_room(&**open.dir.files(), open.dir.open_files())?;
        let (dir, partition) = (Arc::clone(&open.dir), open.partition.clone());
        let opened = recovery::open(open);
        if let Ok((_, report)) = &opened {
            dir.recovered(&partition, report);
        }
        opened.inspect_err(|error| {
            if let OpenError::Io(error) = error
                && !is_full(error)
                && !is_out_of_descriptors(error)
                && error.kind() != io::ErrorKind::InvalidData
            {
                dir.take_offline(&error.to_string());
            }
        })
    }

    /// Whose log it is.
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// The topic's id.
    pub fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    /// The directory of the log's files.
    pub fn path(&self) -> &Path {
        &self.place.dir
    }

    /// The log directory that it lies in.
    pub fn dir(&self) -> &Arc<LogDir> {
        &self.dir
    }

    /// The settings in force.
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes the settings; they hold from the next append on.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
        self.active.indexer.interval_bytes = self.config.index_interval_bytes;
    }

    /// A handle for readers.
    pub fn reader(&self) -> LogReader {
        LogReader { shared: Arc::clone(&self.shared) }
    }

    /// First offset that may be read.
    pub fn log_start_offset(&self) -> i64 {
        self.shared.log_start_offset.load(Ordering::Relaxed)
    }

    /// The offset that the next record gets.
    pub fn log_end_offset(&self) -> i64 {
        self.next_offset
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.shared.view.load().segments.iter().map(|segment| segment.size()).sum()
    }

    /// Number of segments.
    pub fn segment_count(&self) -> usize {
        self.shared.view.load().segments.len()
    }

    /// Base offset of the segment that is appended to.
    pub fn active_segment_base_offset(&self) -> i64 {
        self.active.segment.base_offset
    }

    /// The leader epochs of the log.
    pub fn epochs(&self) -> Arc<EpochCache> {
        self.shared.epochs.load_full()
    }

    /// The newest leader epoch of the log.
    pub fn latest_epoch(&self) -> Option<i32> {
        self.shared.epochs.load().latest().map(|entry| entry.epoch)
    }

    /// As [`EpochCache::end_offset_for`].
    pub fn end_offset_for_epoch(&self, epoch: i32) -> (i32, i64) {
        self.shared.epochs.load().end_offset_for(epoch, self.next_offset)
    }

    /// Notes that the leader of `epoch` begins at the end of the log (R15). It is on disk no later
    /// than the first record of that epoch: the batch says so itself, and recovery reads it there.
    pub fn record_epoch_start(&mut self, epoch: i32) {
        self.assign_epoch(epoch, self.next_offset);
    }

    pub(crate) fn assign_epoch(&mut self, epoch: i32, start_offset: i64) {
        let known = self.shared.epochs.load();
        if known.latest().is_some_and(|last| last.epoch >= epoch) {
            return;
        }
        let mut changed = EpochCache::clone(&known);
        if changed.assign(epoch, start_offset) {
            self.shared.epochs.store(Arc::new(changed));
        }
    }

    /// The idempotent producers that the log remembers, by id.
    pub fn producers(&self) -> Vec<ProducerEntry> {
        self.producers.entries().into_iter().cloned().collect()
    }

    /// Number of idempotent producers that the log remembers.
    pub fn producer_count(&self) -> usize {
        self.producers.len()
    }

    /// Forgets producers that wrote nothing for `producer.id.expiration.ms`.
    pub fn expire_producers(&mut self, now_ms: i64) {
        self.producers.expire(now_ms, self.config.producer_id_expiration);
    }

    /// Why the log takes no appends any more, if so.
    pub fn offline(&self) -> Option<Offline> {
        self.poisoned.clone().or_else(|| self.dir.offline())
    }

    pub(crate) fn check_online(&self) -> Result<(), Offline> {
        match self.offline() {
            Some(offline) => Err(offline),
            None => Ok(()),
        }
    }

    /// After an error from which there is no way back (R23): no write, no sync, no retry.
    pub(crate) fn poison(&mut self, error: &io::Error) -> Offline {
        let reason = format!("{}: {error}", self.partition);
        // Damage is this log's own, and so is work that was left half done for want of a descriptor;
        // an error of the disk is everybody's.
        if error.kind() != io::ErrorKind::InvalidData && !is_out_of_descriptors(error) {
            self.dir.take_offline(&reason);
        }
        let offline = Offline { reason: reason.into() };
        self.poisoned.get_or_insert(offline).clone()
    }

    /// Shows readers another list of segments; returns the old one.
    pub(crate) fn swap_view(&self, segments: Vec<Arc<Segment>>) -> Arc<View> {
        self.shared.view.swap(Arc::new(View { segments }))
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("partition", &self.partition)
            .field("log_start_offset", &self.log_start_offset())
            .field("log_end_offset", &self.next_offset)
            .finish_non_exhaustive()
    }
}

/// Whether an error of a write means that there is no room, which passes (R23).
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
