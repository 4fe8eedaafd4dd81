//! Goals held against figures, in plain words.

use std::fmt::Write as _;

use super::number;
use crate::scenario::{Against, Bound, Goal, Part};
use crate::session::{PartResult, Session};
use crate::subject::Kind;

/// A line for each goal of the part.
pub(super) fn goals(text: &mut String, part: &Part, result: &PartResult, session: &Session) {
    for goal in &part.goals {
        let _ = writeln!(text, "- {}", line(goal, part, result, session));
    }
    if !part.goals.is_empty() {
        text.push('\n');
    }
}

fn line(goal: &Goal, part: &Part, result: &PartResult, session: &Session) -> String {
    let shown = part.shown.iter().find(|(figure, _)| *figure == goal.figure);
    let name = shown.map_or(goal.figure, |(_, name)| name);
    let wanted = wanted(goal);
    let subject = goal.of.name();
    let Some(own) = result.spread(goal.of, goal.figure).map(|spread| spread.median) else {
        return format!("{subject}, {name} {wanted}: **not measured**");
    };
    let (ratio, limit, upper) = match goal.bound {
        Bound::Most(limit) => (None, Some(limit), true),
        Bound::Least(limit) => (None, Some(limit), false),
        Bound::MostTimes(times, against) => {
            let other = other(goal, against, result, session);
            (other.map(|other| own / other), other.map(|other| times * other), true)
        }
        Bound::LeastTimes(times, against) => {
            let other = other(goal, against, result, session);
            (other.map(|other| own / other), other.map(|other| times * other), false)
        }
        Bound::MostPlus(more, against) => {
            let other = other(goal, against, result, session);
            (other.map(|other| own / other), other.map(|other| more + other), true)
        }
    };
    let Some(limit) = limit else {
        return format!("{subject}, {name} {wanted}: {}, **nothing to compare with**", number(own));
    };
    let met = if upper { own <= limit } else { own >= limit };
    let ratio = ratio.map_or_else(String::new, |ratio| format!(" ({ratio:.2} times)"));
    let verdict = if met { "met" } else { "missed" };
    let doubt = if result.disturbed { ", disturbed" } else { "" };
    format!("{subject}, {name} {wanted}: {}{ratio}, **{verdict}**{doubt}", number(own))
}

fn wanted(goal: &Goal) -> String {
    match goal.bound {
        Bound::Most(limit) => format!("at most {}", number(limit)),
        Bound::Least(limit) => format!("at least {}", number(limit)),
        Bound::MostTimes(times, against) => format!("at most {times} of {}", whose(against)),
        Bound::MostPlus(more, against) => format!("at most {more} above {}", whose(against)),
        Bound::LeastTimes(times, against) => format!("at least {times} of {}", whose(against)),
    }
}

fn whose(against: Against) -> String {
    let of = |kind: Kind| {
        if kind == Kind::Floor { "the floor".to_owned() } else { kind.name().to_owned() }
    };
    match against {
        Against::Same(kind) => of(kind),
        Against::Figure(kind, figure) => format!("{} ({figure})", of(kind)),
        Against::Part(scenario, part) => format!("its own in {scenario}, {part}"),
    }
}

fn other(goal: &Goal, against: Against, result: &PartResult, session: &Session) -> Option<f64> {
    let spread = match against {
        Against::Same(kind) => result.spread(kind, goal.figure),
        Against::Figure(kind, figure) => result.spread(kind, figure),
        Against::Part(scenario, part) => {
            session.part(scenario, part).and_then(|other| other.spread(goal.of, goal.figure))
        }
    };
    spread.map(|spread| spread.median).filter(|median| *median > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Disturbance, Figures};
    use crate::scenario;
    use crate::session::Sample;

    fn session(klamm: f64, kafka: f64) -> Session {
        let sample = |kind, value| Sample {
            round: 0,
            kind,
            figures: Figures::from([("cpu_s_per_gb".to_owned(), value)]),
            disturbance: Disturbance::default(),
        };
        let result = serde_json::json!({
            "scenario": "11", "part": "1 KiB, warm", "date": "", "commit": "", "kafka_version": null,
            "machine": { "cpu": "", "cpus": 2, "memory_gib": 1.0, "kernel": "", "file_system": "",
                "congestion_control": "" },
            "scale": 1.0, "run_bytes": 0, "pinned": false, "dropped": 0, "disturbed": false, "failures": [],
            "samples": [],
        });
        let mut result: PartResult = serde_json::from_value(result).expect("all fields");
        result.samples = vec![sample(Kind::Klamm, klamm), sample(Kind::Kafka, kafka)];
        Session { parts: vec![result] }
    }

    fn verdicts(klamm: f64, kafka: f64) -> String {
        let session = session(klamm, kafka);
        let all = scenario::all();
        let part = all.iter().find(|s| s.number == "11").map(|s| &s.parts[0]).expect("a scenario");
        let mut text = String::new();
        goals(&mut text, part, &session.parts[0], &session);
        text
    }

    #[test]
    fn a_goal_is_met_missed_or_has_nothing_to_compare_with() {
        let good = verdicts(0.4, 0.4);
        assert!(good.contains("of Apache Kafka: 0.400 (1.00 times), **met**"), "{good}");
        assert!(good.contains("of the floor: 0.400, **nothing to compare with**"), "{good}");
        assert!(verdicts(0.8, 0.4).contains("0.800 (2.00 times), **missed**"));
    }
}
