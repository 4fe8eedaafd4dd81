//! What a disk holds, as a broker that starts on it would find it.

use std::path::Path;
use std::sync::Arc;

use klamm_env::Files;
use klamm_env::files::OpenMode;
use klamm_log::{Log, LogConfig, LogDir, OpenLog, TopicPartition, uuid_from_base64};
use klamm_protocol::records::{Batch, split};
use uuid::Uuid;

use crate::disk::SimulatedDisk;
use crate::world::WALL_START_MS;

/// Bytes read at once.
const READ_BYTES: u64 = 1 << 20;
/// No batch of a scenario is larger, once it is decompressed.
pub(crate) const BATCH_BYTES_MAX: usize = 1 << 20;

/// One log.
pub(crate) struct StoredLog {
    pub(crate) partition: TopicPartition,
    pub(crate) topic_id: Uuid,
    pub(crate) end: i64,
    pub(crate) batches: Vec<Batch>,
}

/// Opens all logs below `/data`, which changes the disk.
///
/// # Errors
/// What cannot be read, or was durable and is gone.
pub(crate) fn logs(disk: &Arc<SimulatedDisk>) -> Result<Vec<StoredLog>, String> {
    let files = disk.files();
    let dir = Arc::new(LogDir::open(files.clone(), Path::new("/data")).map_err(told)?);
    if !dir.found().missing.is_empty() {
        return Err(format!("below their recovery points: {:?}", dir.found().missing));
    }
    let mut logs = Vec::new();
    for partition in dir.partitions() {
        let path = dir.path().join(partition.dir_name());
        // Without an id it has no records: they are synced together.
        let Some(topic_id) = topic_id(&*files, &path) else { continue };
        let log = read_log(&dir, partition, topic_id);
        logs.push(log.map_err(|why| format!("{}: {why}", partition.dir_name()))?);
    }
    Ok(logs)
}

pub(crate) fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn topic_id(files: &dyn Files, dir: &Path) -> Option<Uuid> {
    let file = files.open(&dir.join("partition.metadata"), OpenMode::Read).ok()?;
    let mut bytes = vec![0; usize::try_from(file.len().ok()?).ok()?];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    text.lines().find_map(|line| uuid_from_base64(line.strip_prefix("topic_id:")?.trim()))
}

fn read_log(
    dir: &Arc<LogDir>,
    partition: &TopicPartition,
    topic_id: Uuid,
) -> Result<StoredLog, String> {
    let open = OpenLog {
        dir: Arc::clone(dir),
        partition: partition.clone(),
        topic_id,
        config: LogConfig::default(),
        now_ms: WALL_START_MS,
    };
    let (log, report) = Log::open(open).map_err(told)?;
    if report.lost_below_recovery_point {
        return Err(format!("something below the recovery point is gone: {report:?}"));
    }
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    let mut batches = Vec::new();
    let mut offset = start;
    while offset < end {
        let slice = log.reader().read(offset, READ_BYTES, i64::MAX, true).map_err(told)?;
        let bytes = slice.read().map_err(told)?;
        if bytes.is_empty() {
            return Err(format!("nothing is read at {offset}, the log ends at {end}"));
        }
        for batch in split(bytes) {
            let batch = batch.map_err(told)?;
            if batch.next_offset() <= offset {
                return Err(format!("offset {offset} comes twice"));
            }
            offset = batch.next_offset();
            batches.push(batch);
        }
    }
    Ok(StoredLog { partition: partition.clone(), topic_id, end, batches })
}
