//! The end of a partition whose topic is gone (R28), or that lies on other brokers by now: its
//! directory is renamed at once and removed after a delay.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use klamm_env::Env;
use klamm_env::threads::run_blocking;
use tracing::{info, warn};

use crate::fence::Fence;
use crate::partition::Partition;

/// Deletes a partition, once the broker may; readers that have its files open may go on until the delay is over.
pub(crate) async fn run(env: Env, fence: Fence, partition: Arc<Partition>, delay: Duration) {
    fence.found_again().await;
    let id = partition.id().clone();
    let renamed = partition.delete().await;
    partition.dir().give_up_name(&id);
    // Its high watermark is stored no longer: a replica that comes back has not got that far.
    partition.dir().note_high_watermark();
    let renamed = match renamed {
        Ok(renamed) => renamed,
        Err(error) => {
            warn!(partition = %id, "the log is not put aside: {error}");
            return;
        }
    };
    drop(partition);
    tokio::time::sleep(delay).await;
    fence.found_again().await;
    let files = Arc::clone(&env.files);
    let path: PathBuf = renamed.clone();
    match run_blocking(&*env.threads, move || files.remove_dir_all(&path)).await {
        Ok(()) => info!(partition = %id, "log deleted"),
        Err(error) => warn!(partition = %id, path = %renamed.display(), "not removed: {error}"),
    }
}
