//! The time from a producer to a consumer.

use super::{
    Against, Bound, CPU, Goal, MEAN, P50, P99, P99_9, Part, Scenario, at_most_floor, at_most_kafka,
    goal,
};
use crate::load::java::EndToEnd;
use crate::load::paced::{Follow, Limit};
use crate::subject::Kind;

const KINDS: &[Kind] = &[Kind::Floor, Kind::Klamm, Kind::KlammAcked, Kind::Kafka];
const SHOWN: &[(&str, &str)] = &[MEAN, P50, P99, P99_9];

/// 14: one record at a time by Kafka's tool, and rates by librdkafka.
pub(super) fn end_to_end() -> Scenario {
    let to_kafka: [Goal; 3] =
        [at_most_kafka(MEAN.0, 0.6), at_most_kafka(P99.0, 0.4), at_most_kafka(P99_9.0, 0.25)];
    let tool = Part {
        name: "EndToEndLatency",
        kinds: KINDS,
        load: Box::new(EndToEnd { record_bytes: 100, records: 10_000, acks: "1" }),
        settings: &[],
        twice: false,
        shown: SHOWN,
        goals: [
            &[
                goal(MEAN.0, Bound::Most(0.35)),
                goal(P99.0, Bound::Most(1.0)),
                goal(P99_9.0, Bound::Most(2.0)),
            ],
            &to_kafka[..],
        ]
        .concat(),
    };
    let paced = |name, rate| Part {
        name,
        kinds: KINDS,
        load: Box::new(Follow {
            record_bytes: 100,
            rate,
            lasts_s: 10,
            settings: &["linger.ms=0"],
            limit: Limit::RoundTrip,
            alone_first: false,
        }),
        settings: &[],
        twice: false,
        shown: SHOWN,
        goals: [&[at_most_floor(P50.0, 4.0), at_most_floor(P99.0, 6.0)], &to_kafka[..]].concat(),
    };
    Scenario {
        number: "14",
        title: "end to end, 100 B (floor: a bare round trip)",
        parts: vec![
            tool,
            paced("100 records/s", 100),
            paced("1,000 records/s", 1000),
            paced("10,000 records/s", 10_000),
        ],
    }
}

/// 10: a consumer at the heels of a producer, and what its reading costs.
pub(super) fn tail() -> Scenario {
    let part = Part {
        name: "1:1, 40 MB/s",
        kinds: &[Kind::Floor, Kind::Klamm, Kind::Kafka],
        load: Box::new(Follow {
            record_bytes: 1024,
            rate: 40_000,
            lasts_s: 8,
            settings: &["linger.ms=5", "batch.size=1000000"],
            limit: Limit::Send,
            alone_first: true,
        }),
        settings: &[],
        twice: false,
        shown: &[CPU, ("cpu_both_s_per_gb", "with producing"), P50, P99],
        goals: vec![
            goal(CPU.0, Bound::MostTimes(1.5, Against::Same(Kind::Floor))),
            at_most_kafka(CPU.0, 0.6),
        ],
    };
    Scenario {
        number: "10",
        title: "tail read beside a live producer: CPU of reading, and lag of the records",
        parts: vec![part],
    }
}
