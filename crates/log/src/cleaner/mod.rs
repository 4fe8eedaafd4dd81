//! Compaction: of all records with one key the newest is kept, in place and at its offset.
//!
//! A pass over one log goes in steps, so that the partition's lock is held for moments only:
//!
//! 1. [`Log::begin_cleaning`](crate::Log::begin_cleaning), under the lock: which segments may be
//!    cleaned, and from which offset on they never were.
//! 2. [`Cleaning::read_dirty_keys`], off it: the newest offset of each key of the dirty part, in a
//!    map of bounded size. Where the map is full the pass ends there.
//! 3. For each group of segments that make one: [`Cleaning::rewrite_next`], off the lock, then
//!    [`Cleaned::swap_in`], which takes the lock when it needs it.
//! 4. [`Log::end_cleaning`](crate::Log::end_cleaning), under the lock.
//!
//! The rules are Apache Kafka's: batches keep their base and last offsets, tombstones and markers
//! go after a delete horizon that the first pass over them writes into their batch (KIP-534), a
//! producer's last batch stays, without records if need be.

mod filter;
mod offset_map;
mod pass;
mod plan;
mod rewrite;
mod swap;
mod transactions;

pub use offset_map::{KeyHashing, OffsetMapLimits};
pub use pass::{Cleaning, CleaningError, Progress, Stats};
pub use plan::Dirt;
pub use swap::{Cleaned, LogLock};

pub(crate) use swap::{finish_swap, is_part_of_swap};
