//! Reading a partition of `__consumer_offsets` into a machine.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use klamm_cluster::nodes::consumers::is_storable;
use klamm_cluster::offsets::{Change, Found, OffsetStore, OffsetsError, Owner};
use klamm_coordinator::{DurableGroup, Groups, Record, RecordError, client_error, partition_for};
use klamm_env::threads::run_blocking;
use klamm_log::{LogReader, Origin};
use klamm_protocol::ErrorCode;
use klamm_protocol::records::{Batch, split_strict, verify_crc};
use tracing::{info, warn};

use super::shard::{Loaded, batch_of};
use super::tree_offsets::{change_of, code_of, take_over};
use super::{OFFSETS_TOPIC, group_config};
use crate::acks::{Ack, wait_all};
use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::partition::Partition;
use crate::waiters::Signal;

/// Bytes read at a time.
const CHUNK_BYTES: u64 = 1024 * 1024;
/// Longest time that reading the committed offsets in the tree may take, and moving those there that
/// are in the log.
const TREE_MAX: Duration = Duration::from_secs(60);
/// Offsets that are moved from the log into the tree at a time: their tombstones are one batch.
const MOVED_AT_ONCE: usize = 500;
/// What a batch may decompress to. Ours are small and not compressed; others' may be.
const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Loads the whole log, not only up to the high watermark: a leader's log will be committed as it
/// is. What stands on records that are not committed yet waits like any other answer. Then what the
/// tree holds of the committed offsets, if they are there.
///
/// # Errors
/// NOT_COORDINATOR when the log cannot be read, COORDINATOR_NOT_AVAILABLE when the tree cannot.
pub(super) async fn load(
    broker: &Broker,
    partition: &Arc<Partition>,
    epoch: i32,
    config: &BrokerConfig,
) -> Result<Loaded, ErrorCode> {
    let reader = partition.open().await.map_err(|_| ErrorCode::NotCoordinator)?.clone();
    let groups = Groups::new(group_config(config));
    let read = run_blocking(&*broker.env.threads, move || Loading::new(groups).read(&reader)).await;
    let loaded = read.map_err(|error| {
        warn!(partition = %partition.id(), "the coordinator cannot be loaded: {error}");
        ErrorCode::NotCoordinator
    })?;
    info!(
        partition = %partition.id(), epoch, records = loaded.records,
        unknown = loaded.unknown, transactional = loaded.transactional, "coordinator loaded"
    );
    let loaded = Loaded { groups: loaded.groups, log_end: loaded.next_offset, offsets: None };
    if !config.keeps_offsets_in_tree() {
        return Ok(loaded);
    }
    let from_tree = load_from_tree(broker, partition, epoch, loaded);
    let from_tree = tokio::time::timeout(TREE_MAX, from_tree).await;
    from_tree.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable))
}

/// Adds the committed offsets that are in the tree. Those that are still in the log, from a time when
/// they were kept there, are moved: written to the tree, then deleted in the log, all before anybody is
/// served. Where an offset is in both the tree's counts: it was moved before, and may have been
/// committed anew since, while the deletion in the log got lost.
async fn load_from_tree(
    broker: &Broker,
    partition: &Arc<Partition>,
    epoch: i32,
    mut loaded: Loaded,
) -> Result<Loaded, ErrorCode> {
    let failed = |error: OffsetsError| {
        warn!(partition = %partition.id(), "the committed offsets cannot be loaded: {error}");
        code_of(&error)
    };
    let image = broker.image();
    let partitions = image.topic(OFFSETS_TOPIC).map_or(0, |topic| topic.partition_count());
    let index = partition.id().partition;
    let owner = Owner {
        topic_id: partition.topic_id(),
        partition: index,
        broker: broker.id,
        leader_epoch: epoch,
    };
    let tree = broker.fence.registered().tree;
    let mut store = OffsetStore::open(&*tree, owner).await.map_err(failed)?;
    let is_owned = |group: &str| partitions > 0 && partition_for(group, partitions) == index;
    let found = store.load(&*tree, is_owned).await.map_err(failed)?;
    let in_log = offsets_in(&loaded.groups);
    let (nodes, wall_ms) = (found.len(), broker.env.clock.wall_ms());
    let in_tree: BTreeSet<(String, String, i32)> = match in_log.is_empty() {
        true => BTreeSet::new(),
        false => found.iter().filter(|found| found.stored.is_some()).map(key_of).collect(),
    };
    for found in found.into_iter().filter(|found| found.stored.is_some()) {
        take_over(&mut loaded.groups, found, wall_ms);
    }
    let is_missing = |record: &&Record| match record {
        Record::Offset { group, topic, partition, .. } => {
            !in_tree.contains(&(group.clone(), topic.clone(), *partition))
        }
        Record::Group { .. } => false,
    };
    for records in in_log.chunks(MOVED_AT_ONCE) {
        let missing = records.iter().filter(is_missing);
        let changes: Vec<Change> =
            missing.map(|record| change_of(&loaded.groups, record, true)).collect();
        if let Some(error) = store.write(&*tree, &changes).await.error {
            return Err(failed(error));
        }
        loaded.log_end = delete_in_log(broker, partition, epoch, records)?;
    }
    if !in_log.is_empty() {
        await_committed(partition, epoch, loaded.log_end).await?;
    }
    let moved = in_log.len();
    info!(partition = %partition.id(), epoch, nodes, moved, "committed offsets loaded");
    Ok(Loaded { offsets: Some(store), ..loaded })
}

fn key_of(found: &Found) -> (String, String, i32) {
    (found.group.clone(), found.topic.clone(), found.partition)
}

/// Otherwise the next coordinator might find in the log what has been moved and deleted since.
async fn await_committed(
    partition: &Arc<Partition>,
    epoch: i32,
    log_end: i64,
) -> Result<(), ErrorCode> {
    let ack = Ack { partition: Arc::clone(partition), leader_epoch: epoch, end_offset: log_end };
    let outcomes = wait_all(&[ack], Signal::default(), TREE_MAX).await;
    outcomes.into_iter().collect::<Result<(), ErrorCode>>().map_err(client_error)
}

/// The committed offsets of a machine that has read nothing but the log, those that have a place in
/// the tree.
fn offsets_in(groups: &Groups) -> Vec<Record> {
    let mut records = Vec::new();
    for (group, DurableGroup { offsets, .. }) in groups.durable() {
        if !is_storable(&group) {
            warn!(
                group,
                "its committed offsets stay in the log: its name is too long for the tree"
            );
            continue;
        }
        for (topic, partitions) in offsets {
            for (partition, offset) in partitions {
                let (group, topic) = (group.clone(), topic.clone());
                records.push(Record::Offset { group, topic, partition, offset: Some(offset) });
            }
        }
    }
    records
}

/// Answers where the log ends then.
fn delete_in_log(
    broker: &Broker,
    partition: &Arc<Partition>,
    epoch: i32,
    records: &[Record],
) -> Result<i64, ErrorCode> {
    let tombstones: Vec<Record> = records
        .iter()
        .map(|record| match record {
            Record::Offset { group, topic, partition, .. } => Record::Offset {
                group: group.clone(),
                topic: topic.clone(),
                partition: *partition,
                offset: None,
            },
            other => other.clone(),
        })
        .collect();
    let batch = batch_of(&tombstones, broker.env.clock.wall_ms())?;
    let appended = partition.append(&batch, Some(epoch), Origin::Coordinator, true);
    let appended = appended.map_err(|refusal| client_error(refusal.code))?;
    Ok(appended.last_offset + 1)
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
