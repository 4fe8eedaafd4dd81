//! The names of the steps, and which of them a scenario has.

use stateright::Model;

use crate::Cluster;
use crate::state::{Flush, Id, State};

/// A step of the model; each has a function of its name in `steps`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// A leader appends a record with acks=all.
    Append(Id),
    /// A leader appends a record with acks=1.
    AppendWeakly(Id),
    /// A whole sync.
    Sync(Id),
    /// A sync begins.
    BeginSync(Id),
    /// The sync ends.
    EndSync(Id),
    /// A follower fetches and has its answer.
    Fetch(Id),
    /// A follower sends a fetch.
    SendFetch(Id),
    /// A leader takes what a follower sent.
    TakeFetch {
        /// Who answers.
        leader: Id,
        /// Whose fetch it is.
        from: Id,
    },
    /// A follower takes what a leader answered.
    TakeAnswer {
        /// Who asked.
        follower: Id,
        /// Whose answer it is.
        from: Id,
    },
    /// A follower truncates by epoch handshake.
    Truncate(Id),
    /// A broker reads the state node and applies it.
    Apply {
        /// Who reads.
        broker: Id,
        /// By how many versions the read lags.
        back: u8,
    },
    /// A leader sends a removal from the ISR.
    Shrink {
        /// Who sends it.
        leader: Id,
        /// Who is removed.
        member: Id,
    },
    /// A leader sends an addition to the ISR.
    Expand {
        /// Who sends it.
        leader: Id,
        /// Who is added.
        follower: Id,
    },
    /// The ensemble carries out, or refuses, what a leader sent.
    Land(Id),
    /// A leader will not hear what became of its change.
    LoseAnswer(Id),
    /// A leader takes an unanswered change for failed, against R19.
    AssumeFailure(Id),
    /// A leader in doubt sends another addition at the same version.
    WriteAgain {
        /// Who sends it.
        leader: Id,
        /// Who is added.
        follower: Id,
    },
    /// The controller elects.
    Elect(Id),
    /// The controller elects who lacks records, by the operator's leave.
    ElectUncleanly(Id),
    /// The controller removes from ISR or ELR.
    Remove(Id),
    /// The controller writes that nobody leads.
    Unseat,
    /// The controller changes the flush class.
    SetFlush(Flush),
    /// The controller changes the effective min.isr.
    SetMinIsr(u8),
    /// The topic is deleted and made again.
    Recreate {
        /// Who leads the new one.
        leader: Id,
    },
    /// The controller sends an election.
    QueueElection(Id),
    /// Another controller is elected.
    ChangeController,
    /// The ensemble carries out, or refuses, the election that was sent.
    LandElection,
    /// A process starts.
    Start(Id),
    /// A process writes and sends the registration that it attempts.
    Attempt(Id),
    /// The same after a read that lags.
    AttemptInVain(Id),
    /// The ensemble carries out, or refuses, a registration.
    LandRegistration(Id),
    /// R4: a broker's lease runs out.
    LoseSession(Id),
    /// A broker is connected again within its session.
    ResumeSession(Id),
    /// The ensemble ends a session.
    Expire(Id),
    /// A process whose session ended registers again.
    RegisterAgain(Id),
    /// kill -9.
    Kill(Id),
    /// A clean stop.
    Stop(Id),
    /// A machine loses power.
    LosePower(Id),
    /// All machines lose power at once.
    BlackOut,
    /// The disk of a stopped broker is replaced by an empty one.
    Wipe(Id),
}

impl Cluster {
    /// All steps that the scenario has; those that cannot be taken now are sorted out by taking
    /// them.
    pub(crate) fn steps(&self, actions: &mut Vec<Action>) {
        let limits = &self.limits;
        for id in 0..limits.brokers {
            actions.extend([Action::Append(id), Action::Truncate(id)]);
            if limits.weak_acks {
                actions.push(Action::AppendWeakly(id));
            }
            if limits.split_syncs {
                actions.extend([Action::BeginSync(id), Action::EndSync(id)]);
            } else if !limits.prompt_syncs {
                actions.push(Action::Sync(id));
            }
            match limits.delayed_fetches {
                true => actions.push(Action::SendFetch(id)),
                false => actions.push(Action::Fetch(id)),
            }
            actions.extend((0..=limits.lag).map(|back| Action::Apply { broker: id, back }));
            for other in (0..limits.brokers).filter(|other| *other != id) {
                if limits.delayed_fetches {
                    actions.push(Action::TakeFetch { leader: id, from: other });
                    actions.push(Action::TakeAnswer { follower: id, from: other });
                }
                if !limits.no_shrinks {
                    actions.push(Action::Shrink { leader: id, member: other });
                }
                actions.push(Action::Expand { leader: id, follower: other });
                if limits.unanswered > 0 {
                    actions.push(Action::WriteAgain { leader: id, follower: other });
                }
            }
            actions.push(Action::Land(id));
            if limits.unanswered > 0 {
                actions.extend([Action::LoseAnswer(id), Action::AssumeFailure(id)]);
            }
            actions.extend([Action::Elect(id), Action::Remove(id), Action::Expire(id)]);
            if limits.restarts {
                actions.push(Action::Start(id));
            }
            if limits.split_registration {
                actions.extend([Action::Attempt(id), Action::AttemptInVain(id)]);
                actions.push(Action::LandRegistration(id));
            }
            if limits.session_losses > 0 {
                actions.extend([
                    Action::LoseSession(id),
                    Action::ResumeSession(id),
                    Action::RegisterAgain(id),
                ]);
            }
            for (bound, action) in [
                (limits.kills, Action::Kill(id)),
                (limits.stops, Action::Stop(id)),
                (limits.power_losses, Action::LosePower(id)),
                (limits.wipes, Action::Wipe(id)),
                (limits.recreations, Action::Recreate { leader: id }),
                (limits.controller_changes as u8, Action::QueueElection(id)),
                (limits.unclean as u8, Action::ElectUncleanly(id)),
            ] {
                if bound > 0 {
                    actions.push(action);
                }
            }
        }
        if limits.flush_changes {
            actions.extend([Flush::Os, Flush::Syncing, Flush::Acked].map(Action::SetFlush));
        }
        if limits.min_isr_changes {
            actions.extend([Action::Unseat, Action::SetMinIsr(1), Action::SetMinIsr(2)]);
        }
        if limits.controller_changes {
            actions.extend([Action::ChangeController, Action::LandElection]);
        }
        if limits.blackouts > 0 {
            actions.push(Action::BlackOut);
        }
    }

    /// Takes a step, where it can be taken.
    pub(crate) fn step(&self, state: &State, action: Action) -> Option<State> {
        match action {
            Action::Append(id) => self.append(state, id),
            Action::AppendWeakly(id) => self.append_weakly(state, id),
            Action::Sync(id) => self.sync(state, id),
            Action::BeginSync(id) => self.begin_sync(state, id),
            Action::EndSync(id) => self.end_sync(state, id),
            Action::Fetch(id) => self.fetch(state, id),
            Action::SendFetch(id) => self.send_fetch(state, id),
            Action::TakeFetch { leader, from } => self.take_sent_fetch(state, leader, from),
            Action::TakeAnswer { follower, from } => self.take_sent_answer(state, follower, from),
            Action::Truncate(id) => self.truncate(state, id),
            Action::Apply { broker, back } => self.apply(state, broker, back),
            Action::Shrink { leader, member } => self.shrink(state, leader, member),
            Action::Expand { leader, follower } => self.expand(state, leader, follower),
            Action::Land(id) => self.land(state, id),
            Action::LoseAnswer(id) => self.lose_answer(state, id),
            Action::AssumeFailure(id) => self.assume_failure(state, id),
            Action::WriteAgain { leader, follower } => self.write_again(state, leader, follower),
            Action::Elect(id) => self.elect(state, id),
            Action::ElectUncleanly(id) => self.elect_uncleanly(state, id),
            Action::Remove(id) => self.remove(state, id),
            Action::Unseat => self.unseat(state),
            Action::SetFlush(flush) => self.set_flush(state, flush),
            Action::SetMinIsr(min_isr) => self.set_min_isr(state, min_isr),
            Action::Recreate { leader } => self.recreate(state, leader),
            Action::QueueElection(id) => self.queue_election(state, id),
            Action::ChangeController => self.change_controller(state),
            Action::LandElection => self.land_election(state),
            Action::Start(id) => self.start(state, id),
            Action::Attempt(id) => self.attempt(state, id),
            Action::AttemptInVain(id) => self.attempt_in_vain(state, id),
            Action::LandRegistration(id) => self.land_registration(state, id),
            Action::LoseSession(id) => self.lose_session(state, id),
            Action::ResumeSession(id) => self.resume_session(state, id),
            Action::Expire(id) => self.expire(state, id),
            Action::RegisterAgain(id) => self.register_again(state, id),
            Action::Kill(id) => self.kill(state, id),
            Action::Stop(id) => self.stop(state, id),
            Action::LosePower(id) => self.lose_power(state, id),
            Action::BlackOut => self.black_out(state),
            Action::Wipe(id) => self.wipe(state, id),
        }
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start_state()]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        self.steps(actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.step(state, action)
    }

    fn properties(&self) -> Vec<stateright::Property<Self>> {
        self.invariants()
    }
}
