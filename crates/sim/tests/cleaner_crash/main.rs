//! I16 and hazard 45: wherever a pass of the cleaner is cut short, the log is as before or as after,
//! never a mix. What is read from its start gives the same newest value of each key, and a record
//! that is seen is the one that was appended at that offset. A read_committed reader sees none of an
//! aborted transaction, of which some batches may be left and some not.

#[expect(unreachable_pub, reason = "modules of a test")]
mod harness;

use harness::Run;
use klamm_sim::disk::Lie;
use rand::Rng;

#[test]
fn a_pass_cut_short_at_any_operation_leaves_the_log_as_before_or_as_after() {
    let mut points = 0;
    for power in [true, false] {
        let mut at = 0;
        loop {
            points += 8;
            let mut cut = false;
            for seed in 0..8 {
                let outcome = Run::new(seed).cut_short(at, power);
                cut |= outcome
                    .unwrap_or_else(|why| panic!("operation {at}, seed {seed}, {power}: {why}"));
            }
            if !cut {
                break;
            }
            at += 1;
        }
        assert!(at > 60, "{at} operations are fewer than a pass has");
    }
    println!("crash_points: {points}");
}

#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    for lie in [Lie::FileSyncs, Lie::DirSyncs] {
        let caught = (0..120).filter(|seed| {
            let mut run = Run::new(*seed);
            run.disk.set_lie(Some(lie));
            let at = run.random.random_range(0..80);
            run.cut_short(at, true).is_err()
        });
        assert!(caught.count() > 20, "{lie:?}");
    }
}
