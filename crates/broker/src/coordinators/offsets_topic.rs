//! `__consumer_offsets`: made when the first client asks for a coordinator.

use std::sync::Arc;
use std::time::Duration;

use klamm_cluster::Image;
use klamm_coordinator::partition_for;
use klamm_protocol::ErrorCode;

use crate::auto_create;
use crate::broker::Broker;
use crate::topic_name::CONSUMER_OFFSETS;

/// The internal topic of groups.
pub(crate) const OFFSETS_TOPIC: &str = CONSUMER_OFFSETS;

/// How long a client waits at most for the topic to be made and led.
const PATIENCE: Duration = Duration::from_secs(5);

/// The broker that coordinates `group_id`. Makes the topic if need be and waits for a leader: a
/// client that is told to come back pauses, and a new user watches it do so.
///
/// # Errors
/// COORDINATOR_NOT_AVAILABLE when there is no leader in time.
pub(crate) async fn coordinator_of(broker: &Arc<Broker>, group_id: &str) -> Result<i32, ErrorCode> {
    if let Some(leader) = leader_of(&broker.image(), group_id) {
        return Ok(leader);
    }
    if broker.image().topic(OFFSETS_TOPIC).is_none() {
        let code = auto_create::create(broker, &[OFFSETS_TOPIC]).await;
        if code != [ErrorCode::None] {
            return Err(UNAVAILABLE);
        }
    }
    let led = broker.partitions.wait_for(|image| leader_of(image, group_id).is_some());
    let image = tokio::time::timeout(PATIENCE, led).await;
    image.ok().and_then(|image| leader_of(&image, group_id)).ok_or(UNAVAILABLE)
}

const UNAVAILABLE: ErrorCode = ErrorCode::CoordinatorNotAvailable;

fn leader_of(image: &Image, group_id: &str) -> Option<i32> {
    let topic = image.topic(OFFSETS_TOPIC)?;
    let partitions = topic.partition_count();
    if partitions == 0 {
        return None;
    }
    topic.partition(partition_for(group_id, partitions))?.leader
}
