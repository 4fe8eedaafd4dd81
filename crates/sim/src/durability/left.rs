//! What a disk holds, by what its records say.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::client::short;
use crate::disk::SimulatedDisk;
use crate::stored::{self, BATCH_BYTES_MAX, StoredLog, told};

/// A record as far as it matters here: its key, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: Option<Bytes>,
    pub(super) text: String,
}

/// Records by offset.
pub(super) type Records = BTreeMap<i64, Record>;

/// One log.
#[derive(Clone, Debug, Default)]
pub(super) struct Left {
    pub(super) end: i64,
    pub(super) records: Records,
}

/// All logs.
#[derive(Clone, Debug, Default)]
pub(super) struct Logs(pub(super) BTreeMap<(String, i32), Left>);

impl Logs {
    /// Opens all logs, which changes the disk.
    ///
    /// # Errors
    /// What cannot be read, or was durable and is gone.
    pub(super) fn read(disk: &Arc<SimulatedDisk>) -> Result<Logs, String> {
        let mut logs = Logs::default();
        for log in stored::logs(disk)? {
            let name = (log.partition.topic.to_string(), log.partition.partition);
            let left = left(&log).map_err(|why| format!("{}: {why}", log.partition.dir_name()))?;
            logs.0.insert(name, left);
        }
        Ok(logs)
    }
}

fn left(log: &StoredLog) -> Result<Left, String> {
    let mut left = Left { end: log.end, records: Records::new() };
    for batch in &log.batches {
        for record in batch.records(BATCH_BYTES_MAX).map_err(told)? {
            let record = record.map_err(told)?;
            let text = short(&record.value.unwrap_or_default())?;
            left.records.insert(record.offset, Record { key: record.key, text });
        }
    }
    Ok(left)
}
