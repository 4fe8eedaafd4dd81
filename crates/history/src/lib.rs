//! What clients did and saw, and everything in it that a broker must not do.
//!
//! A fault test records a [`History`] while it runs and reads every partition whole at its end.
//! [`check`] is pure: history in, [`Report`] out. The anomalies are those of Jepsen's Kafka workload
//! and the rule of compaction: a compacted partition read from its start gives every key its last
//! value.
//!
//! A value is an id that is sent once in a history. Where the test keeps it in the record (in the
//! value, or in a header where there are tombstones) is the test's own business.

mod anomaly;
mod checks;
mod history;
mod view;

pub use anomaly::{Anomaly, Dependency, Extent, Reader, Report};
pub use history::{
    Acks, End, Fetched, FinalRead, History, Isolation, Operation, Outcome, Poll, Record, Send,
    Sent, TopicPartition,
};

/// All that is wrong with a history.
pub fn check(history: &History) -> Report {
    let view = view::View::of(history);
    let mut report = Report::default();
    checks::lost::check(&view, &mut report);
    checks::duplicates::check(&view, &mut report);
    checks::offsets::check(&view, &mut report);
    checks::invented::check(&view, &mut report);
    checks::polls::check(&view, &mut report);
    checks::sends::check(&view, &mut report);
    checks::aborted::check(&view, &mut report);
    checks::intermediate::check(&view, &mut report);
    checks::cycles::check(&view, &mut report);
    checks::compaction::check(&view, &mut report);
    report
}
