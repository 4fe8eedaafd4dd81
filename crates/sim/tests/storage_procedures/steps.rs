//! The procedures that a script of steps makes up; what is left is compared with a model.

use std::sync::Arc;

use klamm_sim::disk::Lie;

use crate::explorer::Cut;
use crate::harness::{Counts, Run, Step, Stop};

/// A name, what happens before, and the procedure.
pub type Procedure = (&'static str, Vec<Step>, Vec<Step>);

fn appends(count: usize) -> Vec<Step> {
    vec![Step::Append; count]
}

/// Several segments, all of them durable and below the recovery point.
fn stored(count: usize) -> Vec<Step> {
    [appends(count), vec![Step::Sync, Step::NewEpoch], appends(2), vec![Step::Close]].concat()
}

pub fn append() -> Procedure {
    ("append", stored(2), [appends(4), vec![Step::Sync]].concat())
}

pub fn roll() -> Procedure {
    ("roll", stored(2), [appends(7), vec![Step::Sync]].concat())
}

pub fn checkpoint() -> Procedure {
    // Appends go on during a checkpoint; several make sure of it.
    let again = [Step::Checkpoint, Step::Append].repeat(3);
    ("checkpoint", [stored(2), appends(6)].concat(), again)
}

/// A cut, and what comes after it: the log rolls, with a checkpoint before and after, so that what
/// the cut has removed could come back next to it.
fn cut_and_go_on(cut: Step) -> Vec<Step> {
    let (first, more) = (Step::Append, appends(4));
    let checkpoint = Step::Checkpoint;
    [&[cut, first, checkpoint], &more[..], &[checkpoint, Step::Append]].concat()
}

pub fn truncate() -> Procedure {
    ("truncate", stored(12), cut_and_go_on(Step::Truncate(60)))
}

pub fn truncate_to_segment() -> Procedure {
    ("truncate to a segment", stored(12), cut_and_go_on(Step::TruncateToSegment(1)))
}

/// Nothing past the cut is in a checkpoint yet: no snapshot goes with it, and so no second sync of the
/// directory.
pub fn truncate_tail() -> Procedure {
    let before = [stored(2), vec![Step::Fill(4), Step::Append, Step::Sync]].concat();
    ("truncate a tail", before, cut_and_go_on(Step::TruncateToSegment(1)))
}

pub fn truncate_all() -> Procedure {
    ("truncate all", stored(12), cut_and_go_on(Step::Truncate(0)))
}

/// A procedure without what comes after its first step: a disk that syncs no names has too many at
/// the end of the others.
pub fn first_step((name, before, procedure): Procedure) -> Procedure {
    (name, before, vec![procedure[0], Step::Append, Step::Sync])
}

pub fn retention() -> Procedure {
    let stored = vec![Step::Fill(6), Step::Sync, Step::NewEpoch, Step::Append, Step::Close];
    ("retention", stored, vec![Step::DeleteOld, Step::Append, Step::Sync])
}

pub fn delete_records() -> Procedure {
    ("delete records", stored(14), vec![Step::AdvanceStart(250), Step::DeleteOld, Step::Append])
}

pub fn clean_shutdown() -> Procedure {
    ("clean shutdown", [stored(3), appends(10)].concat(), vec![Step::Close])
}

/// The procedure up to its change `at`, on a disk that may `lie` from its begin on.
///
/// # Errors
/// When the log fails before the power does.
pub fn cut_short(
    seed: u64,
    (_, before, procedure): &Procedure,
    at: u64,
    lie: Option<Lie>,
) -> Result<Cut, String> {
    let mut run = Run::new(seed);
    let counts = &mut Counts::default();
    let opened = run.open();
    let ready = opened.and_then(|(log, _)| run.go_on(log, before, counts));
    let Ok(log) = ready else {
        return Err("the disk works, and the log does not".to_owned());
    };
    run.disk.set_lie(lie);
    run.disk.die_after(at);
    let finished = match run.go_on(log, procedure, counts) {
        Ok(_) => true,
        Err(Stop::Died) => false,
        Err(Stop::Failed(failure)) => return Err(failure),
    };
    let disk = Arc::clone(&run.disk);
    let check = move |disk| {
        let mut left = Run { disk, ..run.clone() };
        left.reopen_after_crash(true, &mut Counts::default())?;
        // What was shown once must not go any more.
        left.disk.lose_all_unsynced();
        let again = left.reopen_after_crash(true, &mut Counts::default());
        again.map_err(|failure| format!("after a second loss: {failure}"))
    };
    Ok(Cut { disk, finished, check: Box::new(check) })
}
