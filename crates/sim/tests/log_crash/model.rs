//! What a log should hold.

use std::collections::BTreeMap;

use klamm_log::{BatchMetadata, EpochCache, Log};
use klamm_protocol::records::{Batch, split};

/// Batches that a producer may repeat.
const WINDOW: usize = 5;

/// One batch as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    pub first_offset: i64,
    pub next_offset: i64,
    pub epoch: i32,
    pub producer_id: i64,
    pub bytes: Vec<u8>,
}

/// The log as this process knows it.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub batches: Vec<Appended>,
    /// First offset that may be read.
    pub start: i64,
    /// The start that is stored for good.
    pub stored_start: i64,
    pub end: i64,
    /// Everything below was said to be durable.
    pub durable_end: i64,
    pub epoch: i32,
}

impl Model {
    pub fn push(&mut self, batch: Appended) {
        self.end = batch.next_offset;
        self.batches.push(batch);
    }

    pub fn truncate(&mut self, to: i64) {
        while let Some(cut) = self.batches.pop_if(|batch| batch.next_offset > to) {
            self.end = cut.first_offset;
        }
        self.durable_end = self.durable_end.min(self.end);
        self.start = self.start.min(self.end);
        self.stored_start = self.stored_start.min(self.end);
    }

    /// Sequence that a producer goes on with, and whether it is known.
    pub fn next_sequence(&self, producer_id: i64) -> i32 {
        let own = self.batches.iter().filter(|batch| batch.producer_id == producer_id);
        own.map(|batch| (batch.next_offset - batch.first_offset) as i32).sum()
    }

    /// Checks that `log` is this log, cut at some point at or after what is durable, and takes the
    /// cut over.
    pub fn check(&mut self, log: &Log, cut_allowed: bool) -> Result<(), String> {
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        if start < self.stored_start || start > self.start.max(self.stored_start) {
            return Err(format!("start {start} is not {} to {}", self.stored_start, self.start));
        }
        let least = if cut_allowed { self.durable_end } else { self.end };
        if end < least || end > self.end.max(start) {
            return Err(format!("end {end} is not {least} to {}", self.end));
        }
        if end < self.end {
            self.truncate(end);
            // An empty log may begin within what was a batch.
            if self.end != end && start == end {
                self.end = end;
            }
            if self.end != end {
                return Err(format!("end {end} is within a batch"));
            }
        }
        self.start = start;
        self.stored_start = start.min(self.stored_start);
        self.check_batches(log)?;
        self.check_epochs(log)?;
        self.check_producers(log)?;
        if log.recovery_point() > log.synced_end_offset() || log.synced_end_offset() > end {
            return Err("the recovery point is ahead of the synced end".to_owned());
        }
        self.durable_end = self.durable_end.max(log.synced_end_offset());
        Ok(())
    }

    fn readable(&self) -> impl Iterator<Item = &Appended> {
        self.batches.iter().filter(|batch| batch.next_offset > self.start)
    }

    fn check_batches(&self, log: &Log) -> Result<(), String> {
        let mut offset = self.start;
        let mut expected = self.readable();
        while offset < self.end {
            let slice = log.reader().read(offset, 900, i64::MAX, true);
            let slice = slice.map_err(|error| format!("read at {offset}: {error}"))?;
            let bytes = slice.read().map_err(|error| format!("read at {offset}: {error}"))?;
            if bytes.is_empty() {
                return Err(format!("nothing is read at {offset}, the log ends at {}", self.end));
            }
            for batch in split(bytes) {
                let batch = batch.map_err(|error| format!("after {offset}: {error}"))?;
                Batch::parse_stored(batch.bytes()).map_err(|error| error.to_string())?;
                let expected = expected.next().ok_or("more batches than there should be")?;
                if batch.bytes()[..] != expected.bytes {
                    let first = expected.first_offset;
                    return Err(format!("the batch at {first} is another one"));
                }
                offset = batch.next_offset();
            }
        }
        match expected.next() {
            Some(missing) => Err(format!("the batch at {} is missing", missing.first_offset)),
            None => Ok(()),
        }
    }

    fn check_epochs(&self, log: &Log) -> Result<(), String> {
        let mut expected = EpochCache::default();
        for batch in self.readable() {
            expected.assign(batch.epoch, batch.first_offset.max(self.start));
        }
        let found = log.epochs();
        let with_records = found.entries().iter().filter(|entry| entry.start_offset < self.end);
        if with_records.eq(expected.entries()) {
            return Ok(());
        }
        Err(format!("epochs are {:?}, not {:?}", found.entries(), expected.entries()))
    }

    /// The window of every producer is the end of what it wrote; only batches that were deleted
    /// may be missing from it.
    fn check_producers(&self, log: &Log) -> Result<(), String> {
        let mut written: BTreeMap<i64, Vec<(i64, BatchMetadata)>> = BTreeMap::new();
        for batch in self.batches.iter().filter(|batch| batch.producer_id >= 0) {
            let header = Batch::parse(&batch.bytes.clone().into()).expect("it was appended");
            let metadata = BatchMetadata {
                last_sequence: header.last_sequence(),
                last_offset: header.last_offset(),
                offset_delta: header.last_offset_delta,
                timestamp: header.max_timestamp,
            };
            written.entry(batch.producer_id).or_default().push((batch.next_offset, metadata));
        }
        for found in log.producers() {
            let id = found.producer_id;
            let all = written.remove(&id).unwrap_or_default();
            let all_metadata: Vec<_> = all.iter().map(|(_, metadata)| *metadata).collect();
            let readable = all.iter().filter(|(next, _)| *next > self.start).count();
            if !all_metadata.ends_with(&found.batches) || found.batches.len() < readable.min(WINDOW)
            {
                return Err(format!("producer {id} is {found:?}, wrote {all_metadata:?}"));
            }
        }
        match written.iter().find(|(_, all)| all.iter().any(|(next, _)| *next > self.start)) {
            Some((id, _)) => Err(format!("producer {id} is forgotten")),
            None => Ok(()),
        }
    }
}
