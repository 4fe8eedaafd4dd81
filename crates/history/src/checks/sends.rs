//! A producer's records out of the order sent.

use std::collections::BTreeMap;

use crate::anomaly::{Anomaly, Extent, Report};
use crate::history::{Acks, Operation, Outcome, TopicPartition};
use crate::view::View;

/// The last acknowledged record: which operation, in which transaction, at which offset.
type Before = (usize, Option<u32>, i64);

pub(crate) fn check(view: &View<'_>, report: &mut Report) {
    let mut last: BTreeMap<(u32, &TopicPartition), Before> = BTreeMap::new();
    for (index, operation) in view.history.operations.iter().enumerate() {
        let Operation::Send(send) = operation else { continue };
        for sent in &send.records {
            // What only the leader had may be lost, and the order starts anew at a lower offset.
            let (Outcome::Acked(Some(offset)), Acks::All) = (sent.outcome, send.acks) else {
                continue;
            };
            let now = (index, send.transaction, offset);
            let before = last.insert((send.producer, &sent.partition), now);
            let Some((operation, transaction, earlier)) = before else { continue };
            let is_same_transaction = transaction.is_some() && transaction == send.transaction;
            // At the very same offset it is two values at one offset, and told as that.
            if offset < earlier {
                report.anomalies.push(Anomaly::NonMonotonicSend {
                    partition: sent.partition.clone(),
                    producer: send.producer,
                    extent: if operation == index || is_same_transaction {
                        Extent::Internal
                    } else {
                        Extent::External
                    },
                    earlier,
                    offset,
                    value: sent.value,
                });
            }
        }
    }
}
