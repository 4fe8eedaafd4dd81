//! Checkpoints: where recovery starts, and the high watermarks.
//!
//! Two tasks per log directory. Both sleep until there is something to store, so an idle broker
//! writes nothing; what blocks runs off the loops.

use std::sync::Arc;
use std::time::Duration;

use klamm_env::Env;
use tracing::warn;

use crate::data_dir::DataDir;
use crate::partition::Partition;

/// Pause between two rounds of checkpoints: each stores the recovery points of all partitions.
const CHECKPOINT_PAUSE: Duration = Duration::from_secs(1);

/// Moves recovery points as partitions ask for it; ends only by being dropped.
pub(crate) async fn run_recovery_points(env: Env, dir: Arc<DataDir>) {
    loop {
        let due = dir.to_checkpoint.take().await;
        dir.run_job(&*env.threads, move |dir| checkpoint(dir, &due)).await;
        tokio::time::sleep(CHECKPOINT_PAUSE).await;
    }
}

fn checkpoint(dir: &DataDir, due: &[Arc<Partition>]) {
    for partition in due {
        partition.checkpoint();
    }
    if let Err(error) = dir.log_dir().write_recovery_points() {
        warn!(dir = ?dir.log_dir(), "recovery points are not stored: {error}");
    }
}

/// Stores the high watermarks, `interval` after the first one has moved; ends only by being
/// dropped.
pub(crate) async fn run_high_watermarks(env: Env, dir: Arc<DataDir>, interval: Duration) {
    loop {
        dir.high_watermark_news.notified().await;
        tokio::time::sleep(interval).await;
        if dir.take_high_watermark_news() {
            dir.run_job(&*env.threads, store_high_watermarks).await;
        }
    }
}

/// Stores the high watermarks of all open partitions.
pub(crate) fn store_high_watermarks(dir: &DataDir) {
    for partition in dir.partitions() {
        if partition.reader().is_some() {
            dir.log_dir().set_high_watermark(partition.id(), partition.high_watermark());
        }
    }
    if let Err(error) = dir.log_dir().write_high_watermarks() {
        warn!(dir = ?dir.log_dir(), "high watermarks are not stored: {error}");
    }
}
