//! Reads of transactions that were still open (G1b).

use std::collections::BTreeSet;

use crate::anomaly::{Anomaly, Report};
use crate::history::{Isolation, Operation};
use crate::view::View;

pub(crate) fn check(view: &View<'_>, report: &mut Report) {
    let mut open = BTreeSet::new();
    for operation in &view.history.operations {
        match operation {
            Operation::Begin(transaction) => {
                open.insert(*transaction);
            }
            Operation::End(transaction, _) => {
                open.remove(transaction);
            }
            Operation::Poll(poll) if poll.isolation == Isolation::ReadCommitted => {
                for fetched in &poll.fetched {
                    for record in &fetched.records {
                        let origin = view.origins.get(&record.value);
                        let transaction = origin.and_then(|origin| origin.send.transaction);
                        if transaction.is_some_and(|transaction| open.contains(&transaction)) {
                            report.anomalies.push(Anomaly::IntermediateRead {
                                partition: fetched.partition.clone(),
                                consumer: poll.consumer,
                                offset: record.offset,
                                value: record.value,
                            });
                        }
                    }
                }
            }
            Operation::Poll(_) | Operation::Send(_) | Operation::Moved { .. } => {}
        }
    }
}
