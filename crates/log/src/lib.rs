//! One partition on disk, synchronous: log, segments, indexes, producer state, leader epochs,
//! recovery, retention, compaction, checkpoints. `docs/format.md` has the bytes and the recovery steps.
//!
//! - [`LogDir`]: a log directory, with its lock, identity, registration file and checkpoints.
//! - [`Log`]: one partition. All changes go through `&mut self`; the broker keeps it under the
//!   partition's lock.
//! - [`LogReader`]: what readers hold. They take no lock: they see an immutable list of segments,
//!   and what is below the published end of the last one.
//! - [`SyncPoint`] and [`CheckpointPoint`]: work begun under the lock, done off it, and ended
//!   under it again.
//!
//! ```text
//! log start <= recovery point <= synced end <= log end
//! ```

mod checkpoint;
mod cleaner;
mod config;
mod dir;
mod dump;
mod epochs;
mod error;
mod files;
mod index;
mod log;
mod lookup;
mod names;
mod new_files;
mod open_files;
mod producers;
mod progress;
mod properties;
mod reader;
mod recovery;
mod room;
mod segment;
mod snapshot;
mod transactions;
mod validate;
mod verify;

pub use cleaner::{
    Cleaned, Cleaning, CleaningError, Dirt, KeyHashing, LogLock, OffsetMapLimits, Progress, Stats,
};
pub use config::{LogConfig, RecordValidation};
pub use dir::{DirRegistration, FoundDir, LogDir, MetaProperties, RegisteredPair, Registration};
pub use dump::{DumpOptions, Found, dump_file, dumpable_files};
pub use epochs::{EpochCache, EpochEntry, UNDEFINED_EPOCH};
pub use error::{
    AppendError, LogDirError, Offline, OpenError, ReadError, RejectedRecord, TruncateError,
};
pub use log::{
    Appended, CheckpointPoint, Deletion, Drain, LeaderAppend, Log, OpenLog, Origin, SyncPoint,
};
pub use lookup::TimestampAndOffset;
pub use names::{
    DELETED_DIR_SUFFIX, STRAY_DIR_SUFFIX, TopicPartition, uuid_from_base64, uuid_to_base64,
};
pub use open_files::{DESCRIPTORS_SPARE, OpenFiles};
pub use producers::{BatchMetadata, ProducerEntry, ProducerError};
pub use reader::{Committed, LogReader, LogSlice};
pub use recovery::RecoveryReport;
pub use transactions::AbortedTransaction;
pub use verify::{Damage, Verified, verify};
