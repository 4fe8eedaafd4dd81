//! OffsetCommit: records how far a group has read.
//!
//! Versions 2 to 10. Answered when the record is committed in `__consumer_offsets`, or, with
//! `offsets.storage=zookeeper`, when the tree has the offset; until then, and while the ensemble cannot
//! be reached, it is COORDINATOR_NOT_AVAILABLE.
//!
//! - 2 to 4: the client may name how long its offsets are kept.
//! - 6: the leader epoch of the last record read is kept with the offset.
//! - 7: `group_instance_id` names a static member.
//! - 9: an unknown group with a generation is GROUP_ID_NOT_FOUND, before that ILLEGAL_GENERATION.
//! - 10: topics go by id; an unknown one is UNKNOWN_TOPIC_ID.
//!
//! A partition that does not exist fails alone (UNKNOWN_TOPIC_OR_PARTITION), and if none exists the
//! coordinator is not even asked. Failed partitions come first in the answer, as in Kafka. The
//! topic's id is recorded with the offset, so that a topic deleted and made again starts afresh.

use std::collections::BTreeMap;
use std::sync::Arc;

use klamm_coordinator::{Answer as Made, Commit, CommitOffset};
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use uuid::Uuid;

use klamm_cluster::{Image, Topic};

use crate::coordinators::answer;
use crate::request::{Answer, RequestContext};

/// The first version that names topics by id.
const TOPIC_IDS_SINCE: i16 = 10;

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: OffsetCommitRequest,
) -> Answer<OffsetCommitResponse> {
    let OffsetCommitRequest { group_id, member_id, group_instance_id, .. } = request;
    let image = ctx.broker.image();
    let mut done = Done::default();
    let mut offsets = Vec::new();
    for topic in request.topics {
        sort_out(ctx.api_version, &image, topic, &mut done, &mut offsets);
    }
    if offsets.is_empty() {
        return Answer::Now(done.response);
    }
    let by_id = ctx.api_version >= TOPIC_IDS_SINCE;
    let keys: Vec<Key> = offsets.iter().map(|offset| Key::of(offset, by_id)).collect();
    let shard = match ctx.broker.coordinators.shard(&ctx.broker, &group_id).await {
        Ok(shard) => shard,
        Err(error) => return Answer::Now(done.with(keys, |_| error)),
    };
    if let Err(error) = shard.check_storable(&group_id) {
        return Answer::Now(done.with(keys, |_| error));
    }
    let api_version = ctx.api_version;
    let promise = shard.call(|groups, now, ticket| {
        groups.commit(
            now,
            Commit {
                ticket,
                api_version,
                group_id,
                generation: request.generation_id_or_member_epoch,
                member_id,
                group_instance_id,
                retention_ms: Some(request.retention_time_ms).filter(|ms| *ms != -1),
                offsets,
            },
        )
    });
    answer(promise, move |made| match made {
        Ok(Made::Commit(codes)) => done.with(keys, |at| codes[at]),
        Ok(other) => unreachable!("a commit answered with {other:?}"),
        Err(error) => done.with(keys, |_| error),
    })
}

/// Puts what exists into `offsets` and the rest into the answer.
fn sort_out(
    version: i16,
    image: &Image,
    topic: OffsetCommitRequestTopic,
    done: &mut Done,
    offsets: &mut Vec<CommitOffset>,
) {
    let by_id = version >= TOPIC_IDS_SINCE;
    let (known, unknown): (Option<&Arc<Topic>>, _) = match by_id {
        true => (image.topic_by_id(topic.topic_id), ErrorCode::UnknownTopicId),
        false => (image.topic(&topic.name), ErrorCode::UnknownTopicOrPartition),
    };
    for partition in topic.partitions {
        let index = partition.partition_index;
        let key = Key { name: topic.name.clone(), topic_id: topic.topic_id, partition: index };
        let Some(known) = known else {
            done.note(key, unknown);
            continue;
        };
        if known.partition(index).is_none() {
            done.note(key, ErrorCode::UnknownTopicOrPartition);
            continue;
        }
        offsets.push(CommitOffset {
            topic: known.name.to_string(),
            topic_id: known.id,
            partition: index,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata,
        });
    }
}

/// Names a partition in the answer: by topic name or by topic id, the other one empty.
struct Key {
    name: String,
    topic_id: Uuid,
    partition: i32,
}

impl Key {
    fn of(offset: &CommitOffset, by_id: bool) -> Key {
        let (name, topic_id) = match by_id {
            true => (String::new(), offset.topic_id),
            false => (offset.topic.clone(), Uuid::nil()),
        };
        Key { name, topic_id, partition: offset.partition }
    }
}

/// The answer so far.
#[derive(Default)]
struct Done {
    response: OffsetCommitResponse,
    /// Where each topic stands in the response: a request may name very many.
    places: BTreeMap<(String, Uuid), usize>,
}

impl Done {
    fn note(&mut self, key: Key, error: ErrorCode) {
        let Key { name, topic_id, partition } = key;
        let partition = OffsetCommitResponsePartition {
            partition_index: partition,
            error_code: error.as_i16(),
        };
        let topics = &mut self.response.topics;
        let place = *self.places.entry((name.clone(), topic_id)).or_insert(topics.len());
        match topics.get_mut(place) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(OffsetCommitResponseTopic {
                name,
                topic_id,
                partitions: vec![partition],
            }),
        }
    }

    fn with(mut self, keys: Vec<Key>, code: impl Fn(usize) -> ErrorCode) -> OffsetCommitResponse {
        for (at, key) in keys.into_iter().enumerate() {
            self.note(key, code(at));
        }
        self.response
    }
}
