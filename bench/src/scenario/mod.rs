//! The scenarios: what is done to whom, and what is expected. One scenario is one declaration.

mod consume;
mod durable;
mod latency;
mod produce;
mod rest;
mod start;

use crate::load::Load;
use crate::subject::{Kind, Setting};

/// A row of the table of scenarios.
pub(crate) struct Scenario {
    /// As on the command line: `1`, `5b`.
    pub(crate) number: &'static str,
    pub(crate) title: &'static str,
    pub(crate) parts: Vec<Part>,
}

/// A load that is measured by itself: all brokers run at once, in turns, on data of their own.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) kinds: &'static [Kind],
    pub(crate) load: Box<dyn Load>,
    /// Brokers' settings.
    pub(crate) settings: &'static [Setting],
    /// Whether floor, Klamm and Kafka have two turns in every round.
    pub(crate) twice: bool,
    /// Figures that are shown, with what they are called; the first one is drawn.
    pub(crate) shown: &'static [(&'static str, &'static str)],
    pub(crate) goals: Vec<Goal>,
}

/// What is expected of a figure of Klamm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    /// Whose figure: Klamm in one of its modes.
    pub(crate) of: Kind,
    pub(crate) figure: &'static str,
    pub(crate) bound: Bound,
}

/// A limit for a figure's median.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    Most(f64),
    Least(f64),
    /// So many times what another figure of the same session is.
    MostTimes(f64, Against),
    LeastTimes(f64, Against),
    /// So much more than another figure of the same session.
    MostPlus(f64, Against),
}

/// The figure that another is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Against {
    /// The same figure of another subject in the same part.
    Same(Kind),
    /// Another figure of a subject in the same part.
    Figure(Kind, &'static str),
    /// The same figure of the same subject in another part: scenario and part.
    Part(&'static str, &'static str),
}

/// The usual subjects of a produce scenario, which stands for both flush modes.
const PRODUCED_TO: &[Kind] =
    &[Kind::Floor, Kind::Klamm, Kind::KlammAcked, Kind::Kafka, Kind::Nisshi];
/// The usual subjects of a scenario that only reads.
const READ_FROM: &[Kind] = &[Kind::Floor, Kind::Klamm, Kind::Kafka, Kind::Nisshi];

/// Klamm as it comes and Kafka: what promises the same is not asked.
const BROKERS: &[Kind] = &[Kind::Klamm, Kind::KlammAcked, Kind::Kafka];
/// Where the question is what one broker costs, whatever it promises.
const ONE_OF_EACH: &[Kind] = &[Kind::Klamm, Kind::Kafka];

const CPU: (&str, &str) = ("cpu_s_per_gb", "broker CPU-s/GB");
const SPEED: (&str, &str) = ("gb_per_s", "GB/s");
const RECORDS: (&str, &str) = ("records_per_s", "records/s");
const PER_REQUEST: (&str, &str) = ("us_per_request", "CPU us/request");
const RESIDENT: (&str, &str) = ("resident_mb", "resident MB");
const BATCH: (&str, &str) = ("batch_bytes", "bytes/request");

const P50: (&str, &str) = ("p50_ms", "p50 ms");
const P99: (&str, &str) = ("p99_ms", "p99 ms");
const P99_9: (&str, &str) = ("p99_9_ms", "p99.9 ms");
const MEAN: (&str, &str) = ("mean_ms", "mean ms");
const ROUND_TRIP_P50: (&str, &str) = ("round_trip_p50_ms", "round trip p50 ms");
const ROUND_TRIP_P99: (&str, &str) = ("round_trip_p99_ms", "round trip p99 ms");

fn goal(figure: &'static str, bound: Bound) -> Goal {
    Goal { of: Kind::Klamm, figure, bound }
}

/// At most so many times the floor's.
fn at_most_floor(figure: &'static str, times: f64) -> Goal {
    goal(figure, Bound::MostTimes(times, Against::Same(Kind::Floor)))
}

/// At most so many times Kafka's.
fn at_most_kafka(figure: &'static str, times: f64) -> Goal {
    goal(figure, Bound::MostTimes(times, Against::Same(Kind::Kafka)))
}

/// At least so many times Kafka's.
fn at_least_kafka(figure: &'static str, times: f64) -> Goal {
    goal(figure, Bound::LeastTimes(times, Against::Same(Kind::Kafka)))
}

/// All scenarios, in the order of their worth.
pub(crate) fn all() -> Vec<Scenario> {
    vec![
        produce::large_batches(),
        start::first_gigabyte(),
        produce::one_client(),
        produce::small_records(),
        produce::large_records(),
        produce::small_batches(),
        produce::single_records(),
        produce::acknowledgements(),
        consume::warm_catch_up(),
        consume::fan_out(),
        latency::end_to_end(),
        produce::compressed(),
        durable::one_partition(),
        durable::many_partitions(),
        durable::as_they_come(),
        rest::idle_cpu(),
        rest::memory(),
        start::cold(),
        start::killed(),
        rest::partitions(),
        produce::several_clients(),
        latency::tail(),
        consume::cold_catch_up(),
        rest::connection_storm(),
        rest::soak(),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn scenarios_and_parts_have_names_of_their_own() {
        let mut seen = BTreeSet::new();
        for scenario in all() {
            for part in &scenario.parts {
                assert!(seen.insert((scenario.number, part.name)), "{} twice", part.name);
            }
        }
    }

    #[test]
    fn goals_are_of_subjects_and_against_subjects_that_take_part() {
        let everything = all();
        for scenario in &everything {
            for part in &scenario.parts {
                for goal in &part.goals {
                    assert!(part.kinds.contains(&goal.of), "{} {}", scenario.number, part.name);
                    let against = match goal.bound {
                        Bound::Most(_) | Bound::Least(_) => continue,
                        Bound::MostTimes(_, against)
                        | Bound::LeastTimes(_, against)
                        | Bound::MostPlus(_, against) => against,
                    };
                    let known = match against {
                        Against::Same(kind) | Against::Figure(kind, _) => {
                            part.kinds.contains(&kind)
                        }
                        Against::Part(number, name) => everything.iter().any(|other| {
                            other.number == number && other.parts.iter().any(|p| p.name == name)
                        }),
                    };
                    assert!(known, "{} {}: {against:?}", scenario.number, part.name);
                }
            }
        }
    }
}
