//! `cargo xtask powerloss [--seeds FROM..TO] [--broker-seeds FROM..TO] [--policy acked|os]`: the
//! storage procedures explored, the cleaner cut short at each of its operations, then random power
//! losses of a log and of a whole broker by flush policy, in release mode; the result goes to the
//! ledger.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;

const LEDGER: &str = "docs/ledger/powerloss.md";
/// About 4.5 of the 6 lives of a seed end in a power loss: over 1,000 for each policy.
const SEEDS: &str = "0..1000";
/// Each has 10 power losses.
const BROKER_SEEDS: &str = "0..110";
const CRASH_POINTS_MIN: u64 = 1_000;
const POLICIES: [&str; 2] = ["acked", "os"];
/// What an entry vouches for.
const COVERED: [&str; 4] = ["crates/log", "crates/sim", "crates/env", "crates/broker"];
const USAGE: &str =
    "usage: powerloss [--seeds FROM..TO] [--broker-seeds FROM..TO] [--policy acked|os]";

/// Runs everything; the first failure ends it and is not noted.
///
/// # Errors
/// A failed step, too few crash points, or a ledger that cannot be written.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let (mut seeds, mut broker_seeds) = (SEEDS.to_owned(), BROKER_SEEDS.to_owned());
    let mut policies = POLICIES.to_vec();
    let mut arguments = arguments.iter().map(String::as_str);
    while let Some(option) = arguments.next() {
        match (option, arguments.next()) {
            ("--seeds", Some(given)) => given.clone_into(&mut seeds),
            ("--broker-seeds", Some(given)) => given.clone_into(&mut broker_seeds),
            ("--policy", Some(given)) => policies.retain(|policy| *policy == given),
            _ => return Err(USAGE.to_owned()),
        }
    }
    if policies.is_empty() {
        return Err("the policies are acked and os".to_owned());
    }
    let mut rows = Vec::new();
    let told = test(root, "storage_procedures", "survives_any_outcome", &seeds)?;
    for (name, (runs, [points, disks, states])) in procedures(&told) {
        println!("{name}: {points} crash points, {disks} disks, {states} opened, 0 failures");
        rows.push(format!("{name} | 0..{runs} | {points} | {disks} | {states}"));
    }
    let told = test(root, "cleaner_crash", "cut_short", &seeds)?;
    let points = sum(&told, "crash_points");
    println!("cleaner's swap: {points} crash points, 0 failures");
    rows.push(format!("random pass of the cleaner | 0..8 | {points} | - | {points}"));
    for policy in &policies {
        let told = test(root, "log_crash", &format!("{policy}_any_crash"), &seeds)?;
        let points = enough(&format!("random log, {policy}"), sum(&told, "power_losses"))?;
        rows.push(format!("random log, {policy} | {seeds} | {points} | - | {points}"));
    }
    for policy in &policies {
        let told = test(root, "power_loss", &format!("{policy}_"), &broker_seeds)?;
        let points = enough(&format!("whole broker, {policy}"), sum(&told, "power_losses"))?;
        let states = sum(&told, "states");
        rows.push(format!("whole broker, {policy} | {broker_seeds} | {points} | - | {states}"));
    }
    note(root, &rows)
}

fn enough(what: &str, points: u64) -> Result<u64, String> {
    println!("{what}: {points} crash points, 0 failures");
    if points < CRASH_POINTS_MIN {
        return Err(format!("{what}: {points} crash points are fewer than {CRASH_POINTS_MIN}"));
    }
    Ok(points)
}

/// By procedure, in how many runs it was explored, its crash points, disks, and those opened.
fn procedures(told: &str) -> BTreeMap<&str, (u64, [u64; 3])> {
    let mut all: BTreeMap<&str, (u64, [u64; 3])> = BTreeMap::new();
    for explored in told.lines().filter_map(|line| line.split_once("procedure ")) {
        let Some((name, figures)) = explored.1.split_once(';') else { continue };
        let (runs, sums) = all.entry(name).or_default();
        *runs += 1;
        for (sum_of, name) in sums.iter_mut().zip(["crash_points", "disks", "states"]) {
            *sum_of += sum(figures, name);
        }
    }
    all
}

fn test(root: &Path, target: &str, filter: &str, seeds: &str) -> Result<String, String> {
    let output = Command::new("cargo")
        .args(["test", "--release", "-p", "klamm-sim", "--test", target, filter])
        .args(["--", "--nocapture", "--test-threads=1"])
        .env("KLAMM_POWERLOSS_SEEDS", seeds)
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(told);
    }
    Err(format!("{target} fails:\n{told}{}", String::from_utf8_lossy(&output.stderr)))
}

/// The sum of all `name: NUMBER` in what tests printed.
fn sum(told: &str, name: &str) -> u64 {
    let name = format!("{name}: ");
    let numbers = told.split(name.as_str()).skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse::<u64>().unwrap_or(0)
    });
    numbers.sum()
}

fn note(root: &Path, rows: &[String]) -> Result<(), String> {
    let changed = git(root, &["status", "--porcelain", "--", "crates"])?;
    if !changed.is_empty() {
        println!("not noted in {LEDGER}: crates differ from the commit");
        return Ok(());
    }
    let commit = git(root, &["rev-parse", "--short=12", "HEAD"])?;
    let mut trees = Vec::new();
    for covered in COVERED {
        let tree = git(root, &["rev-parse", "--short=12", &format!("HEAD:{covered}")])?;
        trees.push(tree);
    }
    let mut ledger = OpenOptions::new()
        .append(true)
        .open(root.join(LEDGER))
        .map_err(|error| format!("{LEDGER}: {error}"))?;
    for row in rows {
        writeln!(ledger, "| {commit} | {} | {row} | 0 |", trees.join(" | "))
            .map_err(|error| format!("{LEDGER}: {error}"))?;
    }
    Ok(())
}

fn git(root: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("git").args(arguments).current_dir(root).output();
    let output = output.map_err(|error| format!("git: {error}"))?;
    if !output.status.success() {
        return Err(format!("git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{procedures, sum};

    #[test]
    fn numbers_of_one_name_are_added_up() {
        let told = "A { states: 12, crash_points: 3 }\nB { states: 30, crash_points: 4 }";
        assert_eq!((sum(told, "states"), sum(told, "crash_points")), (42, 7));
    }

    #[test]
    fn runs_of_one_procedure_are_added_up() {
        let told = "test a ... procedure roll; crash_points: 3, states: 4, disks: 50\n\
                    procedure roll; crash_points: 1, states: 1, disks: 1\nok";
        let all = procedures(told);
        assert_eq!(all.into_iter().collect::<Vec<_>>(), [("roll", (2, [4, 51, 5]))]);
    }
}
