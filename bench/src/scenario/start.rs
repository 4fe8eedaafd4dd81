//! Starting.

use super::{Against, BROKERS, Bound, CPU, Part, RESIDENT, SPEED, Scenario, at_most_kafka, goal};
use crate::load::start::{ColdStart, FirstGigabytes, Killed};
use crate::subject::Kind;

/// 1b: the first gigabyte of a life.
pub(super) fn first_gigabyte() -> Scenario {
    const THIRD: &str = "third_cpu_s_per_gb";
    let part = Part {
        name: "first GB after start",
        kinds: BROKERS,
        load: Box::new(FirstGigabytes),
        settings: &[],
        twice: false,
        shown: &[CPU, ("second_cpu_s_per_gb", "second GB"), (THIRD, "third GB")],
        goals: vec![
            goal(CPU.0, Bound::MostTimes(1.1, Against::Figure(Kind::Klamm, THIRD))),
            at_most_kafka(CPU.0, 0.15),
        ],
    };
    Scenario {
        number: "1b",
        title: "produce 1 KiB, acks=1: the first GB after a start",
        parts: vec![part],
    }
}

/// 18: from nothing to the first acknowledgement.
pub(super) fn cold() -> Scenario {
    const FIRST: (&str, &str) = ("first_ack_ms", "first ack ms");
    let part = Part {
        name: "empty folder",
        kinds: BROKERS,
        load: Box::new(ColdStart),
        settings: &[],
        twice: false,
        shown: &[FIRST, ("start_cpu_s", "CPU-s"), RESIDENT],
        goals: vec![goal(FIRST.0, Bound::Most(50.0)), at_most_kafka(FIRST.0, 0.02)],
    };
    Scenario { number: "18", title: "start on an empty folder to the first ack", parts: vec![part] }
}

/// 19: after `kill -9`.
pub(super) fn killed() -> Scenario {
    const FIRST: (&str, &str) = ("first_ack_s", "first ack s");
    const BYTES: u64 = 10_000_000_000;
    let part = |name, kinds, load, goals| Part {
        name,
        kinds,
        load: Box::new(load),
        settings: &[],
        twice: false,
        shown: &[FIRST, ("start_cpu_s", "CPU-s"), SPEED],
        goals,
    };
    let usual = Killed { bytes: BYTES, without_checkpoint: false, cold: false };
    let warm = Killed { bytes: BYTES, without_checkpoint: true, cold: false };
    let cold = Killed { bytes: BYTES, without_checkpoint: true, cold: true };
    // 10 GB within 4 s.
    const WARM_GB_PER_S: f64 = 2.5;
    Scenario {
        number: "19",
        title: "kill -9 with 10 GB in segments of 1 GiB, to the first ack",
        parts: vec![
            part(
                "checkpoint there",
                BROKERS,
                usual,
                vec![goal(FIRST.0, Bound::Most(1.0)), at_most_kafka(FIRST.0, 0.08)],
            ),
            part(
                "checkpoint lost, warm",
                &[Kind::Klamm, Kind::Kafka],
                warm,
                vec![goal(SPEED.0, Bound::Least(WARM_GB_PER_S)), at_most_kafka(FIRST.0, 1.0)],
            ),
            part(
                "checkpoint lost, cold",
                &[Kind::Floor, Kind::Klamm, Kind::Kafka],
                cold,
                vec![goal(SPEED.0, Bound::LeastTimes(0.8, Against::Same(Kind::Floor)))],
            ),
        ],
    }
}
