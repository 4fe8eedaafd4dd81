//! The state node: how it is written, and how brokers come to know it.

use crate::Cluster;
use crate::rule::Rule;
use crate::state::{
    BROKERS, Breach, Broker, Flush, Id, LAG, Log, Members, Node, Progress, Registration, Session,
    State,
};

impl Cluster {
    /// The ensemble accepts a new state of the node. `node.version` is set here.
    pub(crate) fn store(&self, state: &mut State, mut node: Node) {
        let old = state.tree.node;
        node.version = old.version + 1;
        if node.leader_epoch < old.leader_epoch {
            state.observer.note(Breach::EpochFell);
        }
        for id in node.isr.ids() {
            let (listed, before) = (node.isr.0[id as usize], old.isr.0[id as usize]);
            let elected = node.leader == id && old.leader != id;
            if (listed != before || elected)
                && listed < state.registration(id).sound_since(node.flush)
            {
                state.observer.note(Breach::UnsoundListed);
            }
        }
        if self.limits.lag > 0 {
            state.tree.past.rotate_right(1);
            state.tree.past[0] = old;
            for forgotten in &mut state.tree.past[self.limits.lag as usize..LAG] {
                *forgotten = Node::default();
            }
        }
        state.tree.node = node;
    }

    /// R22: the ELR that goes with a new ISR. Who is removed as `unsound` never lands there.
    pub(crate) fn elr_after(&self, old: &Node, isr: Members, unsound: Members) -> Members {
        let kept = old.isr.or(old.elr).minus(isr).minus(unsound);
        if isr.len() >= old.min_isr && self.rules.on(Rule::R22Emptied) {
            Members::default()
        } else if isr.len() >= old.min_isr {
            // Off: members that left stay electable.
            old.elr.minus(isr).minus(unsound)
        } else {
            kept
        }
    }

    /// A broker reads the node, `back` versions behind the newest, and applies what it read.
    pub(crate) fn apply(&self, state: &State, id: Id, back: u8) -> Option<State> {
        // R5: without a session nothing is read, so nobody becomes leader.
        if !state.connected(id) {
            return None;
        }
        let broker = state.broker(id);
        let read = match back {
            0 => state.tree.node,
            back => state.tree.past[back as usize - 1],
        };
        let recreated = read.topic != broker.topic && self.rules.on(Rule::R26);
        let newer = recreated || read.version > broker.applied.version;
        // R13: only what is newer.
        if self.rules.on(Rule::R13) && !newer || read == broker.applied || read.topic == 0 {
            return None;
        }
        // R6: a session sees nothing older than its registration and its earlier reads.
        if (read.topic, read.version) < broker.floor && self.rules.on(Rule::R13) {
            return None;
        }
        let mut state = *state;
        let broker = state.broker_mut(id);
        if recreated {
            // R26: a log of its own; the old one is renamed aside (R28).
            forget_partition(broker);
            broker.log = Log::default();
        }
        broker.topic = read.topic;
        self.take_state(&mut state, id, read);
        Some(state)
    }

    /// A broker acts on a state of the node from now on.
    pub(crate) fn take_state(&self, state: &mut State, id: Id, read: Node) {
        let broker = state.broker_mut(id);
        let new_epoch = read.leader_epoch != broker.applied.leader_epoch;
        broker.applied = read;
        broker.floor = broker.floor.max((read.topic, read.version));
        // R19: a version above the change's own shows what became of it.
        if broker.change.is_some_and(|change| read.version > change.version) {
            broker.change = None;
        }
        if new_epoch {
            broker.in_step = false;
            broker.change = None;
            broker.epoch_start = 0;
            // R17: progress belongs to a leader epoch.
            if self.rules.on(Rule::R17LeaderEpoch) {
                broker.progress = [Progress::default(); BROKERS];
            }
        }
        if !self.leads(state, id) {
            return;
        }
        let registration = *state.registration(id);
        let broker = state.broker_mut(id);
        if new_epoch {
            broker.epoch_start = broker.log.len();
            // R15: the epoch cache knows where the epoch begins.
            if !self.rules.on(Rule::R15) {
                broker.unrecorded |= 1 << read.leader_epoch;
            }
            // I8: never on the strength of a listing that an unsound restart ended.
            if registration.epoch == broker.epoch
                && read.isr.0[id as usize] < registration.sound_since(read.flush)
            {
                state.observer.note(Breach::UnsoundLeads);
            }
        }
        self.advance(state, id);
    }
}

/// What a process knows of a partition that is not its own any more.
pub(crate) fn forget_partition(broker: &mut Broker) {
    *broker = Broker {
        log: broker.log,
        files: broker.files,
        topic: broker.topic,
        up: broker.up,
        incarnation: broker.incarnation,
        found: broker.found,
        session: broker.session,
        epoch: broker.epoch,
        first_epoch: broker.first_epoch,
        floor: broker.floor,
        mail: broker.mail,
        ..Broker::default()
    };
}

/// Whether a registered broker may be elected, by what the tree shows of it (R3, R12).
pub(crate) fn is_sound(listed: u8, registration: &Registration, flush: Flush) -> bool {
    registration.listed && listed != 0 && listed >= registration.sound_since(flush)
}

/// Whether the broker can send a write to the tree now.
pub(crate) fn may_write(state: &State, id: Id) -> bool {
    state.connected(id) && state.broker(id).session == Session::Ok
}
