//! Histories by hand, one call an operation.

use klamm_history::{
    Acks, Anomaly, End, Fetched, FinalRead, History, Isolation, Operation, Outcome, Poll, Record,
    Report, Send, Sent, TopicPartition, check,
};

/// A history of one partition in the making.
#[derive(Default)]
pub(crate) struct Script {
    history: History,
}

/// Offset and value.
pub(crate) type At = (i64, u64);

pub(crate) fn partition() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// A record acknowledged at this offset.
pub(crate) fn acked((offset, value): At) -> Sent {
    sent(value, Outcome::Acked(Some(offset)))
}

pub(crate) fn sent(value: u64, outcome: Outcome) -> Sent {
    Sent { partition: partition(), value, key: None, tombstone: false, outcome }
}

pub(crate) fn keyed(key: &str, value: u64, outcome: Outcome) -> Sent {
    Sent { key: Some(key.to_owned()), ..sent(value, outcome) }
}

pub(crate) fn tombstone(key: &str, value: u64, outcome: Outcome) -> Sent {
    Sent { tombstone: true, ..keyed(key, value, outcome) }
}

pub(crate) fn send(records: Vec<Sent>) -> Send {
    Send { producer: 0, idempotent: true, acks: Acks::All, transaction: None, records }
}

pub(crate) fn records(at: &[At]) -> Vec<Record> {
    at.iter().map(|(offset, value)| Record { offset: *offset, value: *value }).collect()
}

impl Script {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn then(mut self, operation: Operation) -> Self {
        self.history.operations.push(operation);
        self
    }

    pub(crate) fn send(self, send: Send) -> Self {
        self.then(Operation::Send(send))
    }

    /// An idempotent producer's send, acknowledged.
    pub(crate) fn acked(self, at: &[At]) -> Self {
        self.send(send(at.iter().copied().map(acked).collect()))
    }

    /// Sent in a transaction.
    pub(crate) fn within(self, transaction: u32, records: Vec<Sent>) -> Self {
        self.send(Send { transaction: Some(transaction), producer: transaction, ..send(records) })
    }

    pub(crate) fn begin(self, transaction: u32) -> Self {
        self.then(Operation::Begin(transaction))
    }

    pub(crate) fn end(self, transaction: u32, end: End) -> Self {
        self.then(Operation::End(transaction, end))
    }

    pub(crate) fn polled(self, at: &[At]) -> Self {
        self.poll(None, Isolation::ReadCommitted, partition(), at)
    }

    pub(crate) fn poll(
        self,
        transaction: Option<u32>,
        isolation: Isolation,
        partition: TopicPartition,
        at: &[At],
    ) -> Self {
        let fetched = vec![Fetched { partition, records: records(at) }];
        // Each transaction polls with a consumer of its own.
        let consumer = transaction.unwrap_or(0);
        self.then(Operation::Poll(Poll { consumer, isolation, transaction, fetched }))
    }

    pub(crate) fn moved(self, position: Option<i64>) -> Self {
        self.then(Operation::Moved { consumer: 0, partition: partition(), position })
    }

    /// The whole read of a partition from 0 to `end`.
    pub(crate) fn last(self, end: i64, at: &[At]) -> Self {
        self.last_with(FinalRead { end, ..whole(at) })
    }

    pub(crate) fn last_with(mut self, read: FinalRead) -> Self {
        self.history.final_reads.insert(partition(), read);
        self
    }

    pub(crate) fn report(&self) -> Report {
        check(&self.history)
    }

    /// Nothing is wrong with it.
    #[track_caller]
    pub(crate) fn is_good(&self) {
        assert_eq!(self.report().anomalies, []);
    }

    /// These are wrong with it, and nothing else.
    #[track_caller]
    pub(crate) fn is_bad(&self, anomalies: &[Anomaly]) {
        assert_eq!(self.report().anomalies, anomalies);
    }
}

/// A whole read that ends after its last record.
pub(crate) fn whole(at: &[At]) -> FinalRead {
    FinalRead {
        log_start: 0,
        end: at.last().map_or(0, |(offset, _)| offset + 1),
        isolation: Isolation::ReadCommitted,
        compacted: false,
        records: records(at),
    }
}

/// As [`whole`], of a compacted partition.
pub(crate) fn compacted(at: &[At]) -> FinalRead {
    FinalRead { compacted: true, ..whole(at) }
}
