//! One simulation, its trace on standard output, and a line of figures; one seed per process.
//!
//! ```text
//! klamm-sim SEED [--policy acked|os] [--losses N] [--lying-disk] [--summary]
//! klamm-sim SEED --cluster [--set KEY=VALUE]... [--without RULE] [--summary]
//! ```
//!
//! `--without` is there in builds with feature `mutants`.
//!
//! `KLAMM_LOG` shows what the brokers log, on standard error.

use std::process::ExitCode;

use klamm_env::rules::Rule;
use klamm_sim::disk::Lie;
use klamm_sim::durability::{self, Policy};
use klamm_sim::trace::Trace;
use klamm_sim::{cluster, durability::Scenario};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

const USAGE: &str = "usage: klamm-sim SEED [--policy acked|os] [--losses N] [--lying-disk] \
                     [--summary]\n       klamm-sim SEED --cluster [--set KEY=VALUE]... \
                     [--without RULE] [--summary]";
/// Power losses where none are given.
const POWER_LOSSES: u32 = 4;

/// What to simulate.
#[derive(Debug)]
enum Chosen {
    Durability(Scenario),
    Cluster(cluster::Scenario),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (chosen, summary) = match parse(&arguments) {
        Ok(chosen) => chosen,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    show_logs();
    let trace = Trace::default();
    let outcome = match &chosen {
        Chosen::Durability(scenario) => durability::run(*scenario, &trace).map(durability_figures),
        Chosen::Cluster(scenario) => cluster::run(scenario, &trace).map(cluster_figures),
    };
    if !summary {
        print!("{}", trace.text());
    }
    match outcome {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let again = arguments.join(" ");
            eprintln!("{chosen:?} fails: {error}\nagain: cargo run -p klamm-sim -- {again}");
            ExitCode::FAILURE
        }
    }
}

fn show_logs() {
    let Ok(filter) = EnvFilter::try_from_env("KLAMM_LOG") else { return };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    logs.with_timer(SimulatedTime).with_writer(std::io::stderr).init();
}

struct SimulatedTime;

impl FormatTime for SimulatedTime {
    fn format_time(&self, to: &mut Writer<'_>) -> std::fmt::Result {
        write!(to, "{:>12}", klamm_sim::trace::elapsed().as_micros())
    }
}

fn durability_figures(outcome: durability::Outcome) -> String {
    let durability::Outcome { acknowledged, power_losses, states, lost, compacted } = outcome;
    format!(
        "acknowledged: {acknowledged}, power_losses: {power_losses}, states: {states}, \
         lost: {lost}, compacted: {compacted}"
    )
}

fn cluster_figures(outcome: cluster::Outcome) -> String {
    let cluster::Outcome { acknowledged, found, polled, commits, elections, .. } = outcome;
    let cluster::Outcome { controllers, looks, healed_within, faults, .. } = outcome;
    let faults: Vec<_> = faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    format!(
        "acknowledged: {acknowledged}, found: {found}, polled: {polled}, commits: {commits}, \
         elections: {elections}, controllers: {controllers}, looks: {looks}, \
         healed_within_ms: {}, faults: {}",
        healed_within.as_millis(),
        faults.join(", ")
    )
}

fn parse(arguments: &[String]) -> Result<(Chosen, bool), String> {
    let usage = || USAGE.to_owned();
    let mut options = arguments.iter().map(String::as_str);
    let seed = options.next().and_then(|seed| seed.parse().ok()).ok_or_else(usage)?;
    let summary = arguments.iter().any(|option| option == "--summary");
    let mut rest = options.filter(|option| *option != "--summary").peekable();
    if rest.next_if_eq(&"--cluster").is_none() {
        let scenario = parse_durability(seed, rest).ok_or_else(usage)?;
        return Ok((Chosen::Durability(scenario), summary));
    }
    let mut scenario = cluster::Scenario::drawn(seed);
    while let Some(option) = rest.next() {
        if option == "--without" {
            switch_off(rest.next().ok_or_else(usage)?.parse()?)?;
            continue;
        }
        let setting = rest.next().filter(|_| option == "--set");
        let (key, value) = setting.and_then(|set| set.split_once('=')).ok_or_else(usage)?;
        scenario.set(key, value)?;
    }
    Ok((Chosen::Cluster(scenario), summary))
}

#[cfg(feature = "mutants")]
fn switch_off(rule: Rule) -> Result<(), String> {
    rule.switch_off();
    Ok(())
}

#[cfg(not(feature = "mutants"))]
fn switch_off(rule: Rule) -> Result<(), String> {
    Err(format!("{rule:?} holds in this build: feature mutants"))
}

fn parse_durability<'a>(seed: u64, mut options: impl Iterator<Item = &'a str>) -> Option<Scenario> {
    let power_losses = POWER_LOSSES;
    let mut scenario = Scenario { seed, policy: Policy::Acked, power_losses, lie: None };
    while let Some(option) = options.next() {
        match option {
            "--policy" => {
                let all = [Policy::Acked, Policy::Os];
                let given = options.next()?;
                scenario.policy = all.into_iter().find(|policy| policy.word() == given)?;
            }
            "--losses" => scenario.power_losses = options.next()?.parse().ok()?,
            "--lying-disk" => scenario.lie = Some(Lie::FileSyncs),
            _ => return None,
        }
    }
    Some(scenario)
}
