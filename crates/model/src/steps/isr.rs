//! The ISR: a leader changes it by compare-and-set, and an answer may get lost.

use crate::Cluster;
use crate::rule::Rule;
use crate::state::{Breach, Change, Id, Members, Node, Session, State};
use crate::steps::tree::may_write;

/// What the ensemble made of a leader's write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Stored,
    /// The version had moved on.
    BadVersion,
    /// A broker epoch or a registration was not what the write checked.
    CheckFailed,
}

impl Cluster {
    /// The leader finds that a follower lags: any follower, at any time.
    pub(crate) fn shrink(&self, state: &State, leader: Id, member: Id) -> Option<State> {
        let isr = state.broker(leader).applied.isr;
        if member == leader || !isr.has(member) {
            return None;
        }
        self.send_change(state, leader, isr.without(member))
    }

    /// The leader finds that a follower has caught up.
    pub(crate) fn expand(&self, state: &State, leader: Id, follower: Id) -> Option<State> {
        let target = self.expanded(state, leader, follower)?;
        self.send_change(state, leader, target)
    }

    /// R20: the ISR with a follower that has caught up.
    fn expanded(&self, state: &State, leader: Id, follower: Id) -> Option<Members> {
        let broker = state.broker(leader);
        let isr = broker.applied.isr;
        let known = broker.progress[follower as usize];
        if follower == leader || isr.has(follower) || known.broker_epoch == 0 {
            return None;
        }
        if self.rules.on(Rule::R20Watermark) && known.end < broker.high_watermark {
            return None;
        }
        if self.rules.on(Rule::R20EpochStart) && known.end < broker.epoch_start {
            return None;
        }
        // Off: what is known of the follower is not bound to a registration.
        let broker_epoch = match self.rules.on(Rule::R17BrokerEpoch) {
            true => known.broker_epoch,
            false => state.registration(follower).epoch,
        };
        Some(isr.with(follower, broker_epoch))
    }

    fn send_change(&self, state: &State, leader: Id, target: Members) -> Option<State> {
        let broker = state.broker(leader);
        // R19: one change in flight.
        if !self.leads(state, leader) || broker.change.is_some() {
            return None;
        }
        if state.tree.node.version >= self.limits.versions {
            return None;
        }
        // R5: nothing is written without a session.
        let lost = broker.session == Session::Lost;
        if lost && self.rules.on(Rule::R5aNoTreeWrite) {
            return None;
        }
        let mut state = *state;
        if lost {
            state.observer.note(Breach::LostWrote);
        }
        let version = broker.applied.version;
        let change = Change { version, target, counted: true, queued: true, unanswered: false };
        state.broker_mut(leader).change = Some(change);
        Some(state)
    }

    /// The ensemble carries out a queued change; the leader hears of it, if it still can.
    pub(crate) fn land(&self, state: &State, leader: Id) -> Option<State> {
        let change = state.broker(leader).change.filter(|change| change.queued)?;
        let mut state = *state;
        let outcome = self.write_isr(&mut state, leader, change);
        let hears = state.broker(leader).up && !change.unanswered;
        match outcome {
            Outcome::Stored if hears => {
                let node = state.tree.node;
                self.take_state(&mut state, leader, node);
            }
            // A clear failure of the only write that was sent.
            Outcome::BadVersion | Outcome::CheckFailed if hears => {
                state.broker_mut(leader).change = None;
                self.advance(&mut state, leader);
            }
            _ => self.forget_queued(&mut state, leader),
        }
        Some(state)
    }

    /// The connection breaks before the answer; the ensemble may have the write or not.
    pub(crate) fn lose_answer(&self, state: &State, leader: Id) -> Option<State> {
        let change = state.broker(leader).change.filter(|change| change.queued)?;
        let spent = state.observer.spent.unanswered;
        if change.unanswered || !state.broker(leader).up || spent == self.limits.unanswered {
            return None;
        }
        let mut state = *state;
        state.observer.spent.unanswered += 1;
        let broker = state.broker_mut(leader);
        broker.change = Some(Change { unanswered: true, ..change });
        Some(state)
    }

    /// R19: off, a leader that got no answer takes the change for failed.
    pub(crate) fn assume_failure(&self, state: &State, leader: Id) -> Option<State> {
        let change = state.broker(leader).change?;
        if self.rules.on(Rule::R19Unknown) || !change.unanswered {
            return None;
        }
        let mut state = *state;
        self.stop_counting(&mut state, leader, change);
        Some(state)
    }

    /// The leader's union forgets a write that may still be on its way.
    fn stop_counting(&self, state: &mut State, leader: Id, change: Change) {
        state.broker_mut(leader).change = Some(Change { counted: false, ..change });
        self.advance(state, leader);
    }

    /// A leader in doubt sends another compare-and-set at the same version and gets its answer.
    ///
    /// The first one may still be on its way. The second one adds `follower`.
    pub(crate) fn write_again(&self, state: &State, leader: Id, follower: Id) -> Option<State> {
        let broker = state.broker(leader);
        let first = broker.change.filter(|change| change.unanswered)?;
        if !may_write(state, leader) || !self.leads(state, leader) {
            return None;
        }
        if state.tree.node.version >= self.limits.versions {
            return None;
        }
        let target = self.expanded(state, leader, follower)?;
        let mut state = *state;
        match self.write_isr(&mut state, leader, Change { target, ..first }) {
            Outcome::Stored => {
                let node = state.tree.node;
                self.take_state(&mut state, leader, node);
            }
            // There is a version above; the union stays until it is read.
            Outcome::BadVersion => return None,
            Outcome::CheckFailed if self.rules.on(Rule::R19Answer) => return None,
            Outcome::CheckFailed => self.stop_counting(&mut state, leader, first),
        }
        Some(state)
    }

    /// The leader's multi: own broker epoch, those of the added ones, the version.
    fn write_isr(&self, state: &mut State, leader: Id, change: Change) -> Outcome {
        let old = state.tree.node;
        let mut isr = change.target;
        if self.rules.on(Rule::R18Copied) {
            let own = state.registration(leader).epoch == state.broker(leader).epoch;
            let added = isr.minus(old.isr);
            let current = added.ids().all(|id| {
                let registration = state.registration(id);
                registration.listed && registration.epoch == added.0[id as usize]
            });
            if self.rules.on(Rule::R18Checked) && !(own && current) {
                return Outcome::CheckFailed;
            }
        } else {
            // Off: everybody is written as the tree shows them now.
            for id in change.target.ids() {
                isr = isr.with(id, state.registration(id).epoch);
            }
        }
        if old.topic != state.broker(leader).topic || old.version != change.version {
            return Outcome::BadVersion;
        }
        let elr = self.elr_after(&old, isr, Members::default());
        self.store(state, Node { isr, elr, ..old });
        Outcome::Stored
    }

    fn forget_queued(&self, state: &mut State, leader: Id) {
        let broker = state.broker_mut(leader);
        broker.change = match broker.change {
            Some(change) if broker.up => Some(Change { queued: false, ..change }),
            _ => None,
        };
    }
}
