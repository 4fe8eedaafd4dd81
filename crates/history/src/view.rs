//! The history, ordered by what the checks ask for.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{
    Acks, End, FinalRead, History, Isolation, Operation, Outcome, Send, Sent, TopicPartition,
};

/// What is known of one partition.
#[derive(Debug, Default)]
pub(crate) struct Log<'a> {
    /// Every value that anybody saw at an offset or was told stands there.
    pub(crate) at: BTreeMap<i64, BTreeSet<u64>>,
    /// Where a value was seen or said to stand.
    pub(crate) of: BTreeMap<u64, BTreeSet<i64>>,
    /// What consumers were given.
    pub(crate) polled: BTreeSet<(u64, i64)>,
    /// The whole read.
    pub(crate) last: Option<&'a FinalRead>,
    /// What the whole read gave, by offset.
    pub(crate) kept: BTreeMap<i64, u64>,
}

/// A record that was sent, with its send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    pub(crate) send: &'a Send,
    pub(crate) sent: &'a Sent,
}

/// The whole history.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) history: &'a History,
    pub(crate) origins: BTreeMap<u64, Origin<'a>>,
    pub(crate) ends: BTreeMap<u32, End>,
    pub(crate) logs: BTreeMap<&'a TopicPartition, Log<'a>>,
}

impl<'a> View<'a> {
    pub(crate) fn of(history: &'a History) -> Self {
        let mut view = Self {
            history,
            origins: BTreeMap::new(),
            ends: BTreeMap::new(),
            logs: BTreeMap::new(),
        };
        for operation in &history.operations {
            match operation {
                Operation::Send(send) => view.add_send(send),
                Operation::Poll(poll) => {
                    for fetched in &poll.fetched {
                        let log = view.logs.entry(&fetched.partition).or_default();
                        for record in &fetched.records {
                            log.see(record.offset, record.value);
                            log.polled.insert((record.value, record.offset));
                        }
                    }
                }
                Operation::End(transaction, end) => {
                    view.ends.insert(*transaction, *end);
                }
                Operation::Moved { .. } | Operation::Begin(_) => {}
            }
        }
        for (partition, read) in &history.final_reads {
            let log = view.logs.entry(partition).or_default();
            for record in &read.records {
                log.see(record.offset, record.value);
                log.kept.insert(record.offset, record.value);
            }
            log.last = Some(read);
        }
        view
    }

    fn add_send(&mut self, send: &'a Send) {
        for sent in &send.records {
            let twice = self.origins.insert(sent.value, Origin { send, sent });
            assert!(twice.is_none(), "the test sent value {} twice", sent.value);
            let log = self.logs.entry(&sent.partition).or_default();
            // What only the leader had may be lost, and its offset given to another.
            if let (Outcome::Acked(Some(offset)), Acks::All) = (sent.outcome, send.acks) {
                log.see(offset, sent.value);
            }
        }
    }

    /// How the transaction of a value ended; one that never did may still do either.
    pub(crate) fn end_of(&self, origin: Origin<'_>) -> End {
        match origin.send.transaction {
            None => End::Committed,
            Some(transaction) => self.ends.get(&transaction).copied().unwrap_or(End::Unknown),
        }
    }

    /// Whether a reader of this isolation must be given the value, once it is written.
    pub(crate) fn is_visible(&self, value: u64, isolation: Isolation) -> bool {
        let origin = self.origins.get(&value);
        isolation == Isolation::ReadUncommitted
            || origin.is_none_or(|origin| self.end_of(*origin) == End::Committed)
    }
}

impl Log<'_> {
    fn see(&mut self, offset: i64, value: u64) {
        self.at.entry(offset).or_default().insert(value);
        self.of.entry(value).or_default().insert(offset);
    }

    pub(crate) fn log_start(&self) -> i64 {
        self.last.map_or(0, |read| read.log_start)
    }

    pub(crate) fn is_compacted(&self) -> bool {
        self.last.is_some_and(|read| read.compacted)
    }

    /// Where the value stands last, as far as known.
    pub(crate) fn offset_of(&self, value: u64) -> Option<i64> {
        self.of.get(&value).and_then(BTreeSet::last).copied()
    }
}
