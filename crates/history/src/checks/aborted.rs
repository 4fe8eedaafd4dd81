//! Reads of what does not count (G1a).

use crate::anomaly::{Anomaly, Reader, Report};
use crate::history::{End, Isolation, Operation, Outcome, Record, TopicPartition};
use crate::view::View;

pub(crate) fn check(view: &View<'_>, report: &mut Report) {
    for operation in &view.history.operations {
        let Operation::Poll(poll) = operation else { continue };
        let reader = Reader::Consumer(poll.consumer);
        for fetched in &poll.fetched {
            judge(view, &fetched.partition, reader, poll.isolation, &fetched.records, report);
        }
    }
    for (partition, read) in &view.history.final_reads {
        judge(view, partition, Reader::Final, read.isolation, &read.records, report);
    }
}

fn judge(
    view: &View<'_>,
    partition: &TopicPartition,
    reader: Reader,
    isolation: Isolation,
    records: &[Record],
    report: &mut Report,
) {
    for record in records {
        let Some(origin) = view.origins.get(&record.value) else { continue };
        let was_refused = origin.sent.outcome == Outcome::Failed;
        let was_aborted =
            isolation == Isolation::ReadCommitted && view.end_of(*origin) == End::Aborted;
        if was_refused || was_aborted {
            report.anomalies.push(Anomaly::AbortedRead {
                partition: partition.clone(),
                reader,
                offset: record.offset,
                value: record.value,
            });
        }
    }
}
