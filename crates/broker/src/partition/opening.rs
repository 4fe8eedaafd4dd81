//! Opening a partition's log when it is first needed, and deleting it when it is not to be here any
//! more.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use klamm_log::{Log, LogConfig, LogReader, OpenError, OpenLog, uuid_to_base64};
use klamm_protocol::ErrorCode;
use tokio::sync::OwnedMutexGuard;
use tracing::{info, warn};
use uuid::Uuid;

use super::{Partition, State};
use crate::data_dir::DataDir;
use crate::waiters::fire_all;

impl Partition {
    /// Opens the log unless it is open, off the loop; several callers wait for one opening.
    ///
    /// # Errors
    /// When the directory cannot be read, is offline, or the partition is not here any more.
    pub(crate) async fn open(&self) -> Result<&LogReader, ErrorCode> {
        if let Some(reader) = self.readable()? {
            return Ok(reader);
        }
        // The directory may still be that of the topic that had the name before.
        self.dir.wait_for_name(&self.id).await;
        let one = self.hold_name().await;
        if let Some(reader) = self.reader.get() {
            return Ok(reader);
        }
        let config = {
            let state = self.lock();
            if let Some(code) = state.gone {
                return Err(code);
            }
            state.config.clone()
        };
        let open = self.open_log(config);
        // Only who has the name now may put aside what it finds there.
        let stray = self.dir.hosts(self).then(|| self.env.random.uuid());
        let threads = &*self.env.threads;
        // The job goes on when this future is dropped; nobody else opens the log meanwhile.
        let job = move |_: &DataDir| (open_or_put_aside(open, stray), one);
        let (opened, _one) = self.dir.run_job(threads, job).await;
        let log = opened.map_err(|error| {
            warn!(partition = %self.id, "the log cannot be opened: {error}");
            ErrorCode::KafkaStorageError
        })?;
        self.install(log)
    }

    /// The log's reader, if it is open.
    ///
    /// # Errors
    /// KAFKA_STORAGE_ERROR once the log's directory is offline: what its page cache shows may not be
    /// what the disk holds.
    pub(crate) fn readable(&self) -> Result<Option<&LogReader>, ErrorCode> {
        self.check_online()?;
        Ok(self.reader.get())
    }

    /// Keeps others from opening the log and from giving its directory another name.
    pub(crate) async fn hold_name(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.opening).lock_owned().await
    }

    fn open_log(&self, config: LogConfig) -> OpenLog {
        OpenLog {
            dir: Arc::clone(self.dir.log_dir()),
            partition: self.id.clone(),
            topic_id: self.topic_id,
            config,
            now_ms: self.env.clock.wall_ms(),
        }
    }

    fn install(&self, mut log: Log) -> Result<&LogReader, ErrorCode> {
        let mut state = self.lock();
        if let Some(code) = state.gone {
            return Err(code);
        }
        if log.config() != &state.config {
            log.set_config(state.config.clone());
        }
        if let Some(leadership) = state.leadership {
            log.record_epoch_start(leadership.epoch);
        }
        let high_watermark = self.committed_before(&state, &log);
        self.last_stable.store(log.last_stable_offset(high_watermark), Ordering::SeqCst);
        self.high_watermark.store(high_watermark, Ordering::SeqCst);
        let reader = self.reader.get_or_init(|| log.reader());
        state.log = Some(log);
        self.begin_epoch(&mut state);
        let woken = self.commit(&mut state);
        drop(state);
        fire_all(&woken);
        Ok(reader)
    }

    /// How far the records of a log that was just opened are committed for certain. Recovery made
    /// everything durable that it kept; where others hold the partition too, only what was known to be
    /// committed before is.
    fn committed_before(&self, state: &State, log: &Log) -> i64 {
        if state.leadership.is_some() && state.replication.is_none() {
            return log.log_end_offset();
        }
        let stored = self.dir.log_dir().high_watermark(&self.id).unwrap_or(0);
        stored.clamp(log.log_start_offset(), log.log_end_offset())
    }

    /// The topic is gone, or lies elsewhere: nothing is opened or answered any more, and the log's directory gets a
    /// name that nothing opens, which is the answer.
    ///
    /// # Errors
    /// When the directory is not this topic's, or the disk fails.
    pub(crate) async fn delete(&self) -> Result<PathBuf, String> {
        self.never_clean();
        let one = self.hold_name().await;
        let log = self.retire();
        let open = self.open_log(self.lock().config.clone());
        let unique = self.env.random.uuid();
        let job = move |_: &DataDir| {
            let _one = one;
            let log = match log {
                Some(log) => log,
                None => open_log(open).map_err(|error| error.to_string())?,
            };
            log.delete(unique).map_err(|error| error.to_string())
        };
        self.dir.run_job(&*self.env.threads, job).await
    }

    fn retire(&self) -> Option<Log> {
        let mut state = self.lock();
        state.gone.get_or_insert(ErrorCode::UnknownTopicOrPartition);
        state.retire();
        let log = state.log.take();
        drop(state);
        self.wake_all();
        log
    }
}

/// Opens a log. Where the directory is that of another topic, whose deletion a crash cut short, that
/// one is put aside under the name `stray` (R28).
fn open_or_put_aside(open: OpenLog, stray: Option<Uuid>) -> Result<Log, OpenError> {
    let again = open.clone();
    match (open_log(open), stray) {
        (Err(OpenError::OtherTopic { found, .. }), Some(unique)) => {
            let OpenLog { dir, partition, topic_id, .. } = &again;
            warn!(%partition, topic = %uuid_to_base64(found), "an older topic's log is put aside");
            dir.put_aside(partition, Some(*topic_id), unique)?;
            open_log(again)
        }
        (opened, _) => opened,
    }
}

fn open_log(open: OpenLog) -> Result<Log, OpenError> {
    let partition = open.partition.clone();
    let (log, report) = Log::open(open)?;
    info!(%partition, ?report, "log opened");
    Ok(log)
}

#[cfg(test)]
mod tests;
