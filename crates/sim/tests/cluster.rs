//! Real brokers on simulated machines: the same seed gives the same run, and what it finds.

use std::process::{Command, Output};

/// One simulation in a process of its own, as turmoil needs it.
fn simulate(seed: u64, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_klamm-sim"));
    let output = command.arg(seed.to_string()).arg("--cluster").args(options).output();
    output.expect("the simulation runs")
}

fn told(seed: u64, options: &[&str]) -> String {
    let output = simulate(seed, options);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("what it tells is text")
}

#[test]
fn the_same_seed_gives_the_same_run_twice() {
    let options = ["--set", "seconds=20"];
    let (first, second) = (told(1, &options), told(1, &options));
    assert!(first.lines().count() > 1_000, "a run this short shows nothing:\n{first}");
    if let Some((a, b)) = first.lines().zip(second.lines()).find(|(a, b)| a != b) {
        panic!("the runs part here:\n{a}\n{b}");
    }
    assert_eq!(first.lines().count(), second.lines().count());
    assert_ne!(first, told(2, &options), "the seed decides nothing");
}

/// `cargo xtask sim` runs more of them.
#[test]
fn a_cluster_survives_its_faults() {
    print!("{}", told(3, &["--summary"]));
}

/// What disks have lost comes back at a rate at which that takes a third of the time; at a fifth of that
/// rate it would take too long.
#[test]
fn a_cluster_survives_its_faults_while_replication_is_throttled() {
    print!("{}", told(5, &["--summary", "--set", "throttle=100000"]));
}

/// I14 in the tree: no acknowledged commit is forgotten, whoever coordinates and whatever the ensemble
/// loses on the way.
#[test]
fn offsets_in_the_tree_survive_the_same() {
    print!("{}", told(3, &["--set", "offsets=zookeeper", "--summary"]));
}

/// A producer's batch failed for want of time, and the one behind it was acknowledged: it gave the
/// sequence of that one to new records, which a broker then took for the old ones.
#[test]
fn a_sequence_is_not_given_twice() {
    print!("{}", told(95, &["--summary"]));
}

#[test]
fn a_setting_that_does_not_exist_is_refused() {
    for set in ["colour=red", "brokers=0", "faults=flood"] {
        assert_eq!(simulate(1, &["--set", set]).status.code(), Some(2), "{set}");
    }
}
