//! What scenarios have to reach, so that their bounds mean something.

use crate::Cluster;
use crate::state::{BROKERS, Flush, NOBODY, State, WhileLost};

/// Something that a scenario has to reach, or its bounds are too small to mean anything.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// What it is.
    pub name: &'static str,
    /// Whether a state has it.
    pub holds: fn(&Cluster, &State) -> bool,
}

pub(crate) const SECOND_LEADER: Seen = Seen {
    name: "a second leader confirms a record of its own epoch",
    holds: |_, state| state.observer.committed.iter().any(|record| record.epoch > 1),
};

pub(crate) const CONFIRMED_WHILE_LOST: Seen = Seen {
    name: "a leader without a session confirms a record after another was elected",
    holds: |_, state| state.observer.while_lost == WhileLost::ConfirmedReplaced,
};

pub(crate) const STALE_LEADER: Seen = Seen {
    name: "two processes take themselves for the leader",
    holds: |model, state| (0..BROKERS as u8).filter(|id| model.leads(state, *id)).count() > 1,
};

pub(crate) const LED_AGAIN: Seen = Seen {
    name: "after a power loss of all a new epoch's record is confirmed on top of an old one",
    holds: |_, state| {
        let known = state.observer.committed;
        state.observer.spent.blackouts > 0 && known[0].epoch == 1 && known[1].epoch > 1
    },
};

pub(crate) const UNSOUND: Seen = Seen {
    name: "a broker comes back after an unsound restart and is in the ISR again",
    holds: |_, state| {
        let node = &state.tree.node;
        node.isr.ids().any(|id| {
            let since = state.registration(id).sound_since(node.flush);
            since > 1 && node.isr.0[id as usize] >= since
        })
    },
};

pub(crate) const ELECTED_FROM_ELR: Seen = Seen {
    name: "an ELR member leads",
    holds: |_, state| {
        let node = &state.tree.node;
        let before = &state.tree.past[0];
        node.leader != NOBODY && before.topic != 0 && before.elr.has(node.leader)
    },
};

pub(crate) const CLASS_ACKED: Seen = Seen {
    name: "the flush class has become acked",
    holds: |_, state| state.tree.node.flush == Flush::Acked,
};

pub(crate) const CLASS_OS_AGAIN: Seen = Seen {
    name: "the flush class has become os again",
    holds: |_, state| state.tree.node.flush == Flush::Os && state.tree.node.leader_epoch > 2,
};

pub(crate) const UNCLEANLY_LED: Seen = Seen {
    name: "a leader after an unclean election confirms a record of its own",
    holds: |_, state| {
        let unclean = state.tree.node.unclean_epoch;
        unclean > 0 && state.observer.committed.iter().any(|record| record.epoch >= unclean)
    },
};

pub(crate) const LOWERED: Seen = Seen {
    name: "min.isr is lowered",
    holds: |model, state| state.tree.node.min_isr < model.limits.min_isr,
};

pub(crate) const RECREATED: Seen = Seen {
    name: "a record of the recreated topic is confirmed",
    holds: |_, state| state.tree.node.topic > 1 && state.observer.committed_len() > 0,
};

pub(crate) const UNANSWERED: Seen = Seen {
    name: "an unanswered change was carried out",
    holds: |_, state| {
        let node = &state.tree.node;
        state.brokers.iter().filter_map(|broker| broker.change).any(|change| {
            change.unanswered && node.version > change.version && node.isr == change.target
        })
    },
};
