//! Compaction of one log.

#[expect(unreachable_pub, reason = "modules of a test")]
mod fixture;

use std::cell::RefCell;
use std::collections::BTreeMap;

use fixture::transactions::{abort, coordinate, data, indexed};
use fixture::{Fixture, NOW_MS, checkpoint};
use klamm_log::{
    CleaningError, KeyHashing, LeaderAppend, Log, LogLock, OffsetMapLimits, Origin, Stats,
};
use klamm_protocol::compression::Compression;
use klamm_protocol::records::{
    Batch, BatchBuilder, ControlType, EndTxnMarker, NewRecord, ProducerFields, Record, split,
};

const DAY_MS: i64 = 24 * 3_600_000;
const LIMITS: OffsetMapLimits = OffsetMapLimits { bytes_max: 1 << 20, load_factor: 0.9 };

struct Lock<'a>(&'a RefCell<Log>);

impl LogLock for Lock<'_> {
    fn with_log(&self, work: &mut dyn FnMut(&mut Log)) -> bool {
        work(&mut self.0.borrow_mut());
        true
    }
}

/// A pass over all that may be cleaned at `now_ms`; `None` where nothing may.
fn clean_at(log: Log, now_ms: i64, limits: OffsetMapLimits) -> (Log, Option<Stats>) {
    let log = RefCell::new(log);
    let high_watermark = log.borrow().log_end_offset();
    let begun = log.borrow_mut().begin_cleaning(now_ms, high_watermark).expect("readable");
    let Some(mut cleaning) = begun else { return (log.into_inner(), None) };
    cleaning.read_dirty_keys(limits, KeyHashing(1, 2), &mut |_| true).expect("readable");
    while let Some(cleaned) = cleaning.rewrite_next(&mut |_| true).expect("readable") {
        cleaned.swap_in(&Lock(&log)).expect("nobody else is here");
    }
    log.borrow_mut().end_cleaning(&cleaning);
    (log.into_inner(), Some(cleaning.stats()))
}

fn clean(log: Log) -> (Log, Stats) {
    let (log, stats) = clean_at(log, NOW_MS, LIMITS);
    (log, stats.expect("something to clean"))
}

fn keyed(records: &[(&str, Option<&str>)]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(Compression::Lz4, 1 << 20);
    for (key, value) in records {
        let (key, value) = (Some(key.as_bytes()), value.map(str::as_bytes));
        let record = NewRecord { timestamp: NOW_MS, key, value, headers: &[] };
        builder.append(&record).expect("it fits");
    }
    builder
}

fn append(log: &mut Log, builder: &BatchBuilder, origin: Origin) {
    let bytes = builder.build().expect("it compresses");
    log.append_as_leader(&bytes, LeaderAppend { leader_epoch: 0, now_ms: NOW_MS, origin })
        .expect("appended");
}

fn put(log: &mut Log, key: &str, value: Option<&str>) {
    append(log, &keyed(&[(key, value)]), Origin::Client);
}

/// Ends the active segment, and moves the recovery point past it.
fn roll(log: &mut Log) {
    let mut config = log.config().clone();
    let before = config.segment_bytes;
    config.segment_bytes = 100;
    log.set_config(config.clone());
    let mut builder = BatchBuilder::new(Compression::None, 1 << 20);
    let record = NewRecord { timestamp: NOW_MS, key: Some(b"end"), ..NewRecord::default() };
    builder.append(&record).expect("it fits");
    append(log, &builder, Origin::Client);
    config.segment_bytes = before;
    log.set_config(config);
    checkpoint(log);
}

fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.config.compact = true;
    fixture.config.delete = false;
    fixture
}

fn batches(log: &Log) -> Vec<Batch> {
    let (mut offset, mut found) = (log.log_start_offset(), Vec::new());
    while offset < log.log_end_offset() {
        let slice = log.reader().read(offset, 1 << 20, i64::MAX, true).expect("readable");
        for batch in split(slice.read().expect("readable")) {
            let batch = batch.expect("whole");
            offset = batch.next_offset();
            found.push(batch);
        }
    }
    found
}

fn records(log: &Log) -> Vec<Record> {
    let all = batches(log).into_iter().filter(|batch| !batch.is_control());
    all.flat_map(|batch| batch.records(1 << 20).expect("records").collect::<Vec<_>>())
        .map(|record| record.expect("a record"))
        .filter(|record| record.key.as_deref() != Some(b"end"))
        .collect()
}

fn text(bytes: &Option<bytes::Bytes>) -> Option<String> {
    bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// Offset, key and value of each record.
fn found(log: &Log) -> Vec<(i64, String, Option<String>)> {
    let of = |record: &Record| {
        (record.offset, text(&record.key).unwrap_or_default(), text(&record.value))
    };
    records(log).iter().map(of).collect()
}

fn some(offset: i64, key: &str, value: &str) -> (i64, String, Option<String>) {
    (offset, key.to_owned(), Some(value.to_owned()))
}

#[test]
fn the_newest_record_of_each_key_stays_at_its_offset() {
    let fixture = fixture();
    let mut log = fixture.log();
    append(&mut log, &keyed(&[("a", Some("1")), ("b", Some("1"))]), Origin::Client);
    append(&mut log, &keyed(&[("a", Some("2")), ("c", Some("1"))]), Origin::Client);
    put(&mut log, "b", Some("2"));
    roll(&mut log);
    put(&mut log, "a", Some("3"));
    let (log, stats) = clean(log);
    assert!(stats.bytes_after < stats.bytes_before, "{stats:?}");
    let expected = [some(2, "a", "2"), some(3, "c", "1"), some(4, "b", "2"), some(6, "a", "3")];
    assert_eq!(found(&log), expected, "the active segment is left alone");
    Fixture::close(log);
    assert_eq!(found(&fixture.log()), expected, "after a restart");
}

#[test]
fn base_and_last_offsets_of_the_log_stay_though_all_records_before_the_end_go() {
    // Hazard 70: no offset is ever reused, and every segment ends where the next begins.
    let fixture = fixture();
    let mut log = fixture.log();
    put(&mut log, "a", Some("1"));
    put(&mut log, "a", Some("2"));
    roll(&mut log);
    put(&mut log, "a", Some("3"));
    roll(&mut log);
    let (log, _) = clean(log);
    let kept = batches(&log);
    assert_eq!(log.log_start_offset(), 0);
    assert!(kept.windows(2).all(|pair| pair[0].next_offset() <= pair[1].base_offset));
    let end = log.log_end_offset();
    drop(log);
    // Without its checkpoints the whole log is read: nothing counts as damaged.
    let checkpoint = fixture.root.path().join("recovery-point-offset-checkpoint");
    fixture.files().remove_file(&checkpoint).expect("it was there");
    let (log, report) = fixture.open();
    assert_eq!((report.cut_bytes, log.log_end_offset()), (0, end), "{report:?}");
    assert_eq!(found(&log), [some(3, "a", "3")]);
}

#[test]
fn a_tombstone_goes_after_its_horizon_and_not_before() {
    // Hazard 67.
    let fixture = fixture();
    let mut log = fixture.log();
    put(&mut log, "a", Some("1"));
    put(&mut log, "a", None);
    roll(&mut log);
    let (mut log, _) = clean(log);
    let tombstone = [(1, "a".to_owned(), None)];
    assert_eq!(found(&log), tombstone);
    assert_eq!(records(&log)[0].timestamp, NOW_MS, "the horizon takes the base timestamp's place");
    put(&mut log, "b", Some("1"));
    roll(&mut log);
    let (mut log, _) = clean_at(log, NOW_MS + DAY_MS - 1, LIMITS);
    assert_eq!(found(&log)[..1], tombstone, "a reader may still be on its way");
    put(&mut log, "b", Some("2"));
    roll(&mut log);
    let (log, _) = clean_at(log, NOW_MS + DAY_MS, LIMITS);
    assert_eq!(found(&log), [some(5, "b", "2")]);
}

#[test]
fn nothing_is_cleaned_at_or_past_the_high_watermark_an_open_transaction_or_the_active_segment() {
    // Hazard 68.
    let fixture = fixture();
    let mut log = fixture.log();
    put(&mut log, "a", Some("1"));
    put(&mut log, "a", Some("2"));
    assert!(log.begin_cleaning(NOW_MS, i64::MAX).expect("readable").is_none(), "active");
    roll(&mut log);
    assert!(log.begin_cleaning(NOW_MS, 1).expect("readable").is_none(), "high watermark");
    assert!(log.begin_cleaning(NOW_MS, 2).expect("readable").is_some());
    let mut open = keyed(&[("a", Some("3"))]);
    open.set_producer(ProducerFields { producer_id: 5, producer_epoch: 0, base_sequence: 0 });
    open.set_transactional(true);
    append(&mut log, &open, Origin::Coordinator);
    roll(&mut log);
    roll(&mut log);
    assert_eq!(log.first_unstable_offset(), Some(3));
    let (log, _) = clean_at(log, NOW_MS, LIMITS);
    let offsets: Vec<i64> = found(&log).iter().map(|(offset, ..)| *offset).collect();
    assert_eq!(offsets, [1, 3], "what is below the open transaction is cleaned, its records stay");
}

#[test]
fn records_younger_than_the_minimum_lag_stay() {
    let fixture = fixture();
    let mut log = fixture.log();
    put(&mut log, "a", Some("1"));
    put(&mut log, "a", Some("2"));
    roll(&mut log);
    let mut config = log.config().clone();
    config.min_compaction_lag_ms = 1_000;
    log.set_config(config);
    let (log, stats) = clean_at(log, NOW_MS + 999, LIMITS);
    assert_eq!(stats, None);
    let (_, stats) = clean_at(log, NOW_MS + 1_000, LIMITS);
    assert!(stats.is_some());
}

#[test]
fn how_dirty_a_log_is_and_whether_it_is_overdue() {
    let fixture = fixture();
    let mut log = fixture.log();
    put(&mut log, "a", Some("1"));
    roll(&mut log);
    let dirt = log.dirt(NOW_MS, i64::MAX).expect("readable").expect("dirty");
    assert_eq!((dirt.ratio, dirt.overdue), (1.0, false));
    let (mut log, _) = clean(log);
    assert_eq!(log.dirt(NOW_MS, i64::MAX).expect("readable"), None, "all is clean");
    put(&mut log, "b", Some("1"));
    roll(&mut log);
    let dirt = log.dirt(NOW_MS, i64::MAX).expect("readable").expect("dirty");
    assert!(dirt.ratio > 0.3 && dirt.ratio < 0.8, "{dirt:?}");
    let mut config = log.config().clone();
    config.max_compaction_lag_ms = 10;
    log.set_config(config);
    assert!(log.dirt(NOW_MS + 11, i64::MAX).expect("readable").expect("dirty").overdue);
}

#[test]
fn the_last_batch_of_a_producer_survives_compaction_and_a_full_recovery() {
    // Hazard 69.
    let fixture = fixture();
    let mut log = fixture.log();
    for (sequence, value) in ["1", "2"].iter().enumerate() {
        let mut batch = keyed(&[("a", Some(value))]);
        let base_sequence = i32::try_from(sequence).expect("small");
        batch.set_producer(ProducerFields { producer_id: 9, producer_epoch: 0, base_sequence });
        append(&mut log, &batch, Origin::Client);
    }
    put(&mut log, "a", Some("3"));
    roll(&mut log);
    let (log, _) = clean(log);
    assert_eq!(found(&log), [some(2, "a", "3")]);
    let before = log.producers()[0].batches.last().copied();
    Fixture::close(log);
    for name in fixture.names().iter().filter(|name| name.ends_with(".snapshot")) {
        fixture.remove(name);
    }
    let log = fixture.log();
    let producers = log.producers();
    assert_eq!(producers[0].batches.last().copied(), before);
    assert_eq!(producers[0].batches.len(), 1, "the batch before it is gone");
}

#[test]
fn a_marker_is_not_matched_by_its_key_and_goes_after_its_transaction_and_its_horizon() {
    // Hazards 66 and 67.
    let fixture = fixture();
    let mut log = fixture.log();
    let producer = ProducerFields { producer_id: 5, producer_epoch: 0, base_sequence: 0 };
    let mut aborted = keyed(&[("a", Some("void"))]);
    aborted.set_producer(producer);
    aborted.set_transactional(true);
    put(&mut log, "a", Some("1"));
    append(&mut log, &aborted, Origin::Coordinator);
    let marker = EndTxnMarker { control_type: ControlType::Abort, coordinator_epoch: 0 };
    let bytes = BatchBuilder::end_txn(5, 0, NOW_MS, marker);
    let origin = Origin::Coordinator;
    log.append_as_leader(&bytes, LeaderAppend { leader_epoch: 0, now_ms: NOW_MS, origin })
        .expect("appended");
    // An application's record with the very key of the marker.
    let key = ControlType::Abort.key().encode();
    let mut builder = BatchBuilder::new(Compression::None, 1 << 20);
    let (key, value) = (Some(&key[..]), Some(&b"x"[..]));
    let record = NewRecord { timestamp: NOW_MS, key, value, headers: &[] };
    builder.append(&record).expect("it fits");
    append(&mut log, &builder, Origin::Client);
    // Another producer's data keep the marker from being its producer's last.
    let mut next = keyed(&[("z", Some("1"))]);
    next.set_producer(ProducerFields { producer_id: 5, producer_epoch: 0, base_sequence: 1 });
    append(&mut log, &next, Origin::Client);
    roll(&mut log);
    let markers = |log: &Log| batches(log).iter().filter(|batch| batch.is_control()).count();
    let (mut log, _) = clean(log);
    assert_eq!(found(&log)[0], some(0, "a", "1"), "an aborted record does not replace one");
    assert_eq!(found(&log).len(), 3, "nothing of the aborted transaction is left");
    assert_eq!(markers(&log), 1);
    for (pass, left) in [(1, 1), (2, 0)] {
        put(&mut log, "b", Some("1"));
        roll(&mut log);
        log = clean_at(log, NOW_MS + pass * DAY_MS + pass, LIMITS).0;
        assert_eq!(markers(&log), left, "pass {pass}");
    }
}

#[test]
fn an_aborted_transaction_is_in_the_index_until_no_batch_of_it_was_left_for_a_pass_to_see() {
    let fixture = fixture();
    let mut log = fixture.log();
    let has_index = || fixture.names().iter().any(|name| name.ends_with(".txnindex"));
    put(&mut log, "a", Some("1"));
    coordinate(&mut log, &data(5, "a", "void")).expect("appended");
    roll(&mut log);
    abort(&mut log, 5);
    // Not the aborted batch is its producer's last one, which would stay.
    let mut last = keyed(&[("a", Some("2"))]);
    last.set_producer(ProducerFields { producer_id: 5, producer_epoch: 0, base_sequence: 1 });
    append(&mut log, &last, Origin::Client);
    roll(&mut log);
    let before = indexed(&log.reader());
    assert_eq!(before.len(), 1);
    // Who reads the old batches still needs it.
    let (mut log, _) = clean(log);
    assert_eq!(found(&log), [some(4, "a", "2")]);
    assert_eq!((indexed(&log.reader()), has_index()), (before.clone(), true));
    put(&mut log, "b", Some("1"));
    roll(&mut log);
    Fixture::close(log);
    let log = fixture.log();
    assert_eq!(indexed(&log.reader()), before);
    let (log, _) = clean(log);
    assert_eq!((indexed(&log.reader()), has_index()), (Vec::new(), false));
    assert_eq!(batches(&log).iter().filter(|batch| batch.is_control()).count(), 1);
}

#[test]
fn a_transaction_that_was_aborted_behind_the_cleaned_segments_replaces_nothing_in_them() {
    // Hazard 68: its end decides, though it lies in a segment that is not cleaned.
    let fixture = fixture();
    let mut log = fixture.log();
    put(&mut log, "a", Some("1"));
    coordinate(&mut log, &data(5, "a", "void")).expect("appended");
    roll(&mut log);
    abort(&mut log, 5);
    let aborted = indexed(&log.reader());
    let (log, _) = clean(log);
    assert_eq!(found(&log), [some(0, "a", "1")]);
    assert_eq!(indexed(&log.reader()), aborted);
}

#[test]
fn nothing_is_cleaned_past_a_transaction_whose_marker_is_not_replicated() {
    // Hazard 68.
    let fixture = fixture();
    let mut log = fixture.log();
    put(&mut log, "a", Some("1"));
    coordinate(&mut log, &data(5, "a", "void")).expect("appended");
    roll(&mut log);
    let marker = abort(&mut log, 5);
    roll(&mut log);
    assert!(log.begin_cleaning(NOW_MS, marker).expect("readable").is_none());
    assert!(log.begin_cleaning(NOW_MS, marker + 1).expect("readable").is_some());
}

#[test]
fn a_small_map_takes_several_passes_and_ends_at_the_same() {
    let fixture = fixture();
    let mut log = fixture.log();
    let mut expected = BTreeMap::new();
    for n in 0..200 {
        let (key, value) = (format!("k{}", n * 7 % 40), format!("v{n}"));
        put(&mut log, &key, Some(&value));
        expected.insert(key, value);
    }
    roll(&mut log);
    let few = OffsetMapLimits { bytes_max: 32 * 20, load_factor: 0.9 };
    let mut passes = 0;
    while log.dirt(NOW_MS, i64::MAX).expect("readable").is_some() {
        log = clean_at(log, NOW_MS, few).0;
        passes += 1;
        assert!(passes < 50, "each pass goes on where the one before ended");
    }
    assert!(passes > 3, "{passes}");
    let left = found(&log);
    assert_eq!(left.len(), 40);
    let map: BTreeMap<_, _> =
        left.into_iter().map(|(_, key, value)| (key, value.expect("no tombstones"))).collect();
    assert_eq!(map, expected);
}

#[test]
fn segments_that_have_become_small_become_one() {
    let mut fixture = fixture();
    fixture.config.segment_bytes = 1_000;
    fixture.config.index_interval_bytes = 100;
    let mut log = fixture.log();
    for n in 0..100 {
        put(&mut log, "a", Some(&format!("{n:>60}")));
    }
    roll(&mut log);
    let before = log.segment_count();
    let (mut log, _) = clean(log);
    roll(&mut log);
    let (log, _) = clean(log);
    assert!(before > 10, "{before}");
    assert!(log.segment_count() * 4 < before, "{} of {before}", log.segment_count());
    assert_eq!(found(&log).len(), 1);
    let logs = fixture.names().iter().filter(|name| name.ends_with(".log")).count();
    assert_eq!(logs, log.segment_count(), "the files of the others are gone");
    assert!(!fixture.names().iter().any(|name| name.contains("cleaned") || name.contains("swap")));
}

#[test]
fn a_reader_of_before_goes_on_and_finds_all_that_it_began_to_read() {
    let fixture = fixture();
    let mut log = fixture.log();
    put(&mut log, "a", Some("1"));
    put(&mut log, "a", Some("2"));
    roll(&mut log);
    let slice = log.reader().read(0, 1 << 20, i64::MAX, true).expect("readable");
    let (log, _) = clean(log);
    let bytes = slice.read().expect("the old file is still open");
    assert_eq!(split(bytes).count(), 2);
    assert_eq!(found(&log), [some(1, "a", "2")]);
}

#[test]
fn a_damaged_batch_ends_the_pass_and_nothing_is_changed() {
    // Hazard 46: what the cleaner reads it checks, so that damage is not copied under a new CRC.
    let fixture = fixture();
    let mut log = fixture.log();
    put(&mut log, "a", Some("1"));
    put(&mut log, "a", Some("2"));
    roll(&mut log);
    fixture.edit("00000000000000000000.log", |bytes| bytes[70] ^= 1);
    let mut cleaning =
        log.begin_cleaning(NOW_MS, i64::MAX).expect("readable").expect("something to clean");
    let outcome = cleaning.read_dirty_keys(LIMITS, KeyHashing(1, 2), &mut |_| true);
    assert!(
        matches!(&outcome, Err(CleaningError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData),
        "{outcome:?}"
    );
    assert!(log.offline().is_none(), "damage of one log is its own");
}

#[test]
fn a_pass_that_is_told_to_end_leaves_the_log_as_it_was() {
    let fixture = fixture();
    let mut log = fixture.log();
    put(&mut log, "a", Some("1"));
    put(&mut log, "a", Some("2"));
    roll(&mut log);
    let mut cleaning =
        log.begin_cleaning(NOW_MS, i64::MAX).expect("readable").expect("something to clean");
    cleaning.read_dirty_keys(LIMITS, KeyHashing(1, 2), &mut |_| true).expect("readable");
    let outcome = cleaning.rewrite_next(&mut |_| false);
    assert!(matches!(outcome, Err(CleaningError::Cancelled)), "{outcome:?}");
    drop(cleaning);
    Fixture::close(log);
    let log = fixture.log();
    assert_eq!(found(&log).len(), 2);
    assert!(!fixture.names().iter().any(|name| name.contains("cleaned")), "leftovers go");
}
