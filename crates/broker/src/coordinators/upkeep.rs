//! What coordinators do that no request asks for.

use std::sync::{Arc, Weak};
use std::time::Duration;

use klamm_cluster::Image;
use klamm_cluster::image::ImageUpdate;
use tracing::info;
use uuid::Uuid;

use crate::broker::Broker;

/// Loads, every `offsets.retention.check.interval.ms`, the coordinators that nobody has asked for
/// yet, so that retention reaches their groups too; a loaded one looks after itself. Ends with the
/// broker.
pub(crate) async fn run_upkeep(broker: Weak<Broker>) {
    loop {
        let Some(interval_ms) = broker.upgrade().map(|it| interval_ms(&it)) else { return };
        tokio::time::sleep(Duration::from_millis(interval_ms)).await;
        let Some(broker) = broker.upgrade() else { return };
        let loaded = broker.coordinators.all(&broker).await.len();
        info!(loaded, "coordinators looked after");
    }
}

fn interval_ms(broker: &Broker) -> u64 {
    u64::try_from(broker.config().offsets_retention_check_interval_ms).unwrap_or(u64::MAX)
}

/// Drops what groups have committed in topics that `update` has removed from the image `before` it.
/// To be called by whoever applies images, after the partitions have taken over the new one.
pub(crate) async fn forget_deleted(broker: &Arc<Broker>, before: &Image, update: &ImageUpdate) {
    for (name, id) in deleted(before, update) {
        broker.coordinators.forget_topic(broker, &name, id).await;
    }
}

fn deleted(before: &Image, update: &ImageUpdate) -> Vec<(Arc<str>, Uuid)> {
    let ImageUpdate { image, changes } = update;
    let is_gone = |id: &Uuid| image.topic_by_id(*id).is_none();
    if changes.everything {
        let gone = before.topics().filter(|topic| is_gone(&topic.id));
        return gone.map(|topic| (Arc::clone(&topic.name), topic.id)).collect();
    }
    let gone = changes.topics.iter().filter(|id| is_gone(id));
    gone.filter_map(|id| before.topic_by_id(*id))
        .map(|topic| (Arc::clone(&topic.name), topic.id))
        .collect()
}
