//! I15 over the storage procedures, exhaustively: wherever the power fails in one of them, and
//! whatever then survives of what was not synced, the log is a prefix of what it was, holds at least
//! what was synced, and its epochs and producers are those of its batches.

#[expect(unreachable_pub, reason = "modules of a test")]
mod explorer;
#[path = "../log_crash/harness.rs"]
#[expect(unreachable_pub, dead_code, reason = "modules of several tests")]
mod harness;
#[path = "../log_crash/model.rs"]
#[expect(unreachable_pub, reason = "modules of several tests")]
mod model;

use explorer::explore;
use harness::Step;
use klamm_sim::disk::Lie;

/// Seeds decide lengths, producers and where segments end.
const SEEDS: u64 = 2;

/// A name, what happens before, and the procedure.
type Procedure = (&'static str, Vec<Step>, Vec<Step>);

fn appends(count: usize) -> Vec<Step> {
    vec![Step::Append; count]
}

/// Several segments, all of them durable and below the recovery point.
fn stored(count: usize) -> Vec<Step> {
    [appends(count), vec![Step::Sync, Step::NewEpoch], appends(2), vec![Step::Close]].concat()
}

fn append() -> Procedure {
    ("append", stored(2), [appends(4), vec![Step::Sync]].concat())
}

fn roll() -> Procedure {
    ("roll", stored(2), [appends(10), vec![Step::Sync]].concat())
}

fn checkpoint() -> Procedure {
    // Appends go on during a checkpoint; several make sure of it.
    let again = [Step::Checkpoint, Step::Append].repeat(3);
    ("checkpoint", [stored(2), appends(10)].concat(), again)
}

// The cleaner's swap has its place here and is not explored yet: a cleaned log is no prefix, so it
// needs another model. `cleaner_crash` cuts it short at every change, with outcomes by seed.

fn truncate() -> Procedure {
    ("truncate", stored(24), vec![Step::Truncate(60), Step::Append, Step::Sync])
}

fn truncate_all() -> Procedure {
    ("truncate all", stored(24), vec![Step::Truncate(0), Step::Append, Step::Sync])
}

fn retention() -> Procedure {
    ("retention", stored(36), vec![Step::DeleteOld, Step::Append, Step::Sync])
}

fn delete_records() -> Procedure {
    ("delete records", stored(24), vec![Step::AdvanceStart(250), Step::DeleteOld, Step::Append])
}

fn clean_shutdown() -> Procedure {
    ("clean shutdown", [stored(3), appends(10)].concat(), vec![Step::Close])
}

fn survives((name, before, procedure): &Procedure) {
    for seed in 0..SEEDS {
        let explored = explore(seed, before, procedure, None)
            .unwrap_or_else(|failure| panic!("{name}, seed {seed}: {failure}"));
        let enough = explored.crash_points > 3 && explored.states > 10;
        assert!(enough, "{name}, seed {seed}: {explored:?} is too little");
    }
}

#[test]
fn append_survives_any_outcome() {
    survives(&append());
}

#[test]
fn roll_survives_any_outcome() {
    survives(&roll());
}

#[test]
fn checkpoint_survives_any_outcome() {
    survives(&checkpoint());
}

#[test]
fn truncation_of_several_segments_survives_any_outcome() {
    survives(&truncate());
}

#[test]
fn truncation_of_all_survives_any_outcome() {
    survives(&truncate_all());
}

#[test]
fn retention_of_several_segments_survives_any_outcome() {
    survives(&retention());
}

#[test]
fn deletion_of_records_survives_any_outcome() {
    survives(&delete_records());
}

#[test]
fn clean_shutdown_survives_any_outcome() {
    survives(&clean_shutdown());
}

#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    let all = [append(), roll(), checkpoint(), truncate(), retention(), clean_shutdown()];
    for lie in [Lie::FileSyncs, Lie::DirSyncs] {
        let caught = all.iter().filter(|(_, before, procedure)| {
            (0..SEEDS).any(|seed| explore(seed, before, procedure, Some(lie)).is_err())
        });
        assert!(caught.count() > 3, "{lie:?}");
    }
}
