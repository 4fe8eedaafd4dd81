//! What a leader knows of its followers in one leader epoch, and what follows from it: the high
//! watermark and the changes of the ISR (R17 to R22). Pure: offsets, times and answers in, decisions
//! out.
//!
//! The **maximal ISR** is the committed one and whatever this leader has written that may be in the
//! tree by now. Only what all of it holds is committed: whoever is elected next was in it (R19).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use klamm_cluster::Member;
use klamm_env::rules::Rule;

/// The state of the partition that is known to be in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    /// Version of its node.
    pub version: i32,
    /// Grows with every change of the node.
    pub partition_epoch: i32,
    /// Replicas in sync.
    pub isr: Vec<Member>,
    /// Replicas out of sync that hold everything committed.
    pub elr: Vec<Member>,
    /// The effective `min.insync.replicas`.
    pub min_isr: usize,
}

/// A fetch of a follower: its word that it holds everything below `offset` (R17).
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplicaFetch {
    /// The follower.
    pub id: i32,
    /// Its registration.
    pub broker_epoch: i64,
    /// The oldest registration whose confirmations it still has, for this partition's class (R3).
    pub sound_since: i64,
    /// It is not about to stop.
    pub stays: bool,
    /// What it asks for.
    pub offset: i64,
    /// The first offset of its log.
    pub log_start: i64,
}

/// How a replica stands in the cluster, as the image has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not registered.
    Gone,
    /// About to stop, or without the disk that its replica is on.
    Leaving,
    /// Registered with this broker epoch.
    Here(i64),
}

/// An ISR that the leader would like, with what goes to the ELR for it (R22).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IsrChange {
    /// Replicas in sync; never empty.
    pub isr: Vec<Member>,
    /// Replicas out of sync that hold everything committed.
    pub elr: Vec<Member>,
}

/// What became of a written change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is in the tree, as this version.
    Written(i32),
    /// The node was as expected, but something else was not: neither this change nor an earlier
    /// unclear one is in the tree.
    Refused,
    /// The node has changed: an earlier unclear change may be what is there.
    Overtaken,
    /// Nobody knows.
    Unclear,
    /// It was never sent.
    NotSent,
}

/// Times that bound a follower's lag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LagLimit {
    /// Now, on the monotonic clock.
    pub now: Duration,
    /// `replica.lag.time.max.ms`.
    pub max: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Follower {
    fetch: ReplicaFetch,
    /// When it last held all that the leader had.
    caught_up: Option<Duration>,
    fetched_at: Duration,
    /// The leader's log end at that time.
    leader_end: i64,
}

/// Changes whose outcome is not known.
#[derive(Clone, Debug, Default)]
struct Pending {
    ids: BTreeSet<i32>,
    /// The newest of them.
    change: Option<IsrChange>,
    /// One of them got no answer.
    unclear: bool,
}

/// A leader's view of its followers.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    me: i32,
    committed: Committed,
    pending: Pending,
    /// What was pending before the change that is in flight.
    in_flight: Option<Pending>,
    followers: BTreeMap<i32, Follower>,
    /// Log end when the epoch began; `None` until the log is open.
    epoch_start: Option<i64>,
    began: Duration,
}

impl Progress {
    /// The beginning of a leader epoch of broker `me`: nobody has fetched yet.
    pub(crate) fn new(me: i32, committed: Committed, now: Duration) -> Progress {
        Progress {
            me,
            committed,
            pending: Pending::default(),
            in_flight: None,
            followers: BTreeMap::new(),
            epoch_start: None,
            began: now,
        }
    }

    /// What is known to be in the tree.
    pub(crate) fn committed(&self) -> &Committed {
        &self.committed
    }

    /// Where the epoch begins in the log; said once.
    pub(crate) fn set_epoch_start(&mut self, log_end: i64) {
        self.epoch_start.get_or_insert(log_end);
    }

    /// Whether the high watermark has come as far as the log was when the epoch began: below, somebody
    /// may have been told more.
    pub(crate) fn is_past_start(&self, high_watermark: i64) -> bool {
        self.epoch_start.is_some_and(|start| high_watermark >= start)
    }

    /// Takes a newer state of the same leader epoch over (R13); whether it is newer.
    pub(crate) fn apply(&mut self, state: Committed) -> bool {
        if state.partition_epoch <= self.committed.partition_epoch {
            return false;
        }
        self.committed = state;
        // Whatever was written at an older version is in the tree by now, or never will be.
        self.pending = Pending::default();
        true
    }

    /// Forgets followers that are not in the assignment any more: nothing waits for one that will
    /// never fetch again.
    pub(crate) fn keep(&mut self, replicas: &[i32]) {
        self.followers.retain(|id, _| replicas.contains(id));
    }

    /// Notes a follower's fetch, at a time when the log ends at `log_end`.
    pub(crate) fn fetched(&mut self, fetch: ReplicaFetch, log_end: i64, now: Duration) {
        let before = self.followers.get(&fetch.id);
        let before = before.filter(|known| known.fetch.broker_epoch == fetch.broker_epoch);
        let caught_up = match before {
            _ if fetch.offset >= log_end => Some(now),
            Some(known) if fetch.offset >= known.leader_end => {
                Some(known.fetched_at.max(known.caught_up.unwrap_or_default()))
            }
            Some(known) => known.caught_up,
            None => None,
        };
        let follower = Follower { fetch, caught_up, fetched_at: now, leader_end: log_end };
        self.followers.insert(fetch.id, follower);
    }

    /// How far everything is committed, where it was up to `high_watermark` before and the leader's
    /// own log counts up to `own_end`. It stands still while fewer than `min.insync.replicas` are in
    /// sync (R21). Followers that have just caught up are waited for, as they could never join under
    /// load otherwise.
    pub(crate) fn high_watermark(&self, high_watermark: i64, own_end: i64, lag: LagLimit) -> i64 {
        if self.committed.isr.len() < self.committed.min_isr && Rule::R21.holds() {
            return high_watermark;
        }
        let members = self.maximal_isr();
        let held = members.iter().map(|id| self.counted_end(*id));
        let joining = self.followers.values().filter(|follower| {
            !members.contains(&follower.fetch.id) && self.may_join(follower, lag)
        });
        let held = held.chain(joining.map(|follower| follower.fetch.offset));
        held.fold(own_end, i64::min).max(high_watermark)
    }

    /// Whether the high watermark waits for follower `id`: in sync, or about to be.
    pub(crate) fn waits_for(&self, id: i32, lag: LagLimit) -> bool {
        self.maximal_isr().contains(&id)
            || self.followers.get(&id).is_some_and(|follower| self.may_join(follower, lag))
    }

    /// The followers in sync that hold the record at `offset`, each with its log's end.
    pub(crate) fn holders(&self, offset: i64) -> Vec<(i32, i64)> {
        let members = self.committed.isr.iter().filter(|member| member.id != self.me);
        let fetches = members.filter_map(|member| self.followers.get(&member.id));
        let fetches = fetches.map(|follower| follower.fetch);
        fetches
            .filter(|fetch| fetch.log_start <= offset && fetch.offset >= offset)
            .map(|fetch| (fetch.id, fetch.offset))
            .collect()
    }

    /// Whether every follower that may be in sync has said in this epoch that it holds all that lies
    /// below `end`.
    pub(crate) fn is_held_by_all(&self, end: i64) -> bool {
        self.maximal_isr().into_iter().all(|id| self.counted_end(id) >= end)
    }

    /// The ids, but for the leader's own.
    fn maximal_isr(&self) -> BTreeSet<i32> {
        let others = |ids: &mut dyn Iterator<Item = i32>| ids.filter(|id| *id != self.me).collect();
        if let Some(written) = &self.pending.change
            && !Rule::R19.holds()
        {
            return others(&mut written.isr.iter().map(|member| member.id));
        }
        let committed = self.committed.isr.iter().map(|member| member.id);
        others(&mut committed.chain(self.pending.ids.iter().copied()))
    }

    /// What a member holds for certain; -1 until it has said so in this epoch.
    fn counted_end(&self, id: i32) -> i64 {
        let Some(follower) = self.followers.get(&id) else { return -1 };
        let entry = self.committed.isr.iter().find(|member| member.id == id);
        // After an unsound restart an old entry stands for what is lost (R3).
        let lost = entry.is_some_and(|entry| entry.epoch < follower.fetch.sound_since);
        if lost { -1 } else { follower.fetch.offset }
    }

    fn may_join(&self, follower: &Follower, lag: LagLimit) -> bool {
        follower.fetch.stays
            && follower.caught_up.is_some_and(|at| lag.now.saturating_sub(at) <= lag.max)
    }

    /// Takes over who is gone or going: whoever is cannot join, and nobody waits for it.
    pub(crate) fn note_standing(&mut self, standing: impl Fn(i32) -> Standing) {
        for fetch in self.followers.values_mut().map(|follower| &mut follower.fetch) {
            fetch.stays &= standing(fetch.id) == Standing::Here(fetch.broker_epoch);
        }
    }

    /// The ISR as it should be, if that is another one and nothing is in flight. `replicas` are those
    /// of the assignment.
    pub(crate) fn wanted(
        &self,
        replicas: &[i32],
        high_watermark: i64,
        standing: impl Fn(i32) -> Standing,
        lag: LagLimit,
    ) -> Option<IsrChange> {
        if self.in_flight.is_some() {
            return None;
        }
        let mut unsound = BTreeSet::new();
        let mut isr = Vec::new();
        for member in &self.committed.isr {
            match self.judge(*member, high_watermark, &standing, lag) {
                Verdict::Stays => isr.push(*member),
                Verdict::Lags => {}
                Verdict::LacksCommitted => {
                    unsound.insert(member.id);
                }
            }
        }
        let joins = |follower: &&Follower| {
            let fetch = follower.fetch;
            !self.committed.isr.iter().any(|member| member.id == fetch.id)
                && replicas.contains(&fetch.id)
                && standing(fetch.id) == Standing::Here(fetch.broker_epoch)
                && (self.has_caught_up(follower, high_watermark, lag) || !Rule::R20.holds())
        };
        let joining = self.followers.values().filter(joins);
        isr.extend(
            joining.map(|follower| Member {
                id: follower.fetch.id,
                epoch: follower.fetch.broker_epoch,
            }),
        );
        if isr == self.committed.isr {
            // An unclear change of before is settled by writing what holds (R19).
            let unsettled = self.pending.unclear;
            let elr = self.committed.elr.clone();
            return unsettled.then_some(IsrChange { isr, elr });
        }
        let elr = self.next_elr(&isr, replicas, &unsound);
        Some(IsrChange { isr, elr })
    }

    /// Whether a follower holds all that is committed, or may have been in an earlier epoch (R20).
    fn has_caught_up(&self, follower: &Follower, high_watermark: i64, lag: LagLimit) -> bool {
        let offset = follower.fetch.offset;
        offset >= high_watermark
            && self.epoch_start.is_some_and(|start| offset >= start)
            && !self.lags(follower.caught_up, lag)
    }

    fn lags(&self, caught_up: Option<Duration>, lag: LagLimit) -> bool {
        lag.now.saturating_sub(caught_up.unwrap_or(self.began)) > lag.max
    }

    fn judge(
        &self,
        member: Member,
        high_watermark: i64,
        standing: &impl Fn(i32) -> Standing,
        lag: LagLimit,
    ) -> Verdict {
        if member.id == self.me {
            return Verdict::Stays;
        }
        let follower = self.followers.get(&member.id);
        let lacks = follower.is_some_and(|follower| {
            // A disk rolled back within a registration, for one.
            follower.fetch.offset < high_watermark && self.counted_end(member.id) >= 0
        });
        let caught_up = follower.and_then(|follower| follower.caught_up);
        match standing(member.id) {
            _ if lacks => Verdict::LacksCommitted,
            Standing::Gone | Standing::Leaving => Verdict::Lags,
            Standing::Here(_) if self.lags(caught_up, lag) => Verdict::Lags,
            Standing::Here(_) => Verdict::Stays,
        }
    }

    fn next_elr(&self, isr: &[Member], replicas: &[i32], unsound: &BTreeSet<i32>) -> Vec<Member> {
        if isr.len() >= self.committed.min_isr {
            return Vec::new();
        }
        let Committed { isr: old, elr, .. } = &self.committed;
        let stays = |member: &&Member| {
            !isr.iter().any(|other| other.id == member.id)
                && replicas.contains(&member.id)
                && !unsound.contains(&member.id)
        };
        old.iter().chain(elr).filter(stays).copied().collect()
    }

    /// A change is on its way to the tree: from now on it counts as if it were there. One at a time.
    pub(crate) fn begin(&mut self, change: IsrChange) {
        debug_assert!(self.in_flight.is_none(), "one change at a time");
        self.in_flight = Some(self.pending.clone());
        self.pending.ids.extend(change.isr.iter().map(|member| member.id));
        self.pending.change = Some(change);
    }

    /// The end of what [`Progress::begin`] began, when the node had version `from`.
    pub(crate) fn end(&mut self, from: i32, outcome: Outcome) {
        let before = self.in_flight.take();
        if self.committed.version != from {
            // A newer state was applied in the meantime, and has settled everything.
            return;
        }
        match outcome {
            Outcome::Written(version) => {
                let Some(change) = std::mem::take(&mut self.pending).change else { return };
                self.committed.version = version;
                self.committed.partition_epoch += 1;
                self.committed.isr = change.isr;
                self.committed.elr = change.elr;
            }
            Outcome::Refused => self.pending = Pending::default(),
            Outcome::Overtaken if self.pending.unclear => {}
            Outcome::Overtaken => self.pending = Pending::default(),
            Outcome::Unclear => self.pending.unclear = true,
            Outcome::NotSent => self.pending = before.unwrap_or_default(),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Verdict {
    Stays,
    /// Too slow, gone or going: it holds everything committed all the same.
    Lags,
    /// It does not hold everything that is committed.
    LacksCommitted,
}

#[cfg(test)]
mod tests;
