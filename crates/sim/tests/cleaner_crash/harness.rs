//! Cleans a log on a simulated disk until it crashes, and compares what is left with what was
//! appended. A read_committed reader sees none of an aborted transaction, of which some batches may be
//! left and some not.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use klamm_log::{
    AbortedTransaction, CleaningError, KeyHashing, LeaderAppend, Log, LogConfig, LogDir, LogLock,
    OffsetMapLimits, OpenLog, Origin, TopicPartition, verify,
};
use klamm_protocol::compression::Compression;
use klamm_protocol::records::{
    Batch, BatchBuilder, ControlKey, ControlType, EndTxnMarker, NewRecord, ProducerFields, split,
};
use klamm_sim::disk::SimulatedDisk;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

const NOW_MS: i64 = 1_767_225_600_000;
const LIMITS: OffsetMapLimits = OffsetMapLimits { bytes_max: 1 << 16, load_factor: 0.9 };
const KEYS: u32 = 8;
/// Who writes in transactions.
const TRANSACTIONAL: [i64; 2] = [8, 9];

/// Key and value by offset.
type Written = BTreeMap<i64, (String, Option<String>)>;

struct Lock<'a>(&'a RefCell<Log>);

impl LogLock for Lock<'_> {
    fn with_log(&self, work: &mut dyn FnMut(&mut Log)) -> bool {
        work(&mut self.0.borrow_mut());
        true
    }
}

#[derive(Clone)]
pub struct Run {
    pub disk: Arc<SimulatedDisk>,
    pub random: SmallRng,
    pub written: Written,
    /// Everything below was said to be durable.
    pub durable_end: i64,
    pub sequence: i32,
    /// The end of what was appended.
    pub end: i64,
    /// Offsets of records by the producer of their transaction, which is open.
    pub open: BTreeMap<i64, Vec<i64>>,
    /// Offsets of records of aborted transactions, and of the marker that says so.
    pub aborted: BTreeMap<i64, i64>,
}

impl Run {
    pub fn new(seed: u64) -> Run {
        Run {
            disk: SimulatedDisk::new(seed),
            random: SmallRng::seed_from_u64(seed),
            written: Written::new(),
            durable_end: 0,
            sequence: 0,
            end: 0,
            open: BTreeMap::new(),
            aborted: BTreeMap::new(),
        }
    }

    fn open(&self) -> Result<Log, String> {
        let dir = LogDir::open(self.disk.files(), Path::new("/data")).map_err(|e| e.to_string())?;
        let config = LogConfig {
            segment_bytes: 900,
            index_interval_bytes: 150,
            compact: true,
            delete: false,
            ..LogConfig::default()
        };
        let open = OpenLog {
            dir: Arc::new(dir),
            partition: TopicPartition::new("t", 0),
            topic_id: Uuid::from_u128(1),
            config,
            now_ms: NOW_MS,
        };
        Log::open(open).map(|(log, _)| log).map_err(|error| error.to_string())
    }

    fn append(&mut self, log: &mut Log) {
        // Some keys come once only, so that whatever goes missing is missed.
        let key = match self.random.random_range(0..4) {
            0 => format!("once-{}", self.written.len()),
            _ => format!("key-{}", self.random.random_range(0..KEYS)),
        };
        let value = format!("{}", self.random.random::<u64>());
        let value = (self.random.random_range(0..8) > 0).then_some(value);
        let mut builder = BatchBuilder::new(Compression::None, 1 << 20);
        let mut origin = Origin::Client;
        let transactional = TRANSACTIONAL[self.random.random_range(0..2)];
        let is_transactional = self.random.random_bool(0.3);
        if is_transactional {
            let producer_id = transactional;
            builder.set_transactional(true);
            builder.set_producer(ProducerFields {
                producer_id,
                producer_epoch: 0,
                base_sequence: 0,
            });
            origin = Origin::Coordinator;
        } else if self.random.random_bool(0.3) {
            let base_sequence = self.sequence;
            let producer = ProducerFields { producer_id: 7, producer_epoch: 0, base_sequence };
            builder.set_producer(producer);
            self.sequence += 1;
        }
        let (k, v) = (Some(key.as_bytes()), value.as_ref().map(String::as_bytes));
        builder
            .append(&NewRecord { timestamp: NOW_MS, key: k, value: v, headers: &[] })
            .expect("it fits");
        let append = LeaderAppend { leader_epoch: 0, now_ms: NOW_MS, origin };
        let bytes = builder.build().expect("nothing to compress");
        let appended = log.append_as_leader(&bytes, append).expect("the disk works");
        self.end = appended.last_offset + 1;
        self.written.insert(appended.first_offset, (key, value));
        if is_transactional {
            self.open.entry(transactional).or_default().push(appended.first_offset);
        }
        if self.random.random_bool(0.1) {
            self.end_transaction(log, transactional);
        }
    }

    /// Ends the transaction of a producer, if it has one; most are aborted.
    fn end_transaction(&mut self, log: &mut Log, producer_id: i64) {
        let Some(offsets) = self.open.remove(&producer_id) else { return };
        let mut control_type = ControlType::Commit;
        if self.random.random_bool(0.7) {
            control_type = ControlType::Abort;
            self.aborted.extend(offsets.into_iter().map(|offset| (offset, self.end)));
        }
        let marker = EndTxnMarker { control_type, coordinator_epoch: 0 };
        let bytes = BatchBuilder::end_txn(producer_id, 0, NOW_MS, marker);
        let origin = Origin::Coordinator;
        let append = LeaderAppend { leader_epoch: 0, now_ms: NOW_MS, origin };
        self.end = log.append_as_leader(&bytes, append).expect("the disk works").last_offset + 1;
    }

    /// Appends and syncs nothing.
    fn append_unsynced(&mut self, log: &mut Log, count: usize) {
        for _ in 0..count {
            self.append(log);
        }
    }

    /// Appends and makes all of it durable.
    fn fill(&mut self, log: &mut Log, count: usize) {
        for _ in 0..count {
            self.append(log);
        }
        for producer_id in TRANSACTIONAL {
            self.end_transaction(log, producer_id);
        }
        let point = log.begin_checkpoint().expect("readable").expect("something to store");
        let outcome = point.run();
        log.end_checkpoint(point, outcome).expect("the disk works");
        log.dir().write_recovery_points().expect("the disk works");
        self.durable_end = log.log_end_offset();
    }

    /// One pass; whether it came to its end.
    fn clean(log: Log, now_ms: i64) -> (Log, bool) {
        let log = RefCell::new(log);
        let pass = || -> Result<(), CleaningError> {
            let end = log.borrow().log_end_offset();
            let begun = log.borrow_mut().begin_cleaning(now_ms, end)?;
            let Some(mut cleaning) = begun else { return Ok(()) };
            cleaning.read_dirty_keys(LIMITS, KeyHashing(1, 2), &mut |_| true)?;
            while let Some(cleaned) = cleaning.rewrite_next(&mut |_| true)? {
                cleaned.swap_in(&Lock(&log))?;
            }
            log.borrow_mut().end_cleaning(&cleaning);
            log.borrow().dir().write_cleaner_offsets()?;
            Ok(())
        };
        let finished = pass().is_ok();
        (log.into_inner(), finished)
    }

    /// Compares the log with what was appended, of which the end may be missing as far as it was not
    /// durable; answers its number of records.
    fn check(&mut self, log: &Log) -> Result<usize, String> {
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        let (durable_end, last) = (self.durable_end, self.end);
        if start != 0 || end < durable_end || end > last {
            return Err(format!("the log is {start} to {end}, not 0 to {durable_end}..={last}"));
        }
        self.written.split_off(&end);
        // A transaction whose marker is gone is open again.
        self.aborted.retain(|_, marker| *marker < end);
        (self.durable_end, self.end) = (end, end);
        self.check_txn_indexes()?;
        let (mut found, mut committed) = (Written::new(), Written::new());
        let mut offset = 0;
        while offset < end {
            let read = log.reader().read_committed(offset, 700, i64::MAX, true);
            let (slice, aborted) = read.map_err(|error| error.to_string())?;
            let bytes = slice.read().map_err(|error| error.to_string())?;
            let mut filter = ClientFilter::new(aborted);
            if bytes.is_empty() {
                return Err(format!("nothing is read at {offset}, the log ends at {end}"));
            }
            for batch in split(bytes) {
                let batch = batch.map_err(|error| error.to_string())?;
                if batch.next_offset() <= offset {
                    return Err(format!("offset {offset} comes twice"));
                }
                offset = batch.next_offset();
                let is_committed = filter.passes(&batch);
                if batch.is_control() {
                    continue;
                }
                for record in batch.records(1 << 20).map_err(|e| e.to_string())? {
                    let record = record.map_err(|error| error.to_string())?;
                    let text = |b: &bytes::Bytes| String::from_utf8_lossy(b).into_owned();
                    let key = record.key.as_ref().map(text).ok_or("a record without a key")?;
                    let record = (record.offset, (key, record.value.as_ref().map(text)));
                    committed.extend(is_committed.then(|| record.clone()));
                    found.extend([record]);
                }
            }
        }
        for (offset, record) in &found {
            if self.written.get(offset) != Some(record) {
                return Err(format!("the record at {offset} is {record:?}, another was written"));
            }
        }
        let mut expected = self.written.clone();
        expected.retain(|offset, _| !self.aborted.contains_key(offset));
        if let Some(aborted) = committed.keys().find(|offset| self.aborted.contains_key(offset)) {
            return Err(format!("the aborted record at {aborted} is shown"));
        }
        if newest(&committed) != newest(&expected) {
            return Err(format!("{:?} is not {:?}", newest(&committed), newest(&expected)));
        }
        Ok(found.len())
    }

    /// The files of aborted transactions are what the markers give.
    fn check_txn_indexes(&self) -> Result<(), String> {
        let files = self.disk.files();
        let mut damage = Vec::new();
        let done = verify(&*files, Path::new("/data/t-0"), 1 << 20, &mut |verified| {
            damage.extend(verified.damage);
            Ok(())
        });
        done.map_err(|error| error.to_string())?;
        damage.retain(|damage| damage.path.extension().is_some_and(|name| name == "txnindex"));
        if damage.is_empty() { Ok(()) } else { Err(format!("{damage:?}")) }
    }

    /// A log of which a part is clean, and the end not durable; ready for a pass.
    pub fn prepare(&mut self, stored: usize, unsynced: usize) -> Result<Log, String> {
        let mut log = self.open()?;
        self.fill(&mut log, stored);
        let (mut log, finished) = Run::clean(log, NOW_MS);
        if !finished {
            return Err("the disk works, and the pass does not end".to_owned());
        }
        self.fill(&mut log, stored);
        self.append_unsynced(&mut log, unsynced);
        Ok(log)
    }

    /// A pass that comes so much later that tombstones go; whether it came to its end.
    pub fn clean_later(log: Log) -> (Log, bool) {
        Run::clean(log, NOW_MS + 90_000_000)
    }

    /// What must hold after a crash, after a second one, and after a pass to the end.
    pub fn check_left(&mut self, lose_power: impl Fn(&SimulatedDisk)) -> Result<(), String> {
        let log = self.open()?;
        self.check(&log)?;
        drop(log);
        // What was shown once must not go any more.
        lose_power(&self.disk);
        let log = self.open()?;
        self.check(&log).map_err(|failure| format!("after a second loss: {failure}"))?;
        let (log, ended) = Run::clean_later(log);
        if !ended {
            return Err("the pass after the crash does not end".to_owned());
        }
        let (left, all) = (self.check(&log)?, self.written.len());
        if left + all / 8 > all {
            return Err(format!("{left} of {all} records are left after a whole pass"));
        }
        Ok(())
    }

    /// A pass that the power or the process does not survive after `at` operations; whether it was
    /// cut short.
    pub fn cut_short(&mut self, at: u64, power: bool) -> Result<bool, String> {
        let log = self.prepare(40, 12)?;
        self.disk.die_after(at);
        let (log, finished) = Run::clean_later(log);
        drop(log);
        if power {
            self.disk.lose_power()
        } else {
            self.disk.kill_process()
        }
        self.check_left(SimulatedDisk::lose_power)?;
        Ok(!finished)
    }
}

/// What Kafka's clients hand on of one answer.
struct ClientFilter {
    to_come: BTreeMap<i64, i64>,
    aborting: BTreeSet<i64>,
}

impl ClientFilter {
    fn new(aborted: Vec<AbortedTransaction>) -> ClientFilter {
        let to_come = aborted.iter().map(|aborted| (aborted.first_offset, aborted.producer_id));
        ClientFilter { to_come: to_come.collect(), aborting: BTreeSet::new() }
    }

    fn passes(&mut self, batch: &Batch) -> bool {
        while let Some(next) = self.to_come.first_entry()
            && *next.key() <= batch.last_offset()
        {
            self.aborting.insert(next.remove());
        }
        if batch.is_control() {
            let record = batch.records(1000).ok().and_then(|mut records| records.next()?.ok());
            let key = record.and_then(|record| ControlKey::decode(&record.key?).ok());
            if key.is_some_and(|key| key.control_type == ControlType::Abort) {
                self.aborting.remove(&batch.producer_id);
            }
            return false;
        }
        !batch.is_transactional() || !self.aborting.contains(&batch.producer_id)
    }
}

/// The newest value of each key; a tombstone is as good as nothing.
fn newest(records: &Written) -> BTreeMap<&String, &String> {
    let all: BTreeMap<_, _> = records.values().map(|(key, value)| (key, value)).collect();
    all.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))).collect()
}
