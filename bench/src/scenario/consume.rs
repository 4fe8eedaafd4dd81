//! Reading.

use super::{
    Against, Bound, CPU, P99, Part, READ_FROM, RECORDS, RESIDENT, SPEED, Scenario, at_most_floor,
    at_most_kafka, goal,
};
use crate::load::cold_read::ColdCatchUp;
use crate::load::consume::CatchUp;
use crate::load::fan_out::FanOut;
use crate::subject::Kind;

/// How far a figure may lie above another that it cannot be told from, in runs as short as these.
const CANNOT_BE_TOLD: f64 = 1.15;

/// 11: all that is read lies in memory.
pub(super) fn warm_catch_up() -> Scenario {
    let part = Part {
        name: "1 KiB, warm",
        kinds: READ_FROM,
        load: Box::new(CatchUp { record_bytes: 1024, bytes: 3_000_000_000 }),
        settings: &[],
        twice: true,
        shown: &[CPU, SPEED, RECORDS, RESIDENT],
        goals: vec![at_most_floor(CPU.0, CANNOT_BE_TOLD), at_most_kafka(CPU.0, CANNOT_BE_TOLD)],
    };
    Scenario { number: "11", title: "catch up with what lies in memory", parts: vec![part] }
}

/// 12: nothing that is read lies in memory, and somebody writes.
pub(super) fn cold_catch_up() -> Scenario {
    const KINDS: &[Kind] = &[Kind::Floor, Kind::Klamm, Kind::Kafka];
    const UNDISTURBED: (&str, &str) = ("undisturbed_p99_ms", "undisturbed p99 ms");
    let part = Part {
        name: "cold, beside a producer",
        kinds: KINDS,
        load: Box::new(ColdCatchUp { bytes: 5_000_000_000, rate: 40_000, lasts_s: 10 }),
        settings: &[],
        twice: false,
        shown: &[SPEED, P99, UNDISTURBED],
        goals: vec![
            goal(SPEED.0, Bound::LeastTimes(0.9, Against::Same(Kind::Floor))),
            goal(P99.0, Bound::MostTimes(2.0, Against::Figure(Kind::Klamm, UNDISTURBED.0))),
            at_most_kafka(P99.0, 0.25),
        ],
    };
    Scenario {
        number: "12",
        title: "catch up from the disk beside a live producer (floor: reading the file)",
        parts: vec![part],
    }
}

/// 13: everything is read five times as it comes.
pub(super) fn fan_out() -> Scenario {
    let part = Part {
        name: "1:5",
        kinds: &[Kind::Floor, Kind::Klamm, Kind::Kafka],
        load: Box::new(FanOut { consumers: 5, bytes: 700_000_000 }),
        settings: &[],
        twice: true,
        shown: &[CPU, SPEED],
        goals: vec![at_most_floor(CPU.0, 1.1), at_most_kafka(CPU.0, 0.6)],
    };
    Scenario {
        number: "13",
        title: "fan-out 1:5, per GB delivered (floor: sending plus a fifth of writing)",
        parts: vec![part],
    }
}
