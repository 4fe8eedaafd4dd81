//! What is kept of one batch.

use std::collections::HashMap;

use bytes::Bytes;
use klamm_protocol::compression::BATCH_DECOMPRESSED_BYTES_MAX;
use klamm_protocol::records::{
    Batch, BatchBuilder, NewRecord, ProducerFields, Record, TimestampType,
};

use super::offset_map::OffsetMap;
use super::transactions::Transactions;

/// What is left of a batch.
pub(super) enum Kept {
    /// The bytes as they are.
    All,
    /// Some records, or none in a batch that stays for its offsets or its producer.
    Part(Bytes),
    Nothing,
}

/// The last batch of a producer that the log remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastBatch {
    /// Offset of its last record; `None` where only a marker is remembered.
    pub(super) last_offset: Option<i64>,
    pub(super) producer_epoch: i16,
}

/// Decides for one batch after the other, in the order of the log.
pub(super) struct Filter<'a> {
    pub(super) map: &'a OffsetMap,
    /// What the map knows ends before this offset.
    pub(super) map_end: i64,
    pub(super) transactions: &'a mut Transactions,
    pub(super) last_batches: &'a HashMap<i64, LastBatch>,
    pub(super) now_ms: i64,
    pub(super) delete_retention_ms: i64,
    /// The offset after the segments that become one: the batch before it stays, so that every
    /// segment ends where the next begins.
    pub(super) group_end: i64,
}

impl Filter<'_> {
    /// What is kept of `batch`.
    pub(super) fn keep(&mut self, batch: &Batch) -> Kept {
        let may_go = self.transactions.on_batch(batch);
        let past_horizon = batch.delete_horizon_ms().is_some_and(|horizon| horizon <= self.now_ms);
        let drop_records = may_go && (past_horizon || !batch.is_control());
        let Ok(records) = batch.records(BATCH_DECOMPRESSED_BYTES_MAX) else {
            // With `record.validation=header` records may be anything; nothing is known of such.
            return Kept::All;
        };
        let Ok(records) = records.collect::<Result<Vec<Record>, _>>() else {
            return Kept::All;
        };
        let kept: Vec<&Record> = match drop_records {
            true => Vec::new(),
            false => records.iter().filter(|record| self.keeps(batch, record)).collect(),
        };
        let ages = may_go && batch.is_control()
            || !batch.is_control() && kept.iter().any(|record| record.value.is_none());
        let horizon_due = ages && batch.delete_horizon_ms().is_none();
        if kept.is_empty() {
            return match self.stays_empty(batch) {
                true if batch.records_count == 0 => Kept::All,
                true => rebuilt(batch, &[], None),
                false => Kept::Nothing,
            };
        }
        if kept.len() == records.len() && !horizon_due {
            return Kept::All;
        }
        let new_horizon = self.now_ms.saturating_add(self.delete_retention_ms);
        let horizon = if horizon_due { Some(new_horizon) } else { batch.delete_horizon_ms() };
        rebuilt(batch, &kept, horizon)
    }

    fn keeps(&self, batch: &Batch, record: &Record) -> bool {
        // A control record has a key, too, which may be that of an application's (hazard 66).
        if batch.is_control() || record.offset >= self.map_end {
            return true;
        }
        let Some(key) = &record.key else { return false };
        let is_newest = self.map.get(key).is_none_or(|newest| record.offset >= newest);
        let too_young = batch.delete_horizon_ms().is_none_or(|horizon| self.now_ms < horizon);
        is_newest && (record.value.is_some() || too_young)
    }

    /// Whether a batch without records is kept: it tells what its producer wrote last (hazard 69),
    /// or ends the segment.
    fn stays_empty(&self, batch: &Batch) -> bool {
        let is_last =
            self.last_batches.get(&batch.producer_id).is_some_and(|last| match last.last_offset {
                Some(last_offset) => batch.last_offset() == last_offset,
                None => batch.is_control() && batch.producer_epoch == last.producer_epoch,
            });
        batch.has_producer_id() && is_last || batch.next_offset() == self.group_end
    }
}

/// The batch with these records only, its offsets, producer and flags as they were.
fn rebuilt(batch: &Batch, records: &[&Record], horizon_ms: Option<i64>) -> Kept {
    let Ok(codec) = batch.compression() else { return Kept::All };
    let mut builder = BatchBuilder::new(codec, usize::MAX);
    builder.set_base_offset(batch.base_offset);
    builder.set_last_offset_delta(batch.last_offset_delta);
    builder.set_leader_epoch(batch.partition_leader_epoch);
    builder.set_producer(ProducerFields {
        producer_id: batch.producer_id,
        producer_epoch: batch.producer_epoch,
        base_sequence: batch.base_sequence,
    });
    builder.set_transactional(batch.is_transactional());
    builder.set_control(batch.is_control());
    if batch.timestamp_type() == TimestampType::LogAppendTime {
        builder.set_log_append_time(batch.max_timestamp);
    }
    if records.is_empty() {
        builder.set_max_timestamp(batch.max_timestamp);
    }
    if let Some(horizon_ms) = horizon_ms {
        builder.set_delete_horizon(horizon_ms);
    }
    let mut next = batch.base_offset;
    for record in records {
        if record.offset < next {
            // Only an unchecked producer's records go backwards; what they mean is not known.
            return Kept::All;
        }
        next = record.offset.saturating_add(1);
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let copy = NewRecord { timestamp: record.timestamp, key, value, headers: &record.headers };
        let delta = record.offset - batch.base_offset;
        let Ok(delta) = i32::try_from(delta) else { return Kept::All };
        if builder.append_at(delta, &copy).is_err() {
            return Kept::All;
        }
    }
    builder.build().map_or(Kept::All, Kept::Part)
}
