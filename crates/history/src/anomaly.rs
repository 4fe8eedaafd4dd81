//! The output: one value per fault.

use crate::history::TopicPartition;

/// Whether two things that stand wrongly came together or one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// Within one poll, send or transaction.
    Internal,
    /// Between two of one client.
    External,
}

/// Who read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reader {
    /// A consumer, by its number.
    Consumer(u32),
    /// The whole read at the end.
    Final,
}

/// Which edges a cycle of transactions has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependency {
    /// Only writes before writes. Kafka permits it: transactions that are open at the same time
    /// interleave.
    WritesOnly,
    /// A read of what another wrote is among them (G1c): never permitted.
    WithReads,
}

/// Something that a broker must not do. All have the partition, the offset and the value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "partition, offset and value say what they are")]
pub enum Anomaly {
    /// Acknowledged or polled, then gone, although a read went past it.
    LostWrite { partition: TopicPartition, offset: Option<i64>, value: u64 },
    /// Acknowledged, but no read came as far as its offset.
    Unseen { partition: TopicPartition, offset: Option<i64>, value: u64 },
    /// An idempotent producer's record stands at several offsets.
    Duplicate { partition: TopicPartition, offsets: Vec<i64>, value: u64 },
    /// Several values were seen at one offset.
    InconsistentOffset { partition: TopicPartition, offset: i64, values: Vec<u64> },
    /// Nobody sent this value to this partition.
    Invented { partition: TopicPartition, offset: i64, value: u64 },
    /// A reader went back without being told to.
    NonMonotonicPoll {
        partition: TopicPartition,
        reader: Reader,
        extent: Extent,
        expected: i64,
        offset: i64,
        value: u64,
    },
    /// A reader left out a record that was there.
    SkippedPoll {
        partition: TopicPartition,
        reader: Reader,
        extent: Extent,
        offset: i64,
        value: u64,
    },
    /// A producer's record stands before one that it sent earlier.
    NonMonotonicSend {
        partition: TopicPartition,
        producer: u32,
        extent: Extent,
        earlier: i64,
        offset: i64,
        value: u64,
    },
    /// A record was read that was refused, or whose transaction was aborted.
    AbortedRead { partition: TopicPartition, reader: Reader, offset: i64, value: u64 },
    /// A record was read under read_committed while its transaction was open.
    IntermediateRead { partition: TopicPartition, consumer: u32, offset: i64, value: u64 },
    /// Each of these transactions comes before the next, and the last before the first; the record
    /// is one that makes the first come before another.
    WriteCycle {
        partition: TopicPartition,
        offset: i64,
        value: u64,
        transactions: Vec<u32>,
        dependency: Dependency,
    },
    /// A compacted partition does not give a key its last value.
    WrongLastValue {
        partition: TopicPartition,
        key: String,
        offset: i64,
        value: u64,
        found: Option<u64>,
    },
}

/// What the check of a history gives.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Faults.
    pub anomalies: Vec<Anomaly>,
    /// Values of plain producers that stand more than once, which is allowed.
    pub duplicates_allowed: usize,
    /// Acknowledged records that the final reads had to have, and had: a check that looked at
    /// nothing is no check.
    pub acked_found: usize,
    /// Acknowledged records that retention had deleted.
    pub acked_deleted: usize,
    /// Acknowledged records that compaction had removed.
    pub acked_compacted: usize,
}
