//! Brokers at rest, crowds of partitions and of connections, and hours of work.

use std::time::Duration;

use super::{
    Against, Bound, CPU, ONE_OF_EACH, P99, Part, RESIDENT, SPEED, Scenario, at_most_kafka, goal,
};
use crate::load::crowd::Crowd;
use crate::load::idle::{Idle, State};
use crate::load::produce::Produce;
use crate::load::soak::Soak;
use crate::load::storm::Storm;
use crate::subject::Kind;

const CPU_PERCENT: (&str, &str) = ("cpu_percent", "CPU %");
const ANONYMOUS: (&str, &str) = ("anonymous_mb", "of it not files, MB");

/// 8: the same bytes over more and more partitions, and partitions from nothing.
pub(super) fn partitions() -> Scenario {
    /// Batches of 16 KiB however many partitions there are: they wait until they are full.
    const EQUAL_BATCHES: &[&str] = &[
        "linger.ms=5000",
        "batch.size=16384",
        "queue.buffering.max.messages=1000000",
        "queue.buffering.max.kbytes=1000000",
        "sticky.partitioning.linger.ms=0",
    ];
    let same_bytes = |name, partitions, times| Part {
        name,
        kinds: ONE_OF_EACH,
        load: Box::new(Produce {
            bytes: 600_000_000,
            partitions,
            settings: EQUAL_BATCHES,
            ..Produce::default()
        }),
        settings: &[],
        twice: false,
        shown: &[CPU, SPEED, super::BATCH, RESIDENT],
        goals: vec![goal(CPU.0, Bound::MostTimes(times, Against::Part("8", "CPU, 1 partition")))],
    };
    let crowd = |name, partitions, goals| Part {
        name,
        kinds: ONE_OF_EACH,
        load: Box::new(Crowd { partitions }),
        settings: &[],
        twice: false,
        shown: &[
            ("create_s", "create s"),
            RESIDENT,
            ANONYMOUS,
            ("descriptors", "descriptors"),
            ("stop_s", "stop s"),
            ("restart_s", "first ack s"),
            ("restart_killed_s", "after kill -9 s"),
        ],
        goals,
    };
    Scenario {
        number: "8",
        title: "1,000 and 10,000 partitions",
        parts: vec![
            same_bytes("CPU, 1 partition", 1, 1.0),
            same_bytes("CPU, 1,000 partitions", 1000, 1.3),
            same_bytes("CPU, 10,000 partitions", 10_000, 2.0),
            crowd("1,000 from nothing", 1000, vec![at_most_kafka(RESIDENT.0, 0.1)]),
            crowd(
                "10,000 from nothing",
                10_000,
                vec![
                    goal("create_s", Bound::Most(5.0)),
                    goal(RESIDENT.0, Bound::Most(100.0)),
                    goal("restart_s", Bound::Most(1.0)),
                    goal("descriptors", Bound::Most(20_000.0)),
                    at_most_kafka(RESIDENT.0, 0.1),
                ],
            ),
        ],
    }
}

fn idle(name: &'static str, state: State, lasts_s: u64) -> Part {
    Part {
        name,
        kinds: ONE_OF_EACH,
        load: Box::new(Idle { state, lasts_s }),
        settings: &[],
        twice: false,
        shown: &[CPU_PERCENT, RESIDENT, ANONYMOUS, ("us_per_poll", "CPU us/poll")],
        goals: Vec::new(),
    }
}

/// 16: what doing nothing costs.
pub(super) fn idle_cpu() -> Scenario {
    /// What ticks of 10 ms can tell from nothing in the time that is measured.
    const NOTHING: f64 = 0.05;
    let part = |name, state, most| Part {
        goals: vec![goal(CPU_PERCENT.0, Bound::Most(most)), at_most_kafka(CPU_PERCENT.0, 0.1)],
        ..idle(name, state, 20)
    };
    // So long that none ends meanwhile, and as long as clients wait unless they are told otherwise.
    let polls = |wait| State::LongPolls(1000, wait);
    Scenario {
        number: "16",
        title: "idle CPU, in per cent of a core",
        parts: vec![
            part("empty", State::Empty, NOTHING),
            part("2,200 partitions", State::Partitions(2200), NOTHING),
            part("1,000 long polls of 60 s", polls(Duration::from_secs(60)), 0.5),
            part("1,000 long polls of 0.5 s", polls(Duration::from_millis(500)), 0.5),
        ],
    }
}

/// 17: memory.
pub(super) fn memory() -> Scenario {
    let part = |name, state, most| Part {
        goals: vec![goal(RESIDENT.0, Bound::Most(most)), at_most_kafka(RESIDENT.0, 0.05)],
        ..idle(name, state, 2)
    };
    let connected = part("10,000 idle connections", State::Connections(10_000), 200.0);
    Scenario {
        number: "17",
        title: "resident memory",
        parts: vec![
            part("idle", State::Empty, 15.0),
            part("after 10 GB", State::Written(10_000_000_000), 64.0),
            Part {
                shown: &[RESIDENT, ANONYMOUS, ("kib_per_connection", "KiB/connection")],
                goals: [connected.goals, vec![goal("kib_per_connection", Bound::Most(16.0))]]
                    .concat(),
                ..connected
            },
        ],
    }
}

/// 20: everybody connects at once.
pub(super) fn connection_storm() -> Scenario {
    const CONNECT: (&str, &str) = ("connect_ms", "ms each");
    const UNDISTURBED: (&str, &str) = ("undisturbed_p99_ms", "undisturbed p99 ms");
    let part = Part {
        name: "1,000 connections",
        kinds: ONE_OF_EACH,
        load: Box::new(Storm { connections: 1000 }),
        settings: &[],
        twice: false,
        shown: &[CONNECT, ("us_per_connection", "CPU us each"), P99, UNDISTURBED],
        goals: vec![
            goal(CONNECT.0, Bound::Most(0.5)),
            goal(P99.0, Bound::MostTimes(1.5, Against::Figure(Kind::Klamm, UNDISTURBED.0))),
            at_most_kafka(CONNECT.0, 0.3),
        ],
    };
    Scenario {
        number: "20",
        title: "connect, ApiVersions and Metadata a thousand times, beside a calm producer",
        parts: vec![part],
    }
}

/// 21: hours; the length is an argument and is shown.
pub(super) fn soak() -> Scenario {
    const FIRST_P99: (&str, &str) = ("first_p99_ms", "p99 ms, first tenth");
    const FIRST_MEMORY: (&str, &str) = ("first_anonymous_mb", "memory after a tenth, MB");
    let part = Part {
        name: "20 MB/s with retention",
        kinds: &[Kind::Klamm],
        load: Box::new(Soak { rate: 2000 }),
        settings: &[("both", "log.retention.check.interval.ms", "10000")],
        twice: false,
        shown: &[
            P99,
            FIRST_P99,
            ANONYMOUS,
            FIRST_MEMORY,
            ("disk_used", "share of the disk taken"),
            ("soak_s", "seconds"),
        ],
        goals: vec![
            goal(P99.0, Bound::MostTimes(1.1, Against::Figure(Kind::Klamm, FIRST_P99.0))),
            goal(ANONYMOUS.0, Bound::MostTimes(1.1, Against::Figure(Kind::Klamm, FIRST_MEMORY.0))),
        ],
    };
    Scenario {
        number: "21",
        title: "soak, 10 KiB records, retention deleting segments",
        parts: vec![part],
    }
}
