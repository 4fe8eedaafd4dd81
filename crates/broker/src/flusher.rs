//! Group commit without a window: while one sync runs, the next group gathers (R18b).
//!
//! One task per log directory, on a loop of its own, so that a slow disk holds up nothing else.
//! A few dirty files are synced one by one; for more, one `syncfs` makes all durable at once. The
//! first error takes the directory offline for the life of the process (R23).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use klamm_env::files::is_out_of_descriptors;
use klamm_log::SyncPoint;
use tracing::debug;

use crate::data_dir::DataDir;
use crate::partition::Partition;
use crate::waiters::{Signal, fire_all};

/// Dirty files from which on the whole file system is synced instead of file after file: two
/// `fdatasync` cost as much as one `syncfs`, which also flushes what strangers wrote.
const VOLUME_SYNC_FILES_MIN: usize = 4;

/// Pause after a sync that lacked a descriptor: others have to end before one is free.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// Syncs the partitions of `dir` as they become dirty; ends only by being dropped.
pub(crate) async fn run(dir: Arc<DataDir>) {
    loop {
        let group = dir.dirty.take().await;
        if sync_group(&dir, &group) == Outcome::Again {
            tokio::time::sleep(SHORTAGE_PAUSE).await;
        }
        // On a simulated single loop the others run between two syncs.
        tokio::task::yield_now().await;
    }
}

/// Lets partitions of class os with `flush.ms` become dirty that long after an append; ends only by
/// being dropped. Each waits at most once at a time.
pub(crate) async fn run_later(dir: Arc<DataDir>) {
    let mut waiting = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            taken = dir.to_sync_later.take() => {
                for partition in taken {
                    waiting.push(async move {
                        tokio::time::sleep(partition.sync_after()).await;
                        partition
                    });
                }
            }
            Some(partition) = waiting.next(), if !waiting.is_empty() => partition.sync_is_due(),
        }
    }
}

/// What became of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is durable, or its directory is offline.
    Done,
    /// For want of a descriptor some of it is not; those partitions are dirty again.
    Again,
}

/// Makes durable what the group has appended, and wakes whoever waited for it.
pub(crate) fn sync_group(dir: &DataDir, group: &[Arc<Partition>]) -> Outcome {
    let begun: Vec<_> =
        group.iter().filter_map(|partition| Some((partition, partition.begin_sync()?))).collect();
    let volume_synced = sync_volume(dir, &begun);
    let mut woken: Vec<Arc<Signal>> = Vec::new();
    let mut failed = false;
    let mut short = false;
    for (partition, point) in begun {
        let outcome = if volume_synced { Ok(()) } else { point.run() };
        if outcome.as_ref().is_err_and(is_out_of_descriptors) {
            short = true;
            partition.sync_again();
        }
        match partition.end_sync(point, outcome) {
            Ok(signals) => woken.extend(signals),
            Err(_) => failed = true,
        }
    }
    for partition in group {
        partition.offer_checkpoint();
    }
    fire_all(&woken);
    if failed {
        dir.wake_all();
    }
    if short { Outcome::Again } else { Outcome::Done }
}

/// Syncs the whole file system where that is cheaper; whether it did. Its errors may be a
/// stranger's: the files are then synced one by one, and only their errors count.
fn sync_volume(dir: &DataDir, begun: &[(&Arc<Partition>, SyncPoint)]) -> bool {
    let files: usize = begun.iter().map(|(_, point)| point.file_count()).sum();
    if files < VOLUME_SYNC_FILES_MIN {
        return false;
    }
    match dir.log_dir().sync_volume() {
        Ok(()) => true,
        Err(error) => {
            if error.kind() != io::ErrorKind::Unsupported {
                debug!(dir = ?dir.log_dir(), "syncfs: {error}; syncing file by file");
            }
            false
        }
    }
}
