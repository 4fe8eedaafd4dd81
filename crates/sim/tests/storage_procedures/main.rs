//! I15 and I16 over the storage procedures, exhaustively: wherever the power fails in one of them,
//! and whatever then survives of what was not synced, the log is a prefix of what it was, holds at
//! least what was synced, and its epochs and producers are those of its batches.

#[path = "../cleaner_crash/harness.rs"]
#[expect(unreachable_pub, dead_code, reason = "modules of several tests")]
mod cleaner;
#[expect(unreachable_pub, reason = "modules of a test")]
mod deletion;
#[expect(unreachable_pub, reason = "modules of a test")]
mod explorer;
#[path = "../log_crash/harness.rs"]
#[expect(unreachable_pub, dead_code, reason = "modules of several tests")]
mod harness;
#[path = "../log_crash/model.rs"]
#[expect(unreachable_pub, reason = "modules of several tests")]
mod model;
#[expect(unreachable_pub, reason = "modules of a test")]
mod steps;
#[expect(unreachable_pub, reason = "modules of a test")]
mod swap;

use explorer::{Cut, Explored, explore, is_found_out};
use klamm_sim::disk::Lie;
use steps::Procedure;

/// Seeds decide lengths, producers and where segments end.
const SEEDS: u64 = 1;
/// Those of the whole run, `cargo xtask powerloss`, which sets the variable.
const SEEDS_WHOLE: u64 = 4;
const SEEDS_VARIABLE: &str = "KLAMM_POWERLOSS_SEEDS";

fn seeds() -> u64 {
    if std::env::var_os(SEEDS_VARIABLE).is_some() { SEEDS_WHOLE } else { SEEDS }
}

/// `cut_short(seed, at)` is the procedure up to its change `at`.
fn survives(name: &str, cut_short: impl Fn(u64, u64) -> Result<Cut, String>) {
    let (mut all_points, mut all_states) = (0, 0);
    for seed in 0..seeds() {
        let explored = explore(|at| cut_short(seed, at))
            .unwrap_or_else(|failure| panic!("{name}, seed {seed}: {failure}"));
        let Explored { crash_points, states, disks } = explored;
        println!(
            "procedure {name}; crash_points: {crash_points}, states: {states}, disks: {disks:.0}"
        );
        (all_points, all_states) = (all_points + crash_points, all_states + states);
    }
    let enough = all_points > 10 * seeds() && all_states > 100 * seeds();
    assert!(enough, "{name}: {all_points} crash points and {all_states} states are too little");
}

fn steps_survive(procedure: &Procedure) {
    survives(procedure.0, |seed, at| steps::cut_short(seed, procedure, at, None));
}

#[test]
fn append_survives_any_outcome() {
    steps_survive(&steps::append());
}

#[test]
fn roll_survives_any_outcome() {
    steps_survive(&steps::roll());
}

#[test]
fn checkpoint_survives_any_outcome() {
    steps_survive(&steps::checkpoint());
}

#[test]
fn a_swap_survives_any_outcome() {
    // Hazard 45.
    survives("swap", |seed, at| swap::cut_short(seed, at, None));
}

#[test]
fn truncation_within_a_segment_survives_any_outcome() {
    steps_survive(&steps::truncate());
}

#[test]
fn truncation_to_a_segment_survives_any_outcome() {
    steps_survive(&steps::truncate_to_segment());
}

#[test]
fn truncation_of_a_tail_survives_any_outcome() {
    steps_survive(&steps::truncate_tail());
}

#[test]
fn truncation_of_all_survives_any_outcome() {
    steps_survive(&steps::truncate_all());
}

#[test]
fn retention_of_several_segments_survives_any_outcome() {
    steps_survive(&steps::retention());
}

#[test]
fn deletion_of_records_survives_any_outcome() {
    steps_survive(&steps::delete_records());
}

#[test]
fn deletion_of_a_log_survives_any_outcome() {
    survives("delete", |_, at| deletion::cut_short(at, None));
}

#[test]
fn clean_shutdown_survives_any_outcome() {
    steps_survive(&steps::clean_shutdown());
}

#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    let procedures = [
        steps::append(),
        steps::roll(),
        steps::checkpoint(),
        steps::first_step(steps::truncate()),
        steps::first_step(steps::truncate_to_segment()),
        steps::first_step(steps::truncate_all()),
        steps::retention(),
        steps::delete_records(),
        steps::clean_shutdown(),
    ];
    for lie in [Lie::FileSyncs, Lie::DirSyncs] {
        let lie = Some(lie);
        let mut missed = Vec::new();
        for procedure in &procedures {
            if !is_found_out(|at| steps::cut_short(0, procedure, at, lie)) {
                missed.push(procedure.0);
            }
        }
        // Names that are not synced are too many in a swap; the random pass of the cleaner
        // (cleaner_crash) finds that lie out.
        let explorable = lie != Some(Lie::DirSyncs);
        if explorable && !is_found_out(|at| swap::cut_short(0, at, lie)) {
            missed.push("swap");
        }
        if !is_found_out(|at| deletion::cut_short(at, lie)) {
            missed.push("delete");
        }
        assert_eq!(missed, [""; 0], "{lie:?}");
    }
}
