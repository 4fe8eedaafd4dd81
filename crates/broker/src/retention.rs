//! Deletes segments that retention no longer keeps (`log.retention.check.interval.ms`).
//!
//! Logs that nobody has used since the start are opened for it a few at a time, so that none is kept
//! for ever and a restart is not followed by the opening of all.

use std::sync::Arc;
use std::time::Duration;

use klamm_env::Threads;
use tracing::{info, warn};

use crate::broker::Broker;
use crate::data_dir::DataDir;
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
            broker.fence.found_again().await;
            if partition.reader().is_none() && !open(&partition, &mut openings).await {
                continue;
            }
            // A pass may take minutes, and holds the directory's name.
            if partition.is_cleaned_now() {
                continue;
            }
            let now_ms = broker.env.clock.wall_ms();
            check_off_loop(&*broker.env.threads, &partition, now_ms).await;
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

/// Checks one open log where it may block. Until that is over its directory keeps its name: the
/// files of the next topic of that name have the same paths.
pub(crate) async fn check_off_loop(threads: &dyn Threads, partition: &Arc<Partition>, now_ms: i64) {
    let name = partition.hold_name().await;
    let job_partition = Arc::clone(partition);
    let job = move |_: &DataDir| {
        check(&job_partition, now_ms);
        drop(name);
    };
    partition.dir().run_job(threads, job).await;
}

fn check(partition: &Arc<Partition>, now_ms: i64) {
    let high_watermark = partition.high_watermark();
    let deleted = partition.with_log(|log| {
        log.expire_producers(now_ms);
        log.delete_old_segments(now_ms, high_watermark)
    });
    // What is kept for want of a checkpoint goes next time, even if nobody appends until then.
    partition.offer_checkpoint();
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

#[cfg(test)]
mod tests {
    use klamm_cluster::FlushClass;
    use klamm_env::Env;
    use klamm_log::{LogConfig, LogDir, Origin, TopicPartition};
    use klamm_protocol::compression::Compression;
    use klamm_protocol::records::{BatchBuilder, NewRecord};
    use tempfile::TempDir;
    use tokio::runtime::Builder;
    use uuid::Uuid;

    use super::*;
    use crate::partition::{Leadership, Role};

    #[test]
    fn an_idle_log_without_a_checkpoint_gets_one_and_then_loses_its_old_records() {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let env = Env::real().expect("a runtime for blocking work");
        let folder = TempDir::new().expect("a folder");
        let log_dir = LogDir::open(Arc::clone(&env.files), folder.path()).expect("taken");
        let dir = Arc::new(DataDir::new(Arc::new(log_dir)));
        let (id, config) = (TopicPartition::new("t", 0), LogConfig::default());
        let topic = Uuid::from_u128(7);
        let partition = Partition::new(env, id, topic, Arc::clone(&dir), config.clone());
        let partition = Arc::new(partition);
        let leadership = Leadership { epoch: 0, flush: FlushClass::Os, min_isr: 1, isr: 1 };
        partition.apply(Role::Leads(leadership, None), &config);
        runtime.block_on(partition.open()).expect("opened");
        let mut builder = BatchBuilder::new(Compression::None, usize::MAX);
        builder.append(&NewRecord { timestamp: 1, ..NewRecord::default() }).expect("no bound");
        let batch = builder.build().expect("nothing is compressed");
        partition.append(&batch, None, Origin::Client, true).expect("appended");
        let now_ms = config.retention_ms + 2;
        check(&partition, now_ms);
        assert_eq!(partition.log_start_offset(), 0);
        let due = dir.to_checkpoint.take_now();
        assert_eq!(due.len(), 1, "it would be kept until somebody appends");
        due[0].checkpoint();
        check(&partition, now_ms);
        assert_eq!(partition.log_start_offset(), 1);
    }
}
