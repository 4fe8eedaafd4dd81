//! Work begun before something else overtook it, and what a restart in between makes of it.

#[expect(unreachable_pub, reason = "shared between test files")]
mod fixture;

use std::sync::Arc;

use fixture::{
    Fixture, NOW_MS, append, append_in_epoch, batch, batch_at, checkpoint, read_all, sync,
};
use klamm_log::{Log, LogDir, OpenLog};
use uuid::Uuid;

const NEXT_TOPIC: Uuid = Uuid::from_u128(7);
const UNIQUE: Uuid = Uuid::from_u128(9);

fn fill(log: &mut Log, count: usize) {
    for n in 0..count {
        append(log, batch(&[&format!("value {n}")])).expect("appended");
    }
}

fn open_next_topic(fixture: &Fixture, dir: Arc<LogDir>) -> Log {
    let (partition, config) = (Fixture::partition(), fixture.config.clone());
    let open = OpenLog { dir, partition, topic_id: NEXT_TOPIC, config, now_ms: NOW_MS };
    Log::open(open).expect("the log opens").0
}

#[test]
fn the_next_topic_of_a_name_does_not_begin_where_the_deleted_one_did() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    fill(&mut log, 20);
    checkpoint(&mut log);
    assert!(log.advance_log_start(15));
    let dir = Arc::clone(log.dir());
    dir.write_log_start_offsets().expect("the disk works");
    log.delete(UNIQUE).expect("the disk works");
    let mut next = open_next_topic(&fixture, Arc::clone(&dir));
    fill(&mut next, 3);
    sync(&mut next);
    drop((next, dir));
    let next = open_next_topic(&fixture, Arc::new(fixture.dir()));
    assert_eq!(read_all(&next.reader(), 0).len(), 3);
}

#[test]
fn a_sync_or_checkpoint_begun_while_a_truncation_waits_does_not_count() {
    // Hazard 94.
    let fixture = Fixture::small();
    let mut log = fixture.log();
    fill(&mut log, 10);
    let late = log.reader().read(8, 1_000, i64::MAX, true).expect("readable");
    log.truncate_to(7).expect_err("in flight");
    let synced = log.begin_sync().expect("something to sync");
    let checkpointed = log.begin_checkpoint().expect("readable").expect("something to store");
    drop(late);
    log.truncate_to(7).expect("nobody reads");
    let outcome = synced.run();
    log.end_sync(synced, outcome).expect("the disk works");
    let outcome = checkpointed.run();
    log.end_checkpoint(checkpointed, outcome).expect("the disk works");
    assert!(log.synced_end_offset() <= 7, "{}", log.synced_end_offset());
    assert!(log.recovery_point() <= 7, "{}", log.recovery_point());
}

#[test]
fn a_directory_without_segments_is_as_new() {
    // Hazard 33: the process may have died right after it made the directory.
    let whole = Fixture::new();
    let half = Fixture::new();
    half.files().create_dir_all(&half.root.path().join("events-3")).expect("created");
    let files = [whole, half].map(|fixture| {
        let mut log = fixture.log();
        fill(&mut log, 1);
        log.begin_sync().expect("something to sync").file_count()
    });
    assert_eq!(files[0], files[1], "the directory's own name is synced");
}

#[test]
fn truncating_at_the_end_forgets_an_epoch_without_records() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    append_in_epoch(&mut log, batch(&["a"]), 1).expect("appended");
    log.record_epoch_start(5);
    log.truncate_to(1).expect("nobody reads");
    assert_eq!(log.latest_epoch(), Some(1));
}

#[test]
fn a_segment_completed_right_after_a_checkpoint_keeps_its_last_timestamps() {
    // Hazard 38: its time index lacks the last entry when the process dies before the next one.
    let fixture = Fixture::small();
    let mut log = fixture.log();
    let mut end = 0;
    while log.segment_count() == 1 {
        checkpoint(&mut log);
        append(&mut log, batch_at(&[&format!("value {end:03}")], NOW_MS + end)).expect("appended");
        end += 1;
    }
    drop(log);
    let log = fixture.log();
    for n in 0..end {
        let found = log.reader().offset_for_timestamp(NOW_MS + n).expect("readable");
        assert_eq!(found.map(|found| found.offset), Some(n));
    }
}

#[test]
fn closing_does_not_rely_on_a_checkpoint_under_way() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    fill(&mut log, 5);
    let point = log.begin_checkpoint().expect("readable").expect("something to store");
    fill(&mut log, 5);
    Fixture::close(log);
    point.run().expect("the disk works");
    drop(point);
    let (log, report) = fixture.open();
    assert_eq!((report.recovery_point, report.scanned_bytes), (10, 0));
    assert_eq!(read_all(&log.reader(), 0).len(), 10);
}
