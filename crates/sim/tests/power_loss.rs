//! The real broker on a simulated network and a simulated disk that loses power.

use std::process::{Command, Output};

fn simulate(seed: u64, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_klamm-sim"));
    command.arg(seed.to_string()).args(options).output().expect("the simulation runs")
}

fn trace(seed: u64) -> String {
    let output = simulate(seed, &[]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("a trace is text")
}

#[test]
fn the_same_seed_gives_the_same_run_twice() {
    let (first, second) = (trace(1), trace(1));
    assert!(first.lines().count() > 300, "a run this short shows nothing:\n{first}");
    if let Some((a, b)) = first.lines().zip(second.lines()).find(|(a, b)| a != b) {
        panic!("the runs part here:\n{a}\n{b}");
    }
    assert_eq!(first.lines().count(), second.lines().count());
    assert_ne!(first, trace(2), "the seed decides nothing");
}

#[test]
fn no_acknowledged_record_is_lost_when_the_power_fails() {
    for seed in 10..22 {
        trace(seed);
    }
}

#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    let lost = (10..15).filter(|seed| !simulate(*seed, &["--lying-disk"]).status.success()).count();
    assert!(lost > 0, "the other tests could not fail");
}
