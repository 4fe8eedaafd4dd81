//! Joining a group, once or again: JoinGroup, the assignment if this member leads, SyncGroup.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use klamm_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use klamm_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use klamm_protocol::{ApiKey, ErrorCode};

use crate::error::{ClientError, check};
use crate::metadata::TopicPartition;
use crate::retry::Retry;

use super::assignor::{Assignor, MemberTopics};
use super::committed::NO_GENERATION;
use super::protocol::{
    PROTOCOL_TYPE, decode_assignment, decode_topics, encode_assignment, encode_subscription,
};
use super::{Member, MemberIdentityAt};

/// A member that has its assignment.
pub(super) struct Joined {
    pub(super) assignment: Vec<TopicPartition>,
    /// Partitions by topic that were shared out, if this member did it.
    pub(super) led: Option<BTreeMap<String, i32>>,
}

/// Joins until it is done, or something stands in the way that will not go away.
pub(super) async fn join(member: Arc<Member>) -> Result<Joined, ClientError> {
    let config = member.cluster.config();
    let patience = config.call_timeout + member.config.rebalance_timeout;
    let what = format!("joining group {}", member.config.group);
    let mut retry = Retry::until(config, what, patience);
    loop {
        let error = match join_once(&member).await {
            Ok(joined) => return Ok(joined),
            Err(error) => error,
        };
        match error.code() {
            // The id to join with has been noted.
            Some(ErrorCode::MemberIdRequired) => continue,
            Some(ErrorCode::RebalanceInProgress) => {}
            Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => {
                member.set_identity(String::new(), NO_GENERATION);
            }
            Some(_) if !error.is_retriable() => return Err(error),
            _ => {
                member.forget_coordinator();
                retry.pause(error).await?;
                continue;
            }
        }
        retry.pause_unconditionally().await;
    }
}

async fn join_once(member: &Member) -> Result<Joined, ClientError> {
    let connection = member.coordinator().await?;
    let request = join_request(member);
    let version = connection.version::<JoinGroupRequest>(i16::MAX)?;
    let patience = member.config.rebalance_timeout;
    let response = connection.submit(&request, version, patience).await?.response().await?;
    let code = ErrorCode::from_wire(response.error_code);
    if code == ErrorCode::MemberIdRequired {
        member.set_identity(response.member_id.clone(), NO_GENERATION);
    }
    check(response.error_code, None, || format!("joining group {}", member.config.group))?;
    member.set_identity(response.member_id.clone(), response.generation_id);
    let (led, assignments) = lead(member, &response).await?;
    let assignment = sync(member, &response, assignments).await?;
    Ok(Joined { assignment, led })
}

fn join_request(member: &Member) -> JoinGroupRequest {
    let MemberIdentityAt { member_id, .. } = member.identity();
    let config = &member.config;
    let protocols = config
        .assignors
        .iter()
        .map(|assignor| JoinGroupRequestProtocol {
            name: assignor.name().to_owned(),
            metadata: encode_subscription(&member.topics),
        })
        .collect();
    JoinGroupRequest {
        group_id: config.group.clone(),
        session_timeout_ms: millis(config.session_timeout),
        rebalance_timeout_ms: millis(config.rebalance_timeout),
        member_id,
        group_instance_id: config.instance_id.clone(),
        protocol_type: PROTOCOL_TYPE.to_owned(),
        protocols,
        reason: None,
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

type Led = (Option<BTreeMap<String, i32>>, Vec<SyncGroupRequestAssignment>);

/// Shares the partitions out, if this member is the one to do it.
async fn lead(member: &Member, response: &JoinGroupResponse) -> Result<Led, ClientError> {
    if response.leader != response.member_id || response.skip_assignment {
        return Ok((None, Vec::new()));
    }
    let unreadable = |source| ClientError::Decode { api: ApiKey::JoinGroup, source };
    let members: Result<Vec<_>, _> = response
        .members
        .iter()
        .map(|joined| {
            decode_topics(joined.metadata.clone()).map(|topics| MemberTopics {
                member_id: joined.member_id.clone(),
                instance_id: joined.group_instance_id.clone(),
                topics,
            })
        })
        .collect();
    let members = members.map_err(unreadable)?;
    let protocol = response.protocol_name.as_deref().unwrap_or_default();
    let assignor = Assignor::from_name(protocol).ok_or_else(|| {
        let what = format!("assignor {protocol:?}");
        ClientError::broker(ErrorCode::InconsistentGroupProtocol, what)
    })?;
    let topics: Vec<_> = members.iter().flat_map(|member| member.topics.clone()).collect();
    let partitions = partition_counts(member, &topics).await?;
    let assignments = assignor
        .assign(&members, &partitions)
        .into_iter()
        .map(|(member_id, partitions)| SyncGroupRequestAssignment {
            member_id,
            assignment: encode_assignment(&partitions),
        })
        .collect();
    Ok((Some(partitions), assignments))
}

/// Partitions of each of these topics that exists.
pub(super) async fn partition_counts(
    member: &Member,
    topics: &[String],
) -> Result<BTreeMap<String, i32>, ClientError> {
    let mut topics = topics.to_vec();
    topics.sort();
    topics.dedup();
    let metadata = member.cluster.refresh(&topics).await?;
    let count = |name: &String| {
        let topic = metadata.topics.get(name)?;
        Some((name.clone(), i32::try_from(topic.partitions.len()).ok()?))
    };
    Ok(topics.iter().filter_map(count).collect())
}

async fn sync(
    member: &Member,
    joined: &JoinGroupResponse,
    assignments: Vec<SyncGroupRequestAssignment>,
) -> Result<Vec<TopicPartition>, ClientError> {
    let connection = member.coordinator().await?;
    let request = SyncGroupRequest {
        group_id: member.config.group.clone(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        group_instance_id: member.config.instance_id.clone(),
        protocol_type: Some(PROTOCOL_TYPE.to_owned()),
        protocol_name: joined.protocol_name.clone(),
        assignments,
    };
    let version = connection.version::<SyncGroupRequest>(i16::MAX)?;
    // Answered when the leader has sent its assignment, which may take it a while.
    let patience = member.config.rebalance_timeout;
    let response = connection.submit(&request, version, patience).await?.response().await?;
    check(response.error_code, None, || format!("syncing group {}", member.config.group))?;
    decode_assignment(response.assignment)
        .map_err(|source| ClientError::Decode { api: ApiKey::SyncGroup, source })
}
