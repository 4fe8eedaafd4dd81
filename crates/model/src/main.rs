//! `klamm-model [--small] [--without RULE] [--promises | --without-session] [SCENARIO...]`: exhausts
//! scenarios, all of them and within their larger bounds by default.

use std::process::ExitCode;

use klamm_model::{Invariants, Rule, Rules, SCENARIOS, Scenario, check};

/// What is asked for.
struct Asked {
    small: bool,
    rules: Rules,
    invariants: Invariants,
    scenarios: Vec<&'static Scenario>,
}

fn main() -> ExitCode {
    let Some(asked) = parse(std::env::args().skip(1)) else {
        eprintln!("usage: klamm-model [--small] [--without RULE] [--promises | --without-session]");
        eprintln!("                   [SCENARIO...]");
        for scenario in SCENARIOS {
            eprintln!("  {:<14} {}", scenario.name, scenario.about);
        }
        return ExitCode::from(2);
    };
    let mut failed = false;
    for scenario in asked.scenarios {
        let limits = if asked.small { scenario.small } else { scenario.large };
        let report = check(scenario, limits, asked.rules, asked.invariants);
        println!("{report}");
        failed |= report.counter_example.is_some() || !report.unseen.is_empty();
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Asked> {
    let mut asked = Asked {
        small: false,
        rules: Rules::ALL,
        invariants: Invariants::All,
        scenarios: Vec::new(),
    };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--small" => asked.small = true,
            "--without-session" => asked.invariants = Invariants::WithoutSession,
            "--promises" => asked.invariants = Invariants::Promises,
            "--without" => asked.rules = Rules::without(Rule::named(&arguments.next()?)?),
            name => asked.scenarios.push(Scenario::named(name)?),
        }
    }
    if asked.scenarios.is_empty() {
        asked.scenarios.extend(SCENARIOS);
    }
    Some(asked)
}
