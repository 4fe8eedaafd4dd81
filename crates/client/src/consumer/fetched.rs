//! What was fetched of one partition, and handing it out.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use klamm_protocol::Records as WireRecords;
use klamm_protocol::messages::fetch::{AbortedTransaction, PartitionData};
use klamm_protocol::records::{
    Batch, Batches, ControlKey, ControlType, Record, Records, split, validate_stored,
};

use crate::error::ClientError;
use crate::metadata::TopicPartition;

use super::{Consumer, ConsumerConfig, ConsumerRecord, Isolation, Position};

/// Answers that are not handed out yet, at most one of a partition. When its leader has changed, the old
/// one and the new one may both have been asked for the same records, and both answer.
#[derive(Default)]
pub(super) struct Waiting(VecDeque<Fetched>);

impl Waiting {
    pub(super) fn holds(&self, partition: &TopicPartition) -> bool {
        self.0.iter().any(|fetched| fetched.partition() == partition)
    }

    /// Adds an answer, behind the others; a second one of its partition is dropped.
    pub(super) fn add(&mut self, fetched: Fetched) {
        if !self.holds(fetched.partition()) {
            self.0.push_back(fetched);
        }
    }

    pub(super) fn first(&mut self) -> Option<&mut Fetched> {
        self.0.front_mut()
    }

    pub(super) fn drop_first(&mut self) {
        self.0.pop_front();
    }

    /// Drops the answer of a partition whose position has been moved.
    pub(super) fn forget(&mut self, partition: &TopicPartition) {
        self.0.retain(|fetched| fetched.partition() != partition);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// A partition's part of an answer.
pub(super) struct Fetched {
    partition: TopicPartition,
    topic: Arc<str>,
    batches: Batches,
    current: Option<(Batch, Records)>,
    /// The offset of the next record to be handed out.
    next_offset: i64,
    leader_epoch: i32,
    aborted: Option<Aborted>,
    bytes_max: usize,
}

/// Which producers' records are void, as reading passes from offset to offset.
struct Aborted {
    /// Transactions to come, in the order of their first offsets.
    to_come: std::iter::Peekable<std::vec::IntoIter<AbortedTransaction>>,
    producers: BTreeSet<i64>,
}

impl Aborted {
    fn new(mut transactions: Vec<AbortedTransaction>) -> Self {
        transactions.sort_by_key(|transaction| transaction.first_offset);
        Self { to_come: transactions.into_iter().peekable(), producers: BTreeSet::new() }
    }

    /// Whether the batch is part of an aborted transaction.
    fn covers(&mut self, batch: &Batch) -> bool {
        let last_offset = batch.last_offset();
        while let Some(begun) = self.to_come.next_if(|next| next.first_offset <= last_offset) {
            self.producers.insert(begun.producer_id);
        }
        batch.is_transactional() && self.producers.contains(&batch.producer_id)
    }
}

impl Fetched {
    pub(super) fn new(
        partition: TopicPartition,
        topic: Arc<str>,
        next_offset: i64,
        data: PartitionData,
        config: &ConsumerConfig,
    ) -> Self {
        let bytes = match data.records {
            WireRecords::Inline(bytes) => bytes,
            WireRecords::External { .. } => Bytes::new(),
        };
        let aborted = (config.isolation == Isolation::ReadCommitted)
            .then(|| Aborted::new(data.aborted_transactions.unwrap_or_default()));
        Self {
            partition,
            topic,
            batches: split(bytes),
            current: None,
            next_offset,
            leader_epoch: -1,
            aborted,
            bytes_max: config.batch_decompressed_bytes_max,
        }
    }

    pub(super) fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    pub(super) fn position(&self) -> Position {
        Position::At { offset: self.next_offset, leader_epoch: self.leader_epoch }
    }

    /// The next record for the application, or `None` when all have been handed out.
    pub(super) fn next(&mut self) -> Result<Option<ConsumerRecord>, ClientError> {
        loop {
            if let Some((batch, records)) = &mut self.current {
                let leader_epoch = batch.partition_leader_epoch;
                match records.next() {
                    Some(Ok(record)) if record.offset < self.next_offset => continue,
                    Some(Ok(record)) => {
                        self.next_offset = record.offset + 1;
                        self.leader_epoch = leader_epoch;
                        return Ok(Some(self.consumer_record(record, leader_epoch)));
                    }
                    Some(Err(error)) => return Err(self.unreadable(&error)),
                    None => {
                        self.next_offset = self.next_offset.max(batch.next_offset());
                        self.current = None;
                    }
                }
            }
            if !self.open_next_batch()? {
                return Ok(None);
            }
        }
    }

    /// Whether there was another batch; those without records for the application are passed over.
    fn open_next_batch(&mut self) -> Result<bool, ClientError> {
        let Some(batch) = self.batches.next() else { return Ok(false) };
        let batch = batch.map_err(|error| self.unreadable(&error))?;
        if batch.last_offset() < self.next_offset {
            return Ok(true);
        }
        validate_stored(batch.bytes()).map_err(|error| self.unreadable(&error))?;
        let is_aborted = self.aborted.as_mut().is_some_and(|aborted| aborted.covers(&batch));
        if batch.is_control() {
            self.note_control(&batch)?;
        }
        if batch.is_control() || is_aborted {
            self.next_offset = batch.next_offset();
            return Ok(true);
        }
        let records = batch.records(self.bytes_max).map_err(|error| self.unreadable(&error))?;
        self.current = Some((batch, records));
        Ok(true)
    }

    /// The end of an aborted transaction: what its producer writes from here on counts again.
    fn note_control(&mut self, batch: &Batch) -> Result<(), ClientError> {
        let mut records = batch.records(self.bytes_max).map_err(|error| self.unreadable(&error))?;
        let Some(record) = records.next() else { return Ok(()) };
        let record = record.map_err(|error| self.unreadable(&error))?;
        let key = ControlKey::decode(&record.key.unwrap_or_default());
        let key = key.map_err(|error| self.unreadable(&error))?;
        if let Some(aborted) = &mut self.aborted
            && key.control_type == ControlType::Abort
        {
            aborted.producers.remove(&batch.producer_id);
        }
        Ok(())
    }

    fn consumer_record(&self, record: Record, leader_epoch: i32) -> ConsumerRecord {
        ConsumerRecord {
            topic: Arc::clone(&self.topic),
            partition: self.partition.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key,
            value: record.value,
            headers: record.headers,
            leader_epoch,
        }
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> ClientError {
        ClientError::Records {
            partition: self.partition.clone(),
            offset: self.next_offset,
            reason: error.to_string(),
        }
    }
}

impl Consumer {
    /// Up to `records_max` records; positions move past them.
    pub(super) fn take_records(
        &mut self,
        records_max: usize,
    ) -> Result<Vec<ConsumerRecord>, ClientError> {
        let mut records = Vec::new();
        while records.len() < records_max {
            let Some(fetched) = self.fetched.first() else { break };
            let next = fetched.next();
            if let Some(assigned) = self.assigned.get_mut(fetched.partition())
                && !matches!(assigned.position, Position::Wanted(_))
            {
                assigned.position = fetched.position();
            }
            match next {
                Ok(Some(record)) => records.push(record),
                Ok(None) => self.fetched.drop_first(),
                Err(error) => {
                    self.fetched.drop_first();
                    // What came before it is handed out first. The position stands at what cannot
                    // be read, so that it is fetched anew and the error comes again.
                    return if records.is_empty() { Err(error) } else { Ok(records) };
                }
            }
        }
        Ok(records)
    }
}
