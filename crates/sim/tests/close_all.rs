//! Many logs closed with one sync: whatever a power loss leaves, each of them is as it was or is
//! recovered, and after the close nothing is read again.

use std::path::Path;
use std::sync::Arc;

use klamm_log::{LeaderAppend, Log, LogConfig, LogDir, OpenLog, Origin, TopicPartition};
use klamm_protocol::compression::Compression;
use klamm_protocol::records::{BatchBuilder, NewRecord};
use klamm_sim::disk::SimulatedDisk;
use uuid::Uuid;

const LOGS: i32 = 5;
const BATCHES: i64 = 12;
const NOW_MS: i64 = 1_767_225_600_000;

fn open_dir(disk: &Arc<SimulatedDisk>) -> Arc<LogDir> {
    Arc::new(LogDir::open(disk.files(), Path::new("/data")).expect("it opens"))
}

fn open(dir: &Arc<LogDir>, partition: i32) -> (Log, u64) {
    let config =
        LogConfig { segment_bytes: 500, index_interval_bytes: 100, ..LogConfig::default() };
    let open = OpenLog {
        dir: Arc::clone(dir),
        partition: TopicPartition::new("t", partition),
        topic_id: Uuid::from_u128(1),
        config,
        now_ms: NOW_MS,
    };
    let (log, report) = Log::open(open).expect("it opens");
    (log, report.scanned_bytes)
}

fn append(log: &mut Log) {
    let mut builder = BatchBuilder::new(Compression::None, 1 << 20);
    builder.append(&NewRecord { value: Some(&[7; 40]), ..Default::default() }).expect("it fits");
    let append = LeaderAppend { leader_epoch: 0, now_ms: NOW_MS, origin: Origin::Client };
    log.append_as_leader(&builder.build().expect("uncompressed"), append).expect("appended");
}

/// Fills and syncs the logs, then closes them all, with the power gone after `at` operations.
fn close_cut_short(seed: u64, at: u64) -> bool {
    let disk = SimulatedDisk::new(seed);
    let dir = open_dir(&disk);
    let mut logs = Vec::new();
    for partition in 0..LOGS {
        let mut log = open(&dir, partition).0;
        (0..BATCHES).for_each(|_| append(&mut log));
        let point = log.begin_sync().expect("something to sync");
        let outcome = point.run();
        log.end_sync(point, outcome).expect("the disk works");
        logs.push(log);
    }
    disk.die_after(at);
    let failed = Log::close_all(&dir, logs);
    let closed = failed.is_empty() && dir.write_recovery_points().is_ok();
    drop(dir);
    disk.lose_power();
    let dir = open_dir(&disk);
    for partition in 0..LOGS {
        let (log, scanned_bytes) = open(&dir, partition);
        assert_eq!(log.log_end_offset(), BATCHES, "operation {at}, seed {seed}");
        assert!(!closed || scanned_bytes == 0, "operation {at}, seed {seed}: read again");
        let found = log.reader().offset_for_timestamp(0).expect("readable");
        assert_eq!(found.map(|found| found.offset), Some(0), "operation {at}, seed {seed}");
        for offset in 0..BATCHES {
            let slice = log.reader().read(offset, 1, i64::MAX, true).expect("readable");
            assert_eq!(slice.base_offset, offset, "operation {at}, seed {seed}");
        }
    }
    closed
}

#[test]
fn a_power_loss_at_any_operation_of_the_close_loses_nothing() {
    let mut at = 0;
    while !(0..6).all(|seed| close_cut_short(seed, at)) {
        at += 1;
    }
    assert!(at > 20, "{at} operations are fewer than the close has");
}
