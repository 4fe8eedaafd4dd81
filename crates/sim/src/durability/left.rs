//! What a disk holds, as a broker that starts on it would find it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use klamm_env::Files;
use klamm_env::files::OpenMode;
use klamm_log::{Log, LogConfig, LogDir, OpenLog, TopicPartition, uuid_from_base64};
use klamm_protocol::records::split;
use uuid::Uuid;

use super::client::short;
use crate::disk::SimulatedDisk;
use crate::world::WALL_START_MS;

/// Bytes read at once.
const READ_BYTES: u64 = 1 << 20;
/// No batch of the scenario is larger.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// A record as far as it matters here: its key, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: Option<Bytes>,
    pub(super) text: String,
}

/// Records by offset.
pub(super) type Records = BTreeMap<i64, Record>;

/// One log.
#[derive(Clone, Debug, Default)]
pub(super) struct Left {
    pub(super) end: i64,
    pub(super) records: Records,
}

/// All logs.
#[derive(Clone, Debug, Default)]
pub(super) struct Logs(pub(super) BTreeMap<(String, i32), Left>);

impl Logs {
    /// Opens all logs, which changes the disk.
    ///
    /// # Errors
    /// What cannot be read, or was durable and is gone.
    pub(super) fn read(disk: &Arc<SimulatedDisk>) -> Result<Logs, String> {
        let files = disk.files();
        let dir = Arc::new(LogDir::open(files.clone(), Path::new("/data")).map_err(told)?);
        if !dir.found().missing.is_empty() {
            return Err(format!("below their recovery points: {:?}", dir.found().missing));
        }
        let mut logs = Logs::default();
        for partition in dir.partitions() {
            let path = dir.path().join(partition.dir_name());
            // Without an id it has no records: they are synced together.
            let Some(topic_id) = topic_id(&*files, &path) else { continue };
            let left = read_log(&dir, partition, topic_id);
            let left = left.map_err(|why| format!("{}: {why}", partition.dir_name()))?;
            logs.0.insert((partition.topic.to_string(), partition.partition), left);
        }
        Ok(logs)
    }
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn topic_id(files: &dyn Files, dir: &Path) -> Option<Uuid> {
    let file = files.open(&dir.join("partition.metadata"), OpenMode::Read).ok()?;
    let mut bytes = vec![0; usize::try_from(file.len().ok()?).ok()?];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    text.lines().find_map(|line| uuid_from_base64(line.strip_prefix("topic_id:")?.trim()))
}

fn read_log(dir: &Arc<LogDir>, partition: &TopicPartition, topic_id: Uuid) -> Result<Left, String> {
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
    let mut left = Left { end: log.log_end_offset(), records: Records::new() };
    let mut offset = log.log_start_offset();
    while offset < left.end {
        let slice = log.reader().read(offset, READ_BYTES, i64::MAX, true).map_err(told)?;
        let bytes = slice.read().map_err(told)?;
        if bytes.is_empty() {
            return Err(format!("nothing is read at {offset}, the log ends at {}", left.end));
        }
        for batch in split(bytes) {
            let batch = batch.map_err(told)?;
            if batch.next_offset() <= offset {
                return Err(format!("offset {offset} comes twice"));
            }
            offset = batch.next_offset();
            for record in batch.records(BATCH_BYTES_MAX).map_err(told)? {
                let record = record.map_err(told)?;
                let text = short(&record.value.unwrap_or_default())?;
                left.records.insert(record.offset, Record { key: record.key, text });
            }
        }
    }
    Ok(left)
}
