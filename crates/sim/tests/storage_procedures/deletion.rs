//! The deletion of a log, the next topic of the same name, and the removal of the old files. Who
//! opens the log afterwards knows that the old topic is gone: what is left of it is found whole and
//! put aside, or not at all, and never in the new log.

use std::path::Path;
use std::sync::Arc;

use klamm_log::{LeaderAppend, Log, LogConfig, LogDir, OpenError, OpenLog, Origin, TopicPartition};
use klamm_protocol::compression::Compression;
use klamm_protocol::records::{BatchBuilder, NewRecord};
use klamm_sim::disk::{Lie, SimulatedDisk};
use uuid::Uuid;

use crate::explorer::Cut;

const NOW_MS: i64 = 1_767_225_600_000;
const OLD: Uuid = Uuid::from_u128(1);
const NEW: Uuid = Uuid::from_u128(2);
/// Records of the old log, all durable, the first of them below its start; and of the new one.
const OLD_RECORDS: i64 = 12;
const OLD_START: i64 = 3;
const NEW_RECORDS: i64 = 3;

/// How far the procedure came.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    /// The deletion has returned.
    deleted: bool,
    /// The new log was synced.
    synced: bool,
}

/// The procedure up to its change `at`, on a disk that may `lie` from its begin on.
///
/// # Errors
/// When the log fails before the power does.
pub fn cut_short(at: u64, lie: Option<Lie>) -> Result<Cut, String> {
    let disk = SimulatedDisk::new(0);
    let dir = open_dir(&disk)?;
    let mut log = open(&dir, OLD).map_err(|error| error.to_string())?;
    let stored =
        append(&mut log, "old", OLD_RECORDS).and_then(|()| checkpoint(&mut log)).and_then(|()| {
            log.advance_log_start(OLD_START);
            dir.write_log_start_offsets().map_err(|error| error.to_string())
        });
    stored?;
    disk.set_lie(lie);
    disk.die_after(at);
    let mut done = Done::default();
    let finished = delete_and_create(&dir, log, &mut done).is_ok();
    let check = move |disk| {
        check(&disk, done)?;
        disk.lose_all_unsynced();
        check(&disk, done).map_err(|failure| format!("after a second loss: {failure}"))
    };
    Ok(Cut { disk, finished, check: Box::new(check) })
}

fn delete_and_create(dir: &Arc<LogDir>, log: Log, done: &mut Done) -> Result<(), String> {
    let renamed = log.delete(Uuid::from_u128(7)).map_err(|error| error.to_string())?;
    done.deleted = true;
    let mut log = open(dir, NEW).map_err(|error| error.to_string())?;
    append(&mut log, "new", NEW_RECORDS)?;
    checkpoint(&mut log)?;
    done.synced = true;
    dir.files().remove_dir_all(&renamed).map_err(|error| error.to_string())
}

fn open_dir(disk: &Arc<SimulatedDisk>) -> Result<Arc<LogDir>, String> {
    let dir = LogDir::open(disk.files(), Path::new("/data"));
    dir.map(Arc::new).map_err(|error| error.to_string())
}

fn open(dir: &Arc<LogDir>, topic_id: Uuid) -> Result<Log, OpenError> {
    let config =
        LogConfig { segment_bytes: 500, index_interval_bytes: 100, ..LogConfig::default() };
    let open = OpenLog {
        dir: Arc::clone(dir),
        partition: TopicPartition::new("t", 0),
        topic_id,
        config,
        now_ms: NOW_MS,
    };
    Log::open(open).map(|(log, _)| log)
}

fn append(log: &mut Log, text: &str, count: i64) -> Result<(), String> {
    for _ in 0..count {
        let mut builder = BatchBuilder::new(Compression::None, 1 << 20);
        let value = format!("{text:.<80}");
        let record = NewRecord { value: Some(value.as_bytes()), ..NewRecord::default() };
        builder.append(&record).map_err(|error| error.to_string())?;
        let append = LeaderAppend { leader_epoch: 0, now_ms: NOW_MS, origin: Origin::Client };
        let bytes = builder.build().map_err(|error| error.to_string())?;
        log.append_as_leader(&bytes, append).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn checkpoint(log: &mut Log) -> Result<(), String> {
    let point = log.begin_checkpoint().map_err(|error| error.to_string())?;
    let point = point.ok_or("nothing to store")?;
    let outcome = point.run();
    log.end_checkpoint(point, outcome).map_err(|error| error.to_string())?;
    log.dir().write_recovery_points().map_err(|error| error.to_string())
}

fn check(disk: &Arc<SimulatedDisk>, done: Done) -> Result<(), String> {
    let dir = open_dir(disk)?;
    let partition = TopicPartition::new("t", 0);
    // A log whose directory is missing below its recovery point counts as lost.
    if dir.found().missing.contains(&partition) {
        return Err(format!("a log is missed, {done:?}"));
    }
    let new = match open(&dir, NEW) {
        Err(OpenError::OtherTopic { found: OLD, .. }) if !done.deleted => {
            let old = open(&dir, OLD).map_err(|error| error.to_string())?;
            // Its start may be forgotten already.
            let start = old.log_start_offset();
            if !(start == OLD_START || start == 0) || old.log_end_offset() != OLD_RECORDS {
                return Err(format!("the old log is {start} to {}", old.log_end_offset()));
            }
            check_records(&old, "old")?;
            drop(old);
            let aside = dir.put_aside(&partition, Some(NEW), Uuid::from_u128(8));
            aside.map_err(|error| error.to_string())?;
            open(&dir, NEW)
        }
        other => other,
    };
    let new = new.map_err(|error| error.to_string())?;
    let (start, end) = (new.log_start_offset(), new.log_end_offset());
    if start != 0 || end > NEW_RECORDS || (done.synced && end < NEW_RECORDS) {
        return Err(format!("the new log is {start} to {end}, {done:?}"));
    }
    check_records(&new, "new")
}

/// That all records say `text`.
fn check_records(log: &Log, text: &str) -> Result<(), String> {
    for offset in log.log_start_offset()..log.log_end_offset() {
        let slice = log.reader().read(offset, 1, i64::MAX, true);
        let bytes = slice.and_then(|slice| Ok(slice.read()?)).map_err(|error| error.to_string())?;
        if !String::from_utf8_lossy(&bytes).contains(text) {
            return Err(format!("{offset} of the {text} log is another's"));
        }
    }
    Ok(())
}
