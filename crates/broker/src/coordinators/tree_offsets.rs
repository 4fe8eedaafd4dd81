//! Committed offsets in the tree (`offsets.storage=zookeeper`): what is between a shard and
//! [`OffsetStore`].
//!
//! ```text
//! Shard::call            -> machine -> queue -> one task: multis of many commits -> machine -> answer
//! Shard::read_committed  -> queue -> the same task: proof of office, reads -> machine -> look
//! ```
//!
//! One task does all of it, in the order in which it was asked for. An offset is in the machine only
//! once the tree has it, and every answer to OffsetFetch comes after a reading of the tree: what
//! somebody has written there by hand counts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use klamm_cluster::nodes::consumers::DetailsNode;
use klamm_cluster::offsets::{
    Change, Found, OffsetStore, OffsetsError, Outcome, Stored, To, Wanted, Written,
};
use klamm_cluster::tree::TreeError;
use klamm_coordinator::{CommittedOffset, Groups, Proposal, Record};
use klamm_protocol::ErrorCode;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;
use uuid::Uuid;

use super::shard::Shard;

/// Jobs of one shard that wait at most; what comes beyond is told to come back.
const JOBS_MAX: usize = 4096;
/// Bytes of changes of one shard that wait at most; one job always finds room.
const CHANGES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Changes that are written in one go at most, but for a single request with more.
const CHANGES_AT_ONCE: usize = 2000;

/// The way of a shard to its task. The task ends when this is dropped.
pub(super) struct TreeOffsets {
    jobs: mpsc::Sender<Job>,
    waiting_bytes: Arc<AtomicUsize>,
    /// Deletions under way that no request has asked for.
    unasked: Arc<AtomicUsize>,
}

/// Changes, and what is done once the tree has them.
pub(super) struct Write {
    pub(super) changes: Vec<Change>,
    /// One for each change.
    pub(super) records: Vec<Record>,
    /// Its answers wait for the changes.
    pub(super) proposal: Proposal,
    /// What of the log has to be committed before the answers leave.
    pub(super) log_end: i64,
    /// Told whether the tree has them.
    pub(super) done: Option<oneshot::Sender<bool>>,
}

/// A look at a group.
pub(super) struct Read {
    group: String,
    wanted: Wanted,
    done: oneshot::Sender<Result<(), ErrorCode>>,
}

pub(super) enum Job {
    Write(Box<Queued>),
    Read(Read),
}

/// A write with its share of the bounds.
pub(super) struct Queued {
    write: Write,
    _bytes: Share,
    _unasked: Option<Share>,
}

/// Part of a number, given back when its owner goes.
struct Share {
    of: Arc<AtomicUsize>,
    amount: usize,
}

impl Share {
    fn new(of: &Arc<AtomicUsize>, amount: usize) -> Share {
        of.fetch_add(amount, Ordering::Relaxed);
        Share { of: Arc::clone(of), amount }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

impl TreeOffsets {
    pub(super) fn new() -> (TreeOffsets, mpsc::Receiver<Job>) {
        let (jobs, receiver) = mpsc::channel(JOBS_MAX);
        let offsets = TreeOffsets { jobs, waiting_bytes: Arc::default(), unasked: Arc::default() };
        (offsets, receiver)
    }

    /// Whether deletions that no request has asked for are under way: the machine still has what they
    /// are about, and would ask for them again.
    pub(super) fn is_expiring(&self) -> bool {
        self.unasked.load(Ordering::Relaxed) > 0
    }

    /// Has changes written; gives them back where too many wait already.
    pub(super) fn write(&self, write: Write, is_asked: bool) -> Result<(), Box<Write>> {
        let amount: usize = write.changes.iter().map(bytes_of).sum();
        let waiting = self.waiting_bytes.load(Ordering::Relaxed);
        if waiting > 0 && waiting.saturating_add(amount) > CHANGES_BYTES_MAX {
            return Err(Box::new(write));
        }
        let queued = Queued {
            write,
            _bytes: Share::new(&self.waiting_bytes, amount),
            _unasked: (!is_asked).then(|| Share::new(&self.unasked, 1)),
        };
        self.jobs.try_send(Job::Write(Box::new(queued))).map_err(|refused| {
            match refused.into_inner() {
                Job::Write(queued) => Box::new(queued.write),
                Job::Read(_) => unreachable!("a write was sent"),
            }
        })
    }

    /// Has a group read behind all that was asked for before. The machine knows what was found when
    /// the answer comes.
    pub(super) fn read(
        &self,
        group: &str,
        wanted: Wanted,
    ) -> oneshot::Receiver<Result<(), ErrorCode>> {
        let (done, answer) = oneshot::channel();
        let read = Read { group: group.to_owned(), wanted, done };
        if let Err(refused) = self.jobs.try_send(Job::Read(read))
            && let Job::Read(read) = refused.into_inner()
        {
            // Nobody listening is no harm.
            let _ = read.done.send(Err(ErrorCode::CoordinatorNotAvailable));
        }
        answer
    }
}

/// About how many bytes a change occupies while it waits.
fn bytes_of(change: &Change) -> usize {
    const OVERHEAD: usize = 256;
    let metadata = match &change.to {
        To::Set(details) => details.metadata.len(),
        To::Gone | To::GoneIf { .. } => 0,
    };
    // The names stand in the record too.
    OVERHEAD + 2 * (change.group.len() + change.topic.len() + metadata)
}

/// Does what is asked for until the shard is gone.
pub(super) async fn run(mut jobs: mpsc::Receiver<Job>, shard: Weak<Shard>, mut store: OffsetStore) {
    let mut taken = Vec::new();
    while jobs.recv_many(&mut taken, JOBS_MAX).await > 0 {
        let Some(shard) = shard.upgrade() else { return };
        let mut taken = VecDeque::from(std::mem::take(&mut taken));
        while let Some(job) = taken.pop_front() {
            match job {
                Job::Write(first) => {
                    let writes = with_writes_behind(*first, &mut taken);
                    write(&shard, &mut store, writes).await;
                }
                Job::Read(first) => {
                    let reads = with_reads_behind(first, &mut taken);
                    read(&shard, &mut store, reads).await;
                }
            }
        }
    }
}

fn with_writes_behind(first: Queued, jobs: &mut VecDeque<Job>) -> Vec<Queued> {
    let mut count = first.write.changes.len();
    let mut writes = vec![first];
    while let Some(Job::Write(next)) = jobs.front() {
        count += next.write.changes.len();
        if count > CHANGES_AT_ONCE {
            break;
        }
        let Some(Job::Write(next)) = jobs.pop_front() else { unreachable!("it was in front") };
        writes.push(*next);
    }
    writes
}

fn with_reads_behind(first: Read, jobs: &mut VecDeque<Job>) -> Vec<Read> {
    let mut reads = vec![first];
    while matches!(jobs.front(), Some(Job::Read(_))) {
        let Some(Job::Read(next)) = jobs.pop_front() else { unreachable!("it was in front") };
        reads.push(next);
    }
    reads
}

async fn write(shard: &Shard, store: &mut OffsetStore, writes: Vec<Queued>) {
    let changes: Vec<Change> =
        writes.iter().flat_map(|queued| queued.write.changes.iter().cloned()).collect();
    let written = write_in_time(shard, store, &changes).await;
    // One that can never be written must not stand in the way of the others.
    let apart = writes.len() > 1 && written.error.as_ref().is_some_and(is_refusal);
    let Written { outcomes, error } = written;
    let mut outcomes = outcomes.as_slice();
    let is_deposed = error == Some(OffsetsError::Deposed);
    for queued in writes {
        let write = queued.write;
        let (own, rest) = outcomes.split_at(write.changes.len());
        outcomes = rest;
        if apart && own.contains(&Outcome::Open) {
            let alone = write_in_time(shard, store, &write.changes).await;
            shard.on_offsets_written(write, &alone.outcomes, alone.error.as_ref().map(code_of));
        } else {
            shard.on_offsets_written(write, own, error.as_ref().map(code_of));
        }
    }
    if is_deposed {
        shard.retire();
    }
}

/// Takes over what was found by the way before it comes back.
async fn write_in_time(shard: &Shard, store: &mut OffsetStore, changes: &[Change]) -> Written {
    let tree = shard.tree();
    let writing = store.write(&*tree, changes);
    let written = tokio::time::timeout(shard.commit_timeout(), writing).await;
    let written = written.unwrap_or_else(|_| Written {
        outcomes: vec![Outcome::Open; changes.len()],
        error: Some(OffsetsError::Unsettled),
    });
    if let Some(error) = &written.error {
        warn!(partition = %shard.id(), "committed offsets are not in the tree: {error}");
    }
    shard.take_over(store.take_news());
    written
}

async fn read(shard: &Shard, store: &mut OffsetStore, reads: Vec<Read>) {
    let read = read_all(shard, store, &reads);
    let read = tokio::time::timeout(shard.commit_timeout(), read).await;
    let read = read.unwrap_or(Err(OffsetsError::Unsettled));
    let answer = match &read {
        Ok(()) => Ok(()),
        Err(error) => {
            warn!(partition = %shard.id(), "committed offsets cannot be read: {error}");
            Err(code_of(error))
        }
    };
    for read in reads {
        // Nobody listens any more where the client has gone.
        let _ = read.done.send(answer);
    }
    if read == Err(OffsetsError::Deposed) {
        shard.retire();
    }
}

/// Everything that is asked for, each group once.
async fn read_all(
    shard: &Shard,
    store: &mut OffsetStore,
    reads: &[Read],
) -> Result<(), OffsetsError> {
    let tree = shard.tree();
    store.prove(&*tree).await?;
    let mut wanted: BTreeMap<&str, Wanted> = BTreeMap::new();
    for read in reads {
        match wanted.get_mut(read.group.as_str()) {
            Some(already) => already.add(&read.wanted),
            None => {
                wanted.insert(&read.group, read.wanted.clone());
            }
        }
    }
    for (group, wanted) in wanted {
        let found = store.read(&*tree, group, &wanted).await?;
        shard.take_over(found);
    }
    Ok(())
}

/// Whether it is of no use to try the same again.
fn is_refusal(error: &OffsetsError) -> bool {
    match error {
        OffsetsError::Tree(error) => !matches!(
            error,
            TreeError::SessionLost
                | TreeError::SessionExpired
                | TreeError::ConnectionLoss
                | TreeError::Unavailable { .. }
                | TreeError::StorageFull
        ),
        OffsetsError::Node(_) => true,
        OffsetsError::Deposed | OffsetsError::Unsettled => false,
    }
}

/// What a client is told.
pub(super) fn code_of(error: &OffsetsError) -> ErrorCode {
    match error {
        OffsetsError::Deposed => ErrorCode::NotCoordinator,
        error if is_refusal(error) => ErrorCode::UnknownServerError,
        _ => ErrorCode::CoordinatorNotAvailable,
    }
}

/// The change of the tree that a record of an offset stands for. A deletion that nobody has asked for
/// is one of the offset that the machine has judged, and of no later one.
pub(super) fn change_of(groups: &Groups, record: &Record, is_asked: bool) -> Change {
    let Record::Offset { group, topic, partition, offset } = record else {
        panic!("only committed offsets go into the tree, not {record:?}");
    };
    let to = match offset {
        Some(offset) => To::Set(details_of(offset)),
        None => match groups.committed(group, topic, Uuid::nil(), *partition) {
            Some(judged) if !is_asked => {
                To::GoneIf { offset: judged.offset, commit_ms: judged.commit_ms }
            }
            _ => To::Gone,
        },
    };
    Change { group: group.clone(), topic: topic.clone(), partition: *partition, to }
}

fn details_of(offset: &CommittedOffset) -> DetailsNode {
    DetailsNode {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone(),
        commit_ms: offset.commit_ms,
        expire_ms: offset.expire_ms,
        topic_id: offset.topic_id,
    }
}

/// Puts what was found in the tree into the machine. A number that somebody wrote by hand counts as
/// committed when it is first seen.
pub(super) fn take_over(groups: &mut Groups, found: Found, wall_ms: i64) {
    let Found { group, topic, partition, stored } = found;
    let offset = match stored {
        None => None,
        Some(Stored { offset, details: None }) => {
            let known = groups.committed(&group, &topic, Uuid::nil(), partition);
            if known.is_some_and(|known| known.offset == offset) {
                return;
            }
            Some(CommittedOffset {
                offset,
                leader_epoch: -1,
                metadata: String::new(),
                commit_ms: wall_ms,
                expire_ms: None,
                topic_id: Uuid::nil(),
            })
        }
        Some(Stored { offset, details: Some(details) }) => Some(CommittedOffset {
            offset,
            leader_epoch: details.leader_epoch,
            metadata: details.metadata,
            commit_ms: details.commit_ms,
            expire_ms: details.expire_ms,
            topic_id: details.topic_id,
        }),
    };
    groups.apply(Record::Offset { group, topic, partition, offset });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(metadata: usize, changes: usize) -> Write {
        let details = DetailsNode {
            offset: 1,
            leader_epoch: -1,
            metadata: "m".repeat(metadata),
            commit_ms: 1,
            expire_ms: None,
            topic_id: Uuid::nil(),
        };
        let change = Change {
            group: "g".to_owned(),
            topic: "t".to_owned(),
            partition: 0,
            to: To::Set(details),
        };
        Write {
            changes: vec![change; changes],
            records: Vec::new(),
            proposal: Proposal::default(),
            log_end: 0,
            done: None,
        }
    }

    #[test]
    fn what_waits_for_the_tree_is_bounded() {
        let (offsets, mut jobs) = TreeOffsets::new();
        let accepted = (0..1000).take_while(|_| offsets.write(write(1 << 20, 1), true).is_ok());
        assert_eq!(accepted.count(), 31, "two copies of each are less than 64 MiB");
        jobs.try_recv().expect("one waits");
        assert!(offsets.write(write(1 << 20, 1), true).is_ok(), "there is room again");
        let (offsets, jobs) = TreeOffsets::new();
        let accepted = (0..10_000).take_while(|_| offsets.write(write(0, 1), true).is_ok());
        assert_eq!(accepted.count(), JOBS_MAX);
        drop(jobs);
        let mut refused = offsets.read("g", Wanted::All);
        assert_eq!(refused.try_recv(), Ok(Err(ErrorCode::CoordinatorNotAvailable)));
    }

    #[test]
    fn deletions_that_nobody_asked_for_are_known_until_they_are_done() {
        let (offsets, mut jobs) = TreeOffsets::new();
        assert!(offsets.write(write(0, 1), true).is_ok() && !offsets.is_expiring());
        assert!(offsets.write(write(0, 1), false).is_ok() && offsets.is_expiring());
        while jobs.try_recv().is_ok() {}
        assert!(!offsets.is_expiring());
    }

    #[test]
    fn what_is_written_in_one_go_is_bounded_and_keeps_its_order() {
        let (offsets, mut jobs) = TreeOffsets::new();
        for changes in [1500, 400, 400] {
            assert!(offsets.write(write(0, changes), true).is_ok());
        }
        drop(offsets.read("g", Wanted::All));
        assert!(offsets.write(write(0, 1), true).is_ok());
        let mut waiting: VecDeque<Job> = std::iter::from_fn(|| jobs.try_recv().ok()).collect();
        let mut taken = Vec::new();
        while let Some(job) = waiting.pop_front() {
            taken.push(match job {
                Job::Write(first) => with_writes_behind(*first, &mut waiting).len(),
                Job::Read(first) => 10 * with_reads_behind(first, &mut waiting).len(),
            });
        }
        assert_eq!(taken, [2, 1, 10, 1]);
    }

    #[test]
    fn a_refusal_is_told_from_what_may_go_better() {
        let denied = TreeError::AccessDenied { path: "/consumers/g".to_owned() };
        for (error, code) in [
            (OffsetsError::Deposed, ErrorCode::NotCoordinator),
            (OffsetsError::Unsettled, ErrorCode::CoordinatorNotAvailable),
            (TreeError::SessionLost.into(), ErrorCode::CoordinatorNotAvailable),
            (TreeError::ConnectionLoss.into(), ErrorCode::CoordinatorNotAvailable),
            (denied.into(), ErrorCode::UnknownServerError),
        ] {
            assert_eq!(code_of(&error), code, "{error}");
        }
    }
}
