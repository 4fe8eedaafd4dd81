//! One partition of which this broker is a replica: the log under its lock, who leads, how far
//! records are committed, and who waits for that.
//!
//! ```text
//! log start <= ... <= last stable offset <= high watermark <= log end
//! ```
//! The last stable offset is the high watermark, unless a transaction below it is open, or its marker
//! is not below it. Transactions are not offered, but a log that was taken over may hold some.

#[cfg(test)]
mod fixture;
mod following;
mod leading;
mod opening;
mod syncing;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use klamm_cluster::FlushClass;
use klamm_env::Env;
use klamm_env::rules::Rule;
use klamm_log::{
    AppendError, LeaderAppend, Log, LogConfig, LogReader, Origin, RejectedRecord, TopicPartition,
};
use klamm_protocol::ErrorCode;
use uuid::Uuid;

use crate::acks::Ack;
use crate::data_dir::DataDir;
use crate::replication::{Progress, Throttled};
use crate::topic_name;
use crate::waiters::{Signal, Waiters, fire_all};
pub(crate) use following::{FetchPosition, Fetched, FollowError, Following};
pub(crate) use leading::{IsrOrder, Replication};
pub(crate) use syncing::FlushPolicy;
use syncing::{Due, Unsynced};

/// What the tree says about a partition that this broker leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// The leader epoch.
    pub epoch: i32,
    /// What an acknowledgement means.
    pub flush: FlushClass,
    /// The effective `min.insync.replicas`.
    pub min_isr: usize,
    /// Committed in-sync replicas.
    pub isr: usize,
}

impl Leadership {
    /// Whether too few replicas are in sync to acknowledge anything with acks=all (R21).
    fn lacks_replicas(self) -> bool {
        self.isr < self.min_isr && Rule::R21.holds()
    }
}

/// What a broker is to a partition, as the tree has it.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    /// It leads, alone or with followers.
    Leads(Leadership, Option<Replication>),
    /// It follows another broker.
    Follows(Following),
    /// Nobody leads, or this broker must not take part.
    Idle,
}

impl Role {
    fn leader_epoch(&self) -> Option<i32> {
        match self {
            Role::Leads(leadership, _) => Some(leadership.epoch),
            Role::Follows(_) | Role::Idle => None,
        }
    }
}

/// A batch that is in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appended {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Offset of the last record.
    pub last_offset: i64,
    /// The timestamp that all records got, where the topic's type is LogAppendTime.
    pub log_append_time: Option<i64>,
    /// First offset of the log.
    pub log_start_offset: i64,
    /// The epoch of the append.
    pub leader_epoch: i32,
}

/// Why a batch is not in the log.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// For the answer.
    pub code: ErrorCode,
    /// For people, where the code alone says too little.
    pub message: Option<String>,
    /// The records at fault.
    pub records: Vec<RejectedRecord>,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Refusal {
        Refusal { code, message: None, records: Vec::new() }
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Refusal {
        let records = error.rejected_records().to_vec();
        Refusal { code: error.code(), message: Some(error.to_string()), records }
    }
}

/// The offsets of a partition at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offsets {
    /// First offset that may be read.
    pub log_start: i64,
    /// Below it everything is decided: committed, and no transaction is open.
    pub last_stable: i64,
    /// Below it everything is committed.
    pub high_watermark: i64,
    /// The offset that the next record gets.
    pub log_end: i64,
}

struct State {
    leadership: Option<Leadership>,
    /// With `leadership`, where others hold the partition too.
    replication: Option<Replicated>,
    /// Never with `leadership`.
    following: Option<Following>,
    /// Of the newest state that was applied.
    partition_epoch: i32,
    log: Option<Log>,
    config: LogConfig,
    /// For logs of class os.
    unsynced: Unsynced,
    /// Set once it is not here any more, as what whoever still asks is told; nothing is opened then.
    gone: Option<ErrorCode>,
}

/// A partition with followers, from its leader's side.
struct Replicated {
    progress: Progress,
    replicas: Vec<i32>,
    lag_max: Duration,
}

impl State {
    /// It is nothing to this partition any more.
    fn retire(&mut self) {
        self.leadership = None;
        self.replication = None;
        self.following = None;
    }
}

/// A partition of this broker.
pub(crate) struct Partition {
    id: TopicPartition,
    topic_id: Uuid,
    dir: Arc<DataDir>,
    env: Env,
    state: Mutex<State>,
    /// Held while the log's directory must not change its name; by jobs that outlive who began them.
    opening: Arc<tokio::sync::Mutex<()>>,
    reader: OnceLock<LogReader>,
    high_watermark: AtomicI64,
    /// Belongs to the high watermark, and is never behind it: stored before it, read after it.
    last_stable: AtomicI64,
    /// In the directory's list of dirty partitions.
    dirty: AtomicBool,
    /// In the directory's list of partitions to checkpoint.
    checkpoint_offered: AtomicBool,
    /// A cleaner works on it.
    cleaning: AtomicBool,
    /// It is damaged or goes away.
    never_clean: AtomicBool,
    leader_throttled: AtomicBool,
    follower_throttled: AtomicBool,
    waiters: Waiters,
    /// Followers that wait for records, by the log end that they wait for.
    end_waiters: Waiters,
}

impl Partition {
    /// A partition whose log is opened when it is first needed.
    pub(crate) fn new(
        env: Env,
        id: TopicPartition,
        topic_id: Uuid,
        dir: Arc<DataDir>,
        config: LogConfig,
    ) -> Partition {
        let unsynced = Unsynced::new();
        let state = State {
            leadership: None,
            replication: None,
            following: None,
            partition_epoch: -1,
            log: None,
            config,
            unsynced,
            gone: None,
        };
        Partition {
            id,
            topic_id,
            dir,
            env,
            state: Mutex::new(state),
            opening: Arc::default(),
            reader: OnceLock::new(),
            high_watermark: AtomicI64::new(0),
            last_stable: AtomicI64::new(0),
            dirty: AtomicBool::new(false),
            checkpoint_offered: AtomicBool::new(false),
            cleaning: AtomicBool::new(false),
            never_clean: AtomicBool::new(false),
            leader_throttled: AtomicBool::new(false),
            follower_throttled: AtomicBool::new(false),
            waiters: Waiters::default(),
            end_waiters: Waiters::default(),
        }
    }

    /// Topic name and number.
    pub(crate) fn id(&self) -> &TopicPartition {
        &self.id
    }

    /// The topic's id.
    pub(crate) fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    /// The log directory that holds it.
    pub(crate) fn dir(&self) -> &Arc<DataDir> {
        &self.dir
    }

    /// Who waits for the high watermark.
    pub(crate) fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    /// Who waits for the log's end.
    pub(crate) fn end_waiters(&self) -> &Waiters {
        &self.end_waiters
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while a partition is locked")
    }

    /// The epoch in which this broker leads.
    ///
    /// # Errors
    /// KAFKA_STORAGE_ERROR once the log's directory is offline, whoever leads since;
    /// NOT_LEADER_OR_FOLLOWER when another broker does.
    pub(crate) fn leader_epoch(&self) -> Result<i32, ErrorCode> {
        self.check_online()?;
        let leadership = self.lock().leadership;
        leadership.map(|leadership| leadership.epoch).ok_or(ErrorCode::NotLeaderOrFollower)
    }

    /// # Errors
    /// KAFKA_STORAGE_ERROR once the log's directory is offline.
    fn check_online(&self) -> Result<(), ErrorCode> {
        match self.dir.log_dir().offline() {
            Some(_) => Err(ErrorCode::KafkaStorageError),
            None => Ok(()),
        }
    }

    /// Compares the leader epoch that a client knows (-1: none) with this one, which it answers.
    ///
    /// # Errors
    /// When they differ, or this broker does not lead.
    pub(crate) fn check_epoch(&self, known: i32) -> Result<i32, ErrorCode> {
        let epoch = self.leader_epoch()?;
        match known {
            _ if !Rule::R14.holds() => Ok(epoch),
            -1 => Ok(epoch),
            known if known < epoch => Err(ErrorCode::FencedLeaderEpoch),
            known if known > epoch => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(epoch),
        }
    }

    /// The log, if it has been opened.
    pub(crate) fn reader(&self) -> Option<&LogReader> {
        self.reader.get()
    }

    /// The offsets of an open log.
    pub(crate) fn offsets(&self) -> Offsets {
        let Some(reader) = self.reader.get() else {
            return Offsets { log_start: 0, last_stable: 0, high_watermark: 0, log_end: 0 };
        };
        // In this order, so that no reader sees a log start above the others.
        let log_start = reader.log_start_offset();
        let high_watermark = self.high_watermark.load(Ordering::SeqCst).max(log_start);
        // One that belongs to a later high watermark is cut back to this one.
        let last_stable = self.last_stable.load(Ordering::SeqCst).clamp(log_start, high_watermark);
        let log_end = reader.log_end_offset().max(high_watermark);
        Offsets { log_start, last_stable, high_watermark, log_end }
    }

    /// Below it everything is committed.
    pub(crate) fn high_watermark(&self) -> i64 {
        self.high_watermark.load(Ordering::SeqCst)
    }

    /// First offset that may be read.
    pub(crate) fn log_start_offset(&self) -> i64 {
        self.offsets().log_start
    }

    /// Appends one batch to the open log: one short lock round epoch check and write.
    ///
    /// `required_epoch` binds a coordinator to the epoch that it was loaded in; `all` is acks=all,
    /// which needs `min.insync.replicas`.
    ///
    /// # Errors
    /// When the batch is refused; the log is unchanged.
    pub(crate) fn append(
        self: &Arc<Self>,
        records: &[u8],
        required_epoch: Option<i32>,
        origin: Origin,
        all: bool,
    ) -> Result<Appended, Refusal> {
        let now_ms = self.env.clock.wall_ms();
        let mut state = self.lock();
        self.check_online()?;
        let leadership = state.leadership.ok_or(ErrorCode::NotLeaderOrFollower)?;
        if required_epoch.is_some_and(|epoch| epoch != leadership.epoch) {
            return Err(ErrorCode::NotLeaderOrFollower.into());
        }
        if all && leadership.lacks_replicas() {
            return Err(ErrorCode::NotEnoughReplicas.into());
        }
        let log = state.log.as_mut().ok_or(ErrorCode::NotLeaderOrFollower)?;
        let leader_epoch = leadership.epoch;
        let appended = log.append_as_leader(records, LeaderAppend { leader_epoch, now_ms, origin });
        let appended = match appended {
            Ok(appended) => appended,
            Err(error) => {
                drop(state);
                if matches!(error, AppendError::Offline(_)) {
                    self.dir.wake_all();
                }
                return Err(error.into());
            }
        };
        let synced = leadership.flush.counts_synced();
        let checkpoint_due = !synced && log.needs_checkpoint();
        let log_end = log.log_end_offset();
        let due = match appended.duplicate {
            true => Due::Nothing,
            false if synced => Due::Now,
            false => state.unsynced.add(appended.last_offset - appended.first_offset + 1),
        };
        let mut woken = if synced { Vec::new() } else { self.commit(&mut state) };
        if state.replication.is_some() {
            woken.extend(self.end_waiters.passed(log_end));
        }
        drop(state);
        fire_all(&woken);
        self.sync_when(due);
        if checkpoint_due {
            self.offer_checkpoint();
        }
        Ok(Appended {
            base_offset: appended.first_offset,
            last_offset: appended.last_offset,
            log_append_time: appended.log_append_time,
            log_start_offset: appended.log_start_offset,
            leader_epoch,
        })
    }

    /// Moves the high watermark of a partition that this broker leads to where everything is
    /// committed by now; answers whom to wake.
    fn commit(&self, state: &mut State) -> Vec<Arc<Signal>> {
        let (Some(leadership), Some(log)) = (state.leadership, &mut state.log) else {
            return Vec::new();
        };
        let synced = leadership.flush.counts_synced() && Rule::R18b.holds();
        let own_end = if synced { log.synced_end_offset() } else { log.log_end_offset() };
        let committed = match &state.replication {
            None => own_end,
            Some(replicated) => {
                let lag = self.lag_limit(replicated);
                replicated.progress.high_watermark(self.high_watermark(), own_end, lag)
            }
        };
        self.advance(log, committed)
    }

    /// Moves the high watermark up, and with it the last stable offset; answers whom to wake. Under
    /// the lock, so that it never passes what another epoch has cut.
    fn advance(&self, log: &mut Log, offset: i64) -> Vec<Arc<Signal>> {
        if self.high_watermark() >= offset {
            return Vec::new();
        }
        self.last_stable.store(log.last_stable_offset(offset), Ordering::SeqCst);
        self.high_watermark.store(offset, Ordering::SeqCst);
        self.dir.note_high_watermark();
        self.waiters.passed(offset)
    }

    /// What an appended batch is to be answered with, once that is decided. The high watermark is
    /// read before the epoch: one that a later epoch moved is told by that epoch.
    pub(crate) fn ack_outcome(
        &self,
        leader_epoch: i32,
        end_offset: i64,
    ) -> Option<Result<(), ErrorCode>> {
        let passed = self.high_watermark.load(Ordering::SeqCst) >= end_offset;
        let state = self.lock();
        if let Some(code) = state.gone {
            return Some(Err(code));
        }
        match state.leadership {
            Some(leadership) if leadership.epoch == leader_epoch => {
                if !passed {
                    let offline = self.dir.log_dir().offline().is_some();
                    return offline.then_some(Err(ErrorCode::KafkaStorageError));
                }
                if leadership.lacks_replicas() {
                    return Some(Err(ErrorCode::NotEnoughReplicasAfterAppend));
                }
                Some(Ok(()))
            }
            _ if self.dir.log_dir().offline().is_some() => Some(Err(ErrorCode::KafkaStorageError)),
            _ => Some(Err(ErrorCode::NotLeaderOrFollower)),
        }
    }

    /// Names an appended batch for those who wait for it.
    pub(crate) fn ack_of(self: &Arc<Self>, appended: &Appended) -> Ack {
        Ack {
            partition: Arc::clone(self),
            leader_epoch: appended.leader_epoch,
            end_offset: appended.last_offset + 1,
        }
    }

    /// Takes over what the tree says of leader and settings (`None`: as they are) in a state with that
    /// partition epoch; nothing of an older state than the one before (R13).
    pub(crate) fn apply_state(&self, partition_epoch: i32, role: Role, config: Option<&LogConfig>) {
        let mut state = self.lock();
        if partition_epoch < state.partition_epoch {
            return;
        }
        state.partition_epoch = partition_epoch;
        self.apply_locked(state, role, config);
    }

    /// The assignment of a state with that partition epoch does not name this broker any more: it
    /// leads and follows no longer, from now on, whenever its log is put aside. Whether that is so: an
    /// older state than the one before says nothing (R13).
    pub(crate) fn leave(&self, partition_epoch: i32) -> bool {
        let mut state = self.lock();
        if partition_epoch < state.partition_epoch {
            return false;
        }
        state.gone = Some(ErrorCode::NotLeaderOrFollower);
        state.retire();
        drop(state);
        self.wake_all();
        true
    }

    /// Takes over a role and settings. A change of epoch ends every wait of the old one.
    #[cfg(test)]
    pub(crate) fn apply(&self, role: Role, config: &LogConfig) {
        self.apply_locked(self.lock(), role, Some(config));
    }

    fn apply_locked(
        &self,
        mut state: MutexGuard<'_, State>,
        role: Role,
        config: Option<&LogConfig>,
    ) {
        let known = state.leadership.map(|leadership| leadership.epoch);
        let other_epoch = known != role.leader_epoch();
        let was_settled = self.take_role(&mut state, role, other_epoch);
        let changed = config.filter(|config| state.config != **config);
        if let Some(config) = changed {
            state.config = config.clone();
        }
        let leadership = state.leadership;
        if let Some(log) = &mut state.log {
            if let Some(config) = changed {
                log.set_config(config.clone());
            }
            if other_epoch && let Some(leadership) = leadership {
                log.record_epoch_start(leadership.epoch);
            }
        }
        self.begin_epoch(&mut state);
        // Under class os nothing waits for a sync any more; with fewer in sync, for nobody else.
        let woken = self.commit(&mut state);
        drop(state);
        fire_all(&woken);
        if other_epoch || was_settled {
            self.wake_all();
        }
    }

    /// Says when a log of class os is synced for its own sake.
    pub(crate) fn set_flush_policy(&self, policy: FlushPolicy) {
        self.lock().unsynced.set_policy(policy);
    }

    /// Says which replication quotas are for it.
    pub(crate) fn set_throttled(&self, throttled: Throttled) {
        self.leader_throttled.store(throttled.leader, Ordering::Relaxed);
        self.follower_throttled.store(throttled.follower, Ordering::Relaxed);
    }

    /// Which replication quotas are for it.
    pub(crate) fn throttled(&self) -> Throttled {
        Throttled {
            leader: self.leader_throttled.load(Ordering::Relaxed),
            follower: self.follower_throttled.load(Ordering::Relaxed),
        }
    }

    /// Lets every waiting request look again.
    pub(crate) fn wake_all(&self) {
        fire_all(&self.waiters.all());
        fire_all(&self.end_waiters.all());
    }

    /// Hides everything below `offset`; whether anything changed.
    ///
    /// # Errors
    /// OFFSET_OUT_OF_RANGE beyond the high watermark.
    pub(crate) fn advance_log_start(&self, offset: i64) -> Result<bool, ErrorCode> {
        let mut state = self.lock();
        if offset < 0 || offset > self.high_watermark() {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let log = state.log.as_mut().ok_or(ErrorCode::NotLeaderOrFollower)?;
        Ok(log.advance_log_start(offset))
    }

    /// Whether the topic is one of the brokers' own.
    pub(crate) fn is_internal(&self) -> bool {
        topic_name::is_internal(&self.id.topic)
    }

    /// Gives the log up for an orderly end; nothing is appended any more.
    pub(crate) fn close(&self) -> Option<Log> {
        let mut state = self.lock();
        state.retire();
        state.log.take()
    }

    /// Claims the log for a cleaner; false where another one has it.
    pub(crate) fn begin_cleaning(&self) -> bool {
        !self.cleaning.swap(true, Ordering::AcqRel)
    }

    /// The cleaner has done.
    pub(crate) fn end_cleaning(&self) {
        self.cleaning.store(false, Ordering::Release);
    }

    /// Whether a cleaner works on the log.
    pub(crate) fn is_cleaned_now(&self) -> bool {
        self.cleaning.load(Ordering::Acquire)
    }

    /// No cleaner takes the log from now on, and the one that has it ends.
    pub(crate) fn never_clean(&self) {
        self.never_clean.store(true, Ordering::Release);
    }

    /// Whether a cleaner may take the log, or go on with it.
    pub(crate) fn may_be_cleaned(&self) -> bool {
        !self.never_clean.load(Ordering::Acquire)
    }

    /// Runs `work` on the open log, under the lock.
    pub(crate) fn with_log<T>(&self, work: impl FnOnce(&mut Log) -> T) -> Option<T> {
        self.lock().log.as_mut().map(work)
    }
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partition").field("id", &self.id).finish_non_exhaustive()
    }
}
