//! I16 and hazard 45: wherever a pass of the cleaner is cut short, the log is as before or as after,
//! never a mix. What is read from its start gives the same newest value of each key, and a record
//! that is seen is the one that was appended at that offset.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use klamm_log::{
    CleaningError, KeyHashing, LeaderAppend, Log, LogConfig, LogDir, LogLock, OffsetMapLimits,
    OpenLog, Origin, TopicPartition,
};
use klamm_protocol::compression::Compression;
use klamm_protocol::records::{BatchBuilder, NewRecord, ProducerFields, split};
use klamm_sim::disk::{Lie, SimulatedDisk};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

const NOW_MS: i64 = 1_767_225_600_000;
const LIMITS: OffsetMapLimits = OffsetMapLimits { bytes_max: 1 << 16, load_factor: 0.9 };
const KEYS: u32 = 8;

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
}

impl Run {
    fn new(seed: u64) -> Run {
        let random = SmallRng::seed_from_u64(seed);
        Run { disk: SimulatedDisk::new(seed), random, written: Written::new(), sequence: 0 }
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
        if self.random.random_bool(0.3) {
            let base_sequence = self.sequence;
            let producer = ProducerFields { producer_id: 7, producer_epoch: 0, base_sequence };
            builder.set_producer(producer);
            self.sequence += 1;
        }
        let (k, v) = (Some(key.as_bytes()), value.as_ref().map(String::as_bytes));
        builder
            .append(&NewRecord { timestamp: NOW_MS, key: k, value: v, headers: &[] })
            .expect("it fits");
        let append = LeaderAppend { leader_epoch: 0, now_ms: NOW_MS, origin: Origin::Client };
        let bytes = builder.build().expect("nothing to compress");
        let appended = log.append_as_leader(&bytes, append).expect("the disk works");
        self.written.insert(appended.first_offset, (key, value));
    }

    /// Appends and makes all of it durable.
    fn fill(&mut self, log: &mut Log, count: usize) {
        for _ in 0..count {
            self.append(log);
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
        let last = self.written.last_key_value().map_or(0, |(offset, _)| offset + 1);
        if (start, end) != (0, last) {
            return Err(format!("the log is {start} to {end}, not 0 to {last}"));
        }
        let mut found = Written::new();
        let mut offset = 0;
        while offset < end {
            let read = log.reader().read(offset, 700, i64::MAX, true);
            let bytes = read.and_then(|slice| Ok(slice.read()?)).map_err(|e| e.to_string())?;
            if bytes.is_empty() {
                return Err(format!("nothing is read at {offset}, the log ends at {end}"));
            }
            for batch in split(bytes) {
                let batch = batch.map_err(|error| error.to_string())?;
                if batch.next_offset() <= offset {
                    return Err(format!("offset {offset} comes twice"));
                }
                offset = batch.next_offset();
                for record in batch.records(1 << 20).map_err(|e| e.to_string())? {
                    let record = record.map_err(|error| error.to_string())?;
                    let text = |b: &bytes::Bytes| String::from_utf8_lossy(b).into_owned();
                    let key = record.key.as_ref().map(text).ok_or("a record without a key")?;
                    found.insert(record.offset, (key, record.value.as_ref().map(text)));
                }
            }
        }
        for (offset, record) in &found {
            if self.written.get(offset) != Some(record) {
                return Err(format!("the record at {offset} is {record:?}, another was written"));
            }
        }
        if newest(&found) != newest(&self.written) {
            return Err(format!("{:?} is not {:?}", newest(&found), newest(&self.written)));
        }
        Ok(found.len())
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
