//! How far the recovery of a log directory is, for people: a line for each tenth of its logs and one
//! at the end, however many there are.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tracing::info;

use crate::names::TopicPartition;
use crate::recovery::RecoveryReport;

/// Lines about one directory, or one log, but for the first and the last.
const LINES: usize = 10;

/// The logs of a directory that an earlier process left open, until each has been opened here.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    total: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    left: BTreeSet<TopicPartition>,
    scanned_bytes: u64,
    cut_bytes: u64,
    removed_segments: usize,
}

impl Progress {
    /// The directory at `path` with the logs that were found there, and whether all of them had been
    /// closed in order.
    pub(crate) fn begin(path: &Path, found: &[TopicPartition], in_order: bool) -> Progress {
        if found.is_empty() {
            return Progress::default();
        }
        let (dir, logs) = (path.display(), found.len());
        if in_order {
            info!(%dir, logs, "the logs were closed in order");
            return Progress::default();
        }
        info!(%dir, logs, "the logs were not closed in order; each is recovered when it is first used");
        let state = State { left: found.iter().cloned().collect(), ..State::default() };
        Progress { total: found.len(), state: Mutex::new(state) }
    }

    /// A log is open.
    pub(crate) fn recovered(&self, path: &Path, log: &TopicPartition, report: &RecoveryReport) {
        self.done(path, log, Some(report));
    }

    /// A log is gone with its topic.
    pub(crate) fn gone(&self, path: &Path, log: &TopicPartition) {
        self.done(path, log, None);
    }

    fn done(&self, path: &Path, log: &TopicPartition, report: Option<&RecoveryReport>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.left.remove(log) {
            return;
        }
        if let Some(report) = report {
            state.scanned_bytes += report.scanned_bytes;
            state.cut_bytes += report.cut_bytes;
            state.removed_segments += report.removed_segments;
        }
        let (dir, left) = (path.display(), state.left.len());
        if left == 0 {
            let State { scanned_bytes, cut_bytes, removed_segments, .. } = *state;
            let logs = self.total;
            info!(%dir, logs, scanned_bytes, cut_bytes, removed_segments, "all logs are recovered");
        } else if is_line(self.total, self.total - left) {
            info!(%dir, left, of = self.total, "logs are left to recover");
        }
    }
}

/// Tells how far the recovery of one log of several segments is, `done` of `total` being read.
pub(crate) fn tell_segments(log: &TopicPartition, done: usize, total: usize) {
    if done < total && is_line(total, done) {
        info!(partition = %log, left = total - done, of = total, "segments are left to recover");
    }
}

/// Whether step `done` of `total` is one of those that are told.
fn is_line(total: usize, done: usize) -> bool {
    done > 0 && done * LINES / total > (done - 1) * LINES / total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_steps_are_told_in_few_lines_and_few_steps_in_one_each() {
        for total in [1, 2, 9, 10, 11, 1_000, 10_007] {
            let lines = (1..=total).filter(|done| is_line(total, *done)).count();
            assert_eq!(lines, total.min(LINES), "{total}");
        }
    }
}
