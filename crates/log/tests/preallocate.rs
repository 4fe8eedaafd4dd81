//! `preallocate`: room for a segment is set aside when it is begun, and what is not needed comes free.

#[expect(unreachable_pub, reason = "shared between test files")]
mod fixture;

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use fixture::{Fixture, NOW_MS, TOPIC_ID, append, batch, checkpoint, read_all};
use klamm_env::Env;
use klamm_env::files::OpenMode;
use klamm_log::{Log, LogDir, OpenLog};

const SEGMENT_BYTES: u32 = 1 << 20;

fn open(fixture: &Fixture, env: &Env) -> Log {
    let dir = LogDir::open(Arc::clone(&env.files), fixture.root.path()).expect("taken");
    let mut config = fixture.config.clone();
    config.segment_bytes = SEGMENT_BYTES;
    config.preallocate = true;
    let open = OpenLog {
        dir: Arc::new(dir),
        partition: Fixture::partition(),
        topic_id: TOPIC_ID,
        config,
        now_ms: NOW_MS,
    };
    Log::open(open).expect("the log opens").0
}

/// Length and room on the disk of a segment.
fn sizes(fixture: &Fixture, base: i64) -> (u64, u64) {
    let found = std::fs::metadata(fixture.path(&format!("{base:020}.log"))).expect("there");
    (found.len(), found.blocks() * 512)
}

#[test]
fn room_is_set_aside_without_a_longer_file_and_comes_free_with_a_roll_and_a_close() {
    let (fixture, env) = (Fixture::new(), Env::real().expect("an environment"));
    let probe = env.files.open(&fixture.root.path().join("probe"), OpenMode::Create);
    if probe.expect("a file").preallocate(1).is_err() {
        eprintln!("left out: this file system sets no room aside");
        return;
    }
    let full = u64::from(SEGMENT_BYTES);
    let mut log = open(&fixture, &env);
    assert_eq!(sizes(&fixture, 0), (0, full));
    let record = "x".repeat(300_000);
    for _ in 0..3 {
        append(&mut log, batch(&[&record])).expect("appended");
    }
    assert!(sizes(&fixture, 0).0 < full && sizes(&fixture, 0).1 >= full);
    append(&mut log, batch(&[&record])).expect("appended");
    let (len, room) = sizes(&fixture, 0);
    assert!(len > 900_000 && room < len + 8192, "{len} bytes take {room}");
    assert!(sizes(&fixture, 3).1 >= full, "the next one has its room");
    checkpoint(&mut log);
    drop(log);
    // As after a crash: nothing but batches is in the files.
    let log = open(&fixture, &env);
    assert_eq!(log.log_end_offset(), 4);
    assert_eq!(read_all(&log.reader(), 0).len(), 4);
    Fixture::close(log);
    let (len, room) = sizes(&fixture, 3);
    assert!(room < len + 8192, "{len} bytes take {room} after a close");
}
