//! One loaded coordinator: the machine under its lock, its parked requests, its timers.
//!
//! What the machine answers leaves when the high watermark has reached the end of the log as it
//! was when the answer was made (R24), or not at all: a change of leader epoch ends the shard and
//! whatever waits in it with NOT_COORDINATOR.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, select};
use klamm_coordinator::{Answer, Groups, Now, Proposal, Record, Reply, Ticket, Time, client_error};
use klamm_env::{Env, Loop};
use klamm_log::Origin;
use klamm_protocol::ErrorCode;
use klamm_protocol::compression::Compression;
use klamm_protocol::records::{BatchBuilder, NewRecord};
use tokio::sync::oneshot;
use tracing::{info, warn};
use uuid::Uuid;

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
    /// Wakes the timers' task: an earlier deadline, or another leader epoch.
    wake: Arc<Signal>,
}

impl Shard {
    /// Takes over a machine that has read the log up to `log_end`, and starts its timers on the
    /// caller's loop.
    pub(crate) fn start(
        (env, fence): (&Env, &Fence),
        partition: Arc<Partition>,
        epoch: i32,
        mut groups: Groups,
        log_end: i64,
        commit_timeout: Duration,
    ) -> Arc<Shard> {
        groups.loaded(now(env));
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
            wake: Arc::default(),
        });
        Loop::current().spawn(run_timers(Arc::downgrade(&shard)));
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
        if let Some(proposal) = state.groups.as_mut().map(|groups| request(groups, now, ticket)) {
            state.waiting.insert(ticket, sender);
            self.settle(&mut state, now, proposal);
            self.wake_if_due_earlier(&state);
        }
        drop(state);
        let shard = Arc::clone(self);
        Box::pin(async move {
            let made = receiver.await.map_err(|_| ErrorCode::NotCoordinator)?;
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

    /// Drops what groups have committed in a topic that is gone.
    pub(crate) fn forget_topic(&self, topic: &str, topic_id: Uuid) {
        let now = now(&self.env);
        let mut state = self.lock();
        while let Some(groups) = &mut state.groups {
            let proposal = groups.forget_topic(topic, topic_id);
            let is_done = proposal.records().is_empty();
            let is_appended = self.settle(&mut state, now, proposal);
            if is_done || !is_appended {
                return;
            }
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

    /// Appends what the machine proposes and tells it the outcome. Whether it was appended.
    fn settle(&self, state: &mut State, now: Now, proposal: Proposal) -> bool {
        log_notes(&proposal);
        let appended = self.append(proposal.records());
        let groups = state.groups.as_mut().expect("a proposal comes from the machine");
        match appended {
            Ok(end) => {
                state.log_end = end.unwrap_or(state.log_end);
                let replies = groups.accept(now, proposal);
                let log_end = state.log_end;
                deliver(state, replies, log_end);
                true
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
                false
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
            let groups = state.groups.as_mut()?;
            groups.keep_offsets(self.fence.is_lost());
            let Some(proposal) = groups.on_time(now) else { break };
            self.settle(&mut state, now, proposal);
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

fn batch_of(records: &[Record], now_ms: i64) -> Result<Bytes, ErrorCode> {
    let mut builder = BatchBuilder::new(Compression::None, usize::MAX);
    for record in records {
        let (key, value) = record.encode().map_err(|_| ErrorCode::RecordListTooLarge)?;
        let record =
            NewRecord { timestamp: now_ms, key: Some(&key), value: value.as_deref(), headers: &[] };
        builder.append(&record).map_err(|_| ErrorCode::RecordListTooLarge)?;
    }
    builder.build().map_err(|_| ErrorCode::RecordListTooLarge)
}
