//! Readers that go back, or leave records out.

use std::collections::BTreeMap;

use crate::anomaly::{Anomaly, Extent, Reader, Report};
use crate::history::{Isolation, Operation, Record, TopicPartition};
use crate::view::View;

pub(crate) fn check(view: &View<'_>, report: &mut Report) {
    let mut next_of: BTreeMap<(u32, &TopicPartition), i64> = BTreeMap::new();
    for operation in &view.history.operations {
        match operation {
            Operation::Moved { consumer, partition, position } => {
                match position {
                    Some(position) => next_of.insert((*consumer, partition), *position),
                    None => next_of.remove(&(*consumer, partition)),
                };
            }
            Operation::Poll(poll) => {
                for fetched in &poll.fetched {
                    let reader = Reader::Consumer(poll.consumer);
                    let mut walk = Walk { view, partition: &fetched.partition, reader, report };
                    let before = next_of.get(&(poll.consumer, &fetched.partition)).copied();
                    let next = walk.run(before, &fetched.records, poll.isolation);
                    if let Some(next) = next {
                        next_of.insert((poll.consumer, &fetched.partition), next);
                    }
                }
            }
            Operation::Send(_) | Operation::Begin(_) | Operation::End(..) => {}
        }
    }
    for (partition, read) in &view.history.final_reads {
        // What it leaves out is lost, and told as that.
        let mut next = None;
        for record in &read.records {
            if let Some(expected) = next.filter(|next| record.offset < *next) {
                let (reader, extent) = (Reader::Final, Extent::Internal);
                report.anomalies.push(back(partition, reader, extent, expected, record));
            }
            next = Some(record.offset + 1);
        }
    }
}

/// One partition's part of one poll.
struct Walk<'v, 'r> {
    view: &'v View<'v>,
    partition: &'v TopicPartition,
    reader: Reader,
    report: &'r mut Report,
}

impl Walk<'_, '_> {
    /// Answers the position afterwards.
    fn run(
        &mut self,
        before: Option<i64>,
        records: &[Record],
        isolation: Isolation,
    ) -> Option<i64> {
        let mut next = before;
        let mut extent = Extent::External;
        for record in records {
            if let Some(expected) = next {
                if record.offset < expected {
                    let fault = back(self.partition, self.reader, extent, expected, record);
                    self.report.anomalies.push(fault);
                } else {
                    self.skipped(expected, record.offset, extent, isolation);
                }
            }
            next = Some(record.offset + 1);
            extent = Extent::Internal;
        }
        next
    }

    /// Tells the records between `from` and `to` that were there and should have been given.
    fn skipped(&mut self, from: i64, to: i64, extent: Extent, isolation: Isolation) {
        let log = &self.view.logs[self.partition];
        // Deletion moves readers on, as compaction does.
        for (offset, values) in log.at.range(from.max(log.log_start()).min(to)..to) {
            let is_there = !log.is_compacted() || log.kept.contains_key(offset);
            let value = *values.first().expect("an offset that was seen has a value");
            if is_there && self.view.is_visible(value, isolation) {
                self.report.anomalies.push(Anomaly::SkippedPoll {
                    partition: self.partition.clone(),
                    reader: self.reader,
                    extent,
                    offset: *offset,
                    value,
                });
            }
        }
    }
}

fn back(
    partition: &TopicPartition,
    reader: Reader,
    extent: Extent,
    expected: i64,
    record: &Record,
) -> Anomaly {
    Anomaly::NonMonotonicPoll {
        partition: partition.clone(),
        reader,
        extent,
        expected,
        offset: record.offset,
        value: record.value,
    }
}
