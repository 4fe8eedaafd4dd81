//! What readers get, by offset and by timestamp.

#[expect(unreachable_pub, reason = "shared between test files")]
mod fixture;

use std::sync::atomic::Ordering;

use fixture::{Fixture, NOW_MS, append, append_in_epoch, batch, batch_at, build, read_all};
use klamm_log::{Log, ReadError};
use klamm_protocol::compression::Compression;
use klamm_protocol::records::{BatchHeader, ProducerFields, split};

/// Batches of three records each.
fn triples(log: &mut Log, count: i64) {
    for n in 0..count {
        append_in_epoch(log, batch(&["a", "b", "c"]), (n / 10) as i32).expect("appended");
    }
}

#[test]
fn the_whole_batch_around_an_offset_is_returned() {
    // Hazard 21.
    let fixture = Fixture::small();
    let mut log = fixture.log();
    triples(&mut log, 50);
    for offset in 0..150 {
        let slice = log.reader().read(offset, 1, i64::MAX, true).expect("readable");
        assert_eq!(slice.base_offset, offset / 3 * 3);
        let header = BatchHeader::parse(&slice.read().expect("readable")).expect("a batch");
        assert_eq!(header.base_offset, slice.base_offset);
        assert_eq!(header.size() as u64, slice.len());
    }
}

#[test]
fn reads_end_with_a_batch_within_their_bounds() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    triples(&mut log, 50);
    let one = batch(&["a", "b", "c"]).len() as u64;
    for from in 0..150 {
        for max_bytes in [0, one - 1, one, 2 * one + 1, 7 * one, 1 << 20] {
            for upper in [from, from + 1, from + 3, 77, 78, 150, i64::MAX] {
                let slice = log.reader().read(from, max_bytes, upper, false).expect("readable");
                assert!(slice.len() <= max_bytes);
                assert_eq!(slice.len() % one, 0);
                let batches: Vec<_> = split(slice.read().expect("readable")).collect();
                assert_eq!(batches.len() as u64, slice.len() / one);
                for batch in &batches {
                    assert!(batch.as_ref().expect("whole").next_offset() <= upper);
                }
                let fits = (from / 3 * 3 + 3) <= upper.min(150) && one <= max_bytes;
                assert_eq!(fits, !slice.is_empty(), "{from} {max_bytes} {upper}");
            }
        }
    }
}

#[test]
fn a_read_that_must_not_wait_for_the_disk_gives_up_and_later_finds_the_same() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    triples(&mut log, 50);
    Fixture::close(log);
    // Index files that nobody has looked at yet, and segments that nobody has open.
    let mut log = fixture.log();
    for _ in 0..5 {
        append_in_epoch(&mut log, batch(&["a", "b", "c"]), 4).expect("appended");
    }
    let reader = log.reader();
    let reads = || fixture.faults.reads.load(Ordering::Relaxed);
    let before = reads();
    fixture.faults.cold.store(true, Ordering::Relaxed);
    for offset in 0..165 {
        assert!(reader.try_read(offset, 400, i64::MAX, true).expect("no error").is_none());
    }
    fixture.faults.cold.store(false, Ordering::Relaxed);
    assert!(reader.try_read(0, 400, i64::MAX, true).expect("no error").is_none(), "not open");
    assert_eq!(reads(), before, "the disk was not asked");
    for offset in 0..=165 {
        for (max_bytes, upper) in [(0, 165), (400, 165), (400, offset + 3), (1 << 20, 160)] {
            let waited = reader.read(offset, max_bytes, upper, true).expect("readable");
            let before = reads();
            let tried = reader.try_read(offset, max_bytes, upper, true).expect("readable");
            let tried = tried.expect("in memory now");
            assert_eq!(reads(), before, "the disk was not asked");
            assert_eq!((tried.base_offset, tried.len()), (waited.base_offset, waited.len()));
        }
    }
    assert!(matches!(
        reader.try_read(166, 1, i64::MAX, true),
        Err(ReadError::OffsetOutOfRange { .. })
    ));
}

#[test]
fn a_first_batch_that_is_too_large_is_returned_when_asked_for() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    append(&mut log, batch(&[&"x".repeat(5_000)])).expect("appended");
    append(&mut log, batch(&["y"])).expect("appended");
    assert!(log.reader().read(0, 100, i64::MAX, false).expect("readable").is_empty());
    let slice = log.reader().read(0, 100, i64::MAX, true).expect("readable");
    assert!(slice.len() > 5_000);
    assert_eq!(read_all(&log.reader(), 0).len(), 2);
}

#[test]
fn offsets_outside_are_out_of_range() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    triples(&mut log, 5);
    log.advance_log_start(4);
    let read = |offset| log.reader().read(offset, 1_000, i64::MAX, true);
    for offset in [-1, 3, 16] {
        let refused = read(offset).expect_err("out of range");
        assert!(
            matches!(
                refused,
                ReadError::OffsetOutOfRange { log_start_offset: 4, log_end_offset: 15, .. }
            ),
            "{refused}"
        );
    }
    assert_eq!(read(4).expect("readable").base_offset, 3);
    assert!(read(15).expect("the end is fine").is_empty());
}

#[test]
fn readers_see_appends_and_rolls() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    let reader = log.reader();
    for n in 0..60 {
        append(&mut log, batch(&[&format!("{n}")])).expect("appended");
        let slice = reader.read(n, 1_000, i64::MAX, true).expect("readable");
        assert_eq!(slice.base_offset, n);
        assert_eq!(reader.log_end_offset(), n + 1);
    }
}

#[test]
fn a_reader_outlives_deletion() {
    let mut fixture = Fixture::small();
    fixture.config.retention_ms = 1_000;
    let mut log = fixture.log();
    triples(&mut log, 50);
    fixture::checkpoint(&mut log);
    let reader = log.reader();
    let slice = reader.read(0, 500, i64::MAX, true).expect("readable");
    let deletion = log.delete_old_segments(NOW_MS + 10_000, 150).expect("disk").expect("some");
    deletion.run().expect("disk");
    assert!(!slice.read().expect("still readable").is_empty());
    assert!(matches!(reader.read(0, 500, i64::MAX, true), Err(ReadError::OffsetOutOfRange { .. })));
}

#[test]
fn the_first_record_at_or_after_a_timestamp_is_found() {
    for compression in [Compression::None, Compression::Zstd] {
        let fixture = Fixture::small();
        let mut log = fixture.log();
        // Records at NOW_MS, +10, +20, …, two to a batch.
        for n in 0..50 {
            let records = |at| build(&["x"], ProducerFields::NONE, at, compression);
            append_in_epoch(&mut log, records(NOW_MS + 20 * n), (n / 10) as i32).expect("appended");
            append_in_epoch(&mut log, records(NOW_MS + 20 * n + 10), (n / 10) as i32)
                .expect("appended");
        }
        for clean in [false, true] {
            for n in 0..100 {
                for early in [0, 1, 9] {
                    let at = NOW_MS + 10 * n - early;
                    let found = log.reader().offset_for_timestamp(at).expect("readable");
                    let found = found.expect("there is one");
                    assert_eq!((found.offset, found.timestamp), (n, NOW_MS + 10 * n));
                    assert_eq!(found.leader_epoch, (n / 20) as i32);
                }
            }
            let after = log.reader().offset_for_timestamp(NOW_MS + 991).expect("readable");
            assert_eq!(after, None);
            let first = log.reader().offset_for_timestamp(0).expect("readable").expect("one");
            assert_eq!(first.offset, 0);
            let last = log.reader().max_timestamp().expect("readable").expect("one");
            assert_eq!((last.offset, last.timestamp), (99, NOW_MS + 990));
            if !clean {
                Fixture::close(log);
                log = fixture.log();
            }
        }
    }
}

#[test]
fn timestamps_need_not_rise() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    for at in [50, 10, 90, 20, 90, 30] {
        for _ in 0..10 {
            append(&mut log, batch_at(&["x"], NOW_MS + at)).expect("appended");
        }
    }
    let find = |at| log.reader().offset_for_timestamp(NOW_MS + at).expect("readable");
    assert_eq!(find(10).expect("one").offset, 0);
    assert_eq!(find(51).expect("one").offset, 20);
    assert_eq!(find(91), None);
    let max = log.reader().max_timestamp().expect("readable").expect("one");
    assert_eq!((max.offset, max.timestamp), (20, NOW_MS + 90));
    log.advance_log_start(25);
    let find = |at| log.reader().offset_for_timestamp(NOW_MS + at).expect("readable");
    assert_eq!(find(10).expect("one").offset, 25);
}

#[test]
fn records_without_timestamps_are_not_found_by_one() {
    // Hazard 71.
    let fixture = Fixture::small();
    let mut log = fixture.log();
    for _ in 0..30 {
        let records = build(&["x"], ProducerFields::NONE, -1, Compression::None);
        append(&mut log, records).expect("appended");
    }
    assert_eq!(log.reader().offset_for_timestamp(0).expect("readable"), None);
    assert_eq!(log.reader().max_timestamp().expect("readable"), None);
}
