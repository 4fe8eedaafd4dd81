//! One loaded coordinator: the machine under its lock, its parked requests, its timers.
//!
//! What the machine answers leaves when the high watermark has reached the end of the log as it
//! was when the answer was made (R24), or not at all: a change of leader epoch ends the shard and
//! whatever waits in it with NOT_COORDINATOR.
//!
//! Where committed offsets are in the tree, what the machine proposes of them goes there and not into
//! the log (`tree_offsets.rs`); the answer waits until they are there.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, select};
use klamm_cluster::nodes::consumers::is_storable;
use klamm_cluster::offsets::{Found, OffsetStore, Outcome, Wanted};
use klamm_cluster::tree::Tree;
use klamm_coordinator::{
    Answer, DeleteOffsets, Groups, Now, Proposal, Record, Reply, Ticket, Time, client_error,
};
use klamm_env::{Env, Loop};
use klamm_log::{Origin, TopicPartition};
use klamm_protocol::ErrorCode;
use klamm_protocol::compression::Compression;
use klamm_protocol::records::{BatchBuilder, NewRecord};
use tokio::sync::oneshot;
use tracing::{info, warn};
use uuid::Uuid;

use super::tree_offsets::{self, TreeOffsets, Write, change_of};
use crate::acks::{Ack, wait_all};
use crate::fence::Fence;
use crate::partition::Partition;
use crate::waiters::Signal;

/// An answer and the log's end that must be committed before it may leave.
struct Made {
    answer: Answer,
    log_end: i64,
}

/// Says that nothing has to be committed first: the answer promises nothing.
const NOTHING: i64 = i64::MIN;

struct State {
    /// None once the shard has ended.
    groups: Option<Groups>,
    waiting: BTreeMap<Ticket, oneshot::Sender<Made>>,
    next_ticket: u64,
    /// Behind the last record that the machine knows.
    log_end: i64,
    /// When the timers' task looks next.
    wakes_at: Option<Time>,
}

/// The coordinator of one partition of `__consumer_offsets` in one leader epoch.
pub(crate) struct Shard {
    partition: Arc<Partition>,
    epoch: i32,
    env: Env,
    fence: Fence,
    commit_timeout: Duration,
    state: Mutex<State>,
    /// The way to the tree, where that has the committed offsets.
    offsets: Option<TreeOffsets>,
    /// Wakes the timers' task: an earlier deadline, or another leader epoch.
    wake: Arc<Signal>,
}

/// A machine that has been loaded.
pub(crate) struct Loaded {
    pub(crate) groups: Groups,
    /// How far it has read the log.
    pub(crate) log_end: i64,
    /// The committed offsets, where they are in the tree.
    pub(crate) offsets: Option<OffsetStore>,
}

/// What became of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Accepted,
    Refused,
    /// It waits for the tree.
    Waiting,
}

impl Shard {
    /// Takes over a machine, and starts its timers on the caller's loop.
    pub(crate) fn start(
        (env, fence): (&Env, &Fence),
        partition: Arc<Partition>,
        epoch: i32,
        loaded: Loaded,
        commit_timeout: Duration,
    ) -> Arc<Shard> {
        let Loaded { mut groups, log_end, offsets } = loaded;
        groups.loaded(now(env));
        let (offsets, job) = match offsets {
            Some(store) => {
                let (offsets, jobs) = TreeOffsets::new();
                (Some(offsets), Some((jobs, store)))
            }
            None => (None, None),
        };
        let state = State {
            groups: Some(groups),
            waiting: BTreeMap::new(),
            next_ticket: 0,
            log_end,
            wakes_at: None,
        };
        let shard = Arc::new(Shard {
            partition,
            epoch,
            env: env.clone(),
            fence: fence.clone(),
            commit_timeout,
            state: Mutex::new(state),
            offsets,
            wake: Arc::default(),
        });
        Loop::current().spawn(run_timers(Arc::downgrade(&shard)));
        if let Some((jobs, store)) = job {
            Loop::current().spawn(tree_offsets::run(jobs, Arc::downgrade(&shard), store));
        }
        shard
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while a coordinator is locked")
    }

    /// Whether it goes on in this epoch of this partition.
    pub(crate) fn is_of(&self, partition: &Arc<Partition>, epoch: i32) -> bool {
        self.epoch == epoch
            && Arc::ptr_eq(&self.partition, partition)
            && self.lock().groups.is_some()
    }

    /// One request: decided, appended and taken over before this returns; the answer comes when it
    /// is made (a join waits for others) and committed.
    pub(crate) fn call(
        self: &Arc<Self>,
        request: impl FnOnce(&mut Groups, Now, Ticket) -> Proposal,
    ) -> Promise<Answer> {
        let (sender, receiver) = oneshot::channel();
        let now = now(&self.env);
        let mut state = self.lock();
        let ticket = Ticket(state.next_ticket);
        state.next_ticket += 1;
        let mut patience = None;
        if let Some(proposal) = state.groups.as_mut().map(|groups| request(groups, now, ticket)) {
            state.waiting.insert(ticket, sender);
            if self.settle(&mut state, now, proposal, true) == Settled::Waiting {
                patience = Some(self.commit_timeout);
            }
            self.wake_if_due_earlier(&state);
        }
        drop(state);
        let shard = Arc::clone(self);
        Box::pin(async move {
            let made = match patience {
                Some(patience) => tokio::time::timeout(patience, receiver)
                    .await
                    .map_err(|_| ErrorCode::CoordinatorNotAvailable)?,
                None => receiver.await,
            };
            let made = made.map_err(|_| ErrorCode::NotCoordinator)?;
            shard.committed(made.log_end).await?;
            Ok(made.answer)
        })
    }

    /// A look at the machine, given when all that was seen is committed.
    pub(crate) fn read<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl FnOnce(&Groups) -> T,
    ) -> Promise<T> {
        let state = self.lock();
        let seen = state.groups.as_ref().map(look);
        let log_end = state.log_end;
        drop(state);
        let shard = Arc::clone(self);
        Box::pin(async move {
            let seen = seen.ok_or(ErrorCode::NotCoordinator)?;
            shard.committed(log_end).await?;
            Ok(seen)
        })
    }

    /// As [`Shard::read`], of what a group has committed: where that is in the tree it is read there
    /// first. `wanted` says what `look` is going to look at.
    pub(crate) fn read_committed<T: Send + 'static>(
        self: &Arc<Self>,
        group: &str,
        wanted: impl FnOnce() -> Wanted,
        look: impl FnOnce(&Groups) -> T + Send + 'static,
    ) -> Promise<T> {
        let Some(known) = self.refresh(group, wanted) else { return self.read(look) };
        let shard = Arc::clone(self);
        Box::pin(async move {
            known.await?;
            shard.read(look).await
        })
    }

    /// Has the machine know what a group has committed, where that is in the tree; none where there is
    /// nothing to be read.
    fn refresh(&self, group: &str, wanted: impl FnOnce() -> Wanted) -> Option<Promise<()>> {
        // What has no place in the tree is not there.
        let offsets = self.offsets.as_ref().filter(|_| is_storable(group))?;
        let read = offsets.read(group, wanted());
        let patience = self.commit_timeout;
        Some(Box::pin(async move {
            let read = tokio::time::timeout(patience, read).await;
            let read = read.map_err(|_| ErrorCode::CoordinatorNotAvailable)?;
            read.map_err(|_| ErrorCode::NotCoordinator)?
        }))
    }

    /// # Errors
    /// INVALID_GROUP_ID for a group whose offsets cannot be stored: its name is too long for a path in
    /// the tree.
    pub(crate) fn check_storable(&self, group: &str) -> Result<(), ErrorCode> {
        match self.offsets {
            Some(_) if !is_storable(group) => Err(ErrorCode::InvalidGroupId),
            _ => Ok(()),
        }
    }

    /// OffsetDelete.
    pub(crate) fn delete_offsets(
        self: &Arc<Self>,
        group: String,
        partitions: Vec<(String, i32)>,
    ) -> Promise<Answer> {
        let known = self.refresh(&group, || Wanted::All);
        let delete = move |groups: &mut Groups, _: Now, ticket: Ticket| {
            groups.delete_offsets(DeleteOffsets { ticket, group_id: group, partitions })
        };
        let Some(known) = known else { return self.call(delete) };
        let shard = Arc::clone(self);
        Box::pin(async move {
            known.await?;
            shard.call(delete).await
        })
    }

    /// DeleteGroups, one group. Where offsets are in the tree they go first, and the group after them.
    pub(crate) fn delete_group(self: &Arc<Self>, group: &str) -> Promise<Answer> {
        let Some(known) = self.refresh(group, || Wanted::All) else {
            return self.call(|groups, _, ticket| groups.delete_group(ticket, group));
        };
        let (shard, group) = (Arc::clone(self), group.to_owned());
        Box::pin(async move {
            known.await?;
            let has_offsets = shard.has_offsets(&group);
            let made = shard.call(|groups, _, ticket| groups.delete_group(ticket, &group)).await?;
            if !has_offsets || made != Answer::DeleteGroup(ErrorCode::None) {
                return Ok(made);
            }
            shard.call(|groups, _, ticket| groups.delete_group(ticket, &group)).await
        })
    }

    fn has_offsets(&self, group: &str) -> bool {
        let state = self.lock();
        state.groups.as_ref().is_some_and(|groups| groups.all_committed(group).next().is_some())
    }

    /// Drops what groups have committed in a topic that is gone.
    pub(crate) async fn forget_topic(&self, topic: &str, topic_id: Uuid) {
        match &self.offsets {
            Some(offsets) => self.forget_in_tree(offsets, topic, topic_id).await,
            None => self.forget_in_log(topic, topic_id),
        }
    }

    fn forget_in_log(&self, topic: &str, topic_id: Uuid) {
        let now = now(&self.env);
        let mut state = self.lock();
        while let Some(groups) = &mut state.groups {
            let proposal = groups.forget_topic(topic, topic_id);
            let is_done = proposal.records().is_empty();
            if is_done || self.settle(&mut state, now, proposal, false) != Settled::Accepted {
                return;
            }
        }
    }

    async fn forget_in_tree(&self, offsets: &TreeOffsets, topic: &str, topic_id: Uuid) {
        while let Some(done) = self.forget_some(offsets, topic, topic_id) {
            if done.await != Ok(true) {
                // They expire.
                return;
            }
        }
    }

    /// None once nothing is left to be forgotten, or nothing can be written.
    fn forget_some(
        &self,
        offsets: &TreeOffsets,
        topic: &str,
        topic_id: Uuid,
    ) -> Option<oneshot::Receiver<bool>> {
        let mut state = self.lock();
        let groups = state.groups.as_mut()?;
        let mut proposal = groups.forget_topic(topic, topic_id);
        let records = proposal.take_offsets();
        if records.is_empty() {
            return None;
        }
        let changes = records.iter().map(|record| change_of(groups, record, false)).collect();
        let (done, is_done) = oneshot::channel();
        let log_end = NOTHING;
        let write = Write { changes, records, proposal, log_end, done: Some(done) };
        offsets.write(write, false).ok()?;
        Some(is_done)
    }

    pub(super) fn id(&self) -> &TopicPartition {
        self.partition.id()
    }

    /// The session that the broker is registered in.
    pub(super) fn tree(&self) -> Arc<dyn Tree> {
        self.fence.registered().tree
    }

    pub(super) fn commit_timeout(&self) -> Duration {
        self.commit_timeout
    }

    /// Has the machine know what was found in the tree.
    pub(super) fn take_over(&self, found: Vec<Found>) {
        let wall_ms = self.env.clock.wall_ms();
        let mut state = self.lock();
        let Some(groups) = &mut state.groups else { return };
        for found in found {
            tree_offsets::take_over(groups, found, wall_ms);
        }
    }

    /// The tree has what `outcomes` say that it has; for the rest `error` is the reason.
    pub(super) fn on_offsets_written(
        &self,
        write: Write,
        outcomes: &[Outcome],
        error: Option<ErrorCode>,
    ) {
        let now = now(&self.env);
        let mut state = self.lock();
        let Some(groups) = state.groups.as_mut() else { return };
        for (record, outcome) in write.records.into_iter().zip(outcomes) {
            if *outcome == Outcome::Done {
                groups.apply(record);
            }
        }
        let error = error.filter(|_| outcomes.contains(&Outcome::Open));
        if let Some(error) = error {
            let undone = groups.reject(now, write.proposal, error);
            log_notes(&undone);
            let replies = groups.accept(now, undone);
            deliver(&mut state, replies, NOTHING);
        } else {
            let replies = groups.accept(now, write.proposal);
            deliver(&mut state, replies, write.log_end);
        }
        if let Some(done) = write.done {
            // Whoever has asked may have gone.
            let _ = done.send(error.is_none());
        }
    }

    /// Ends it: all that waits is answered with NOT_COORDINATOR.
    pub(crate) fn retire(&self) {
        self.end(&mut self.lock());
        self.wake.fire();
    }

    fn end(&self, state: &mut State) {
        let Some(groups) = state.groups.take() else { return };
        info!(partition = %self.partition.id(), epoch = self.epoch, "no longer coordinator");
        deliver(state, groups.resign(), NOTHING);
        // The senders of whatever else waits are dropped, which answers too.
        state.waiting.clear();
    }

    /// Has done what the machine proposes: in the tree what belongs there, the rest in the log.
    /// `is_asked`: a request wants it.
    fn settle(
        &self,
        state: &mut State,
        now: Now,
        mut proposal: Proposal,
        is_asked: bool,
    ) -> Settled {
        log_notes(&proposal);
        let Some(offsets) = &self.offsets else { return self.append_all(state, now, proposal) };
        let records = proposal.take_offsets();
        if records.is_empty() {
            return self.append_all(state, now, proposal);
        }
        let groups = state.groups.as_mut().expect("a proposal comes from the machine");
        let changes = records.iter().map(|record| change_of(groups, record, is_asked)).collect();
        // What belongs into the log does not wait: only retention proposes both, and has no answers.
        let mut for_log = None;
        if !proposal.records().is_empty() {
            for_log = Some(std::mem::take(&mut proposal));
        }
        let write = Write { changes, records, proposal, log_end: state.log_end, done: None };
        if let Err(write) = offsets.write(write, is_asked) {
            warn!(partition = %self.partition.id(), "too many commits wait for the tree");
            let undone = groups.reject(now, write.proposal, ErrorCode::CoordinatorNotAvailable);
            log_notes(&undone);
            let replies = groups.accept(now, undone);
            deliver(state, replies, NOTHING);
        }
        if let Some(proposal) = for_log {
            self.append_all(state, now, proposal);
        }
        Settled::Waiting
    }

    /// Appends what the machine proposes and tells it the outcome.
    fn append_all(&self, state: &mut State, now: Now, proposal: Proposal) -> Settled {
        let appended = self.append(proposal.records());
        let groups = state.groups.as_mut().expect("a proposal comes from the machine");
        match appended {
            Ok(end) => {
                state.log_end = end.unwrap_or(state.log_end);
                let replies = groups.accept(now, proposal);
                let log_end = state.log_end;
                deliver(state, replies, log_end);
                Settled::Accepted
            }
            Err(error) => {
                warn!(partition = %self.partition.id(), error = error.name(), "not appended");
                let undone = groups.reject(now, proposal, error);
                log_notes(&undone);
                let replies = groups.accept(now, undone);
                let log_end = state.log_end;
                deliver(state, replies, log_end);
                if error == ErrorCode::NotLeaderOrFollower {
                    self.end(state);
                }
                Settled::Refused
            }
        }
    }

    /// One batch; answers where the log then ends, or nothing without records.
    fn append(self: &Shard, records: &[Record]) -> Result<Option<i64>, ErrorCode> {
        if records.is_empty() {
            return Ok(None);
        }
        let batch = batch_of(records, self.env.clock.wall_ms())?;
        let appended = self
            .partition
            .append(&batch, Some(self.epoch), Origin::Coordinator, true)
            .map_err(|refusal| refusal.code)?;
        Ok(Some(appended.last_offset + 1))
    }

    /// Waits until the log is committed up to `log_end`, in this epoch.
    async fn committed(&self, log_end: i64) -> Result<(), ErrorCode> {
        if log_end == NOTHING || self.is_committed(log_end) {
            return Ok(());
        }
        let ack = Ack {
            partition: Arc::clone(&self.partition),
            leader_epoch: self.epoch,
            end_offset: log_end,
        };
        let outcomes = wait_all(&[ack], Signal::default(), self.commit_timeout).await;
        outcomes.into_iter().collect::<Result<(), ErrorCode>>().map_err(client_error)
    }

    /// The high watermark is read before the epoch: one that a later epoch moved is told by that.
    fn is_committed(&self, log_end: i64) -> bool {
        self.partition.high_watermark() >= log_end
            && self.partition.leader_epoch() == Ok(self.epoch)
    }

    fn wake_if_due_earlier(&self, state: &State) {
        let deadline = state.groups.as_ref().and_then(Groups::next_deadline);
        if deadline.is_some() && (state.wakes_at.is_none() || deadline < state.wakes_at) {
            self.wake.fire();
        }
    }

    /// Handles every timer that is due. Answers how long to wait for the next one; `None` when the
    /// shard has ended.
    fn fire_timers(&self) -> Option<Duration> {
        let now = now(&self.env);
        let mut state = self.lock();
        if self.partition.leader_epoch() != Ok(self.epoch) {
            self.end(&mut state);
        }
        loop {
            let is_expiring = self.offsets.as_ref().is_some_and(TreeOffsets::is_expiring);
            let groups = state.groups.as_mut()?;
            groups.keep_offsets(self.fence.is_lost() || is_expiring);
            let Some(proposal) = groups.on_time(now) else { break };
            self.settle(&mut state, now, proposal, false);
        }
        let deadline = state.groups.as_ref()?.next_deadline();
        state.wakes_at = deadline;
        // Without any timer, look again in a while: that costs nothing and cannot hang.
        let ms = deadline.map_or(60_000, |deadline| deadline.0.saturating_sub(now.at.0));
        Some(Duration::from_millis(ms))
    }
}

/// What comes later: a value, or why there is none.
pub(crate) type Promise<T> = BoxFuture<'static, Result<T, ErrorCode>>;

/// Lives as long as its shard; sleeps until the next deadline or until it is woken.
async fn run_timers(shard: Weak<Shard>) {
    loop {
        let Some(shard) = shard.upgrade() else { return };
        // Nothing ever waits for that offset: the waiter is woken by a change of leader epoch.
        let waiter = shard.partition.waiters().add(i64::MAX, &shard.wake);
        let Some(pause) = shard.fire_timers() else {
            shard.partition.waiters().remove(waiter);
            return;
        };
        let (partition, wake) = (Arc::clone(&shard.partition), Arc::clone(&shard.wake));
        drop(shard);
        select(pin!(wake.fired()), pin!(tokio::time::sleep(pause))).await;
        partition.waiters().remove(waiter);
    }
}

fn now(env: &Env) -> Now {
    let at = u64::try_from(env.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
    Now { at: Time(at), wall_ms: env.clock.wall_ms() }
}

fn deliver(state: &mut State, replies: Vec<Reply>, log_end: i64) {
    for Reply { to, answer } in replies {
        let sender = state.waiting.remove(&to).expect("the machine answers each ticket once");
        // Nobody listens any more where the client has gone.
        let _ = sender.send(Made { answer, log_end });
    }
}

fn log_notes(proposal: &Proposal) {
    for note in proposal.notes() {
        info!("{note}");
    }
}

pub(super) fn batch_of(records: &[Record], now_ms: i64) -> Result<Bytes, ErrorCode> {
    let mut builder = BatchBuilder::new(Compression::None, usize::MAX);
    for record in records {
        let (key, value) = record.encode().map_err(|_| ErrorCode::RecordListTooLarge)?;
        let record =
            NewRecord { timestamp: now_ms, key: Some(&key), value: value.as_deref(), headers: &[] };
        builder.append(&record).map_err(|_| ErrorCode::RecordListTooLarge)?;
    }
    builder.build().map_err(|_| ErrorCode::RecordListTooLarge)
}
