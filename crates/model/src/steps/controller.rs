//! The controller's writes. Each is one multi that checks all that it was decided on, so that a
//! decision and its write are one step here.

use crate::Cluster;
use crate::rule::Rule;
use crate::state::{
    BROKERS, Breach, Broker, ControllerWrite, Flush, Id, Members, NOBODY, Node, Record, State, Tree,
};
use crate::steps::tree::is_sound;

impl Cluster {
    /// R12: a leader out of the ISR, else of the ELR; also where the old one is well (a preferred
    /// election), also the same one again.
    pub(crate) fn elect(&self, state: &State, elected: Id) -> Option<State> {
        let node = self.election(state, elected)?;
        let mut state = *state;
        self.store(&mut state, node);
        Some(state)
    }

    fn election(&self, state: &State, elected: Id) -> Option<Node> {
        let old = state.tree.node;
        if !self.has_room(&old, true) {
            return None;
        }
        let registration = state.registration(elected);
        let epoch = registration.epoch;
        let electable = |members: Members, id: Id| {
            let sound = is_sound(members.0[id as usize], state.registration(id), old.flush);
            members.has(id) && (sound || !self.rules.on(Rule::R12Sound))
        };
        let leader_epoch = old.leader_epoch + 1;
        if !registration.listed {
            return None;
        }
        if electable(old.isr, elected) {
            let isr = old.isr.with(elected, epoch);
            return Some(Node { leader: elected, leader_epoch, isr, ..old });
        }
        let deserted = !old.isr.ids().any(|id| electable(old.isr, id));
        if deserted && electable(old.elr, elected) || !self.rules.on(Rule::R12Candidates) {
            let isr = Members::default().with(elected, epoch);
            let elr = self.elr_after(&old, isr, self.unsound(state));
            return Some(Node { leader: elected, leader_epoch, isr, elr, ..old });
        }
        None
    }

    /// R12: the operator lets the best survivor lead, whatever it lacks.
    pub(crate) fn elect_uncleanly(&self, state: &State, elected: Id) -> Option<State> {
        let old = state.tree.node;
        let registration = state.registration(elected);
        let hopeless = (0..BROKERS as Id).all(|id| {
            let listed = old.isr.or(old.elr).0[id as usize];
            !is_sound(listed, state.registration(id), old.flush)
        });
        let allowed = self.limits.unclean && self.has_room(&old, true) && hopeless;
        if !allowed || !registration.listed || !state.broker(elected).up {
            return None;
        }
        let mut state = *state;
        let leader_epoch = old.leader_epoch + 1;
        let isr = Members::default().with(elected, registration.epoch);
        let node = Node {
            leader: elected,
            leader_epoch,
            isr,
            elr: Members::default(),
            unclean_epoch: leader_epoch,
            ..old
        };
        self.store(&mut state, node);
        // What the survivor lacks is given up.
        let log = state.broker(elected).log;
        let mut given_up = false;
        let observer = &mut state.observer;
        for (offset, known) in observer.committed.iter_mut().enumerate() {
            given_up |= log.get(offset as u8) != Some(*known);
            if given_up {
                *known = Record::default();
                observer.confirmed_while_lost &= !(1 << offset);
            }
        }
        Some(state)
    }

    /// R3: takes out of ISR and ELR who is gone, or back after a restart that was not sound.
    ///
    /// The leader is replaced first; the last member of the ISR stays.
    pub(crate) fn remove(&self, state: &State, member: Id) -> Option<State> {
        let old = state.tree.node;
        let listed = old.isr.or(old.elr).0[member as usize];
        let registration = state.registration(member);
        let unsound = registration.listed && listed < registration.sound_since(old.flush);
        if listed == 0 || old.leader == member || !self.has_room(&old, false) {
            return None;
        }
        let mut state = *state;
        if old.elr.has(member) {
            // Who is only gone stays electable.
            let elr = unsound.then_some(old.elr.without(member))?;
            self.store(&mut state, Node { elr, ..old });
            return Some(state);
        }
        if registration.listed && !unsound || old.isr.len() == 1 {
            return None;
        }
        let isr = old.isr.without(member);
        let elr = self.elr_after(&old, isr, self.unsound(&state));
        self.store(&mut state, Node { isr, elr, ..old });
        Some(state)
    }

    /// Nobody may lead: the tree says so.
    pub(crate) fn unseat(&self, state: &State) -> Option<State> {
        let old = state.tree.node;
        let electable = |id| {
            let listed = old.isr.or(old.elr).0[id as usize];
            is_sound(listed, state.registration(id), old.flush)
        };
        let deserted = !(0..BROKERS as Id).any(electable);
        if !self.limits.min_isr_changes || old.leader == NOBODY || !deserted {
            return None;
        }
        if !self.has_room(&old, false) {
            return None;
        }
        let mut state = *state;
        self.store(&mut state, Node { leader: NOBODY, ..old });
        Some(state)
    }

    /// R18c: another flush class, with a leader epoch of its own.
    pub(crate) fn set_flush(&self, state: &State, flush: Flush) -> Option<State> {
        let old = state.tree.node;
        let bump = self.rules.on(Rule::R18cEpoch);
        if !self.limits.flush_changes || old.flush == flush || !self.has_room(&old, bump) {
            return None;
        }
        let allowed = match (old.flush, flush) {
            (Flush::Os, Flush::Syncing) => true,
            (Flush::Syncing, Flush::Acked) => {
                !self.rules.on(Rule::R18cToAcked) || self.all_past_the_start(state)
            }
            (_, Flush::Os) => {
                let kept_cache = old.isr.or(old.elr).ids().all(|id| {
                    let listed = old.isr.or(old.elr).0[id as usize];
                    listed >= state.registration(id).clean_since
                });
                kept_cache || !self.rules.on(Rule::R18cToOs)
            }
            _ => false,
        };
        if !allowed {
            return None;
        }
        let mut state = *state;
        let disowns = old.isr.ids().any(|id| {
            let (listed, registration) = (old.isr.0[id as usize], *state.registration(id));
            is_sound(listed, &registration, old.flush) && !is_sound(listed, &registration, flush)
        });
        if disowns {
            state.observer.note(Breach::Disowned);
        }
        let leader_epoch = old.leader_epoch + u8::from(bump);
        self.store(&mut state, Node { flush, leader_epoch, ..old });
        Some(state)
    }

    /// R18c: what the leader of the syncing epoch reports of its ISR.
    fn all_past_the_start(&self, state: &State) -> bool {
        let node = &state.tree.node;
        if node.leader == NOBODY || !self.leads(state, node.leader) {
            return false;
        }
        let leader = state.broker(node.leader);
        let past = |id: Id| match id == node.leader {
            true => leader.log.synced >= leader.epoch_start,
            false => {
                let known = leader.progress[id as usize];
                known.broker_epoch != 0 && known.end >= leader.epoch_start
            }
        };
        leader.applied == *node && node.elr.is_empty() && node.isr.ids().all(past)
    }

    /// R22: another effective min.isr.
    pub(crate) fn set_min_isr(&self, state: &State, min_isr: u8) -> Option<State> {
        let old = state.tree.node;
        let allowed = self.limits.min_isr_changes && self.has_room(&old, false);
        if !allowed || old.min_isr == min_isr {
            return None;
        }
        let mut elr = old.elr;
        if min_isr < old.min_isr && self.rules.on(Rule::R22Lowering) {
            if old.leader == NOBODY {
                return None;
            }
            elr = Members::default();
        }
        let mut state = *state;
        self.store(&mut state, Node { min_isr, elr, ..old });
        Some(state)
    }

    /// The topic is deleted and made again: another id, other nodes, everything from 1 (R26).
    pub(crate) fn recreate(&self, state: &State, leader: Id) -> Option<State> {
        let old = state.tree.node;
        if old.topic > self.limits.recreations || !state.registration(leader).listed {
            return None;
        }
        let mut isr = Members::default();
        for id in 0..self.limits.brokers {
            let registration = state.registration(id);
            isr = isr.with(id, if registration.listed { registration.epoch } else { 0 });
        }
        let mut state = *state;
        let node = Node {
            topic: old.topic + 1,
            version: 1,
            leader,
            leader_epoch: 1,
            isr,
            min_isr: old.min_isr,
            flush: old.flush,
            ..Node::default()
        };
        state.tree = Tree { node, past: Default::default(), ..state.tree };
        state.observer.committed = Default::default();
        state.observer.appenders = Default::default();
        state.observer.confirmed_while_lost = 0;
        Some(state)
    }

    /// A controller sends an election, and the ensemble has not seen it yet.
    pub(crate) fn queue_election(&self, state: &State, elected: Id) -> Option<State> {
        if !self.limits.controller_changes || state.tree.queued.is_some() {
            return None;
        }
        let node = self.election(state, elected)?;
        let mut state = *state;
        let controller_epoch = state.tree.controller_epoch;
        state.tree.queued = Some(ControllerWrite { controller_epoch, elected, node });
        Some(state)
    }

    /// R7: another controller.
    pub(crate) fn change_controller(&self, state: &State) -> Option<State> {
        if !self.limits.controller_changes || state.tree.controller_epoch > 1 {
            return None;
        }
        let mut state = *state;
        state.tree.controller_epoch += 1;
        Some(state)
    }

    /// The ensemble sees a queued election: R8, the version, and all that R12 checks.
    pub(crate) fn land_election(&self, state: &State) -> Option<State> {
        let queued = state.tree.queued?;
        let mut state = *state;
        state.tree.queued = None;
        let old = queued.controller_epoch < state.tree.controller_epoch;
        if old && self.rules.on(Rule::R8) || queued.node.version != state.tree.node.version {
            return Some(state);
        }
        let checked = self.election(&state, queued.elected) == Some(queued.node);
        if checked || !self.rules.on(Rule::R12Checked) {
            self.store(&mut state, queued.node);
            if old {
                state.observer.note(Breach::OldController);
            }
        }
        Some(state)
    }

    /// Whether the scenario allows another version, and where asked another leader epoch.
    fn has_room(&self, node: &Node, epoch: bool) -> bool {
        node.version < self.limits.versions && (!epoch || node.leader_epoch < self.limits.epochs)
    }

    /// Members of ISR or ELR whose listing an unsound restart has ended.
    fn unsound(&self, state: &State) -> Members {
        let node = &state.tree.node;
        let listed = node.isr.or(node.elr);
        let mut unsound = Members::default();
        for id in listed.ids() {
            let registration = state.registration(id);
            if listed.0[id as usize] < registration.sound_since(node.flush) {
                unsound = unsound.with(id, registration.epoch);
            }
        }
        unsound
    }
}

/// A process as it starts: what is on the disk, and nothing else.
pub(crate) fn as_started(broker: &Broker) -> Broker {
    Broker {
        log: broker.log,
        files: broker.files,
        topic: broker.topic,
        incarnation: broker.incarnation,
        epoch: broker.epoch,
        mail: broker.mail,
        ..Broker::default()
    }
}
