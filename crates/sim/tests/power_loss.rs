//! The real broker on a simulated network and a simulated disk that loses power.

use std::ops::Range;
use std::process::{Command, Output};

/// Power losses of one run.
const POWER_LOSSES: &str = "10";
/// `FROM..TO`: other seeds than those of the tests. `cargo xtask powerloss` sets it.
const SEEDS_VARIABLE: &str = "KLAMM_POWERLOSS_SEEDS";

/// One simulation in a process of its own, as turmoil needs it.
fn simulate(seed: u64, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_klamm-sim"));
    command.arg(seed.to_string()).args(options).output().expect("the simulation runs")
}

fn told(seed: u64, options: &[&str]) -> String {
    let output = simulate(seed, options);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("what it tells is text")
}

fn seeds() -> Range<u64> {
    let Ok(given) = std::env::var(SEEDS_VARIABLE) else {
        return 10..13;
    };
    let bounds = given.split_once("..").map(|(from, to)| (from.parse(), to.parse()));
    match bounds {
        Some((Ok(from), Ok(to))) => from..to,
        _ => panic!("{SEEDS_VARIABLE} is {given}, not FROM..TO"),
    }
}

/// The number after `name: `.
fn figure(told: &str, name: &str) -> u64 {
    let rest = told.split_once(&format!("{name}: ")).expect("the figure is told").1;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().expect("a number")
}

fn survives(policy: &str) {
    let (mut lost, mut compacted) = (0, 0);
    for seed in seeds() {
        let told = told(seed, &["--policy", policy, "--losses", POWER_LOSSES, "--summary"]);
        print!("seed {seed}, {policy}: {told}");
        lost += figure(&told, "lost");
        compacted += figure(&told, "compacted");
    }
    // A fault that never fired was not tested.
    assert!(lost > 0, "no power loss took anything");
    assert!(compacted > 0, "nothing was ever compacted");
}

#[test]
fn the_same_seed_gives_the_same_run_twice() {
    let (first, second) = (told(1, &[]), told(1, &[]));
    assert!(first.lines().count() > 300, "a run this short shows nothing:\n{first}");
    if let Some((a, b)) = first.lines().zip(second.lines()).find(|(a, b)| a != b) {
        panic!("the runs part here:\n{a}\n{b}");
    }
    assert_eq!(first.lines().count(), second.lines().count());
    assert_ne!(first, told(2, &[]), "the seed decides nothing");
}

#[test]
fn acked_no_acknowledged_record_is_lost_when_the_power_fails() {
    survives("acked");
}

#[test]
fn os_a_power_loss_leaves_a_prefix_with_all_that_was_synced() {
    survives("os");
}

#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    let lost = (10..15).filter(|seed| !simulate(*seed, &["--lying-disk"]).status.success()).count();
    assert!(lost > 0, "the other tests could not fail");
}
