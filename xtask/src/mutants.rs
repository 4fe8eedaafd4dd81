//! `cargo xtask mutants [--seeds FROM..TO] [RULE...]`: the cluster simulation with one of its rules
//! switched off after the other. Every time a seed has to be found that fails for it: a simulation
//! that notices nothing tests nothing.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::sim::{build, parse_seeds, simulate};

/// Seeds that are tried for one rule.
const SEEDS: Range<u64> = 0..300;
const USAGE: &str = "usage: mutants [--seeds FROM..TO] [RULE...]";

/// The rules that can be switched off, each with settings under which they are needed soon.
const RULES: [(&str, &[&str]); 11] = [
    ("R3", &["faults=wipe,kill"]),
    ("R12", &["flush=os", "turns-acked=false", "faults=power,kill,isolate"]),
    ("R14", &[]),
    ("R16", &[]),
    ("R17", &["flush=acked", "faults=power,power-all"]),
    ("R18", &["faults=wipe,kill,stop"]),
    ("R18b", &["flush=acked", "faults=power,power-all"]),
    ("R18c", &["flush=os", "turns-acked=true", "faults=power,power-all"]),
    ("R19", &["faults=isolate,cut,ensemble-cut,ensemble-reply,kill"]),
    ("R20", &[]),
    ("R21", &[]),
];

/// What a rule's absence was noticed by.
struct Noticed {
    seed: u64,
    why: String,
}

/// Tries the rules that are named, or all.
///
/// # Errors
/// The rules that can be dropped without any of the seeds failing.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let mut seeds = SEEDS;
    let mut named = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--seeds" {
            seeds = words.next().and_then(|text| parse_seeds(text)).ok_or(USAGE)?;
        } else {
            let rule = RULES.iter().find(|(name, _)| name == word);
            named.push(*rule.ok_or_else(|| format!("there is no rule {word} to switch off"))?);
        }
    }
    let rules = if named.is_empty() { RULES.to_vec() } else { named };
    build(root)?;
    let mut unnoticed = Vec::new();
    for (rule, settings) in rules {
        match search(root, rule, settings, seeds.clone()) {
            Some(Noticed { seed, why }) => println!("without {rule}: seed {seed}: {why}"),
            None => {
                println!("without {rule}: NOTHING in seeds {seeds:?}");
                unnoticed.push(rule);
            }
        }
    }
    match unnoticed.is_empty() {
        true => Ok(()),
        false => Err(format!("rules that nobody misses: {}", unnoticed.join(", "))),
    }
}

/// The first seed found that fails without the rule and holds with it.
fn search(root: &Path, rule: &str, settings: &[&str], seeds: Range<u64>) -> Option<Noticed> {
    let set = settings.iter().flat_map(|setting| ["--set", setting]).map(str::to_owned);
    let set: Vec<String> = set.collect();
    let without = [&set[..], &["--without".to_owned(), rule.to_owned()]].concat();
    let next = AtomicU64::new(seeds.start);
    let found = Mutex::new(None);
    let found_now = || found.lock().unwrap_or_else(PoisonError::into_inner);
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while found_now().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let Err(told) = simulate(root, seed, &without) else { continue };
                    // One that fails with all rules says nothing of this one.
                    if simulate(root, seed, &set).is_ok() {
                        found_now().get_or_insert(Noticed { seed, why: reason(&told) });
                    }
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// What stands after `fails: `, as far as it is short.
fn reason(told: &str) -> String {
    let why = told.split_once("fails: ").map_or(told, |(_, why)| why);
    why.lines().next().unwrap_or_default().chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn the_reason_is_the_first_line_after_the_scenario() {
        let told = "Cluster(Scenario { seed: 3 }) fails: I4: o-0 lacks 7\nagain: cargo run";
        assert_eq!(reason(told), "I4: o-0 lacks 7");
    }
}
