//! Offsets that a group has committed: reading and writing them.

use std::collections::BTreeMap;

use klamm_protocol::ErrorCode;
use klamm_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use klamm_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse,
};

use crate::cluster::{Cluster, Lane};
use crate::connection::Connection;
use crate::error::{ClientError, check};
use crate::metadata::TopicPartition;
use crate::retry::Retry;

use super::MemberIdentityAt;

/// Of commits by somebody who is no member.
pub(crate) const NO_GENERATION: i32 = -1;

/// The last versions that name topics by name; from the next on it is by id.
const OFFSET_COMMIT_NAMED_UNTIL: i16 = 9;
const OFFSET_FETCH_NAMED_UNTIL: i16 = 9;

/// OffsetFetch takes several groups from this version on.
const OFFSET_FETCH_BATCHED_FROM: i16 = 8;

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Where the group goes on.
    pub offset: i64,
    /// The epoch of the last record read, or -1.
    pub leader_epoch: i32,
    /// What the application noted beside it.
    pub metadata: String,
}

/// An offset to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetToCommit {
    /// Where to go on: one above the last record done with.
    pub offset: i64,
    /// The epoch of the last record read, or -1.
    pub leader_epoch: i32,
    /// Anything to note beside it.
    pub metadata: String,
}

impl From<i64> for OffsetToCommit {
    fn from(offset: i64) -> Self {
        Self { offset, leader_epoch: -1, metadata: String::new() }
    }
}

/// What `group` has committed for these partitions, or all there is. Partitions without a
/// committed offset are not in the result.
pub(crate) async fn fetch_committed(
    cluster: &Cluster,
    group: &str,
    partitions: Option<&[TopicPartition]>,
) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
    let what = format!("committed offsets of group {group}");
    let mut retry = Retry::new(cluster.config(), &what);
    loop {
        let tried = match cluster.coordinator(group, Lane::General).await {
            Ok(connection) => fetch_once(&connection, group, partitions, &what).await,
            Err(error) => Err(error),
        };
        match tried {
            Ok(committed) => return Ok(committed),
            Err(error) => retry.pause(error).await?,
        }
        cluster.forget_coordinator(group);
    }
}

async fn fetch_once(
    connection: &Connection,
    group: &str,
    partitions: Option<&[TopicPartition]>,
    what: &str,
) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
    let version = connection.version::<OffsetFetchRequest>(OFFSET_FETCH_NAMED_UNTIL)?;
    let topics = partitions.map(by_topic);
    let request = if version >= OFFSET_FETCH_BATCHED_FROM {
        batched_request(group, topics)
    } else {
        single_request(group, topics)
    };
    let response = connection.request_at_most(&request, version).await?;
    let mut committed = BTreeMap::new();
    for answer in answers(response, what)? {
        check(answer.error_code, None, || format!("{what}, {}", answer.partition))?;
        if answer.committed.offset >= 0 {
            committed.insert(answer.partition, answer.committed);
        }
    }
    Ok(committed)
}

fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<String, Vec<i32>> {
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(partition.topic.clone()).or_default().push(partition.partition);
    }
    topics
}

fn batched_request(group: &str, topics: Option<BTreeMap<String, Vec<i32>>>) -> OffsetFetchRequest {
    let topic = |(name, partition_indexes)| OffsetFetchRequestTopics {
        name,
        partition_indexes,
        ..Default::default()
    };
    let group = OffsetFetchRequestGroup {
        group_id: group.to_owned(),
        topics: topics.map(|topics| topics.into_iter().map(topic).collect()),
        ..Default::default()
    };
    OffsetFetchRequest { groups: vec![group], ..Default::default() }
}

fn single_request(group: &str, topics: Option<BTreeMap<String, Vec<i32>>>) -> OffsetFetchRequest {
    let topic = |(name, partition_indexes)| OffsetFetchRequestTopic { name, partition_indexes };
    OffsetFetchRequest {
        group_id: group.to_owned(),
        topics: topics.map(|topics| topics.into_iter().map(topic).collect()),
        ..Default::default()
    }
}

struct Answer {
    partition: TopicPartition,
    committed: CommittedOffset,
    error_code: i16,
}

/// The partitions of either form of the response.
fn answers(response: OffsetFetchResponse, what: &str) -> Result<Vec<Answer>, ClientError> {
    check(response.error_code, None, || what.to_owned())?;
    let mut answers = Vec::new();
    for topic in response.topics {
        answers.extend(topic.partitions.into_iter().map(|answer| Answer {
            partition: TopicPartition::new(&topic.name, answer.partition_index),
            committed: CommittedOffset {
                offset: answer.committed_offset,
                leader_epoch: answer.committed_leader_epoch,
                metadata: answer.metadata.unwrap_or_default(),
            },
            error_code: answer.error_code,
        }));
    }
    for group in response.groups {
        check(group.error_code, None, || what.to_owned())?;
        for topic in group.topics {
            answers.extend(topic.partitions.into_iter().map(|answer| Answer {
                partition: TopicPartition::new(&topic.name, answer.partition_index),
                committed: CommittedOffset {
                    offset: answer.committed_offset,
                    leader_epoch: answer.committed_leader_epoch,
                    metadata: answer.metadata.unwrap_or_default(),
                },
                error_code: answer.error_code,
            }));
        }
    }
    Ok(answers)
}

/// Commits offsets for `group`, as the member `identity` or as nobody in particular.
pub(crate) async fn commit(
    cluster: &Cluster,
    group: &str,
    identity: Option<(MemberIdentityAt, Option<String>)>,
    offsets: &BTreeMap<TopicPartition, OffsetToCommit>,
) -> Result<(), ClientError> {
    if offsets.is_empty() {
        return Ok(());
    }
    let request = commit_request(group, identity, offsets);
    let mut retry = Retry::new(cluster.config(), format!("committing offsets of group {group}"));
    loop {
        let tried = match cluster.coordinator(group, Lane::General).await {
            Ok(connection) => commit_once(&connection, &request).await,
            Err(error) => Err(error),
        };
        match tried {
            Ok(()) => return Ok(()),
            Err(error) => retry.pause(error).await?,
        }
        cluster.forget_coordinator(group);
    }
}

fn commit_request(
    group: &str,
    identity: Option<(MemberIdentityAt, Option<String>)>,
    offsets: &BTreeMap<TopicPartition, OffsetToCommit>,
) -> OffsetCommitRequest {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for (partition, offset) in offsets {
        topics.entry(&partition.topic).or_default().push(OffsetCommitRequestPartition {
            partition_index: partition.partition,
            committed_offset: offset.offset,
            committed_leader_epoch: offset.leader_epoch,
            committed_metadata: Some(offset.metadata.clone()),
        });
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| OffsetCommitRequestTopic {
            name: name.to_owned(),
            partitions,
            ..Default::default()
        })
        .collect();
    let nobody = || MemberIdentityAt { member_id: String::new(), generation: NO_GENERATION };
    let (MemberIdentityAt { member_id, generation }, group_instance_id) =
        identity.unwrap_or_else(|| (nobody(), None));
    OffsetCommitRequest {
        group_id: group.to_owned(),
        generation_id_or_member_epoch: generation,
        member_id,
        group_instance_id,
        topics,
        ..Default::default()
    }
}

async fn commit_once(
    connection: &Connection,
    request: &OffsetCommitRequest,
) -> Result<(), ClientError> {
    let response = connection.request_at_most(request, OFFSET_COMMIT_NAMED_UNTIL).await?;
    for topic in response.topics {
        for partition in topic.partitions {
            if ErrorCode::from_wire(partition.error_code).is_none() {
                continue;
            }
            let (group, name, index) = (&request.group_id, &topic.name, partition.partition_index);
            check(partition.error_code, None, || {
                format!("committing {name}-{index} for group {group}")
            })?;
        }
    }
    Ok(())
}
