//! Deletes segments that retention no longer keeps (`log.retention.check.interval.ms`).
//!
//! Logs that nobody has used since the start are left alone: opening all of them would cost more
//! than they may hold on to.

use std::sync::Arc;
use std::time::Duration;

use klamm_env::threads::run_blocking;
use tracing::{info, warn};

use crate::broker::Broker;
use crate::partition::Partition;

/// Checks the open logs from time to time; ends only by being dropped.
pub(crate) async fn run(broker: Arc<Broker>) {
    loop {
        let interval_ms = broker.config().log_retention_check_interval_ms;
        let interval = Duration::from_millis(u64::try_from(interval_ms).unwrap_or(1).max(1));
        tokio::time::sleep(interval).await;
        for partition in broker.partitions.all() {
            if partition.reader().is_none() {
                continue;
            }
            let now_ms = broker.env.clock.wall_ms();
            run_blocking(&*broker.env.threads, move || check(&partition, now_ms)).await;
        }
    }
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
