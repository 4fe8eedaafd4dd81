//! Telling the coordinator that a member is alive, and hearing from it that the group rebalances.

use std::collections::BTreeMap;
use std::sync::Arc;

use klamm_protocol::ErrorCode;
use klamm_protocol::messages::heartbeat::HeartbeatRequest;
use tokio::time::Instant;

use crate::error::{ClientError, check};

use super::committed::NO_GENERATION;
use super::join::partition_counts;
use super::{Member, MemberIdentityAt};

/// Why heartbeats ended.
pub(super) enum HeartbeatEnd {
    Rebalancing,
    Lost,
    Failed(ClientError),
}

/// Beats until the member has to join again. The one that shared partitions out watches their
/// number, too.
pub(super) async fn beat(
    member: Arc<Member>,
    mut led: Option<BTreeMap<String, i32>>,
) -> HeartbeatEnd {
    let mut watched = Instant::now();
    loop {
        tokio::time::sleep(member.config.heartbeat_interval).await;
        if member.has_stopped_polling() {
            tracing::warn!(
                group = member.config.group,
                "the application has stopped polling: leaving the group"
            );
            if let Err(error) = member.leave().await {
                tracing::debug!(%error, "leaving");
            }
            member.set_identity(String::new(), NO_GENERATION);
            return HeartbeatEnd::Lost;
        }
        if let Some(end) = beat_once(&member).await {
            return end;
        }
        if watched.elapsed() >= member.cluster.config().metadata_age_max {
            watched = Instant::now();
            if has_changed(&member, &mut led).await {
                return HeartbeatEnd::Rebalancing;
            }
        }
    }
}

async fn has_changed(member: &Member, led: &mut Option<BTreeMap<String, i32>>) -> bool {
    let Some(led) = led else { return false };
    let topics: Vec<_> = member.topics.iter().chain(led.keys()).cloned().collect();
    partition_counts(member, &topics).await.is_ok_and(|now| now != *led)
}

async fn beat_once(member: &Member) -> Option<HeartbeatEnd> {
    let error = match send(member).await {
        Ok(()) => return None,
        Err(error) => error,
    };
    match error.code() {
        Some(ErrorCode::RebalanceInProgress) => Some(HeartbeatEnd::Rebalancing),
        Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => {
            member.set_identity(String::new(), NO_GENERATION);
            Some(HeartbeatEnd::Lost)
        }
        _ if error.is_retriable() => {
            tracing::debug!(group = member.config.group, %error, "heartbeat");
            member.forget_coordinator();
            None
        }
        _ => Some(HeartbeatEnd::Failed(error)),
    }
}

async fn send(member: &Member) -> Result<(), ClientError> {
    let MemberIdentityAt { member_id, generation } = member.identity();
    let request = HeartbeatRequest {
        group_id: member.config.group.clone(),
        generation_id: generation,
        member_id,
        group_instance_id: member.config.instance_id.clone(),
    };
    let response = member.coordinator().await?.request(&request).await?;
    check(response.error_code, None, || format!("heartbeat of group {}", member.config.group))
}
