//! Deletes segments that retention no longer keeps (`log.retention.check.interval.ms`).
//!
//! Logs that nobody has used since the start are opened for it a few at a time, so that none is kept
//! for ever and a restart is not followed by the opening of all.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::broker::Broker;
use crate::partition::Partition;

/// Logs that are opened in one round.
const OPENINGS_MAX: usize = 100;

/// Checks the logs from time to time; ends only by being dropped.
pub(crate) async fn run(broker: Arc<Broker>) {
    loop {
        let interval_ms = broker.config().log_retention_check_interval_ms;
        let interval = Duration::from_millis(u64::try_from(interval_ms).unwrap_or(1).max(1));
        tokio::time::sleep(interval).await;
        let mut openings = OPENINGS_MAX;
        for partition in broker.partitions.all() {
            if partition.reader().is_none() && !open(&partition, &mut openings).await {
                continue;
            }
            let now_ms = broker.env.clock.wall_ms();
            let dir = Arc::clone(partition.dir());
            dir.run_job(&*broker.env.threads, move |_| check(&partition, now_ms)).await;
        }
    }
}

/// Opens a log that is on disk, as long as there are `openings` left.
async fn open(partition: &Partition, openings: &mut usize) -> bool {
    if *openings == 0 || !partition.dir().has_found(partition.id()) {
        return false;
    }
    *openings -= 1;
    partition.open().await.is_ok()
}

fn check(partition: &Partition, now_ms: i64) {
    let high_watermark = partition.high_watermark();
    let deleted = partition.with_log(|log| {
        log.expire_producers(now_ms);
        log.delete_old_segments(now_ms, high_watermark)
    });
    let deletion = match deleted {
        Some(Ok(Some(deletion))) => deletion,
        None | Some(Ok(None)) => return,
        Some(Err(error)) => {
            warn!(partition = %partition.id(), "retention: {error}");
            return;
        }
    };
    info!(partition = %partition.id(), segments = deletion.segment_count(), "old segments deleted");
    if let Err(error) = deletion.run() {
        warn!(partition = %partition.id(), "old segments are not removed: {error}");
    }
}
