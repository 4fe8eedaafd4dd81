//! What the clients did and saw, judged at the end.

use klamm_history::{History, Operation, Outcome as Fate, check};

use super::shared::Notes;
use super::{Failure, Outcome};

/// The most faults of a run that are told.
const SHOWN_MAX: usize = 10;

/// Judges the history of all clients and the committed offsets.
pub(super) fn judge(notes: Notes) -> Result<Outcome, Failure> {
    check_ends(&notes)?;
    check_commits(&notes)?;
    let acknowledged = acknowledged(&notes);
    let operations = notes.operations.into_values().flatten().collect();
    let history = History { operations, final_reads: notes.final_reads };
    let report = check(&history);
    if !report.anomalies.is_empty() {
        let shown: Vec<_> =
            report.anomalies.iter().take(SHOWN_MAX).map(|anomaly| format!("{anomaly:?}")).collect();
        let count = report.anomalies.len();
        return Err(format!("{count} anomalies: {}", shown.join("; ")).into());
    }
    if acknowledged == 0 || report.acked_found == 0 || notes.polled == 0 {
        let found = report.acked_found;
        let polled = notes.polled;
        let what = format!("{acknowledged} acknowledged, {found} found, {polled} polled");
        return Err(format!("the run did too little: {what}").into());
    }
    Ok(Outcome {
        acknowledged,
        found: report.acked_found,
        polled: notes.polled,
        commits: notes.commits,
        ..Outcome::default()
    })
}

fn acknowledged(notes: &Notes) -> usize {
    let sends = notes.operations.values().flatten().filter_map(|operation| match operation {
        Operation::Send(send) => Some(send),
        _ => None,
    });
    let records = sends.flat_map(|send| &send.records);
    records.filter(|sent| matches!(sent.outcome, Fate::Acked(_))).count()
}

/// I9: nothing below an end that a consumer was told is gone.
fn check_ends(notes: &Notes) -> Result<(), String> {
    for (partition, told) in &notes.high_watermarks {
        let end = notes.ends.get(partition).copied().unwrap_or(0);
        if end < *told {
            return Err(format!("I9: partition {partition} ends at {end} after {told}"));
        }
    }
    Ok(())
}

/// I14: what was committed last is there, or a later commit whose answer was lost.
fn check_commits(notes: &Notes) -> Result<(), String> {
    for (partition, acked) in &notes.committed {
        let found = notes.committed_at_end.get(partition).copied().unwrap_or(-1);
        let tried = notes.commits_tried.get(partition).copied().unwrap_or(0);
        if !(*acked..=tried).contains(&found) {
            return Err(format!(
                "I14: the group is at {found} of partition {partition}; {acked} was acknowledged, \
                 {tried} asked for"
            ));
        }
    }
    Ok(())
}
