//! What a log should hold.

use std::collections::BTreeMap;

use klamm_log::{AbortedTransaction, BatchMetadata, EpochCache, Log};
use klamm_protocol::records::{Batch, ControlKey, ControlType, split};

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

impl Appended {
    fn batch(&self) -> Batch {
        Batch::parse(&self.bytes.clone().into()).expect("it was appended")
    }
}

/// What the transactions of a log are.
#[derive(Default)]
struct Transactions {
    aborted: Vec<AbortedTransaction>,
    /// First offsets by producer.
    open: BTreeMap<i64, i64>,
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
        let of_producer = |batch: &&Appended| batch.producer_id == producer_id;
        let own = self.batches.iter().filter(of_producer).filter(|it| !it.batch().is_control());
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
        self.check_transactions(log)?;
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
            let header = batch.batch();
            if header.is_control() {
                continue;
            }
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

    /// Aborted transactions with a record that may be read, by a scan of all that was appended.
    pub fn aborted(&self) -> Vec<AbortedTransaction> {
        let aborted = self.transactions(i64::MIN).aborted.into_iter();
        aborted.filter(|aborted| self.is_readable(aborted)).collect()
    }

    /// What a scan of the batches that reach past `start` gives.
    fn transactions(&self, start: i64) -> Transactions {
        let mut found = Transactions::default();
        let batches = self.batches.iter().filter(|batch| batch.next_offset > start);
        for batch in batches.map(Appended::batch).filter(|batch| batch.is_transactional()) {
            let producer_id = batch.producer_id;
            if !batch.is_control() {
                found.open.entry(producer_id).or_insert(batch.base_offset);
                continue;
            }
            let Some(first_offset) = found.open.remove(&producer_id) else { continue };
            let record = batch.records(1000).expect("a marker").next().expect("one record");
            let key = record.expect("sound").key.expect("a key");
            if ControlKey::decode(&key).expect("sound").control_type == ControlType::Abort {
                let stable = found.open.values().copied().min();
                found.aborted.push(AbortedTransaction {
                    producer_id,
                    first_offset,
                    last_offset: batch.base_offset,
                    last_stable_offset: stable.unwrap_or(batch.next_offset()),
                });
            }
        }
        found
    }

    fn is_readable(&self, aborted: &AbortedTransaction) -> bool {
        let offsets = aborted.first_offset..aborted.last_offset;
        self.readable().any(|batch| {
            batch.producer_id == aborted.producer_id && offsets.contains(&batch.first_offset)
        })
    }

    /// I15: the index of aborted transactions, and which are open, is what a full scan gives. Of a
    /// transaction that began in what was deleted, its beginning or that of the rest may be known.
    fn check_transactions(&self, log: &Log) -> Result<(), String> {
        let (whole, rest) = (self.transactions(i64::MIN), self.transactions(self.start));
        let found = log.reader().aborted_transactions(self.start, i64::MAX);
        let mut found = found.map_err(|error| error.to_string())?;
        found.retain(|aborted| self.is_readable(aborted));
        found.sort_by_key(|aborted| aborted.last_offset);
        let expected = self.aborted();
        let same = |(found, of_whole): (&AbortedTransaction, &AbortedTransaction)| {
            let mut of_rest = rest.aborted.iter().filter(|it| it.last_offset == found.last_offset);
            let of_rest = of_rest.next().unwrap_or(of_whole);
            found.producer_id == of_whole.producer_id
                && found.last_offset == of_whole.last_offset
                && (of_whole.first_offset..=of_rest.first_offset).contains(&found.first_offset)
                && (of_whole.last_stable_offset..=of_rest.last_stable_offset)
                    .contains(&found.last_stable_offset)
        };
        if found.len() != expected.len() || !found.iter().zip(&expected).all(same) {
            return Err(format!("aborted are {found:?}, not {expected:?}"));
        }
        let open: BTreeMap<i64, i64> = log
            .producers()
            .iter()
            .filter_map(|found| Some((found.producer_id, found.transaction_first_offset?)))
            .collect();
        for (id, last) in &rest.open {
            let first = whole.open.get(id).ok_or("open in the rest only")?;
            if !open.get(id).is_some_and(|found| (first..=last).contains(&found)) {
                return Err(format!("producer {id} has {open:?} open, not {first}"));
            }
        }
        match open.keys().find(|id| !whole.open.contains_key(id)) {
            Some(id) => Err(format!("a transaction of producer {id} is open")),
            None => Ok(()),
        }
    }
}
