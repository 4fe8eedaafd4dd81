//! Directories of partitions that are not to be here (R28): their topic was deleted, or they were
//! moved to other brokers, while the broker was down, or a crash came before the directory was
//! renamed. The metadata that says so may be wrong or behind, so they are put aside under another
//! name, and removed only after hours.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use klamm_env::Env;
use klamm_env::threads::run_blocking;
use klamm_log::{DELETED_DIR_SUFFIX, LogDir, STRAY_DIR_SUFFIX, TopicPartition};
use tracing::{info, warn};

use crate::fence::Fence;
use crate::partitions::Partitions;

/// How long a running broker keeps what is not to be here.
const STRAYS_KEPT: Duration = Duration::from_secs(6 * 60 * 60);

/// Puts aside what was found at the start and the applied metadata does not place here; to be called
/// before anything is served. Answers the directories to remove at once and those to remove later.
pub(crate) async fn find(env: &Env, partitions: &Partitions) -> Found {
    let mut found = Found::default();
    for dir in partitions.dirs() {
        let log_dir = dir.log_dir();
        for name in log_dir.other_directories() {
            if name.ends_with(DELETED_DIR_SUFFIX) {
                found.deleted.push(log_dir.path().join(name));
            } else if name.ends_with(STRAY_DIR_SUFFIX) {
                found.strays.push(log_dir.path().join(name));
            }
        }
        let stray = |id: &&TopicPartition| !dir.hosts_name(id);
        for id in log_dir.partitions().iter().filter(stray) {
            found.strays.extend(put_aside(env, log_dir, id).await);
            // Its high watermark is stored no longer: a replica that comes back has not got that far.
            dir.note_high_watermark();
        }
    }
    found
}

async fn put_aside(env: &Env, dir: &Arc<LogDir>, id: &TopicPartition) -> Option<PathBuf> {
    let unique = env.random.uuid();
    let (job_dir, job_id) = (Arc::clone(dir), id.clone());
    let job = move || job_dir.put_aside(&job_id, None, unique);
    match run_blocking(&*env.threads, job).await {
        Ok(renamed) => {
            warn!(partition = %id, "it is not assigned to this broker: its log is put aside");
            renamed
        }
        Err(error) => {
            warn!(partition = %id, "not assigned to this broker, and cannot be put aside: {error}");
            None
        }
    }
}

/// Directories that wait to be removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Deleted by an earlier process.
    deleted: Vec<PathBuf>,
    /// Of partitions that are not to be here.
    strays: Vec<PathBuf>,
}

/// Removes what was found, each at its time.
pub(crate) async fn remove(env: Env, fence: Fence, found: Found) {
    fence.found_again().await;
    remove_all(&env, found.deleted).await;
    if !found.strays.is_empty() {
        tokio::time::sleep(STRAYS_KEPT).await;
        fence.found_again().await;
        remove_all(&env, found.strays).await;
    }
}

async fn remove_all(env: &Env, paths: Vec<PathBuf>) {
    for path in paths {
        let (files, job_path) = (Arc::clone(&env.files), path.clone());
        match run_blocking(&*env.threads, move || files.remove_dir_all(&job_path)).await {
            Ok(()) => info!(path = %path.display(), "removed"),
            Err(error) => warn!(path = %path.display(), "not removed: {error}"),
        }
    }
}
