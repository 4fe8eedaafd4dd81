//! What a log remembers of its idempotent producers.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use klamm_protocol::records::{BatchHeader, EndTxnMarker, NO_PRODUCER_EPOCH};

use crate::transactions::{EndedTransaction, OpenTransactions};

/// Batches of a producer that are told from new ones when they come again.
pub(crate) const WINDOW: usize = 5;

/// One batch that a producer wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMetadata {
    /// Sequence of its last record.
    pub last_sequence: i32,
    /// Offset of its last record.
    pub last_offset: i64,
    /// Records after the first.
    pub offset_delta: i32,
    /// Its greatest timestamp.
    pub timestamp: i64,
}

impl BatchMetadata {
    /// Offset of the first record.
    pub fn first_offset(&self) -> i64 {
        self.last_offset - i64::from(self.offset_delta)
    }

    /// Sequence of the first record.
    pub fn first_sequence(&self) -> i32 {
        let first = i64::from(self.last_sequence) - i64::from(self.offset_delta);
        i32::try_from(first.rem_euclid(1 << 31)).expect("a remainder by 2^31 fits")
    }
}

/// One producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerEntry {
    /// Given out by the cluster.
    pub producer_id: i64,
    /// The newest epoch seen.
    pub producer_epoch: i16,
    /// Of the transaction coordinator that wrote the last marker; -1 before.
    pub coordinator_epoch: i32,
    /// Wall clock of the last append.
    pub last_active_ms: i64,
    /// First offset of the open transaction.
    pub transaction_first_offset: Option<i64>,
    /// The last batches of this epoch, oldest first, at most five.
    pub batches: Vec<BatchMetadata>,
}

impl ProducerEntry {
    fn new(producer_id: i64) -> ProducerEntry {
        ProducerEntry {
            producer_id,
            producer_epoch: NO_PRODUCER_EPOCH,
            coordinator_epoch: -1,
            last_active_ms: 0,
            transaction_first_offset: None,
            batches: Vec::new(),
        }
    }

    fn duplicate_of(&self, header: &BatchHeader) -> Option<BatchMetadata> {
        if header.producer_epoch != self.producer_epoch {
            return None;
        }
        let same = |batch: &&BatchMetadata| {
            batch.first_sequence() == header.base_sequence
                && batch.last_sequence == header.last_sequence()
        };
        self.batches.iter().find(same).copied()
    }

    fn add(&mut self, epoch: i16, batch: BatchMetadata) {
        if self.producer_epoch != epoch {
            self.batches.clear();
            self.producer_epoch = epoch;
        }
        if self.batches.len() == WINDOW {
            self.batches.remove(0);
        }
        self.batches.push(batch);
    }
}

/// What a producer's batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    /// The log holds it already.
    Duplicate(BatchMetadata),
}

/// Why a producer's batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    /// The sequence is not the next one.
    #[error(
        "producer {producer_id} epoch {producer_epoch} sent sequence {sequence} after {last_sequence}"
    )]
    OutOfOrderSequence {
        /// As sent.
        producer_id: i64,
        /// As sent.
        producer_epoch: i16,
        /// First sequence of the batch.
        sequence: i32,
        /// Last sequence that the log holds, -1 for none.
        last_sequence: i32,
    },
    /// A newer instance of the producer has written here.
    #[error("producer {producer_id} sent epoch {producer_epoch} after {current_epoch}")]
    StaleEpoch {
        /// As sent.
        producer_id: i64,
        /// As sent.
        producer_epoch: i16,
        /// The newest epoch that wrote here.
        current_epoch: i16,
    },
}

/// The producers of one log. A batch is checked first and applied once it is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProducerState {
    producers: HashMap<i64, ProducerEntry>,
    open: OpenTransactions,
    /// Last offsets by first offset of transactions whose marker may not be replicated yet.
    ended: BTreeMap<i64, i64>,
}

impl ProducerState {
    pub(crate) fn len(&self) -> usize {
        self.producers.len()
    }

    pub(crate) fn clear(&mut self) {
        *self = ProducerState::default();
    }

    /// The transactions that are open.
    pub(crate) fn open_transactions(&self) -> &OpenTransactions {
        &self.open
    }

    /// First offset of the oldest transaction that is open or ended by a marker that, as far as is
    /// known, is not replicated.
    pub(crate) fn first_unstable_offset(&self) -> Option<i64> {
        let ended = self.ended.first_key_value().map(|(first_offset, _)| *first_offset);
        self.open.first_offset().into_iter().chain(ended).min()
    }

    /// Markers below `high_watermark` are replicated.
    pub(crate) fn on_high_watermark(&mut self, high_watermark: i64) {
        self.ended.retain(|_, last_offset| *last_offset >= high_watermark);
    }

    /// Takes over from the state of before a truncation to `end_offset` which markers may not be
    /// replicated: a snapshot does not say.
    pub(crate) fn keep_ended(&mut self, before: &ProducerState, end_offset: i64) {
        let kept = before.ended.iter().filter(|(_, last_offset)| **last_offset < end_offset);
        self.ended.extend(kept);
    }

    /// All producers by id.
    pub(crate) fn entries(&self) -> Vec<&ProducerEntry> {
        let mut entries: Vec<_> = self.producers.values().collect();
        entries.sort_unstable_by_key(|entry| entry.producer_id);
        entries
    }

    /// When the last of them wrote, by the wall clock.
    pub(crate) fn newest_activity_ms(&self) -> i64 {
        self.producers.values().map(|entry| entry.last_active_ms).max().unwrap_or(0)
    }

    pub(crate) fn insert(&mut self, entry: ProducerEntry) {
        match entry.transaction_first_offset {
            Some(first_offset) => self.open.begin(entry.producer_id, first_offset),
            None => drop(self.open.end(entry.producer_id)),
        }
        self.producers.insert(entry.producer_id, entry);
    }

    /// Checks the epoch of a batch, and where `sequenced` its sequence.
    pub(crate) fn check(
        &self,
        header: &BatchHeader,
        sequenced: bool,
    ) -> Result<Verdict, ProducerError> {
        let Some(entry) = self.producers.get(&header.producer_id) else {
            return Ok(Verdict::New);
        };
        if sequenced && let Some(original) = entry.duplicate_of(header) {
            return Ok(Verdict::Duplicate(original));
        }
        let BatchHeader { producer_id, producer_epoch, base_sequence: sequence, .. } = *header;
        if producer_epoch < entry.producer_epoch {
            return Err(ProducerError::StaleEpoch {
                producer_id,
                producer_epoch,
                current_epoch: entry.producer_epoch,
            });
        }
        let last_sequence = match entry.batches.last() {
            Some(last) if producer_epoch == entry.producer_epoch => last.last_sequence,
            _ => -1,
        };
        let next = if last_sequence == i32::MAX { 0 } else { last_sequence + 1 };
        let in_order = sequence == next || entry.producer_epoch == NO_PRODUCER_EPOCH;
        if sequenced && !in_order {
            return Err(ProducerError::OutOfOrderSequence {
                producer_id,
                producer_epoch,
                sequence,
                last_sequence,
            });
        }
        Ok(Verdict::New)
    }

    /// Takes note of a batch that the log now holds, and of what it says if it is a marker; `header`
    /// has its offsets. Answers the transaction that it has ended.
    pub(crate) fn apply(
        &mut self,
        header: &BatchHeader,
        marker: Option<EndTxnMarker>,
        now_ms: i64,
    ) -> Option<EndedTransaction> {
        let entry = self
            .producers
            .entry(header.producer_id)
            .or_insert_with(|| ProducerEntry::new(header.producer_id));
        entry.last_active_ms = now_ms;
        if header.is_control() {
            if entry.producer_epoch != header.producer_epoch {
                entry.batches.clear();
                entry.producer_epoch = header.producer_epoch;
            }
            let marker = marker?;
            entry.coordinator_epoch = marker.coordinator_epoch;
            entry.transaction_first_offset = None;
            let ended = self.open.apply(header, Some(marker))?;
            self.ended.insert(ended.entry.first_offset, ended.entry.last_offset);
            return Some(ended);
        }
        self.open.apply(header, None);
        if header.is_transactional() && entry.transaction_first_offset.is_none() {
            entry.transaction_first_offset = Some(header.base_offset);
        }
        let batch = BatchMetadata {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        };
        entry.add(header.producer_epoch, batch);
        None
    }

    /// Forgets producers without an open transaction that wrote nothing for `expiration`.
    pub(crate) fn expire(&mut self, now_ms: i64, expiration: Duration) {
        let expiration_ms = i64::try_from(expiration.as_millis()).unwrap_or(i64::MAX);
        self.producers.retain(|_, entry| {
            entry.transaction_first_offset.is_some()
                || now_ms.saturating_sub(entry.last_active_ms) < expiration_ms
        });
    }
}
