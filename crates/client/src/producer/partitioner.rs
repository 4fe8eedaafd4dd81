//! Which partition a record goes to.

use super::{ProducerConfig, ProducerRecord};

/// Where records go that name no partition. Records with a key go where Kafka's own clients send
/// them, whatever the rule for those without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Partitioner {
    /// Records without a key go to the partitions in turn: two records over two partitions give
    /// one each.
    #[default]
    RoundRobin,
    /// Records without a key go to one partition for a batch's worth of bytes, then to another at
    /// random: fewer, larger batches.
    Sticky,
}

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;
const R: u32 = 24;

/// The hash by which Kafka's Java client files keys.
pub fn murmur2(key: &[u8]) -> i32 {
    let len = u32::try_from(key.len()).expect("a record's key is below 2 GiB");
    let mut chunks = key.chunks_exact(4);
    let mut hash = SEED ^ len;
    for chunk in &mut chunks {
        let word = u32::from_le_bytes(chunk.try_into().expect("chunks of four"));
        let mixed = word.wrapping_mul(M);
        let mixed = (mixed ^ (mixed >> R)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ mixed;
    }
    let tail = chunks.remainder();
    if !tail.is_empty() {
        let word = tail.iter().rev().fold(0, |word, byte| (word << 8) | u32::from(*byte));
        hash = (hash ^ word).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    (hash ^ (hash >> 15)).cast_signed()
}

/// The partition of `key` among `count`, as Kafka's own clients choose it.
pub fn partition_for_key(key: &[u8], count: i32) -> i32 {
    assert!(count > 0, "a topic has {count} partitions");
    (murmur2(key) & i32::MAX) % count
}

/// The state of a topic's rule.
#[derive(Default)]
pub(super) struct Choice {
    next: i32,
    sticky: Option<i32>,
    sticky_bytes: usize,
}

impl Choice {
    pub(super) fn partition(
        &mut self,
        config: &ProducerConfig,
        record: &ProducerRecord,
        count: i32,
        random: impl FnOnce() -> u64,
    ) -> i32 {
        match (&record.key, config.partitioner) {
            (Some(key), _) => partition_for_key(key, count),
            (None, Partitioner::RoundRobin) => self.round_robin(count),
            (None, Partitioner::Sticky) => {
                self.stick(count, record.bytes(), config.batch_bytes, random)
            }
        }
    }

    fn round_robin(&mut self, count: i32) -> i32 {
        let partition = self.next % count;
        self.next = (partition + 1) % count;
        partition
    }

    fn stick(
        &mut self,
        count: i32,
        bytes: usize,
        batch_bytes: usize,
        random: impl FnOnce() -> u64,
    ) -> i32 {
        let current =
            self.sticky.filter(|partition| *partition < count && self.sticky_bytes < batch_bytes);
        let partition = current.unwrap_or_else(|| {
            self.sticky_bytes = 0;
            let count = u64::from(count.unsigned_abs());
            i32::try_from(random() % count).expect("below an i32")
        });
        self.sticky = Some(partition);
        self.sticky_bytes += bytes;
        partition
    }
}
