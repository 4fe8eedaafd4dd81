//! I15: after a crash a log is a prefix of what it was before, holds at least what was synced, and
//! its leader epochs, producers and aborted transactions are those of its batches.

#[expect(unreachable_pub, reason = "modules of a test")]
mod harness;
#[expect(unreachable_pub, reason = "modules of a test")]
mod model;

use std::ops::Range;

use harness::{Counts, Policy, Run, Step};
use klamm_sim::disk::Lie;

const SEEDS: u64 = 1_200;
/// Seeds of the runs without syncs by acknowledgement.
const OS_SEEDS: u64 = 300;
/// `FROM..TO`: other seeds than those above. `cargo xtask powerloss` sets it.
const SEEDS_VARIABLE: &str = "KLAMM_POWERLOSS_SEEDS";

fn seeds(otherwise: Range<u64>) -> Range<u64> {
    let Ok(given) = std::env::var(SEEDS_VARIABLE) else {
        return otherwise;
    };
    let bounds = given.split_once("..").map(|(from, to)| (from.parse(), to.parse()));
    match bounds {
        Some((Ok(from), Ok(to))) => from..to,
        _ => panic!("{SEEDS_VARIABLE} is {given}, not FROM..TO"),
    }
}

fn survives(policy: Policy, seeds: Range<u64>) {
    let mut counts = Counts::default();
    for seed in seeds {
        let run = Run::new(seed).with_policy(policy).random_steps(&mut counts);
        run.unwrap_or_else(|failure| panic!("{policy:?}, seed {seed}: {failure}"));
    }
    // A fault that never fired was not tested.
    let Counts {
        power_losses,
        kills,
        cut,
        kept_unsynced,
        removed_segments,
        truncations,
        deletions,
        aborted,
    } = counts;
    println!("{counts:?}");
    let faults = [power_losses, kills, cut, kept_unsynced, removed_segments];
    let fired = faults.into_iter().chain([truncations, deletions, aborted]).collect::<Vec<_>>();
    assert!(fired.iter().all(|count| *count > 10), "{policy:?}: {counts:?}");
}

#[test]
fn acked_any_crash_leaves_a_prefix_with_all_that_was_synced() {
    survives(Policy::Acked, seeds(0..SEEDS));
}

#[test]
fn os_any_crash_leaves_a_prefix_with_all_that_was_synced() {
    survives(Policy::Os, seeds(0..OS_SEEDS));
}

/// One pass over everything a log does to its files.
fn script() -> Vec<Step> {
    let append = |count: usize| std::iter::repeat_n(Step::Append, count);
    let mut steps = Vec::new();
    steps.push(Step::Fill(2));
    steps.push(Step::Sync);
    steps.extend(append(6));
    steps.push(Step::SyncVolume);
    steps.push(Step::Checkpoint);
    steps.extend(append(5));
    steps.push(Step::NewEpoch);
    steps.extend(append(2));
    steps.push(Step::Truncate(200));
    steps.extend(append(4));
    steps.push(Step::Truncate(90));
    steps.push(Step::NewEpoch);
    steps.extend(append(6));
    steps.push(Step::Checkpoint);
    steps.push(Step::AdvanceStart(120));
    steps.push(Step::DeleteOld);
    steps.extend(append(3));
    steps.push(Step::Sync);
    steps.push(Step::Close);
    steps.extend(append(3));
    steps.push(Step::Truncate(0));
    steps.extend(append(2));
    steps.push(Step::Sync);
    steps
}

#[test]
fn a_crash_at_every_single_operation_is_survived() {
    // Hazards 33, 35 and 36: after each, nothing is missing, the recovery point is not past what is
    // durable, and what was shown once is still there after another loss.
    let steps = script();
    let mut at = 0;
    loop {
        let mut finished = true;
        for seed in 0..6 {
            let run = Run::new(seed).script(&steps, at);
            finished &=
                run.unwrap_or_else(|failure| panic!("operation {at}, seed {seed}: {failure}"));
        }
        if finished {
            break;
        }
        at += 1;
    }
    assert!(at > 150, "{at} operations are fewer than the script has");
}

#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    // Hazard 34 among others: a rename counts when its directory is synced, and not before.
    for lie in [Lie::FileSyncs, Lie::DirSyncs] {
        let caught = (0..SEEDS).filter(|seed| {
            let run = Run::new(*seed);
            run.disk.set_lie(Some(lie));
            run.random_steps(&mut Counts::default()).is_err()
        });
        assert!(caught.count() > 20, "{lie:?}");
    }
}

#[test]
fn a_failed_sync_takes_the_log_offline_and_loses_nothing_promised() {
    // Hazards 43 and 96, R23.
    for seed in 0..100 {
        let run = Run::new(seed).with_failed_sync();
        run.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
    }
}
