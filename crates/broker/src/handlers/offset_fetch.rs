//! OffsetFetch: how far groups have read.
//!
//! Versions 1 to 10. Only what is committed in `__consumer_offsets` is told; with
//! `offsets.storage=zookeeper`, what the tree holds at this moment.
//!
//! - 1: an error of the group is told for each partition; from 2 on once, at the top.
//! - 2: null topics ask for everything the group has committed.
//! - 5: the leader epoch comes back as it was committed.
//! - 7: `require_stable` asks to wait for pending transactions; there are none yet.
//! - 8: several groups at once, each with its own error.
//! - 9: member id and epoch are for the newer consumer groups and not looked at.
//! - 10: topics go by id; an unknown one is UNKNOWN_TOPIC_ID for each partition, behind the known
//!   ones. An offset committed under an earlier id of the topic's name does not show.
//!
//! A partition without a committed offset, and a group that nobody knows, have offset -1 and no
//! error: that is how a consumer learns that it has to start somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use klamm_cluster::offsets::Wanted;
use klamm_coordinator::{CommittedOffset, Groups};
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use uuid::Uuid;

use klamm_cluster::Image;

use crate::coordinators::{Promise, answer_when};
use crate::request::{Answer, RequestContext};

/// The first version that names topics by id.
const TOPIC_IDS_SINCE: i16 = 10;
/// The first version that asks for several groups.
const GROUPS_SINCE: i16 = 8;
/// The first version with an error of the whole group.
const GROUP_ERROR_SINCE: i16 = 2;
/// No offset was committed.
const NO_OFFSET: i64 = -1;

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: OffsetFetchRequest,
) -> Answer<OffsetFetchResponse> {
    let version = ctx.api_version;
    let image = ctx.broker.image();
    let groups = match version {
        GROUPS_SINCE.. => request.groups,
        _ => vec![one_group(request)],
    };
    let mut answers = Vec::with_capacity(groups.len());
    for group in groups {
        let group = Arc::new(group);
        let promise = look(ctx, &image, &group).await;
        answers.push(async move {
            match promise.await {
                Ok(topics) => {
                    let group_id = group.group_id.clone();
                    OffsetFetchResponseGroup { group_id, topics, ..Default::default() }
                }
                Err(error) => failed(version, Arc::unwrap_or_clone(group), error),
            }
        });
    }
    answer_when(Box::pin(async move { response(version, join_all(answers).await) }))
}

/// The older form as one group of the newer one.
fn one_group(request: OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topic = |topic: OffsetFetchRequestTopic| OffsetFetchRequestTopics {
        name: topic.name,
        partition_indexes: topic.partition_indexes,
        ..Default::default()
    };
    OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics: request.topics.map(|topics| topics.into_iter().map(topic).collect()),
        ..Default::default()
    }
}

async fn look(
    ctx: &RequestContext,
    image: &Arc<Image>,
    group: &Arc<OffsetFetchRequestGroup>,
) -> Promise<Vec<OffsetFetchResponseTopics>> {
    let shard = match ctx.broker.coordinators.shard(&ctx.broker, &group.group_id).await {
        Ok(shard) => shard,
        Err(error) => return Box::pin(async move { Err(error) }),
    };
    let by_id = ctx.api_version >= TOPIC_IDS_SINCE;
    let wanted = || wanted(image, by_id, group.topics.as_deref());
    let (known, asked) = (Arc::clone(image), Arc::clone(group));
    shard.read_committed(&group.group_id, wanted, move |groups| match &asked.topics {
        Some(topics) if by_id => by_ids(groups, &known, &asked.group_id, topics),
        Some(topics) => by_names(groups, &asked.group_id, topics),
        None => all(groups, by_id.then_some(&known), &asked.group_id),
    })
}

/// What is asked for, by name.
fn wanted(image: &Image, by_id: bool, topics: Option<&[OffsetFetchRequestTopics]>) -> Wanted {
    let Some(topics) = topics else { return Wanted::All };
    let mut wanted: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for topic in topics {
        let name = match by_id {
            true => image.topic_by_id(topic.topic_id).map(|topic| topic.name.to_string()),
            false => Some(topic.name.clone()),
        };
        let Some(name) = name else { continue };
        wanted.entry(name).or_default().extend(&topic.partition_indexes);
    }
    Wanted::Only(wanted)
}

fn by_names(
    groups: &Groups,
    group_id: &str,
    topics: &[OffsetFetchRequestTopics],
) -> Vec<OffsetFetchResponseTopics> {
    let topic = |topic: &OffsetFetchRequestTopics| {
        committed(groups, group_id, &topic.name, Uuid::nil(), &topic.partition_indexes)
    };
    topics.iter().map(topic).collect()
}

fn by_ids(
    groups: &Groups,
    image: &Image,
    group_id: &str,
    topics: &[OffsetFetchRequestTopics],
) -> Vec<OffsetFetchResponseTopics> {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for topic in topics {
        let partitions = &topic.partition_indexes;
        match image.topic_by_id(topic.topic_id) {
            Some(it) => known.push(committed(groups, group_id, &it.name, it.id, partitions)),
            None => unknown.push(OffsetFetchResponseTopics {
                topic_id: topic.topic_id,
                partitions: partitions
                    .iter()
                    .map(|index| no_offset(*index, ErrorCode::UnknownTopicId))
                    .collect(),
                ..Default::default()
            }),
        }
    }
    known.append(&mut unknown);
    known
}

fn committed(
    groups: &Groups,
    group_id: &str,
    name: &str,
    topic_id: Uuid,
    partitions: &[i32],
) -> OffsetFetchResponseTopics {
    let partition = |index: &i32| match groups.committed(group_id, name, topic_id, *index) {
        Some(offset) => with_offset(*index, offset),
        None => no_offset(*index, ErrorCode::None),
    };
    OffsetFetchResponseTopics {
        name: name.to_owned(),
        topic_id,
        partitions: partitions.iter().map(partition).collect(),
    }
}

/// Everything a group has committed. With an image the answer goes by id, and topics whose id
/// nobody knows are left out.
fn all(
    groups: &Groups,
    image: Option<&Arc<Image>>,
    group_id: &str,
) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    for (name, partition, offset) in groups.all_committed(group_id) {
        let topic_id = match image {
            None => Uuid::nil(),
            Some(_) if !offset.topic_id.is_nil() => offset.topic_id,
            Some(image) => match image.topic(name) {
                Some(topic) => topic.id,
                None => continue,
            },
        };
        let partition = with_offset(partition, offset);
        match topics.last_mut() {
            Some(topic) if topic.name == name && topic.topic_id == topic_id => {
                topic.partitions.push(partition);
            }
            _ => topics.push(OffsetFetchResponseTopics {
                name: name.to_owned(),
                topic_id,
                partitions: vec![partition],
            }),
        }
    }
    topics
}

fn with_offset(index: i32, offset: &CommittedOffset) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index: index,
        committed_offset: offset.offset,
        committed_leader_epoch: offset.leader_epoch,
        metadata: Some(offset.metadata.clone()),
        error_code: ErrorCode::None.as_i16(),
    }
}

fn no_offset(index: i32, error: ErrorCode) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index: index,
        committed_offset: NO_OFFSET,
        committed_leader_epoch: -1,
        metadata: Some(String::new()),
        error_code: error.as_i16(),
    }
}

fn failed(
    version: i16,
    group: OffsetFetchRequestGroup,
    error: ErrorCode,
) -> OffsetFetchResponseGroup {
    // Older consumers know no COORDINATOR_NOT_AVAILABLE here and would give up.
    let error = match error {
        ErrorCode::CoordinatorNotAvailable => ErrorCode::NotCoordinator,
        other => other,
    };
    let group_id = group.group_id;
    if version >= GROUP_ERROR_SINCE {
        return OffsetFetchResponseGroup {
            group_id,
            error_code: error.as_i16(),
            ..Default::default()
        };
    }
    let topic = |topic: OffsetFetchRequestTopics| OffsetFetchResponseTopics {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: topic.partition_indexes.iter().map(|index| no_offset(*index, error)).collect(),
    };
    let topics = group.topics.unwrap_or_default().into_iter().map(topic).collect();
    OffsetFetchResponseGroup { group_id, topics, ..Default::default() }
}

fn response(version: i16, mut groups: Vec<OffsetFetchResponseGroup>) -> OffsetFetchResponse {
    if version >= GROUPS_SINCE {
        return OffsetFetchResponse { groups, ..Default::default() };
    }
    let group = groups.pop().unwrap_or_default();
    let partition = |it: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: it.partition_index,
        committed_offset: it.committed_offset,
        committed_leader_epoch: it.committed_leader_epoch,
        metadata: it.metadata,
        error_code: it.error_code,
    };
    let topic = |topic: OffsetFetchResponseTopics| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    };
    OffsetFetchResponse {
        topics: group.topics.into_iter().map(topic).collect(),
        error_code: group.error_code,
        ..Default::default()
    }
}
