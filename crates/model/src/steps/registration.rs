//! R1 to R3, R6: a process judges its restart, registers, and may lose its session.

use crate::Cluster;
use crate::rule::Rule;
use crate::state::{Arriving, Files, Id, Judgement, Pair, Registration, Session, State};

impl Cluster {
    /// A process starts, and keeps in mind the files as it finds them.
    ///
    /// Where registrations are not split it registers in the same step: a process that waits for
    /// its turn differs in nothing from one that has not started.
    pub(crate) fn start(&self, state: &State, id: Id) -> Option<State> {
        if state.broker(id).up || !self.limits.restarts {
            return None;
        }
        let mut started = *state;
        let broker = started.broker_mut(id);
        broker.up = true;
        broker.incarnation += 1;
        broker.found = broker.files;
        broker.session = Session::Lost;
        broker.epoch = 0;
        broker.change = None;
        if self.limits.split_registration {
            return Some(started);
        }
        let sent = self.attempt(&started, id)?;
        self.land_registration(&sent, id)
    }

    /// R2: whether nothing that was ever confirmed is missing: the files as they were found, against
    /// the registration that the attempt builds on.
    fn judge(&self, state: &State, id: Id) -> Judgement {
        let files = state.broker(id).found;
        let registration = state.registration(id);
        let is_last = |pair: &Pair| {
            let same = pair.incarnation == registration.incarnation;
            pair.epoch == registration.epoch && (same || !self.rules.on(Rule::R2Incarnation))
        };
        if !self.rules.on(Rule::R3) {
            return Judgement { any: true, acked: true };
        }
        let clean = is_last(&files.marker);
        let found = [files.registered, files.attempted].into_iter().find(is_last);
        let cache_survived =
            found.is_some_and(|pair| pair.same_boot || !self.rules.on(Rule::R2Boot));
        Judgement { any: clean || cache_survived, acked: clean || found.is_some() }
    }

    /// The process reads its last registration, writes the pair that it attempts, and sends it.
    pub(crate) fn attempt(&self, state: &State, id: Id) -> Option<State> {
        let broker = state.broker(id);
        let incarnation = broker.incarnation;
        let arriving = state.tree.arriving[id as usize];
        let sent = arriving.is_some_and(|arriving| arriving.pair.incarnation == incarnation);
        if !broker.up || broker.epoch != 0 || sent {
            return None;
        }
        // R1: an ephemeral node of before is deleted only if it was this data directory's.
        let old = state.registration(id);
        let ours = |pair: Pair| (pair.epoch, pair.incarnation) == (old.epoch, old.incarnation);
        let found = broker.found;
        if old.listed && !ours(found.registered) && !ours(found.attempted) {
            return None;
        }
        let pair = Pair { epoch: old.epoch + 1, incarnation, same_boot: true };
        let judgement = self.judge(state, id);
        let mut state = *state;
        let files = &mut state.broker_mut(id).files;
        // R2: an earlier attempt that the tree shows as registered becomes the registered pair.
        if ours(found.attempted) && self.rules.on(Rule::R2Promoted) {
            files.registered = found.attempted;
        }
        files.attempted = pair;
        files.marker = Pair::default();
        if !self.rules.on(Rule::R2BootOfPair) {
            files.registered.same_boot = true;
        }
        // R2: an earlier attempt that may still land is ended before its pair is overwritten.
        if arriving.is_none() || self.rules.on(Rule::R2Settled) {
            state.tree.arriving[id as usize] = Some(Arriving { pair, judgement });
        }
        Some(state)
    }

    /// The same on the strength of a read that lags: nothing comes of it but what it writes to disk.
    ///
    /// Where the file has an attempt of that number, ending it (R2) finds out that the read lags.
    pub(crate) fn attempt_in_vain(&self, state: &State, id: Id) -> Option<State> {
        let broker = state.broker(id);
        let epoch = state.registration(id).epoch;
        let would_find_out = broker.found.attempted.epoch >= epoch;
        if !broker.up || broker.epoch != 0 || epoch < 2 || would_find_out {
            return None;
        }
        let incarnation = broker.incarnation;
        let mut state = *state;
        let files = &mut state.broker_mut(id).files;
        files.attempted = Pair { epoch, incarnation, same_boot: true };
        files.marker = Pair::default();
        Some(state)
    }

    /// R1: one multi creates the ephemeral node and the next broker epoch; the process may have
    /// died since it sent that.
    pub(crate) fn land_registration(&self, state: &State, id: Id) -> Option<State> {
        let Arriving { pair, judgement } = state.tree.arriving[id as usize]?;
        let mut state = *state;
        state.tree.arriving[id as usize] = None;
        let old = *state.registration(id);
        // The multi expects the version that the attempt was made for.
        if pair.epoch != old.epoch + 1 {
            return Some(state);
        }
        *state.registration_mut(id) = Registration {
            epoch: pair.epoch,
            incarnation: pair.incarnation,
            clean_since: if judgement.any { old.clean_since } else { pair.epoch },
            intact_since: if judgement.acked { old.intact_since } else { pair.epoch },
            listed: true,
        };
        let floor = self.floor(&state);
        let broker = state.broker_mut(id);
        if broker.up && broker.incarnation == pair.incarnation && broker.epoch == 0 {
            broker.session = Session::Ok;
            broker.epoch = pair.epoch;
            broker.first_epoch = pair.epoch;
            broker.floor = floor;
            broker.files.registered = broker.files.attempted;
            broker.found = Files::default();
        }
        Some(state)
    }

    /// R6: what a session that has just registered cannot see any more.
    fn floor(&self, state: &State) -> (u8, u8) {
        match self.rules.on(Rule::R6RegisterThenRead) {
            true => (state.tree.node.topic, state.tree.node.version),
            false => (0, 0),
        }
    }

    /// R4: the lease runs out; the ensemble may keep the session for a while yet.
    pub(crate) fn lose_session(&self, state: &State, id: Id) -> Option<State> {
        let spent = state.observer.spent.session_losses;
        if spent == self.limits.session_losses || !state.connected(id) {
            return None;
        }
        let mut state = *state;
        state.observer.spent.session_losses += 1;
        state.broker_mut(id).session = Session::Lost;
        Some(state)
    }

    /// The connection comes back before the session has expired.
    pub(crate) fn resume_session(&self, state: &State, id: Id) -> Option<State> {
        let broker = state.broker(id);
        let registration = state.registration(id);
        let alive = registration.listed && registration.epoch == broker.epoch;
        if !broker.up || broker.session == Session::Ok || !alive || broker.epoch == 0 {
            return None;
        }
        let mut state = *state;
        state.broker_mut(id).session = Session::Ok;
        Some(state)
    }

    /// The ensemble ends a session: the ephemeral node goes, and writes that it queued with it.
    pub(crate) fn expire(&self, state: &State, id: Id) -> Option<State> {
        let broker = state.broker(id);
        let silent = !broker.up || broker.session == Session::Lost;
        if !state.registration(id).listed || !silent {
            return None;
        }
        let mut state = *state;
        state.registration_mut(id).listed = false;
        if let Some(change) = &mut state.broker_mut(id).change {
            change.queued = false;
            change.unanswered = true;
        }
        if !state.broker(id).up {
            state.broker_mut(id).change = None;
        }
        Some(state)
    }

    /// R6: a new session of a process that never stopped. That is sound (R2).
    pub(crate) fn register_again(&self, state: &State, id: Id) -> Option<State> {
        let broker = state.broker(id);
        let old = *state.registration(id);
        let was_registered = broker.up && broker.epoch != 0 && broker.epoch == old.epoch;
        if !was_registered || old.listed || broker.session == Session::Ok {
            return None;
        }
        let mut state = *state;
        let pair = Pair { epoch: old.epoch + 1, incarnation: broker.incarnation, same_boot: true };
        *state.registration_mut(id) = Registration { epoch: pair.epoch, listed: true, ..old };
        let floor = self.floor(&state);
        let broker = state.broker_mut(id);
        broker.session = Session::Ok;
        broker.epoch = pair.epoch;
        broker.floor = floor;
        broker.files.attempted = pair;
        broker.files.registered = pair;
        Some(state)
    }
}
