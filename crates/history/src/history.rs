//! The input: operations by client, and the whole reads at the end.

use std::collections::BTreeMap;

/// A partition's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: String,
    /// Its number there.
    pub partition: i32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: &str, partition: i32) -> Self {
        Self { topic: topic.to_owned(), partition }
    }
}

/// When the broker was to answer a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Never.
    None,
    /// When the leader had it; it may be lost.
    Leader,
    /// When it was safe; it may not be lost.
    All,
}

/// What a client knows of one record that it sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was acknowledged, at this offset where the broker told it.
    Acked(Option<i64>),
    /// It was refused and certainly never written.
    Failed,
    /// It may be there or not.
    Unknown,
}

/// One record of a send.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Where to.
    pub partition: TopicPartition,
    /// Its id, sent once in a history.
    pub value: u64,
    /// Its key.
    pub key: Option<String>,
    /// Whether it deletes its key.
    pub tombstone: bool,
    /// What became of it.
    pub outcome: Outcome,
}

/// Records that one producer sent together, in this order.
#[derive(Clone, Debug)]
pub struct Send {
    /// Who sent. A producer that starts anew with nothing under way may keep its number.
    pub producer: u32,
    /// Whether the broker recognises what it is sent twice.
    pub idempotent: bool,
    /// When the broker was to answer.
    pub acks: Acks,
    /// The transaction that it belongs to.
    pub transaction: Option<u32>,
    /// In the order sent.
    pub records: Vec<Sent>,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it counts.
    Committed,
    /// None of it counts.
    Aborted,
    /// One or the other.
    Unknown,
}

/// Which records a reader sees of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// All.
    ReadUncommitted,
    /// Those of committed ones.
    ReadCommitted,
}

/// A record as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stood.
    pub offset: i64,
    /// Its id.
    pub value: u64,
}

/// What one poll returned of one partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Where from.
    pub partition: TopicPartition,
    /// In the order returned.
    pub records: Vec<Record>,
}

/// What a consumer was given at once.
#[derive(Clone, Debug)]
pub struct Poll {
    /// Who asked.
    pub consumer: u32,
    /// What it sees of transactions.
    pub isolation: Isolation,
    /// The transaction that it polled in.
    pub transaction: Option<u32>,
    /// What it was given.
    pub fetched: Vec<Fetched>,
}

/// One thing that a client did.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Records were sent. Its place in the history is when the sending began.
    Send(Send),
    /// Records were read. Its place is when the answer was there.
    Poll(Poll),
    /// A seek or an assignment: the consumer goes on at `position`, or anywhere.
    Moved {
        /// Who.
        consumer: u32,
        /// Where.
        partition: TopicPartition,
        /// The next offset that it asks for; none where the broker chooses.
        position: Option<i64>,
    },
    /// A transaction begins.
    Begin(u32),
    /// Its end is asked for: from here on others may see it. How it ended may be known only later.
    End(u32, End),
}

/// A partition read whole at the end, when nothing changed any more.
#[derive(Clone, Debug)]
pub struct FinalRead {
    /// The first offset that was not deleted.
    pub log_start: i64,
    /// The offset after the last that the read got to.
    pub end: i64,
    /// What it saw of transactions.
    pub isolation: Isolation,
    /// Whether records may be gone because a later one has their key.
    pub compacted: bool,
    /// In the order read.
    pub records: Vec<Record>,
}

/// All that happened, each client's operations in its own order.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What the clients did.
    pub operations: Vec<Operation>,
    /// The whole reads.
    pub final_reads: BTreeMap<TopicPartition, FinalRead>,
}
