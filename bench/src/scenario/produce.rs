//! Producing at full speed.

use super::{
    Against, BATCH, Bound, CPU, P99, PER_REQUEST, PRODUCED_TO, Part, RECORDS, RESIDENT,
    ROUND_TRIP_P50, ROUND_TRIP_P99, SPEED, Scenario, at_least_kafka, at_most_floor, at_most_kafka,
    goal,
};
use crate::load::java::JavaProduce;
use crate::load::produce::{LARGE_BATCHES, Limit, Produce};
use crate::subject::Kind;

/// Small batches in many partitions, as real fleets send them: no batch waits for a larger one.
pub(super) const BATCHES_OF_16_KIB: &[&str] = &[
    "linger.ms=5",
    "batch.size=16384",
    "queue.buffering.max.messages=100000",
    "sticky.partitioning.linger.ms=0",
];

/// A request for every record.
const SINGLE_RECORDS: &[&str] = &[
    "linger.ms=0",
    "batch.num.messages=1",
    "queue.buffering.max.messages=100000",
    "sticky.partitioning.linger.ms=0",
];

/// As the large ones, with sequences.
const IDEMPOTENT: &[&str] = &[
    "linger.ms=5",
    "batch.size=1000000",
    "queue.buffering.max.messages=500000",
    "sticky.partitioning.linger.ms=0",
    "enable.idempotence=true",
];

const WITHOUT_NISSHI: &[Kind] = &[Kind::Floor, Kind::Klamm, Kind::KlammAcked, Kind::Kafka];
const SHOWN: &[(&str, &str)] = &[CPU, SPEED, BATCH, RESIDENT];

/// 1: the usual measure of a broker.
pub(super) fn large_batches() -> Scenario {
    let part = |name, partitions| Part {
        name,
        kinds: PRODUCED_TO,
        load: Box::new(Produce { partitions, ..Produce::default() }),
        settings: &[],
        twice: true,
        shown: SHOWN,
        goals: vec![at_most_floor(CPU.0, 1.25), at_most_kafka(CPU.0, 0.5)],
    };
    Scenario {
        number: "1",
        title: "produce 1 KiB, no compression, acks=1, batches of at least 64 KiB",
        parts: vec![part("1 partition", 1), part("16 partitions", 16)],
    }
}

/// 2: whether the broker or the client is the limit; the floor is a broker that discards.
pub(super) fn one_client() -> Scenario {
    let part = Part {
        name: "one librdkafka producer",
        kinds: WITHOUT_NISSHI,
        load: Box::new(Produce { limit: Limit::Discard, ..Produce::default() }),
        settings: &[],
        twice: true,
        shown: &[SPEED, CPU],
        goals: vec![
            goal(SPEED.0, Bound::LeastTimes(0.9, Against::Same(Kind::Floor))),
            at_least_kafka(SPEED.0, 1.5),
        ],
    };
    Scenario {
        number: "2",
        title: "produce 1 KiB: speed of one client (floor: a broker that discards)",
        parts: vec![part],
    }
}

/// 3: many small records in large batches.
pub(super) fn small_records() -> Scenario {
    let part = Part {
        name: "100 B",
        kinds: PRODUCED_TO,
        load: Box::new(Produce { record_bytes: 100, bytes: 1_000_000_000, ..Produce::default() }),
        settings: &[],
        twice: true,
        shown: &[CPU, RECORDS, BATCH],
        goals: vec![
            goal(CPU.0, Bound::MostTimes(1.3, Against::Part("1", "1 partition"))),
            goal(RECORDS.0, Bound::Least(2e6)),
            at_most_kafka(CPU.0, 0.35),
            at_least_kafka(RECORDS.0, 1.25),
        ],
    };
    Scenario { number: "3", title: "produce 100 B, acks=1", parts: vec![part] }
}

/// 4: few large records.
pub(super) fn large_records() -> Scenario {
    let part = Part {
        name: "10 KiB",
        kinds: PRODUCED_TO,
        load: Box::new(Produce { record_bytes: 10 * 1024, ..Produce::default() }),
        settings: &[],
        twice: true,
        shown: SHOWN,
        goals: vec![at_most_floor(CPU.0, 1.25), at_most_kafka(CPU.0, 0.5)],
    };
    Scenario { number: "4", title: "produce 10 KiB, acks=1", parts: vec![part] }
}

/// 5: what a request costs, whatever it carries.
pub(super) fn small_batches() -> Scenario {
    let part = Part {
        name: "16 KiB batches",
        kinds: PRODUCED_TO,
        load: Box::new(Produce {
            bytes: 600_000_000,
            partitions: 16,
            settings: BATCHES_OF_16_KIB,
            limit: Limit::Requests(16 * 1024, 5),
            ..Produce::default()
        }),
        settings: &[],
        twice: true,
        shown: &[CPU, PER_REQUEST, SPEED, BATCH],
        goals: vec![goal(PER_REQUEST.0, Bound::Most(25.0)), at_most_kafka(CPU.0, 0.2)],
    };
    Scenario {
        number: "5",
        title: "produce 1 KiB in batches of 16 KiB over 16 partitions, acks=1",
        parts: vec![part],
    }
}

/// 5b: the smallest requests over many partitions.
pub(super) fn single_records() -> Scenario {
    let part = Part {
        name: "1,000 partitions",
        kinds: WITHOUT_NISSHI,
        load: Box::new(Produce {
            bytes: 150_000_000,
            partitions: 1000,
            settings: SINGLE_RECORDS,
            limit: Limit::Requests(1024, 5),
            ..Produce::default()
        }),
        settings: &[],
        twice: true,
        shown: &[PER_REQUEST, RECORDS, CPU, BATCH],
        goals: vec![
            goal(PER_REQUEST.0, Bound::Most(15.0)),
            at_most_kafka(PER_REQUEST.0, 0.12),
            at_least_kafka(RECORDS.0, 2.5),
        ],
    };
    Scenario {
        number: "5b",
        title: "produce one record of 1 KiB a request over 1,000 partitions, acks=1",
        parts: vec![part],
    }
}

/// 6: what promises cost on a single node.
pub(super) fn acknowledgements() -> Scenario {
    let part = |name, acks, settings, goals: &[super::Goal]| Part {
        name,
        kinds: WITHOUT_NISSHI,
        load: Box::new(Produce { acks, settings, bytes: 1_000_000_000, ..Produce::default() }),
        settings: &[],
        twice: true,
        shown: &[CPU, SPEED, ROUND_TRIP_P50, ROUND_TRIP_P99],
        goals: [goals, &[at_most_kafka(CPU.0, 0.5)]].concat(),
    };
    let like_one = |figure| goal(figure, Bound::MostTimes(1.1, Against::Part("6", "acks=1")));
    let both = [like_one(CPU.0), like_one(ROUND_TRIP_P99.0)];
    Scenario {
        number: "6",
        title: "produce 1 KiB with acks 0, 1 and all, and idempotent",
        parts: vec![
            part("acks=1", "1", LARGE_BATCHES, &[]),
            part("acks=0", "0", LARGE_BATCHES, &both[..1]),
            part("acks=all", "all", LARGE_BATCHES, &both),
            part("idempotent", "all", IDEMPOTENT, &both),
        ],
    }
}

/// 7: compressed by the client, which Kafka decompresses to check.
pub(super) fn compressed() -> Scenario {
    const KINDS: &[Kind] =
        &[Kind::Floor, Kind::Klamm, Kind::KlammAcked, Kind::KlammFull, Kind::Kafka];
    const PER_STORED: (&str, &str) = ("cpu_s_per_stored_gb", "broker CPU-s per compressed GB");
    const RATIO: (&str, &str) = ("compression", "compression");
    let part = |name: &'static str, to_kafka| Part {
        name,
        kinds: KINDS,
        load: Box::new(JavaProduce { compression: name, bytes: 900_000_000 }),
        settings: &[],
        twice: false,
        shown: &[CPU, PER_STORED, RATIO, SPEED, P99],
        goals: {
            let like_none = Bound::MostTimes(1.1, Against::Part("7", "none"));
            let mut goals = vec![at_most_kafka(CPU.0, to_kafka)];
            if name != "none" {
                goals.push(goal(PER_STORED.0, like_none));
            }
            goals
        },
    };
    Scenario {
        number: "7",
        title: "Java client, JSON of 940 B in batches of 64 KiB, per uncompressed GB",
        parts: vec![part("none", 0.35), part("lz4", 0.25), part("zstd", 0.15)],
    }
}

/// 9: several clients at once.
pub(super) fn several_clients() -> Scenario {
    let part = |name, producers| Part {
        name,
        kinds: WITHOUT_NISSHI,
        load: Box::new(Produce { producers, partitions: 16, ..Produce::default() }),
        settings: &[],
        twice: false,
        shown: &[SPEED, CPU, BATCH],
        goals: vec![
            goal(SPEED.0, Bound::LeastTimes(0.8, Against::Part("9", "1 producer"))),
            goal(CPU.0, Bound::MostTimes(1.2, Against::Part("9", "1 producer"))),
            at_least_kafka(SPEED.0, 1.0),
            at_most_kafka(CPU.0, 0.5),
        ],
    };
    Scenario {
        number: "9",
        title: "produce 1 KiB from 1, 4 and 16 producers over 16 partitions",
        parts: vec![part("1 producer", 1), part("4 producers", 4), part("16 producers", 16)],
    }
}
