//! A process without descriptors: what cannot be opened is refused and works again later; nothing is
//! lost, and no log directory goes offline for it.

#[expect(unreachable_pub, reason = "shared between test files")]
mod fixture;

use std::sync::atomic::Ordering;

use fixture::{Fixture, NOW_MS, append, batch, checkpoint, read_all, sync};
use klamm_log::{AppendError, Log};

const RECORDS: i64 = 30;

/// A log of several segments with something past its recovery point.
fn several_segments(fixture: &Fixture) -> Log {
    let mut log = fixture.log();
    for offset in 0..RECORDS {
        append(&mut log, batch(&[&offset.to_string()])).expect("appended");
        if offset == 2 * RECORDS / 3 {
            checkpoint(&mut log);
        }
    }
    assert!(log.segment_count() > 3, "{} segments", log.segment_count());
    log
}

fn small() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.config.segment_bytes = 400;
    fixture
}

#[track_caller]
fn assert_holds(log: &Log, records: i64) {
    let found = read_all(&log.reader(), 0);
    let expected: Vec<_> = (0..records).map(|offset| (offset, offset.to_string())).collect();
    assert_eq!(found, expected);
}

#[test]
fn new_names_are_synced_with_the_volume_that_is_open() {
    let fixture = small();
    let mut log = several_segments(&fixture);
    fixture.faults.set_descriptors(Some(0));
    let point = log.begin_sync().expect("something to sync");
    let outcome = point.run();
    assert_eq!(log.end_sync(point, outcome).expect("online"), Some(RECORDS));
    assert!(log.begin_sync().is_none(), "all is durable");
}

#[test]
fn a_sync_that_lacks_a_descriptor_proves_nothing_and_is_made_later() {
    let fixture = small();
    fixture.faults.no_volume_sync.store(true, Ordering::Relaxed);
    let mut log = several_segments(&fixture);
    let synced = log.synced_end_offset();
    fixture.faults.set_descriptors(Some(0));
    for _ in 0..2 {
        let point = log.begin_sync().expect("something to sync");
        let outcome = point.run();
        assert!(outcome.is_err());
        assert_eq!(log.end_sync(point, outcome).expect("online"), None);
        assert_eq!(log.synced_end_offset(), synced);
        assert!(log.offline().is_none());
    }
    fixture.faults.set_descriptors(None);
    sync(&mut log);
    assert_eq!(log.synced_end_offset(), RECORDS);
    assert_holds(&log, RECORDS);
}

#[test]
fn a_roll_that_cannot_sync_the_last_name_is_refused() {
    let fixture = small();
    fixture.faults.no_volume_sync.store(true, Ordering::Relaxed);
    let mut log = several_segments(&fixture);
    fixture.faults.set_descriptors(Some(0));
    let mut next = RECORDS;
    let refused = loop {
        match append(&mut log, batch(&[&next.to_string()])) {
            Ok(_) => next += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, AppendError::Shortage(_)), "{refused}");
    assert!(log.offline().is_none());
    fixture.faults.set_descriptors(None);
    append(&mut log, batch(&[&next.to_string()])).expect("appended");
    assert_holds(&log, next + 1);
}

#[test]
fn a_checkpoint_without_descriptors_leaves_the_recovery_point_where_it_is() {
    for (left, no_volume_sync) in (0..12).flat_map(|left| [(left, false), (left, true)]) {
        let fixture = small();
        fixture.faults.no_volume_sync.store(no_volume_sync, Ordering::Relaxed);
        let mut log = several_segments(&fixture);
        let before = log.recovery_point();
        fixture.faults.set_descriptors(Some(left));
        let point = log.begin_checkpoint().expect("readable").expect("something to do");
        let outcome = point.run();
        let whole = outcome.is_ok();
        log.end_checkpoint(point, outcome).expect("online");
        assert_eq!(log.recovery_point(), if whole { RECORDS } else { before }, "{left}");
        let stored = log.dir().write_recovery_points();
        assert!(stored.is_err() || left > 0, "{left}");
        assert!(log.offline().is_none(), "{left}");
        fixture.faults.set_descriptors(None);
        checkpoint(&mut log);
        log.dir().write_recovery_points().expect("with descriptors");
        assert_eq!(log.recovery_point(), RECORDS);
        drop(log);
        let (log, report) = fixture.open();
        assert_eq!((report.cut_bytes, report.scanned_bytes), (0, 0), "{left}");
        assert_holds(&log, RECORDS);
    }
}

#[test]
fn retention_without_descriptors_keeps_what_there_is() {
    let mut fixture = small();
    let mut log = several_segments(&fixture);
    checkpoint(&mut log);
    fixture.config.retention_ms = 1;
    log.set_config(fixture.config.clone());
    fixture.faults.set_descriptors(Some(0));
    let late = NOW_MS + 1_000_000;
    let refused = log.delete_old_segments(late, RECORDS).expect_err("the time index is not read");
    assert!(matches!(refused, AppendError::Shortage(_)), "{refused}");
    assert!(log.offline().is_none());
    assert_holds(&log, RECORDS);
    fixture.faults.set_descriptors(None);
    log.delete_old_segments(late, RECORDS).expect("online").expect("old segments");
    assert!(log.log_start_offset() > 0);
}

#[test]
fn a_truncation_without_descriptors_loses_nothing_below_it_and_takes_no_directory_offline() {
    const CUT: i64 = 10;
    let (mut refused, mut done, mut left) = (0, false, 0);
    while !done {
        let fixture = small();
        let mut log = several_segments(&fixture);
        fixture.faults.set_descriptors(Some(left));
        let outcome = log.truncate_to(CUT);
        assert!(log.dir().offline().is_none(), "{left}");
        fixture.faults.set_descriptors(None);
        done = outcome.is_ok();
        if log.offline().is_none() {
            // Nothing was cut, or all of it.
            refused += usize::from(!done);
            log.truncate_to(CUT).expect("with descriptors");
            assert_holds(&log, CUT);
            append(&mut log, batch(&["again"])).expect("appended");
        }
        drop(log);
        let (log, report) = fixture.open();
        assert!(!report.lost_below_recovery_point, "{left}: {report:?}");
        let found = read_all(&log.reader(), 0);
        assert!(found.len() >= usize::try_from(CUT).expect("few"), "{left}: {found:?}");
        left += 1;
    }
    assert!(refused > 0, "it was never refused");
}
