//! Group coordinators: the shell round the pure machines of crate `klamm-coordinator`.
//!
//! Who leads a partition of `__consumer_offsets` coordinates the groups whose ids hash to it. Such
//! a partition has one [`Shard`]: the machine, loaded from the partition's log in one leader epoch,
//! which ends with that epoch. It is loaded when it is first needed; requests wait for that instead
//! of being sent away to try again.
//!
//! ```text
//! handler -> Coordinators::shard -> Shard::call: machine -> Partition::append -> machine.accept
//!                                        answer <- high watermark reaches the log's end
//! ```

mod load;
mod offsets_topic;
mod shard;
#[cfg(test)]
mod tests;
mod tree_offsets;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use klamm_cluster::offsets;
use klamm_coordinator::{GroupConfig, partition_for};
use klamm_protocol::ErrorCode;
use uuid::Uuid;

use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::partition::Partition;
use crate::request::Answer;

pub(crate) use offsets_topic::{OFFSETS_TOPIC, coordinator_of};
pub(crate) use shard::{Promise, Shard};
pub(crate) use upkeep::{forget_deleted, run_upkeep};

/// Bytes of deletions that retention asks for at a time, where they go into the tree and no batch of
/// a log has to hold them.
const TREE_TOMBSTONES_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Holds the shard of one partition; its lock is held while it loads.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Shard>>>>;

/// The shards of this broker, by partition of `__consumer_offsets`.
#[derive(Default)]
pub(crate) struct Coordinators {
    slots: Mutex<BTreeMap<i32, Slot>>,
}

impl Coordinators {
    /// The shard that coordinates `group_id`, loaded.
    ///
    /// # Errors
    /// NOT_COORDINATOR if this broker does not coordinate the group, or cannot read what it needs
    /// for it.
    pub(crate) async fn shard(
        &self,
        broker: &Arc<Broker>,
        group_id: &str,
    ) -> Result<Arc<Shard>, ErrorCode> {
        let partitions = match broker.image().topic(OFFSETS_TOPIC) {
            Some(topic) if topic.partition_count() > 0 => topic.partition_count(),
            _ => return Err(ErrorCode::NotCoordinator),
        };
        self.shard_at(broker, partition_for(group_id, partitions)).await
    }

    /// Every shard of this broker that has anything to tell, loaded. Those that cannot be are left
    /// out, and so are partitions that were never written: looking at them would create them.
    pub(crate) async fn all(&self, broker: &Arc<Broker>) -> Vec<Arc<Shard>> {
        let Some(topic) = broker.partitions.topic(OFFSETS_TOPIC) else { return Vec::new() };
        let is_written = |partition: &&Arc<Partition>| {
            partition.reader().is_some() || partition.dir().has_found(partition.id())
        };
        let written = topic.partitions().filter(is_written);
        let mut indexes: BTreeSet<i32> =
            written.map(|partition| partition.id().partition).collect();
        indexes.extend(in_tree(broker).await);
        let shards = indexes.into_iter().map(|index| self.shard_at(broker, index));
        join_all(shards).await.into_iter().flatten().collect()
    }

    async fn shard_at(&self, broker: &Arc<Broker>, index: i32) -> Result<Arc<Shard>, ErrorCode> {
        let not_coordinator = |_| ErrorCode::NotCoordinator;
        broker.check_served().map_err(not_coordinator)?;
        let partition = broker.partitions.leader(OFFSETS_TOPIC, index).map_err(not_coordinator)?;
        let slot = self.slot(index);
        let mut slot = slot.lock().await;
        let epoch = partition.leader_epoch().map_err(not_coordinator)?;
        if let Some(shard) = &*slot {
            if shard.is_of(&partition, epoch) {
                return Ok(Arc::clone(shard));
            }
            shard.retire();
            *slot = None;
        }
        let config = broker.config();
        let loaded = load::load(broker, &partition, epoch, &config).await?;
        let (env, fence) = (&broker.env, &broker.fence);
        let timeout = commit_timeout(&config);
        let shard = Shard::start((env, fence), partition, epoch, loaded, timeout);
        *slot = Some(Arc::clone(&shard));
        Ok(shard)
    }

    fn slot(&self, index: i32) -> Slot {
        let mut slots = self.slots.lock().expect("no panic while locked");
        Arc::clone(slots.entry(index).or_default())
    }

    /// A topic is gone: what groups have committed in it goes too.
    pub(crate) async fn forget_topic(&self, broker: &Arc<Broker>, topic: &str, topic_id: Uuid) {
        for shard in self.all(broker).await {
            shard.forget_topic(topic, topic_id).await;
        }
    }
}

/// The partitions whose groups have committed anything in the tree, where that has the offsets. What
/// cannot be read in time is left out.
async fn in_tree(broker: &Arc<Broker>) -> Vec<i32> {
    let config = broker.config();
    let image = broker.image();
    let partitions = image.topic(OFFSETS_TOPIC).map_or(0, |topic| topic.partition_count());
    if !config.keeps_offsets_in_tree() || partitions == 0 {
        return Vec::new();
    }
    let tree = broker.fence.registered().tree;
    let groups = tokio::time::timeout(commit_timeout(&config), offsets::groups(&*tree)).await;
    let groups = groups.into_iter().flatten().flatten();
    groups.map(|group| partition_for(&group, partitions)).collect()
}

/// `offsets.commit.timeout.ms`.
fn commit_timeout(config: &BrokerConfig) -> Duration {
    Duration::from_millis(u64::try_from(config.offsets_commit_timeout_ms).unwrap_or(0))
}

fn group_config(config: &BrokerConfig) -> GroupConfig {
    let max_tombstone_batch_bytes = match config.keeps_offsets_in_tree() {
        true => TREE_TOMBSTONES_BYTES_MAX,
        false => GroupConfig::default().max_tombstone_batch_bytes,
    };
    let size = |number: i32| usize::try_from(number).unwrap_or(0);
    GroupConfig {
        min_session_timeout_ms: config.group_min_session_timeout_ms,
        max_session_timeout_ms: config.group_max_session_timeout_ms,
        initial_rebalance_delay_ms: config.group_initial_rebalance_delay_ms,
        max_size: size(config.group_max_size),
        offset_metadata_max: size(config.offset_metadata_max_bytes),
        max_tombstone_batch_bytes,
        offsets_retention_ms: i64::from(config.offsets_retention_minutes) * 60_000,
        offsets_retention_check_interval_ms: config.offsets_retention_check_interval_ms,
        ..GroupConfig::default()
    }
}

/// The answer that `promise` and `respond` make, at once if it is there already.
pub(crate) fn answer<T: 'static, R: Send + 'static>(
    promise: Promise<T>,
    respond: impl FnOnce(Result<T, ErrorCode>) -> R + Send + 'static,
) -> Answer<R> {
    answer_when(Box::pin(promise.map(respond)))
}

/// As [`answer`], of a whole response.
pub(crate) fn answer_when<R: Send + 'static>(mut response: BoxFuture<'static, R>) -> Answer<R> {
    match response.as_mut().now_or_never() {
        Some(response) => Answer::Now(response),
        None => Answer::Later(response),
    }
}
