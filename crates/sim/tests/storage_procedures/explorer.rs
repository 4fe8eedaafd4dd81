//! Runs a procedure up to each of its changes of the disk, and opens the log on every disk that a
//! power loss there may leave.

use std::collections::BTreeSet;

use klamm_sim::disk::{Fate, Lie};

use crate::harness::{Counts, Run, Step, Stop};

/// What was tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Explored {
    /// Changes of the disk within the procedure, and its end.
    pub crash_points: u64,
    /// Those with so many unsynced changes that their outcomes were sampled.
    pub sampled: u64,
    /// Different disks that a log was opened on.
    pub states: u64,
}

/// `before` happens, and then the power fails at each change of `procedure`.
///
/// # Errors
/// The first outcome that does not leave a prefix with all that was synced.
pub fn explore(
    seed: u64,
    before: &[Step],
    procedure: &[Step],
    lie: Option<Lie>,
) -> Result<Explored, String> {
    let mut explored = Explored::default();
    let mut seen = BTreeSet::new();
    for at in 0.. {
        let (run, finished) = cut_short(seed, before, procedure, at, lie)?;
        let point = run.disk.crash_point();
        explored.crash_points += 1;
        explored.sampled += u64::from(point.is_sampled());
        for outcome in point.outcomes() {
            let disk = point.disk(&outcome);
            let model = &run.model;
            let promised = (model.stored_start, model.start, model.durable_end, model.end);
            if !seen.insert((disk.fingerprint(), promised, run.in_flight.is_some())) {
                continue;
            }
            explored.states += 1;
            let mut left = Run {
                disk,
                random: run.random.clone(),
                model: run.model.clone(),
                in_flight: run.in_flight.clone(),
                policy: run.policy,
            };
            left.reopen_after_crash(true, &mut Counts::default())
                .map_err(|failure| told(at, &outcome, &failure))?;
        }
        if finished {
            break;
        }
    }
    println!("{explored:?}");
    Ok(explored)
}

fn told(at: u64, outcome: &[Fate], failure: &str) -> String {
    format!("power lost before change {at}, outcome {outcome:?}: {failure}")
}

/// The procedure up to its change `at`; whether it ended before that.
fn cut_short(
    seed: u64,
    before: &[Step],
    procedure: &[Step],
    at: u64,
    lie: Option<Lie>,
) -> Result<(Run, bool), String> {
    let mut run = Run::new(seed);
    run.disk.set_lie(lie);
    let counts = &mut Counts::default();
    let opened = run.open();
    let ready = opened.and_then(|(log, _)| run.go_on(log, before, counts));
    let Ok(log) = ready else {
        return Err("the disk works, and the log does not".to_owned());
    };
    run.disk.die_after(at);
    match run.go_on(log, procedure, counts) {
        Ok(_) => Ok((run, true)),
        Err(Stop::Died) => Ok((run, false)),
        Err(Stop::Failed(failure)) => Err(failure),
    }
}
