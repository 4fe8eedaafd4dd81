//! What clients and director tell each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use klamm_history::{FinalRead, Operation, TopicPartition};

/// Where a run has got to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// The topics are being made.
    #[default]
    Setup,
    /// Load and faults.
    Unrest,
    /// The faults are over; producers send no more.
    Healed,
    /// All is well: whole reads, then everybody ends.
    Reading,
}

/// Everything that the clients did and saw.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) phase: Phase,
    pub(super) topics_made: bool,
    /// Producers that have had all answers.
    pub(super) producers_done: u32,
    /// Members that have left the group.
    pub(super) members_done: u32,
    pub(super) next_value: u64,
    /// Values acknowledged with acks=all, by partition and offset.
    pub(super) acknowledged: BTreeMap<i32, BTreeMap<i64, u64>>,
    /// By client, its operations in order.
    pub(super) operations: BTreeMap<String, Vec<Operation>>,
    pub(super) polled: usize,
    /// What a consumer was told of a partition's end: nothing below may ever be gone.
    pub(super) high_watermarks: BTreeMap<i32, i64>,
    /// The highest offset of each partition whose commit was acknowledged.
    pub(super) committed: BTreeMap<i32, i64>,
    /// The highest that was asked for.
    pub(super) commits_tried: BTreeMap<i32, i64>,
    pub(super) commits: usize,
    /// What clients saw that must not be.
    pub(super) faults_seen: BTreeSet<String>,
    pub(super) final_reads: BTreeMap<TopicPartition, FinalRead>,
    /// The end of each partition as of the whole reads.
    pub(super) ends: BTreeMap<i32, i64>,
    /// What the group has committed at the end.
    pub(super) committed_at_end: BTreeMap<i32, i64>,
    pub(super) was_read: bool,
}

/// Clones are the same notes.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Notes>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// Notes an operation; answers its place among those of its client.
    pub(super) fn note(&self, client: &str, operation: Operation) -> usize {
        let mut notes = self.lock();
        let operations = notes.operations.entry(client.to_owned()).or_default();
        operations.push(operation);
        operations.len() - 1
    }
}
