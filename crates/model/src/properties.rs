//! The invariants, by the numbers that the design gives them.

use stateright::Property;

use crate::Cluster;
use crate::state::{BROKERS, Breach, Broker, Flush, Id, State, WhileLost};
use crate::steps::is_sound;

impl Cluster {
    /// What must hold in every state, and what a scenario must have seen.
    pub(crate) fn invariants(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("I1 old controllers write nothing", |_, state: &State| {
                !state.observer.saw(Breach::OldController)
            }),
            Property::always("I2 an epoch has one appender, and grows", |_, state: &State| {
                !state.observer.saw(Breach::SharedEpoch) && !state.observer.saw(Breach::EpochFell)
            }),
            Property::always("I3 LogMatching", Self::log_matching),
            Property::always("I4 StrongIsr", Self::strong_isr),
            Property::always("I5 LeaderCandidateCompleteness", Self::candidates_complete),
            Property::always("I6 LeaderCompleteness", Self::leader_complete),
            Property::always(
                "R5(c) a leader without a session confirms what stays",
                |model: &Self, state| {
                    model.newest_leader(state).is_none_or(|leader| {
                        let held = state.broker(leader).log;
                        state
                            .observer
                            .confirmed_while_lost()
                            .all(|(offset, record)| held.get(offset) == Some(record))
                    })
                },
            ),
            Property::always("I7 ReplicationQuorumSuperset", Self::quorum_superset),
            Property::always("I8 Exclusion", |_, state: &State| {
                !state.observer.saw(Breach::UnsoundLeads)
                    && !state.observer.saw(Breach::UnsoundListed)
            }),
            Property::always("I9 what was read does not change", Self::reads_repeat),
            Property::always("I10 acks=all tells the truth", |_, state: &State| {
                !state.observer.saw(Breach::FalseAck)
            }),
            Property::always("I17 leader in ISR, ISR and ELR disjoint", Self::well_formed),
            Property::always(
                "I18 without a session no write and no weak ack",
                |_, state: &State| {
                    !state.observer.saw(Breach::LostWrote) && !state.observer.saw(Breach::LostAcked)
                },
            ),
            Property::always(
                "R5 under fence nothing is confirmed without a session",
                |model: &Self, s: &State| {
                    !model.limits.fence || s.observer.while_lost == WhileLost::Nothing
                },
            ),
            Property::always("followers can follow", |_, state: &State| {
                !state.observer.saw(Breach::Stuck)
            }),
            Property::always("intact replicas can be elected", Self::stays_electable),
        ];
        let kept: &[&str] = match self.invariants {
            Invariants::All => &[""],
            Invariants::Promises => &["I6 ", "I9 ", "I10 "],
            Invariants::WithoutSession => &["R5(c) "],
        };
        properties.retain(|property| kept.iter().any(|name| property.name.starts_with(name)));
        properties
            .extend(self.limits.seen.iter().map(|seen| Property::sometimes(seen.name, seen.holds)));
        properties
    }

    /// I3: at equal offset and epoch lie equal records.
    fn log_matching(&self, state: &State) -> bool {
        let logs = state.brokers.map(|broker| (broker.topic, broker.log));
        logs.iter().enumerate().all(|(nth, (topic, log))| {
            logs[..nth].iter().filter(|(other, _)| other == topic).all(|(_, other)| {
                let pairs = log.records().iter().zip(other.records());
                pairs.clone().all(|(a, b)| a.epoch != b.epoch || a.value == b.value)
            })
        })
    }

    /// I4: members of the stored ISR hold what any presumed leader has confirmed.
    fn strong_isr(&self, state: &State) -> bool {
        let node = &state.tree.node;
        let current = |leader: &Broker| {
            leader.topic == node.topic && leader.applied.leader_epoch >= node.unclean_epoch
        };
        self.ids().filter(|id| self.leads(state, *id)).all(|leader| {
            let leader = state.broker(leader);
            let confirmed = leader.high_watermark as usize;
            !current(leader)
                || node.isr.ids().filter(|id| self.counts(state, *id)).all(|member| {
                    let held = state.broker(member).log;
                    held.records().get(..confirmed) == leader.log.records().get(..confirmed)
                })
        })
    }

    /// I5: running members of ISR and ELR hold all that was confirmed.
    fn candidates_complete(&self, state: &State) -> bool {
        let candidates = state.tree.node.isr.or(state.tree.node.elr);
        candidates.ids().filter(|id| self.counts(state, *id)).all(|id| holds_all(state, id))
    }

    /// I6: who leads by the tree's newest word holds all that was confirmed.
    fn leader_complete(&self, state: &State) -> bool {
        self.newest_leader(state).is_none_or(|id| holds_all(state, id))
    }

    /// Who leads by the tree's newest word, and knows it.
    fn newest_leader(&self, state: &State) -> Option<Id> {
        let node = &state.tree.node;
        self.ids().find(|id| {
            let broker = state.broker(*id);
            node.leader == *id
                && self.leads(state, *id)
                && broker.topic == node.topic
                && broker.applied.leader_epoch == node.leader_epoch
        })
    }

    /// I7: the newest leader counts everybody that the tree would elect.
    fn quorum_superset(&self, state: &State) -> bool {
        let node = &state.tree.node;
        self.newest_leader(state).is_none_or(|leader| {
            let leader = state.broker(leader);
            let counted = self.maximal_isr(leader);
            let enough = leader.applied.isr.len() >= node.min_isr;
            node.isr.minus(counted).is_empty() && (!enough || node.elr.minus(counted).is_empty())
        })
    }

    /// I9: below a broker's high watermark lies what was confirmed.
    fn reads_repeat(&self, state: &State) -> bool {
        let node = &state.tree.node;
        let repeats = |broker: &Broker| {
            let shown = &broker.log.records()[..broker.high_watermark as usize];
            shown.iter().zip(&state.observer.committed).all(|(shown, known)| shown == known)
        };
        let current = |broker: &&Broker| {
            broker.up
                && broker.topic == node.topic
                && broker.applied.leader_epoch >= node.unclean_epoch
                && (broker.in_step || node.unclean_epoch == 0)
        };
        !state.observer.saw(Breach::Rewritten) && state.brokers.iter().filter(current).all(repeats)
    }

    /// I17.
    fn well_formed(&self, state: &State) -> bool {
        let node = &state.tree.node;
        let led = (node.leader as usize) >= BROKERS || node.isr.has(node.leader);
        led && !node.isr.is_empty() && node.isr.ids().all(|id| !node.elr.has(id))
    }

    /// Where nothing was lost, every registered member of the ISR can be elected: after kill -9 of
    /// all, and under acked after a power loss of all.
    fn stays_electable(&self, state: &State) -> bool {
        let node = &state.tree.node;
        let spent = &state.observer.spent;
        let survives = self.limits.flush == Flush::Acked && !self.limits.flush_changes;
        if spent.wipes > 0 || !survives && spent.power_losses + spent.blackouts > 0 {
            return !state.observer.saw(Breach::Disowned);
        }
        let members = node.isr.ids().filter(|id| state.registration(*id).listed);
        members
            .map(|id| (node.isr.0[id as usize], state.registration(id)))
            .all(|(listed, registration)| is_sound(listed, registration, node.flush))
    }

    /// Whether the broker runs, and its listing is worth something.
    fn counts(&self, state: &State, id: Id) -> bool {
        let node = &state.tree.node;
        let broker = state.broker(id);
        let listed = node.isr.or(node.elr).0[id as usize];
        let registration = state.registration(id);
        broker.up
            && broker.epoch == registration.epoch
            && broker.topic == node.topic
            && listed >= registration.sound_since(node.flush)
    }

    fn ids(&self) -> impl Iterator<Item = Id> {
        0..self.limits.brokers
    }
}

fn holds_all(state: &State, id: Id) -> bool {
    let confirmed = state.observer.committed_len() as usize;
    let held = state.broker(id).log;
    held.records().get(..confirmed) == Some(&state.observer.committed[..confirmed])
}

/// Which invariants are checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Invariants {
    /// Every one.
    All,
    /// Only what a client can notice: a counter-example is a loss, not merely the way to one.
    Promises,
    /// Only R5(c): a counter-example loses what a leader without a session had confirmed.
    WithoutSession,
}
