//! The batches of one partition before they are sent: one open, some closed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use klamm_protocol::records::{Batch, BatchBuilder, NewRecord, ProducerFields, set_producer};
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::error::ClientError;
use crate::metadata::TopicPartition;

use super::{ProducerConfig, ProducerRecord, RecordMetadata};

/// Counts the records whose fate is open.
#[derive(Default)]
pub(super) struct Outstanding {
    count: AtomicUsize,
    none: Notify,
}

impl Outstanding {
    fn add(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    fn remove(&self, count: usize) {
        if self.count.fetch_sub(count, Ordering::AcqRel) == count {
            self.none.notify_waiters();
        }
    }

    /// Waits until there are none.
    pub(super) async fn none(&self) {
        loop {
            let notified = self.none.notified();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// Who waits for a record, and the memory that it holds until its fate is known.
pub(super) struct Entry {
    pub(super) sender: oneshot::Sender<Result<RecordMetadata, ClientError>>,
    pub(super) _reserved: OwnedSemaphorePermit,
}

struct Waiting {
    entry: Entry,
    timestamp: i64,
}

/// A closed batch. Dropped unanswered it counts as given up.
pub(super) struct ClosedBatch {
    pub(super) bytes: Bytes,
    /// The sequence of its first record, while it is under way.
    pub(super) base_sequence: Option<i32>,
    pub(super) records_count: i32,
    pub(super) opened: Instant,
    /// Whether it was ever sent.
    pub(super) was_sent: bool,
    /// Whether a broker may have it: it was sent, and no answer was final.
    pub(super) may_be_in_log: bool,
    /// Whether one sent after it was delivered: it is in the log, at an offset that is not known yet.
    pub(super) is_in_log: bool,
    waiting: Vec<Waiting>,
    partition: TopicPartition,
    outstanding: Arc<Outstanding>,
}

impl ClosedBatch {
    /// Writes who sends the batch into it.
    pub(super) fn stamp(&mut self, producer: ProducerFields) {
        self.base_sequence = Some(producer.base_sequence);
        let mut bytes = std::mem::take(&mut self.bytes)
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        set_producer(&mut bytes, producer);
        self.bytes = bytes.freeze();
    }

    /// Tells every record's sender where it is.
    pub(super) fn delivered(mut self, base_offset: i64, log_append_time_ms: i64) {
        for (delta, Waiting { entry, timestamp }) in (0..).zip(self.take_waiting()) {
            let offset = if base_offset < 0 { base_offset } else { base_offset + delta };
            let timestamp = if log_append_time_ms < 0 { timestamp } else { log_append_time_ms };
            let partition = self.partition.clone();
            let metadata = RecordMetadata { partition, offset, timestamp };
            // The sender may have dropped its Delivery.
            let _ = entry.sender.send(Ok(metadata));
        }
    }

    /// Tells every record's sender that it is not delivered.
    pub(super) fn failed(mut self, error: &ClientError) {
        for Waiting { entry, .. } in self.take_waiting() {
            let _ = entry.sender.send(Err(error.clone()));
        }
    }

    fn take_waiting(&mut self) -> Vec<Waiting> {
        let waiting = std::mem::take(&mut self.waiting);
        self.outstanding.remove(waiting.len());
        waiting
    }

    /// The same records in two batches, for a broker to which they are too many at once.
    pub(super) fn halves(mut self, config: &ProducerConfig) -> Result<[Self; 2], ClientError> {
        let mut second_waiting = std::mem::take(&mut self.waiting);
        let middle = second_waiting.len() / 2;
        let first_waiting: Vec<_> = second_waiting.drain(..middle).collect();
        let [first, second] = match split_records(&self.bytes, middle, config) {
            Ok(halves) => halves,
            Err(error) => {
                self.waiting = first_waiting.into_iter().chain(second_waiting).collect();
                self.failed(&error);
                return Err(error);
            }
        };
        let half = |bytes: Bytes, waiting: Vec<Waiting>| Self {
            records_count: i32::try_from(waiting.len()).expect("fewer than before"),
            bytes,
            base_sequence: None,
            is_in_log: false,
            opened: self.opened,
            was_sent: false,
            may_be_in_log: false,
            waiting,
            partition: self.partition.clone(),
            outstanding: Arc::clone(&self.outstanding),
        };
        Ok([half(first, first_waiting), half(second, second_waiting)])
    }
}

impl Drop for ClosedBatch {
    fn drop(&mut self) {
        drop(self.take_waiting());
    }
}

fn split_records(
    batch: &Bytes,
    middle: usize,
    config: &ProducerConfig,
) -> Result<[Bytes; 2], ClientError> {
    let unreadable = |error: &dyn std::fmt::Display| ClientError::Compress(error.to_string());
    let batch = Batch::parse(batch).map_err(|e| unreadable(&e))?;
    let records = batch.records(usize::MAX).map_err(|e| unreadable(&e))?;
    let mut halves = [builder(config), builder(config)];
    for (nth, record) in records.enumerate() {
        let record = record.map_err(|e| unreadable(&e))?;
        let new = NewRecord {
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &record.headers,
        };
        let half = usize::from(nth >= middle);
        halves[half].append(&new).map_err(|e| unreadable(&e))?;
    }
    let [first, second] = halves;
    Ok([first.build().map_err(|e| unreadable(&e))?, second.build().map_err(|e| unreadable(&e))?])
}

fn builder(config: &ProducerConfig) -> BatchBuilder {
    let mut builder = BatchBuilder::new(config.compression, config.batch_bytes);
    builder.set_compression_level(config.compression_level);
    builder
}

struct OpenBatch {
    builder: BatchBuilder,
    waiting: Vec<Waiting>,
    opened: Instant,
}

struct State {
    open: Option<OpenBatch>,
    closed: VecDeque<ClosedBatch>,
    /// The open batch is to go without waiting for more.
    flush: bool,
}

/// What waits to be sent to one partition.
pub(super) struct Queue {
    pub(super) partition: TopicPartition,
    state: Mutex<State>,
    changed: Notify,
    config: ProducerConfig,
    outstanding: Arc<Outstanding>,
}

impl Queue {
    pub(super) fn new(
        partition: TopicPartition,
        config: &ProducerConfig,
        outstanding: Arc<Outstanding>,
    ) -> Self {
        let state = State { open: None, closed: VecDeque::new(), flush: false };
        Self {
            partition,
            state: Mutex::new(state),
            changed: Notify::new(),
            config: config.clone(),
            outstanding,
        }
    }

    /// Adds a record behind all that were added before.
    pub(super) fn append(&self, record: ProducerRecord, now_ms: i64, entry: Entry) {
        let timestamp = record.timestamp.unwrap_or(now_ms);
        let new = NewRecord {
            timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &record.headers,
        };
        self.outstanding.add();
        let mut state = self.state.lock().expect("no holder of the lock panics");
        let is_full = state.open.as_mut().is_some_and(|open| open.builder.append(&new).is_err());
        if is_full {
            self.close(&mut state);
        }
        let open = state.open.get_or_insert_with(|| OpenBatch {
            builder: builder(&self.config),
            waiting: Vec::new(),
            opened: Instant::now(),
        });
        if open.builder.is_empty() {
            open.builder.append(&new).expect("a first record always fits");
        }
        open.waiting.push(Waiting { entry, timestamp });
        let is_first = open.waiting.len() == 1;
        drop(state);
        if is_first || is_full {
            self.changed.notify_one();
        }
    }

    /// Lets the open batch go without waiting for more.
    pub(super) fn close_open(&self) {
        let mut state = self.state.lock().expect("no holder of the lock panics");
        state.flush = state.open.is_some();
        drop(state);
        self.changed.notify_one();
    }

    fn close(&self, state: &mut State) {
        state.flush = false;
        let Some(open) = state.open.take() else { return };
        let mut batch = ClosedBatch {
            bytes: Bytes::new(),
            base_sequence: None,
            is_in_log: false,
            records_count: open.builder.records_count(),
            opened: open.opened,
            was_sent: false,
            may_be_in_log: false,
            waiting: open.waiting,
            partition: self.partition.clone(),
            outstanding: Arc::clone(&self.outstanding),
        };
        match open.builder.build() {
            Ok(bytes) => {
                batch.bytes = bytes;
                state.closed.push_back(batch);
            }
            Err(error) => batch.failed(&ClientError::Compress(error.to_string())),
        }
    }

    /// The next batch that may go: a full one, or one that has waited long enough for more.
    pub(super) async fn next(&self) -> ClosedBatch {
        loop {
            let changed = self.changed.notified();
            match self.ready() {
                Ok(batch) => return batch,
                Err(None) => changed.await,
                Err(Some(wait)) => {
                    tokio::select! {
                        biased;
                        () = changed => {}
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }

    /// A batch, or how long to wait for one if nothing happens.
    fn ready(&self) -> Result<ClosedBatch, Option<Duration>> {
        let mut state = self.state.lock().expect("no holder of the lock panics");
        if let Some(batch) = state.closed.pop_front() {
            return Ok(batch);
        }
        let Some(open) = &state.open else { return Err(None) };
        let wait = self.config.linger.saturating_sub(open.opened.elapsed());
        if !wait.is_zero() && !state.flush {
            return Err(Some(wait));
        }
        self.close(&mut state);
        state.closed.pop_front().ok_or(None)
    }
}
