//! `/producer_ids`: which producer ids are handed out.

use serde::{Deserialize, Serialize};

use super::NodeValue;

/// Ids in one block, as in Kafka.
pub const BLOCK_LEN: i64 = 1000;

/// `/producer_ids`: the block that comes next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerIdsNode {
    /// First id that no block holds yet.
    pub next: i64,
    /// The broker that got the last block.
    pub broker: i32,
    /// Its broker epoch.
    pub broker_epoch: i64,
}

impl NodeValue for ProducerIdsNode {
    const VERSION: u32 = 1;

    fn check(&self) -> Result<(), String> {
        if self.next < 0 { Err(format!("the next id is {}", self.next)) } else { Ok(()) }
    }
}

/// A block of producer ids that nobody else has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// First id.
    pub first: i64,
    /// Number of ids.
    pub len: i64,
}
