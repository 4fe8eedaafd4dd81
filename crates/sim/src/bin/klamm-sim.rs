//! `klamm-sim SEED [--policy acked|os] [--losses N] [--lying-disk] [--summary]`: one simulation, its
//! trace on standard output, and a line of figures; one seed per process.

use std::process::ExitCode;

use klamm_sim::disk::Lie;
use klamm_sim::durability::{Outcome, Policy, Scenario, run};
use klamm_sim::trace::Trace;

const USAGE: &str =
    "usage: klamm-sim SEED [--policy acked|os] [--losses N] [--lying-disk] [--summary]";
/// Power losses where none are given.
const POWER_LOSSES: u32 = 4;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((scenario, summary)) = parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let trace = Trace::default();
    let outcome = run(scenario, &trace);
    if !summary {
        print!("{}", trace.text());
    }
    match outcome {
        Ok(outcome) => {
            let Outcome { acknowledged, power_losses, states, lost, compacted } = outcome;
            println!(
                "acknowledged: {acknowledged}, power_losses: {power_losses}, states: {states}, \
                 lost: {lost}, compacted: {compacted}"
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            let again = arguments.join(" ");
            eprintln!("{scenario:?} fails: {error}\nagain: cargo run -p klamm-sim -- {again}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Option<(Scenario, bool)> {
    let mut arguments = arguments.iter().map(String::as_str);
    let seed = arguments.next()?.parse().ok()?;
    let power_losses = POWER_LOSSES;
    let mut scenario = Scenario { seed, policy: Policy::Acked, power_losses, lie: None };
    let mut summary = false;
    while let Some(option) = arguments.next() {
        match option {
            "--policy" => {
                let all = [Policy::Acked, Policy::Os];
                let given = arguments.next()?;
                scenario.policy = all.into_iter().find(|policy| policy.word() == given)?;
            }
            "--losses" => scenario.power_losses = arguments.next()?.parse().ok()?,
            "--lying-disk" => scenario.lie = Some(Lie::FileSyncs),
            "--summary" => summary = true,
            _ => return None,
        }
    }
    Some((scenario, summary))
}
