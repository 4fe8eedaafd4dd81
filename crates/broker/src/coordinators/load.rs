//! Reading a partition of `__consumer_offsets` into a machine.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use klamm_coordinator::{Groups, Record, RecordError};
use klamm_env::Env;
use klamm_env::threads::run_blocking;
use klamm_log::LogReader;
use klamm_protocol::ErrorCode;
use klamm_protocol::records::{Batch, split_strict, verify_crc};
use tracing::{info, warn};

use super::group_config;
use super::shard::Shard;
use crate::config::BrokerConfig;
use crate::fence::Fence;
use crate::partition::Partition;

/// Bytes read at a time.
const CHUNK_BYTES: u64 = 1024 * 1024;
/// What a batch may decompress to. Ours are small and not compressed; others' may be.
const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Loads the whole log, not only up to the high watermark: a leader's log will be committed as it
/// is. What stands on records that are not committed yet waits like any other answer.
///
/// # Errors
/// NOT_COORDINATOR when the log cannot be read.
pub(super) async fn load(
    (env, fence): (&Env, &Fence),
    partition: Arc<Partition>,
    epoch: i32,
    config: &BrokerConfig,
) -> Result<Arc<Shard>, ErrorCode> {
    let reader = partition.open().await.map_err(|_| ErrorCode::NotCoordinator)?.clone();
    let groups = Groups::new(group_config(config));
    let read = run_blocking(&*env.threads, move || Loading::new(groups).read(&reader)).await;
    let loaded = read.map_err(|error| {
        warn!(partition = %partition.id(), "the coordinator cannot be loaded: {error}");
        ErrorCode::NotCoordinator
    })?;
    info!(
        partition = %partition.id(), epoch, records = loaded.records,
        unknown = loaded.unknown, transactional = loaded.transactional, "coordinator loaded"
    );
    let timeout_ms = u64::try_from(config.offsets_commit_timeout_ms).unwrap_or(0);
    let commit_timeout = Duration::from_millis(timeout_ms);
    let (groups, end) = (loaded.groups, loaded.next_offset);
    Ok(Shard::start((env, fence), partition, epoch, groups, end, commit_timeout))
}

/// Why a log gives no state, in words.
type Reason = String;

/// The machine as `reader`'s log leaves it, and the offset behind its last record.
#[cfg(test)]
pub(super) fn read_groups(groups: Groups, reader: &LogReader) -> Result<(Groups, i64), Reason> {
    let loaded = Loading::new(groups).read(reader)?;
    Ok((loaded.groups, loaded.next_offset))
}

struct Loading {
    groups: Groups,
    next_offset: i64,
    records: u64,
    /// Records of kinds and versions that are not ours.
    unknown: u64,
    /// Records of transactions, which are not offered yet.
    transactional: u64,
}

impl Loading {
    fn new(groups: Groups) -> Loading {
        Loading { groups, next_offset: 0, records: 0, unknown: 0, transactional: 0 }
    }

    fn read(mut self, reader: &LogReader) -> Result<Loading, Reason> {
        self.next_offset = reader.log_start_offset();
        let end = reader.log_end_offset();
        while self.next_offset < end {
            let slice = reader
                .read(self.next_offset, CHUNK_BYTES, end, true)
                .map_err(|error| error.to_string())?;
            let bytes = slice.read().map_err(|error| error.to_string())?;
            if bytes.is_empty() {
                // Compaction may have emptied the log's last batches.
                self.next_offset = end;
            }
            self.take_batches(bytes)?;
        }
        Ok(self)
    }

    fn take_batches(&mut self, bytes: Bytes) -> Result<(), Reason> {
        for batch in split_strict(bytes) {
            let batch = batch.map_err(|error| error.to_string())?;
            verify_crc(batch.header(), batch.bytes()).map_err(|error| error.to_string())?;
            self.next_offset = batch.header().next_offset();
            self.take_batch(&batch)?;
        }
        Ok(())
    }

    fn take_batch(&mut self, batch: &Batch) -> Result<(), Reason> {
        let header = batch.header();
        if header.is_control() {
            return Ok(());
        }
        if header.is_transactional() {
            self.transactional += u64::try_from(header.records_count).unwrap_or(0);
            return Ok(());
        }
        for record in batch.records(BATCH_BYTES_MAX).map_err(|error| error.to_string())? {
            let record = record.map_err(|error| error.to_string())?;
            let Some(key) = record.key else {
                self.unknown += 1;
                continue;
            };
            match Record::decode(key, record.value) {
                Ok(record) => {
                    self.groups.apply(record);
                    self.records += 1;
                }
                Err(error @ RecordError::Malformed(_)) => {
                    return Err(format!("offset {}: {error}", record.offset));
                }
                Err(_) => self.unknown += 1,
            }
        }
        Ok(())
    }
}
