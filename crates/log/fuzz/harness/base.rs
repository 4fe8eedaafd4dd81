//! The sound log directory that one file is then replaced in.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use klamm_env::Files;
use klamm_log::{
    DirRegistration, LeaderAppend, Log, LogConfig, LogDir, MetaProperties, OpenLog, Origin,
    RegisteredPair, Registration, TopicPartition,
};
use klamm_protocol::compression::Compression;
use klamm_protocol::records::{BatchBuilder, ControlType, EndTxnMarker, NewRecord, ProducerFields};
use uuid::Uuid;

use super::memory::MemoryFiles;
use super::{Kind, ROOT};

pub(super) const TOPIC_ID: Uuid = Uuid::from_u128(0x1234_5678_9abc_def0_1122_3344_5566_7788);
pub(super) const NOW_MS: i64 = 1_700_000_000_000;
/// Batches of the log, of two records each.
const BATCHES: i32 = 15;

/// A log directory with one log of a few segments: all codecs, two leader epochs, one producer.
pub(super) struct Base {
    pub(super) files: MemoryFiles,
    /// Of the segments.
    pub(super) bases: Vec<i64>,
    /// The offset of the newest snapshot.
    pub(super) snapshot: i64,
    pub(super) end: i64,
}

pub(super) fn partition() -> TopicPartition {
    TopicPartition::new("events", 3)
}

pub(super) fn config() -> LogConfig {
    LogConfig { segment_bytes: 600, index_interval_bytes: 100, ..LogConfig::default() }
}

impl Base {
    /// Made once, by the log itself; with transactions where they are looked at.
    pub(super) fn of(kind: Kind) -> &'static Base {
        static PLAIN: OnceLock<Base> = OnceLock::new();
        static TRANSACTIONAL: OnceLock<Base> = OnceLock::new();
        match kind {
            Kind::TxnIndex => TRANSACTIONAL.get_or_init(|| Base::write(true)),
            _ => PLAIN.get_or_init(|| Base::write(false)),
        }
    }

    fn write(with_transactions: bool) -> Base {
        let files = Arc::new(MemoryFiles::default());
        let seam = Arc::clone(&files) as Arc<dyn Files>;
        let dir = Arc::new(LogDir::open(seam, Path::new(ROOT)).expect("an empty directory"));
        let mut log = open_new(&dir);
        for n in 0..BATCHES {
            let producer =
                ProducerFields { producer_id: 7, producer_epoch: 1, base_sequence: 2 * n };
            let codec = Compression::ALL[n as usize % Compression::ALL.len()];
            let records = build(&["one", "two"], producer, NOW_MS + 10 * i64::from(n), codec);
            let append =
                LeaderAppend { leader_epoch: n / 8, now_ms: NOW_MS, origin: Origin::Client };
            log.append_as_leader(&records, append).expect("appended");
            if with_transactions {
                let append = LeaderAppend { origin: Origin::Coordinator, ..append };
                for records in transaction(n) {
                    log.append_as_leader(&records, append).expect("appended");
                }
            }
        }
        let end = log.log_end_offset();
        log.close().expect("closed");
        dir.set_high_watermark(&partition(), end);
        write_own_files(&dir);
        let mut bases = Vec::new();
        let mut snapshot = 0;
        for entry in files.list(&Path::new(ROOT).join("events-3")).expect("there") {
            let offset = |suffix| entry.name.strip_suffix(suffix).and_then(|n| n.parse().ok());
            bases.extend(offset(".log"));
            snapshot = offset(".snapshot").unwrap_or(snapshot);
        }
        assert!(bases.len() >= 3, "a first, a middle and a last segment");
        Base { files: files.copy(), bases, snapshot, end }
    }
}

/// What other producers write after batch `n`: of two, one begins a transaction and one ends its own.
fn transaction(n: i32) -> [Vec<u8>; 2] {
    let producer_id = i64::from(8 + n % 2);
    let mut builder = BatchBuilder::new(Compression::None, 1 << 20);
    builder.set_transactional(true);
    builder.set_producer(ProducerFields { producer_id, producer_epoch: 0, base_sequence: n });
    builder.append(&NewRecord { timestamp: NOW_MS, ..NewRecord::default() }).expect("it fits");
    let control_type = if n % 4 == 3 { ControlType::Commit } else { ControlType::Abort };
    let marker = EndTxnMarker { control_type, coordinator_epoch: 0 };
    let end = BatchBuilder::end_txn(i64::from(8 + (n + 1) % 2), 0, NOW_MS, marker);
    [builder.build().expect("it builds").to_vec(), end.to_vec()]
}

fn open_new(dir: &Arc<LogDir>) -> Log {
    let open = OpenLog {
        dir: Arc::clone(dir),
        partition: partition(),
        topic_id: TOPIC_ID,
        config: config(),
        now_ms: NOW_MS,
    };
    Log::open(open).expect("an empty log").0
}

fn write_own_files(dir: &LogDir) {
    let id = Uuid::from_u128(9);
    let pair = RegisteredPair { broker_epoch: 5, incarnation: Uuid::from_u128(11) };
    let meta = MetaProperties { cluster_id: "cluster".into(), broker_id: 1, directory_id: id };
    let registered =
        Some(DirRegistration { pair, directories: vec![id], boot_id: "boot".to_owned() });
    let attempted = registered.clone();
    dir.write_meta(&meta).expect("written");
    dir.write_registration(&Registration { registered, attempted }).expect("written");
    dir.write_clean_marker(pair).expect("written");
    dir.write_recovery_points().expect("written");
    dir.write_log_start_offsets().expect("written");
    dir.write_high_watermarks().expect("written");
}

/// The last batch of the log's producer.
pub(super) fn repeated_batch() -> Vec<u8> {
    let base_sequence = 2 * (BATCHES - 1);
    let producer = ProducerFields { producer_id: 7, producer_epoch: 1, base_sequence };
    build(&["one", "two"], producer, NOW_MS, Compression::None)
}

/// One record to append to whatever was recovered.
pub(super) fn next_batch() -> Vec<u8> {
    build(&["next"], ProducerFields::NONE, NOW_MS, Compression::None)
}

fn build(
    values: &[&str],
    producer: ProducerFields,
    timestamp: i64,
    compression: Compression,
) -> Vec<u8> {
    let mut builder = BatchBuilder::new(compression, 1 << 20);
    builder.set_producer(producer);
    for (value, timestamp) in values.iter().zip(timestamp..) {
        let value = Some(value.as_bytes());
        let record = NewRecord { timestamp, key: Some(b"k"), value, headers: &[] };
        builder.append(&record).expect("it fits");
    }
    builder.build().expect("it compresses").to_vec()
}
