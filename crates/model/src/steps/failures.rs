//! What breaks: processes, machines, disks.

use crate::Cluster;
use crate::state::{Files, Id, Log, Mail, State};
use crate::steps::controller::as_started;

impl Cluster {
    /// kill -9: the page cache survives.
    pub(crate) fn kill(&self, state: &State, id: Id) -> Option<State> {
        if !state.broker(id).up || state.observer.spent.kills == self.limits.kills {
            return None;
        }
        let mut state = *state;
        state.observer.spent.kills += 1;
        self.end_process(&mut state, id);
        Some(state)
    }

    /// A clean stop: everything synced, the session closed, the marker written (R2).
    pub(crate) fn stop(&self, state: &State, id: Id) -> Option<State> {
        if !state.connected(id) || state.observer.spent.stops == self.limits.stops {
            return None;
        }
        let mut state = *state;
        state.observer.spent.stops += 1;
        self.end_process(&mut state, id);
        state.registration_mut(id).listed = false;
        let broker = state.broker_mut(id);
        broker.change = None;
        broker.log.durable = broker.log.len();
        broker.files.marker = broker.files.registered;
        Some(state)
    }

    /// One machine loses power, running or not: what was not synced is gone.
    pub(crate) fn lose_power(&self, state: &State, id: Id) -> Option<State> {
        let broker = state.broker(id);
        let files = &broker.files;
        let off = !broker.up && !files.registered.same_boot && !files.attempted.same_boot;
        let idle = off && broker.log.durable == broker.log.len();
        if idle || state.observer.spent.power_losses == self.limits.power_losses {
            return None;
        }
        let mut state = *state;
        state.observer.spent.power_losses += 1;
        self.power_off(&mut state, id);
        Some(state)
    }

    /// All machines lose power at once.
    pub(crate) fn black_out(&self, state: &State) -> Option<State> {
        if state.observer.spent.blackouts == self.limits.blackouts {
            return None;
        }
        let mut state = *state;
        state.observer.spent.blackouts += 1;
        for id in 0..self.limits.brokers {
            self.power_off(&mut state, id);
        }
        Some(state)
    }

    /// The disk of a stopped broker is replaced by an empty one.
    pub(crate) fn wipe(&self, state: &State, id: Id) -> Option<State> {
        if state.broker(id).up || state.observer.spent.wipes == self.limits.wipes {
            return None;
        }
        let mut state = *state;
        state.observer.spent.wipes += 1;
        let broker = state.broker_mut(id);
        broker.log = Log::default();
        broker.files = Files::default();
        broker.high_watermark = 0;
        Some(state)
    }

    fn power_off(&self, state: &mut State, id: Id) {
        self.end_process(state, id);
        let broker = state.broker_mut(id);
        let durable = broker.log.durable;
        broker.log.truncate(durable);
        broker.high_watermark = broker.high_watermark.min(durable);
        for pair in [&mut broker.files.registered, &mut broker.files.attempted] {
            pair.same_boot = false;
        }
    }

    /// What the process knew is gone; what it had sent to the tree may still arrive.
    pub(crate) fn end_process(&self, state: &mut State, id: Id) {
        let broker = state.broker_mut(id);
        let change = broker.change.filter(|change| change.queued);
        let mut ended = as_started(broker);
        ended.change = change;
        if self.limits.checkpointed {
            ended.high_watermark = broker.high_watermark;
        }
        ended.log.synced = ended.log.durable;
        // A dead connection delivers no answer.
        for mail in &mut ended.mail {
            mail.take_if(|mail| matches!(mail, Mail::Fetched { .. }));
        }
        state.brokers[id as usize] = ended;
    }
}
