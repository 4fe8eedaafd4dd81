//! The leader's side of replication: what followers have said, and the changes of the ISR that follow.

use std::sync::Arc;
use std::time::Duration;

use klamm_cluster::FlushClass;
use klamm_protocol::ErrorCode;

use super::{Leadership, Partition, Replicated, Role, State};
use crate::replication::{
    Committed, IsrChange, LagLimit, Outcome, Progress, ReplicaFetch, Standing,
};
use crate::waiters::{Signal, fire_all};

/// What a leader has to know of a partition that others hold too.
#[derive(Clone, Debug)]
pub(crate) struct Replication {
    /// The leader's own id.
    pub me: i32,
    /// The state in the tree.
    pub committed: Committed,
    /// Brokers of the assignment.
    pub replicas: Vec<i32>,
    /// `replica.lag.time.max.ms`.
    pub lag_max: Duration,
}

/// A change of the ISR that is to be written.
#[derive(Clone, Debug)]
pub(crate) struct IsrOrder {
    /// The epoch that it is made in.
    pub leader_epoch: i32,
    /// The version of the node that it replaces.
    pub version: i32,
    /// What is to be.
    pub change: IsrChange,
}

impl State {
    /// What an acknowledgement means, to a leader as to a follower.
    pub(super) fn flush(&self) -> Option<FlushClass> {
        let leads = self.leadership.map(|leadership| leadership.flush);
        leads.or_else(|| self.following.map(|following| following.flush))
    }

    /// The ISR that decides is the newest that is known, whoever told.
    fn follow_isr(&mut self) -> bool {
        let (Some(leadership), Some(replicated)) = (&mut self.leadership, &self.replication) else {
            return false;
        };
        let committed = replicated.progress.committed();
        let now =
            Leadership { isr: committed.isr.len(), min_isr: committed.min_isr, ..*leadership };
        std::mem::replace(leadership, now) != now
    }
}

impl Partition {
    pub(super) fn lag_limit(&self, replicated: &Replicated) -> LagLimit {
        LagLimit { now: self.env.clock.monotonic(), max: replicated.lag_max }
    }

    /// Puts `role` into the state; whether requests that wait have to look again although the epoch
    /// is the same.
    pub(super) fn take_role(&self, state: &mut State, role: Role, other_epoch: bool) -> bool {
        let (leadership, replication) = match role {
            Role::Leads(leadership, replication) => (leadership, replication),
            Role::Follows(following) => {
                state.retire();
                state.following = Some(following);
                return false;
            }
            Role::Idle => {
                state.retire();
                return false;
            }
        };
        state.following = None;
        let before = state.leadership.replace(leadership);
        let known = state.replication.take().filter(|_| !other_epoch);
        state.replication = replication.map(|now| {
            let Replication { me, committed, replicas, lag_max } = now;
            let progress = match known {
                Some(Replicated { mut progress, .. }) => {
                    progress.apply(committed);
                    progress.keep(&replicas);
                    progress
                }
                None => Progress::new(me, committed, self.env.clock.monotonic()),
            };
            Replicated { progress, replicas, lag_max }
        });
        state.follow_isr();
        before != state.leadership
    }

    /// Notes where an epoch begins in the log, once there is a log.
    pub(super) fn begin_epoch(&self, state: &mut State) {
        if let (Some(log), Some(replicated)) = (&state.log, &mut state.replication) {
            replicated.progress.set_epoch_start(log.log_end_offset());
        }
    }

    /// What an acknowledgement means here; the weaker meaning where that is not known.
    pub(crate) fn flush_class(&self) -> FlushClass {
        self.lock().flush().unwrap_or(FlushClass::Os)
    }

    /// Whether this broker leads it, and others hold it too.
    pub(crate) fn is_led_with_others(&self) -> bool {
        self.lock().replication.is_some()
    }

    /// Takes a follower's fetch at leader epoch `epoch` for its word (R17). Answers whether the ISR
    /// may have to change for it.
    ///
    /// # Errors
    /// NOT_LEADER_OR_FOLLOWER when that epoch is over, UNKNOWN_LEADER_EPOCH when it is no replica.
    pub(crate) fn replica_fetched(
        &self,
        epoch: i32,
        fetch: ReplicaFetch,
    ) -> Result<bool, ErrorCode> {
        let mut state = self.lock();
        if state.leadership.is_none_or(|leadership| leadership.epoch != epoch) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let log_end = state.log.as_ref().ok_or(ErrorCode::KafkaStorageError)?.log_end_offset();
        let high_watermark = self.high_watermark();
        let now = self.env.clock.monotonic();
        let replicated = state.replication.as_mut().ok_or(ErrorCode::UnknownLeaderEpoch)?;
        if !replicated.replicas.contains(&fetch.id) {
            return Err(ErrorCode::UnknownLeaderEpoch);
        }
        replicated.progress.fetched(fetch, log_end, now);
        let isr = &replicated.progress.committed().isr;
        let is_member = isr.iter().any(|member| member.id == fetch.id);
        let changes = is_member != (fetch.offset >= high_watermark);
        let mut woken = self.commit(&mut state);
        if state.flush() == Some(FlushClass::Syncing) {
            woken.extend(self.waiters.all());
        }
        drop(state);
        fire_all(&woken);
        Ok(changes)
    }

    /// Whether all that lies below `end` is on the disk of this leader and, as they have said in leader
    /// epoch `epoch`, of every replica that may be in sync; `None` when that epoch is over. The high
    /// watermark does not tell: it may have got there when it meant less (R18c). While the partition
    /// is syncing, its waiters are woken by all that followers say.
    pub(crate) fn is_synced_by_all(&self, epoch: i32, end: i64) -> Option<bool> {
        let state = self.lock();
        state.leadership.filter(|leadership| leadership.epoch == epoch)?;
        let own = state.log.as_ref().is_some_and(|log| log.synced_end_offset() >= end);
        let known = state.replication.as_ref();
        Some(own && known.is_none_or(|known| known.progress.is_held_by_all(end)))
    }

    /// Whether everything that was ever told to be committed is below the high watermark.
    pub(crate) fn knows_what_is_committed(&self) -> bool {
        let state = self.lock();
        let known = state.replication.as_ref();
        known.is_none_or(|known| known.progress.is_past_start(self.high_watermark()))
    }

    /// Whether records become visible no faster than follower `id` takes them over.
    pub(crate) fn waits_for(&self, id: i32) -> bool {
        let state = self.lock();
        state
            .replication
            .as_ref()
            .is_some_and(|replicated| replicated.progress.waits_for(id, self.lag_limit(replicated)))
    }

    /// The followers in sync that hold the record at `offset`, each with its log's end.
    pub(crate) fn holders(&self, offset: i64) -> Vec<(i32, i64)> {
        let state = self.lock();
        state.replication.as_ref().map_or_else(Vec::new, |known| known.progress.holders(offset))
    }

    /// Whether this broker leads it without having opened its log, and a member of the ISR is lost.
    pub(crate) fn is_closed_without(&self, is_lost: impl Fn(i32) -> bool) -> bool {
        let state = self.lock();
        let known = state.replication.as_ref().filter(|_| state.log.is_none());
        let isr = known.map_or(&[][..], |known| &known.progress.committed().isr);
        isr.iter().any(|member| is_lost(member.id))
    }

    /// Begins a change of the ISR, if one is due: what it adds counts as in sync from now on.
    pub(crate) fn begin_isr_change(&self, standing: impl Fn(i32) -> Standing) -> Option<IsrOrder> {
        let mut state = self.lock();
        let leader_epoch = state.leadership?.epoch;
        state.log.as_ref()?;
        // What waited for a follower that has gone, or come no more, may be committed by now.
        state.replication.as_mut()?.progress.note_standing(&standing);
        let woken = self.commit(&mut state);
        let order = self.next_isr_change(&mut state, leader_epoch, standing);
        drop(state);
        fire_all(&woken);
        order
    }

    fn next_isr_change(
        &self,
        state: &mut State,
        leader_epoch: i32,
        standing: impl Fn(i32) -> Standing,
    ) -> Option<IsrOrder> {
        let lag = self.lag_limit(state.replication.as_ref()?);
        let Replicated { progress, replicas, .. } = state.replication.as_mut()?;
        let change = progress.wanted(replicas, self.high_watermark(), standing, lag)?;
        let version = progress.committed().version;
        progress.begin(change.clone());
        Some(IsrOrder { leader_epoch, version, change })
    }

    /// Ends a change of the ISR.
    pub(crate) fn end_isr_change(&self, order: &IsrOrder, outcome: Outcome) {
        let mut state = self.lock();
        if state.leadership.is_none_or(|leadership| leadership.epoch != order.leader_epoch) {
            return;
        }
        let Some(replicated) = &mut state.replication else { return };
        replicated.progress.end(order.version, outcome);
        let changed = state.follow_isr();
        // Also where nobody fetches any more: acknowledgements may wait for the smaller ISR alone.
        let woken = self.commit(&mut state);
        drop(state);
        fire_all(&woken);
        if changed {
            self.wake_all();
        }
    }

    /// Whoever waits until a follower's log is durable.
    pub(super) fn followed(&self, state: &State) -> Vec<Arc<Signal>> {
        match (&state.following, &state.log) {
            (Some(_), Some(log)) => self.end_waiters.passed(log.synced_end_offset()),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use klamm_cluster::Member;
    use klamm_log::{LogConfig, Origin};

    use super::super::fixture;
    use super::*;

    const LAG: Duration = Duration::from_secs(30);

    /// Broker 1 leads in `epoch`, 2 is in sync.
    fn leads(partition: &Partition, epoch: i32, flush: FlushClass) {
        let isr = [1, 2].map(|id| Member { id, epoch: 1 }).to_vec();
        let partition_epoch = epoch;
        let committed =
            Committed { version: epoch, partition_epoch, isr, elr: Vec::new(), min_isr: 2 };
        let replication = Replication { me: 1, committed, replicas: vec![1, 2], lag_max: LAG };
        let leadership = Leadership { epoch, flush, min_isr: 2, isr: 2 };
        partition.apply(Role::Leads(leadership, Some(replication)), &LogConfig::default());
    }

    fn fetched(partition: &Partition, epoch: i32, offset: i64) {
        let (id, broker_epoch, sound_since) = (2, 1, 0);
        let fetch =
            ReplicaFetch { id, broker_epoch, sound_since, stays: true, offset, log_start: 0 };
        partition.replica_fetched(epoch, fetch).expect("it is a replica");
    }

    /// Seed 6204 of the cluster simulation: a follower that has not said in this epoch what is on its
    /// disk counted as synced, since the high watermark had been there when it meant less.
    #[tokio::test]
    async fn what_was_committed_unsynced_is_synced_once_each_follower_says_so_in_the_new_class() {
        let (_folder, partition) = fixture::partition();
        leads(&partition, 0, FlushClass::Os);
        partition.open().await.expect("opened");
        partition.append(&fixture::one_record(), None, Origin::Client, true).expect("appended");
        fetched(&partition, 0, 1);
        assert_eq!(partition.high_watermark(), 1, "nobody has synced");

        leads(&partition, 1, FlushClass::Syncing);
        partition.checkpoint();
        assert_eq!(partition.is_synced_by_all(1, 1), Some(false));
        let signal = Arc::new(Signal::default());
        partition.waiters().add(i64::MAX, &signal);
        fetched(&partition, 1, 0);
        assert!(signal.fired().now_or_never().is_some());
        assert_eq!(partition.is_synced_by_all(1, 1), Some(false));
        fetched(&partition, 1, 1);
        assert!(signal.fired().now_or_never().is_some(), "nobody would ever look again");
        assert_eq!(partition.is_synced_by_all(1, 1), Some(true));
        assert_eq!(partition.is_synced_by_all(0, 1), None, "that epoch is over");
    }
}
