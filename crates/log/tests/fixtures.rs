//! Log directories of every format that was ever written stay readable.
#![expect(clippy::disallowed_methods, reason = "the test copies files that lie beside it")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use klamm_env::Env;
use klamm_log::{
    AbortedTransaction, EpochEntry, Log, LogConfig, LogDir, LogReader, OpenLog, ProducerEntry,
    RecoveryReport, TopicPartition, uuid_from_base64, verify,
};
use klamm_protocol::compression::Compression;
use klamm_protocol::records::{Batch, split};
use tempfile::TempDir;
use uuid::Uuid;

const NOW_MS: i64 = 1_700_000_000_000;
/// Right after Apache Kafka wrote its fixtures: producers have not expired.
const KAFKA_NOW_MS: i64 = 1_795_589_700_000;
const KAFKA_TRANSACTIONS_NOW_MS: i64 = 1_795_594_530_000;

/// A copy of the fixture `name`: opening a log writes to it.
fn copy_of(name: &str) -> TempDir {
    let to = TempDir::new().expect("a directory");
    let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    copy(&from, to.path());
    to
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("writable");
    for entry in std::fs::read_dir(from).expect("the fixture is there") {
        let path = entry.expect("readable").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("writable");
        }
    }
}

fn assert_sound(path: &Path) {
    let files = Env::real().expect("the machine's seams").files;
    let mut damage = Vec::new();
    verify(&*files, path, 1 << 20, &mut |verified| {
        damage.extend(verified.damage);
        Ok(())
    })
    .expect("readable");
    assert!(damage.is_empty(), "{damage:?}");
}

fn open(
    path: &Path,
    partition: TopicPartition,
    topic_id: Uuid,
    now_ms: i64,
) -> (Log, RecoveryReport) {
    let files = Env::real().expect("the machine's seams").files;
    let dir = Arc::new(LogDir::open(files, path).expect("the directory opens"));
    let config = LogConfig::default();
    Log::open(OpenLog { dir, partition, topic_id, config, now_ms }).expect("the log opens")
}

fn batches(reader: &LogReader) -> Vec<Batch> {
    let mut found = Vec::new();
    let mut offset = reader.log_start_offset();
    loop {
        let slice = reader.read(offset, 1 << 20, i64::MAX, true).expect("readable");
        if slice.is_empty() {
            return found;
        }
        for batch in split(slice.read().expect("readable")) {
            let batch = Batch::parse_stored(batch.expect("a batch").bytes()).expect("sound");
            offset = batch.next_offset();
            found.push(batch);
        }
    }
}

/// Offset, timestamp, key and value of every record.
fn records(batches: &[Batch]) -> Vec<(i64, i64, String, String)> {
    let text = |bytes: Option<bytes::Bytes>| {
        String::from_utf8(bytes.expect("not null").to_vec()).expect("text")
    };
    let all = batches.iter().flat_map(|batch| batch.records(1 << 20).expect("decompresses"));
    all.map(|record| {
        let record = record.expect("a record");
        (record.offset, record.timestamp, text(record.key), text(record.value))
    })
    .collect()
}

fn codecs(batches: &[Batch]) -> Vec<&'static str> {
    let name = |batch: &Batch| batch.compression().expect("known").name();
    let mut names: Vec<_> = batches.iter().map(name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn all_codecs() -> Vec<&'static str> {
    let mut names: Vec<_> = Compression::ALL.iter().map(|codec| codec.name()).collect();
    names.sort_unstable();
    names
}

#[test]
fn what_the_first_format_was_is_read_to_the_last_record() {
    let dir = copy_of("v1/klamm");
    assert_sound(dir.path());
    let topic_id = Uuid::from_u128(0x1234_5678_9abc_def0_1122_3344_5566_7788);
    let (log, report) = open(dir.path(), TopicPartition::new("events", 3), topic_id, NOW_MS);
    assert_eq!((report.recovery_point, report.scanned_bytes, report.cut_bytes), (30, 0, 0));
    assert!(log.segment_count() >= 3);

    let batches = batches(&log.reader());
    let expected: Vec<_> = (0..30)
        .map(|offset| {
            let (batch, place) = (offset / 2, offset % 2);
            let value = ["one", "two"][usize::try_from(place).expect("small")];
            (offset, NOW_MS + 10 * batch + place, "k".to_owned(), value.to_owned())
        })
        .collect();
    assert_eq!(records(&batches), expected);
    assert_eq!(codecs(&batches), all_codecs());

    let epochs =
        [EpochEntry { epoch: 0, start_offset: 0 }, EpochEntry { epoch: 1, start_offset: 16 }];
    assert_eq!(log.epochs().entries(), epochs);
    let producers = log.producers();
    let of = |producer: &ProducerEntry| (producer.producer_id, producer.producer_epoch);
    assert_eq!(producers.iter().map(of).collect::<Vec<_>>(), [(7, 1)]);
    let window: Vec<_> =
        producers[0].batches.iter().map(|batch| (batch.last_sequence, batch.last_offset)).collect();
    assert_eq!(window, [(21, 21), (23, 23), (25, 25), (27, 27), (29, 29)]);
    let found = log.reader().offset_for_timestamp(NOW_MS + 81).expect("readable").expect("there");
    assert_eq!((found.offset, found.timestamp), (17, NOW_MS + 81));
}

#[test]
fn what_apache_kafka_wrote_is_read_to_the_last_record() {
    let dir = copy_of("v1/kafka");
    assert_sound(dir.path());
    let topic_id = uuid_from_base64("NE4P6isdS4u8w8UDbWOvZg").expect("an id");
    let partition = TopicPartition::new("events", 0);
    let (log, report) = open(dir.path(), partition, topic_id, KAFKA_NOW_MS);
    assert_eq!((report.recovery_point, report.scanned_bytes, report.cut_bytes), (10, 0, 0));
    assert!(!report.lost_below_recovery_point && !report.epochs_rebuilt, "{report:?}");
    assert_eq!(log.segment_count(), 3);

    let batches = batches(&log.reader());
    let found: Vec<_> =
        records(&batches).into_iter().map(|(offset, _, key, value)| (offset, key, value)).collect();
    let codecs_in_order = ["none", "gzip", "snappy", "lz4", "zstd"];
    let values = codecs_in_order.iter().flat_map(|codec| ["one", "two"].map(|n| (codec, n)));
    let expected: Vec<_> = (0..)
        .zip(values)
        .map(|(offset, (codec, n))| (offset, "k".to_owned(), format!("{codec}-{n}")))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(codecs(&batches), all_codecs());

    let epochs =
        [EpochEntry { epoch: 0, start_offset: 0 }, EpochEntry { epoch: 2, start_offset: 6 }];
    assert_eq!(log.epochs().entries(), epochs);
    let producers = log.producers();
    let last = |producer: &ProducerEntry| {
        let batch = producer.batches.last().expect("one batch");
        (producer.producer_id, batch.last_sequence, batch.last_offset)
    };
    let last: Vec<_> = producers.iter().map(last).collect();
    assert_eq!(last, [(0, 1, 1), (1, 1, 3), (2, 1, 5), (1000, 1, 7), (1001, 1, 9)]);
    let found = log.reader().max_timestamp().expect("readable").expect("there");
    assert_eq!((found.offset, found.timestamp), (9, 1_795_589_695_907));
}

/// `transaction.version` 2: five transactions of four producers, a batch outside of any, two segments.
/// One transaction was aborted in the segment after that of its records, one was never ended.
#[test]
fn transactions_that_apache_kafka_wrote_are_aborted_committed_and_open_as_there() {
    let names = ["00000000000000000000.txnindex", "00000000000000000009.txnindex"];
    let all = || {
        let dir = copy_of("v1/kafka-transactions");
        let files = names.map(|name| dir.path().join("payments-0").join(name));
        let kafkas = files.clone().map(|file| std::fs::read(file).expect("there"));
        (dir, files, kafkas)
    };
    let open = |dir: &TempDir| {
        let topic_id = uuid_from_base64("M5h6ugvyTpGOoNeMC3TUpw").expect("an id");
        let partition = TopicPartition::new("payments", 0);
        open(dir.path(), partition, topic_id, KAFKA_TRANSACTIONS_NOW_MS)
    };
    let (dir, files, kafkas) = all();
    assert_sound(dir.path());
    let (mut log, report) = open(&dir);
    assert_eq!((report.recovery_point, report.scanned_bytes, report.cut_bytes), (15, 0, 0));
    let entry = |producer_id, [first_offset, last_offset, last_stable_offset]: [i64; 3]| {
        AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset }
    };
    let aborted = [entry(1, [2, 5, 6]), entry(2, [6, 10, 11]), entry(1, [7, 8, 6])];
    let (slice, found) = log.reader().read_committed(0, 1 << 20, 13, true).expect("readable");
    assert_eq!((slice.base_offset, &found[..]), (0, &aborted[..]));
    assert_eq!((log.first_unstable_offset(), log.last_stable_offset(15)), (Some(13), 13));

    let batches = batches(&log.reader());
    let data: Vec<Batch> = batches.into_iter().filter(|batch| !batch.is_control()).collect();
    let is_aborted = |batch: &Batch| {
        aborted.iter().any(|aborted| {
            let offsets = aborted.first_offset..aborted.last_offset;
            aborted.producer_id == batch.producer_id && offsets.contains(&batch.base_offset)
        })
    };
    let (gone, kept): (Vec<_>, Vec<_>) = data.into_iter().partition(is_aborted);
    let values = |batches: &[Batch]| -> Vec<String> {
        records(batches).into_iter().map(|(_, _, _, value)| value).collect()
    };
    assert_eq!(values(&gone), ["aborted-1", "aborted-2", "long-1", "aborted-3"]);
    let expected = ["committed-1", "committed-2", "plain-1", "committed-3", "open-1", "plain-2"];
    assert_eq!(values(&kept), expected);
    drop(log);

    // What is built anew from the markers is what Kafka wrote, to the byte.
    for with_recovery_point in [true, false] {
        let (dir, files, _) = all();
        for file in &files {
            std::fs::remove_file(file).expect("there");
            std::fs::remove_file(file.with_extension("timeindex")).expect("there");
        }
        if !with_recovery_point {
            let path = dir.path().join("recovery-point-offset-checkpoint");
            std::fs::remove_file(path).expect("there");
        }
        let (mut log, _) = open(&dir);
        assert_eq!(log.last_stable_offset(15), 13);
        let rebuilt = files.map(|file| std::fs::read(file).expect("there"));
        assert_eq!(rebuilt, kafkas);
    }
    let unchanged = files.map(|file| std::fs::read(file).expect("there"));
    assert_eq!(unchanged, kafkas);
}
