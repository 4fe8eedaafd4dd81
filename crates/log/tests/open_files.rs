//! The bound on open segment files.

#[expect(unreachable_pub, reason = "shared between test files")]
mod fixture;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fixture::{Fixture, append, batch, checkpoint, read_all};
use klamm_log::{Log, LogSlice, OpenFiles};

const BOUND: usize = 50;

/// A log of segments of one batch, with a bound on open files.
fn log_of_segments(fixture: &mut Fixture, count: usize) -> (Log, Arc<OpenFiles>) {
    fixture.faults.skip_syncs.store(true, Ordering::Relaxed);
    fixture.config.segment_bytes = batch(&["00000"]).len() as u32;
    let open_files = Arc::new(OpenFiles::new(BOUND));
    let dir = fixture.dir().with_open_files(Arc::clone(&open_files));
    let (mut log, _) = fixture.open_with(dir);
    for n in 0..count {
        append(&mut log, batch(&[&format!("{n:05}")])).expect("appended");
    }
    assert_eq!(log.segment_count(), count);
    (log, open_files)
}

/// Descriptors of this process on segments' files below `fixture`.
#[expect(clippy::disallowed_methods, reason = "the kernel says what is open")]
fn descriptors(fixture: &Fixture) -> usize {
    let entries = std::fs::read_dir("/proc/self/fd").expect("Linux");
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let segment = |path: &std::path::PathBuf| {
        path.starts_with(fixture.path("")) && path.extension().is_some()
    };
    targets.filter(segment).count()
}

#[test]
fn many_segments_that_are_read_keep_few_files_open() {
    let mut fixture = Fixture::new();
    let (mut log, open_files) = log_of_segments(&mut fixture, 3_000);
    checkpoint(&mut log);
    Fixture::close(log);
    let dir = fixture.dir().with_open_files(Arc::clone(&open_files));
    let (log, _) = fixture.open_with(dir);
    fixture.faults.open_peak();
    for round in 0..2 {
        let found = read_all(&log.reader(), 0);
        assert_eq!(found.len(), 3_000, "round {round}");
        assert!(
            found
                .iter()
                .enumerate()
                .all(|(n, (at, text))| { *at == n as i64 && text.parse() == Ok(n) })
        );
        assert!(open_files.count() <= BOUND, "{} are open", open_files.count());
        // The active segment's file is the log's own.
        let open = descriptors(&fixture);
        assert!((BOUND / 2..=BOUND + 1).contains(&open), "{open} descriptors");
        let peak = fixture.faults.open_peak();
        assert!(peak <= BOUND + 2, "{peak} at once");
    }
}

#[test]
fn hazard_83_a_file_with_unsynced_bytes_is_never_closed() {
    let mut fixture = Fixture::new();
    let (mut log, open_files) = log_of_segments(&mut fixture, 200);
    // Synced files beside them, which are what has to go.
    checkpoint(&mut log);
    for n in 200..400 {
        append(&mut log, batch(&[&format!("{n:05}")])).expect("appended");
    }
    assert_eq!(read_all(&log.reader(), 0).len(), 400);
    assert_eq!(read_all(&log.reader(), 0).len(), 400);
    assert_eq!(fixture.faults.closed_dirty(), Vec::<String>::new());
    assert_eq!(fixture.faults.opened_beside_dirty(), Vec::<String>::new());
    assert!(descriptors(&fixture) >= 200, "all that is not synced is open");
    checkpoint(&mut log);
    assert_eq!(read_all(&log.reader(), 0).len(), 400);
    assert!(open_files.count() <= BOUND);
    assert!(descriptors(&fixture) <= BOUND + 1, "{} descriptors", descriptors(&fixture));
    assert_eq!(fixture.faults.closed_dirty(), Vec::<String>::new());
}

#[test]
fn reads_in_flight_keep_their_files_and_the_rest_reopen() {
    let mut fixture = Fixture::new();
    let (mut log, open_files) = log_of_segments(&mut fixture, 300);
    checkpoint(&mut log);
    let reader = log.reader();
    let slice = |at: i64| reader.read(at, 1, i64::MAX, true).expect("readable");
    let held: Vec<LogSlice> = (0..100).map(slice).collect();
    assert_eq!(read_all(&reader, 0).len(), 300);
    // The files are gone by name: what is held can only be read if it stayed open.
    for n in 0..100 {
        fixture.remove(&format!("{n:020}.log"));
    }
    for (n, slice) in held.iter().enumerate() {
        let file = &slice.file.as_ref().expect("bytes").file;
        assert!(file.descriptor().is_some());
        let bytes = slice.read().expect("still open");
        assert!(bytes.windows(5).any(|window| window == format!("{n:05}").as_bytes()));
    }
    assert!(open_files.count() > BOUND, "in use, and so not closed");
    drop(held);
    assert_eq!(read_all(&reader, 100).len(), 200);
    assert_eq!(read_all(&reader, 100).len(), 200);
    assert!(open_files.count() <= BOUND, "{} are open", open_files.count());
}

#[test]
fn a_truncation_waits_for_a_read_whose_file_was_due_to_be_closed() {
    // R16.
    let mut fixture = Fixture::new();
    let (mut log, _) = log_of_segments(&mut fixture, 200);
    checkpoint(&mut log);
    let held = log.reader().read(150, 1, i64::MAX, true).expect("readable");
    assert_eq!(read_all(&log.reader(), 0).len(), 200);
    assert!(log.truncate_to(150).is_err());
    assert_eq!(log.drain().in_flight(), 1);
    drop(held);
    log.truncate_to(150).expect("nothing is in flight");
    assert_eq!(read_all(&log.reader(), 0).len(), 150);
}
