//! I16 and hazard 45: wherever a pass of the cleaner is cut short, the log is as before or as after,
//! never a mix. What is read from its start gives the same newest value of each key, and a record
//! that is seen is the one that was appended at that offset. A read_committed reader sees none of an
//! aborted transaction, of which some batches may be left and some not.

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
use klamm_sim::disk::{Lie, SimulatedDisk};
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

struct Run {
    disk: Arc<SimulatedDisk>,
    random: SmallRng,
    written: Written,
    sequence: i32,
    end: i64,
    /// Offsets of records by the producer of their transaction, which is open.
    open: BTreeMap<i64, Vec<i64>>,
    /// Offsets of records of aborted transactions.
    aborted: BTreeSet<i64>,
}

impl Run {
    fn new(seed: u64) -> Run {
        let random = SmallRng::seed_from_u64(seed);
        Run {
            disk: SimulatedDisk::new(seed),
            random,
            written: Written::new(),
            sequence: 0,
            end: 0,
            open: BTreeMap::new(),
            aborted: BTreeSet::new(),
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
            self.aborted.extend(offsets);
        }
        let marker = EndTxnMarker { control_type, coordinator_epoch: 0 };
        let bytes = BatchBuilder::end_txn(producer_id, 0, NOW_MS, marker);
        let origin = Origin::Coordinator;
        let append = LeaderAppend { leader_epoch: 0, now_ms: NOW_MS, origin };
        self.end = log.append_as_leader(&bytes, append).expect("the disk works").last_offset + 1;
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

    /// Compares the log with what was appended; answers its number of records.
    fn check(&self, log: &Log) -> Result<usize, String> {
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        if (start, end) != (0, self.end) {
            return Err(format!("the log is {start} to {end}, not 0 to {}", self.end));
        }
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
        expected.retain(|offset, _| !self.aborted.contains(offset));
        if let Some(aborted) = committed.keys().find(|offset| self.aborted.contains(offset)) {
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

    /// A pass that the power or the process does not survive after `at` operations; then another
    /// look after a second loss, and a pass to the end. Answers whether the first one was cut short.
    fn cut_short(&mut self, at: u64, power: bool) -> Result<bool, String> {
        let mut log = self.open()?;
        self.fill(&mut log, 40);
        let (log, finished) = Run::clean(log, NOW_MS);
        if !finished {
            return Err("the disk works, and the pass does not end".to_owned());
        }
        let mut log = log;
        self.fill(&mut log, 40);
        self.disk.die_after(at);
        let (log, finished) = Run::clean(log, NOW_MS + 90_000_000);
        drop(log);
        if power {
            self.disk.lose_power()
        } else {
            self.disk.kill_process()
        }
        self.check(&self.open()?)?;
        // What was shown once must not go any more.
        self.disk.lose_power();
        let log = self.open()?;
        self.check(&log)?;
        let (log, ended) = Run::clean(log, NOW_MS + 90_000_000);
        if !ended {
            return Err("the pass after the crash does not end".to_owned());
        }
        let left = self.check(&log)?;
        if left >= 60 {
            return Err(format!("{left} of 80 records are left after a whole pass"));
        }
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

#[test]
fn a_pass_cut_short_at_any_operation_leaves_the_log_as_before_or_as_after() {
    let mut points = 0;
    for power in [true, false] {
        let mut at = 0;
        loop {
            points += 8;
            let mut cut = false;
            for seed in 0..8 {
                let outcome = Run::new(seed).cut_short(at, power);
                cut |= outcome
                    .unwrap_or_else(|why| panic!("operation {at}, seed {seed}, {power}: {why}"));
            }
            if !cut {
                break;
            }
            at += 1;
        }
        assert!(at > 60, "{at} operations are fewer than a pass has");
    }
    println!("crash_points: {points}");
}

#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    for lie in [Lie::FileSyncs, Lie::DirSyncs] {
        let caught = (0..120).filter(|seed| {
            let mut run = Run::new(*seed);
            run.disk.set_lie(Some(lie));
            let at = run.random.random_range(0..80);
            run.cut_short(at, true).is_err()
        });
        assert!(caught.count() > 20, "{lie:?}");
    }
}
