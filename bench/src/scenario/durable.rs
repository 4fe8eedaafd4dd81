//! Acknowledged only when it is on the disk.

use super::{
    Against, Bound, CPU, Goal, Part, RECORDS, ROUND_TRIP_P50, ROUND_TRIP_P99, SPEED, Scenario,
};
use crate::load::produce::{Limit, Produce};
use crate::scenario::produce::BATCHES_OF_16_KIB;
use crate::subject::Kind;

/// What makes Kafka promise the same: a sync for every batch.
const FLUSH_EVERY_BATCH: &[(&str, &str)] = &[("flush.messages", "1")];
/// One request after the other, one record in each.
const ONE_AT_A_TIME: &[&str] = &["linger.ms=0", "batch.num.messages=1", "max.in.flight=1"];
/// One request after the other, 16 KiB in each.
const BATCH_AT_A_TIME: &[&str] = &["linger.ms=5", "batch.size=16384", "max.in.flight=1"];
/// Small batches, as they come.
const SMALL: &[&str] = &["linger.ms=5", "batch.size=16384", "sticky.partitioning.linger.ms=0"];

const KINDS: &[Kind] = &[Kind::Floor, Kind::KlammAcked, Kind::Kafka];
const SHOWN: &[(&str, &str)] =
    &[RECORDS, CPU, SPEED, ROUND_TRIP_P50, ROUND_TRIP_P99, ("acks_per_sync", "acks/sync")];

fn acked(figure: &'static str, bound: Bound) -> Goal {
    Goal { of: Kind::KlammAcked, figure, bound }
}

fn to_kafka(figure: &'static str, times: f64) -> Goal {
    acked(figure, Bound::MostTimes(times, Against::Same(Kind::Kafka)))
}

fn over_kafka(figure: &'static str, times: f64) -> Goal {
    acked(figure, Bound::LeastTimes(times, Against::Same(Kind::Kafka)))
}

fn durable(load: Produce) -> Box<Produce> {
    Box::new(Produce { acks: "all", kafka_topic: FLUSH_EVERY_BATCH, counts_syncs: true, ..load })
}

/// 15: one partition, from one producer and from many.
pub(super) fn one_partition() -> Scenario {
    let part = |name, load, goals| Part {
        name,
        kinds: KINDS,
        load: durable(load),
        settings: &[],
        twice: false,
        shown: SHOWN,
        goals,
    };
    let like_kafka = || vec![to_kafka(CPU.0, 0.3), over_kafka(RECORDS.0, 2.0)];
    let one = Produce {
        bytes: 4_000_000,
        kafka_divisor: 8,
        settings: ONE_AT_A_TIME,
        limit: Limit::Syncs(1024),
        ..Produce::default()
    };
    let many = Produce { bytes: 300_000_000, producers: 64, kafka_divisor: 32, ..one.clone() };
    let batches = Produce {
        bytes: 1_500_000_000,
        kafka_divisor: 16,
        settings: BATCH_AT_A_TIME,
        limit: Limit::Syncs(1 << 20),
        ..many.clone()
    };
    let beside_sync =
        acked(ROUND_TRIP_P50.0, Bound::MostPlus(0.3, Against::Figure(Kind::Floor, "p50_ms")));
    let bandwidth = acked(SPEED.0, Bound::LeastTimes(0.7, Against::Same(Kind::Floor)));
    let shared = acked("acks_per_sync", Bound::Least(20.0));
    Scenario {
        number: "15",
        title: "durable acknowledgements, one partition (Kafka: flush.messages=1; floor: fdatasync)",
        parts: vec![
            part("1 producer", one, [vec![beside_sync], like_kafka()].concat()),
            part("64 producers", many, [vec![shared], like_kafka()].concat()),
            part("64 producers, 16 KiB batches", batches, [vec![bandwidth], like_kafka()].concat()),
        ],
    }
}

/// 15b: many partitions, which a broker that syncs one by one does not bear.
pub(super) fn many_partitions() -> Scenario {
    let part = |name, partitions, goals: Vec<Goal>| Part {
        name,
        kinds: &[Kind::KlammAcked, Kind::Kafka],
        load: durable(Produce {
            record_bytes: 100,
            bytes: 160_000_000,
            kafka_divisor: 8,
            partitions,
            producers: 64,
            settings: SMALL,
            ..Produce::default()
        }),
        settings: &[],
        twice: false,
        shown: &[
            RECORDS,
            CPU,
            ROUND_TRIP_P99,
            ("syncs_per_s", "syncs/s"),
            ("acks_per_sync", "acks/sync"),
        ],
        goals: [goals, vec![to_kafka(CPU.0, 0.2), over_kafka(RECORDS.0, 2.5)]].concat(),
    };
    let half = acked(RECORDS.0, Bound::LeastTimes(0.5, Against::Part("15b", "1 partition")));
    Scenario {
        number: "15b",
        title: "durable acknowledgements, 64 producers, 100 B in small batches over many partitions",
        parts: vec![
            part("1 partition", 1, Vec::new()),
            part("100 partitions", 100, vec![half]),
            part("1,000 partitions", 1000, vec![half]),
        ],
    }
}

/// 15c: both as they come, acks=all: Klamm syncs before it acknowledges, Kafka does not sync.
pub(super) fn as_they_come() -> Scenario {
    let part = |name, load: Produce| Part {
        name,
        kinds: &[Kind::KlammAcked, Kind::Kafka],
        load: Box::new(Produce { acks: "all", ..load }),
        settings: &[],
        twice: true,
        shown: &[CPU, SPEED, ROUND_TRIP_P99],
        goals: vec![to_kafka(CPU.0, 0.65), over_kafka(SPEED.0, 0.9)],
    };
    let small = Produce {
        bytes: 600_000_000,
        partitions: 16,
        settings: BATCHES_OF_16_KIB,
        ..Produce::default()
    };
    Scenario {
        number: "15c",
        title: "default against default, acks=all: Klamm syncs before it acknowledges, Kafka does not",
        parts: vec![
            part("1 KiB, 1 partition", Produce::default()),
            part("16 KiB batches, 16 partitions", small),
        ],
    }
}
