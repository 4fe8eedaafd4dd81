//! Focused configurations: each has the steps and bounds that some rules need.
//!
//! One configuration with everything would be too large to exhaust; a rule is exercised by few
//! kinds of steps, and those are all in one scenario at least.

use crate::limits::Limits;
use crate::seen::{
    CLASS_ACKED, CLASS_OS_AGAIN, CONFIRMED_WHILE_LOST, ELECTED_FROM_ELR, LED_AGAIN, LOWERED,
    RECREATED, SECOND_LEADER, STALE_LEADER, UNANSWERED, UNCLEANLY_LED, UNSOUND,
};
use crate::state::Flush;

/// A focused configuration.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// How it is asked for.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// The bounds of every run of the tests.
    pub small: Limits,
    /// The bounds of `cargo xtask model`.
    pub large: Limits,
}

impl Scenario {
    /// The scenario of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }
}

/// Nothing happens but ISR changes and elections.
const CALM: Limits = Limits {
    brokers: 3,
    min_isr: 1,
    flush: Flush::Acked,
    preloaded: 0,
    records: 1,
    epochs: 2,
    versions: 3,
    lag: 0,
    weak_acks: false,
    prompt_syncs: true,
    split_syncs: false,
    delayed_fetches: false,
    fence: false,
    unanswered: 0,
    session_losses: 0,
    restarts: false,
    checkpointed: false,
    split_registration: false,
    kills: 0,
    stops: 0,
    power_losses: 0,
    blackouts: 0,
    wipes: 0,
    no_shrinks: false,
    unclean: false,
    flush_changes: false,
    min_isr_changes: false,
    controller_changes: false,
    recreations: 0,
    seen: &[SECOND_LEADER],
};

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "elections",
        about: "elections and ISR changes while readers lag",
        small: Limits { epochs: 3, versions: 4, lag: 1, ..CALM },
        large: Limits { records: 1, epochs: 4, versions: 5, lag: 1, ..CALM },
    },
    Scenario {
        name: "divergence",
        about: "two records, so that logs can part",
        small: Limits { records: 2, versions: 4, ..CALM },
        large: Limits { records: 2, epochs: 3, versions: 5, ..CALM },
    },
    Scenario {
        name: "fencing",
        about: "logs part, readers lag, and the same broker leads twice",
        small: Limits { records: 2, epochs: 3, versions: 4, lag: 1, ..CALM },
        large: Limits { records: 2, epochs: 3, versions: 4, lag: 2, ..CALM },
    },
    Scenario {
        name: "sessions",
        about: "R5: sessions are lost, expire and begin again, leaders go on",
        small: Limits {
            session_losses: 1,
            weak_acks: true,
            lag: 1,
            seen: &[CONFIRMED_WHILE_LOST, STALE_LEADER, SECOND_LEADER],
            ..CALM
        },
        large: Limits {
            records: 2,
            epochs: 3,
            versions: 4,
            session_losses: 1,
            seen: &[CONFIRMED_WHILE_LOST, STALE_LEADER, SECOND_LEADER],
            ..CALM
        },
    },
    Scenario {
        name: "fenced",
        about: "R5: policy fence",
        small: Limits { session_losses: 1, fence: true, ..CALM },
        large: Limits { records: 2, session_losses: 1, fence: true, ..CALM },
    },
    Scenario {
        name: "restarts",
        about: "kill -9 and restart, sessions lost besides",
        small: Limits { epochs: 3, lag: 1, kills: 1, restarts: true, no_shrinks: true, ..CALM },
        large: Limits {
            epochs: 3,
            lag: 1,
            kills: 1,
            restarts: true,
            checkpointed: true,
            session_losses: 1,
            seen: &[SECOND_LEADER, CONFIRMED_WHILE_LOST, STALE_LEADER],
            ..CALM
        },
    },
    Scenario {
        name: "blackout",
        about: "power loss of all brokers at once under acked",
        small: Limits {
            brokers: 2,
            records: 2,
            epochs: 3,
            prompt_syncs: false,
            lag: 1,
            blackouts: 1,
            restarts: true,
            seen: &[LED_AGAIN],
            ..CALM
        },
        large: Limits {
            records: 2,
            epochs: 3,
            prompt_syncs: false,
            blackouts: 1,
            restarts: true,
            checkpointed: true,
            seen: &[LED_AGAIN],
            ..CALM
        },
    },
    Scenario {
        name: "power",
        about: "KIP-966: page caches are lost under os, fewer than min.isr of them",
        small: Limits {
            brokers: 2,
            min_isr: 2,
            flush: Flush::Os,
            epochs: 3,
            versions: 5,
            prompt_syncs: false,
            lag: 1,
            power_losses: 1,
            restarts: true,
            seen: &[UNSOUND],
            ..CALM
        },
        large: Limits {
            min_isr: 2,
            flush: Flush::Os,
            epochs: 3,
            versions: 4,
            prompt_syncs: false,
            power_losses: 1,
            restarts: true,
            checkpointed: true,
            seen: &[UNSOUND],
            ..CALM
        },
    },
    Scenario {
        name: "wiped",
        about: "KIP-903: a broker comes back with an empty disk before its session expires",
        small: Limits {
            brokers: 2,
            min_isr: 2,
            epochs: 3,
            versions: 5,
            lag: 1,
            kills: 1,
            wipes: 1,
            restarts: true,
            seen: &[UNSOUND],
            ..CALM
        },
        large: Limits {
            min_isr: 2,
            epochs: 3,
            versions: 4,
            kills: 1,
            wipes: 1,
            restarts: true,
            checkpointed: true,
            seen: &[UNSOUND],
            ..CALM
        },
    },
    Scenario {
        name: "registration",
        about: "R2: processes die between attempting and registering, power is lost before",
        small: Limits {
            brokers: 2,
            min_isr: 2,
            flush: Flush::Os,
            prompt_syncs: false,
            kills: 1,
            stops: 1,
            power_losses: 1,
            restarts: true,
            split_registration: true,
            no_shrinks: true,
            seen: &[],
            ..CALM
        },
        large: Limits {
            brokers: 2,
            min_isr: 2,
            flush: Flush::Os,
            versions: 4,
            prompt_syncs: false,
            kills: 1,
            stops: 1,
            power_losses: 1,
            restarts: true,
            split_registration: true,
            seen: &[UNSOUND],
            ..CALM
        },
    },
    Scenario {
        name: "attempts",
        about: "R2: a registration lands after its process died and the disk was wiped",
        small: Limits {
            brokers: 2,
            min_isr: 2,
            preloaded: 1,
            records: 0,
            epochs: 2,
            versions: 2,
            kills: 3,
            wipes: 1,
            restarts: true,
            split_registration: true,
            no_shrinks: true,
            seen: &[],
            ..CALM
        },
        large: Limits {
            brokers: 2,
            min_isr: 2,
            preloaded: 1,
            records: 0,
            epochs: 3,
            versions: 4,
            kills: 4,
            wipes: 1,
            restarts: true,
            split_registration: true,
            seen: &[],
            ..CALM
        },
    },
    Scenario {
        name: "elr",
        about: "fewer than min.isr: R21 freezes, R22 keeps the ELR",
        small: Limits {
            min_isr: 2,
            versions: 4,
            lag: 1,
            kills: 1,
            seen: &[ELECTED_FROM_ELR],
            ..CALM
        },
        large: Limits {
            min_isr: 2,
            epochs: 3,
            versions: 5,
            kills: 1,
            restarts: true,
            checkpointed: true,
            seen: &[],
            ..CALM
        },
    },
    Scenario {
        name: "min-isr",
        about: "R22: min.isr changes",
        small: Limits {
            brokers: 2,
            min_isr: 2,
            versions: 6,
            kills: 1,
            lag: 1,
            min_isr_changes: true,
            seen: &[LOWERED, ELECTED_FROM_ELR],
            ..CALM
        },
        large: Limits {
            min_isr: 2,
            versions: 5,
            kills: 1,
            min_isr_changes: true,
            seen: &[LOWERED],
            ..CALM
        },
    },
    Scenario {
        name: "flush",
        about: "R18c: the flush class changes, power is lost",
        small: Limits {
            brokers: 2,
            flush: Flush::Os,
            epochs: 4,
            versions: 6,
            prompt_syncs: false,
            power_losses: 1,
            restarts: true,
            flush_changes: true,
            seen: &[CLASS_ACKED, CLASS_OS_AGAIN],
            ..CALM
        },
        large: Limits {
            brokers: 2,
            min_isr: 2,
            flush: Flush::Os,
            epochs: 5,
            versions: 6,
            prompt_syncs: false,
            power_losses: 1,
            restarts: true,
            lag: 1,
            flush_changes: true,
            seen: &[CLASS_ACKED, CLASS_OS_AGAIN],
            ..CALM
        },
    },
    Scenario {
        name: "unclean",
        about: "R12, R16: the operator lets a survivor lead that lacks confirmed records",
        small: Limits {
            brokers: 2,
            records: 2,
            epochs: 3,
            versions: 5,
            session_losses: 1,
            unclean: true,
            seen: &[UNCLEANLY_LED],
            ..CALM
        },
        large: Limits {
            brokers: 2,
            records: 2,
            epochs: 3,
            versions: 5,
            session_losses: 1,
            kills: 1,
            restarts: true,
            checkpointed: true,
            unclean: true,
            seen: &[UNCLEANLY_LED],
            ..CALM
        },
    },
    Scenario {
        name: "unanswered",
        about: "R19: ISR changes whose answer is lost",
        small: Limits { versions: 4, unanswered: 1, lag: 1, seen: &[UNANSWERED], ..CALM },
        large: Limits {
            epochs: 3,
            versions: 4,
            unanswered: 1,
            session_losses: 1,
            seen: &[UNANSWERED],
            ..CALM
        },
    },
    Scenario {
        name: "answers",
        about: "R19: a leader in doubt writes again and is refused",
        small: Limits {
            epochs: 1,
            versions: 4,
            unanswered: 1,
            session_losses: 1,
            seen: &[UNANSWERED],
            ..CALM
        },
        large: Limits {
            epochs: 2,
            versions: 5,
            unanswered: 1,
            session_losses: 1,
            seen: &[UNANSWERED],
            ..CALM
        },
    },
    Scenario {
        name: "controllers",
        about: "R8, R12: an election is in flight while controllers and registrations change",
        small: Limits {
            brokers: 2,
            flush: Flush::Os,
            epochs: 3,
            prompt_syncs: false,
            power_losses: 1,
            restarts: true,
            min_isr: 2,
            versions: 3,
            controller_changes: true,
            ..CALM
        },
        large: Limits {
            flush: Flush::Os,
            min_isr: 2,
            epochs: 3,
            power_losses: 1,
            restarts: true,
            controller_changes: true,
            ..CALM
        },
    },
    Scenario {
        name: "recreated",
        about: "R26: the topic is deleted and made again",
        small: Limits { records: 2, versions: 2, recreations: 1, seen: &[RECREATED], ..CALM },
        large: Limits {
            records: 2,
            versions: 2,
            recreations: 1,
            kills: 1,
            restarts: true,
            checkpointed: true,
            seen: &[RECREATED],
            ..CALM
        },
    },
    Scenario {
        name: "syncs",
        about: "R18b: syncs that take time, truncations between, power loss of all",
        small: Limits {
            brokers: 2,
            records: 2,
            epochs: 3,
            prompt_syncs: false,
            split_syncs: true,
            lag: 1,
            blackouts: 1,
            restarts: true,
            ..CALM
        },
        large: Limits {
            brokers: 2,
            records: 2,
            epochs: 4,
            versions: 4,
            prompt_syncs: false,
            split_syncs: true,
            lag: 1,
            blackouts: 1,
            restarts: true,
            checkpointed: true,
            ..CALM
        },
    },
    Scenario {
        name: "delayed",
        about: "R14, R17: fetches and answers that arrive late",
        small: Limits { delayed_fetches: true, ..CALM },
        large: Limits { delayed_fetches: true, kills: 1, restarts: true, no_shrinks: true, ..CALM },
    },
];
