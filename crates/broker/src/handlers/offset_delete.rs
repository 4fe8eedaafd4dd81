//! OffsetDelete: forgets committed offsets of a group.
//!
//! Version 0. Partitions that do not exist fail alone with UNKNOWN_TOPIC_OR_PARTITION and come
//! first in the answer; topics that a member subscribes to fail with GROUP_SUBSCRIBED_TO_TOPIC. A
//! group with members of another protocol than the consumers' is NON_EMPTY_GROUP as a whole, an
//! unknown one GROUP_ID_NOT_FOUND.

use klamm_coordinator::{Answer as Made, DeleteOffsets};
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};

use crate::coordinators::answer;
use crate::request::{Answer, RequestContext};

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: OffsetDeleteRequest,
) -> Answer<OffsetDeleteResponse> {
    let group_id = request.group_id;
    if group_id.is_empty() {
        return Answer::Now(failed(ErrorCode::InvalidGroupId));
    }
    let image = ctx.broker.image();
    let mut response = OffsetDeleteResponse::default();
    let mut partitions = Vec::new();
    for topic in request.topics {
        let known = image.topic(&topic.name);
        for partition in topic.partitions {
            let index = partition.partition_index;
            match known.and_then(|known| known.partition(index)) {
                Some(_) => partitions.push((topic.name.clone(), index)),
                None => {
                    note(&mut response, &topic.name, index, ErrorCode::UnknownTopicOrPartition);
                }
            }
        }
    }
    let shard = match ctx.broker.coordinators.shard(&ctx.broker, &group_id).await {
        Ok(shard) => shard,
        Err(error) => return Answer::Now(failed(error)),
    };
    let asked = partitions.clone();
    let promise = shard.call(|groups, _, ticket| {
        groups.delete_offsets(DeleteOffsets { ticket, group_id, partitions })
    });
    answer(promise, move |made| match made {
        Ok(Made::DeleteOffsets(Ok(codes))) => {
            for ((topic, index), code) in asked.iter().zip(codes) {
                note(&mut response, topic, *index, code);
            }
            response
        }
        Ok(Made::DeleteOffsets(Err(error))) | Err(error) => failed(error),
        Ok(other) => unreachable!("an offset deletion answered with {other:?}"),
    })
}

fn failed(error: ErrorCode) -> OffsetDeleteResponse {
    OffsetDeleteResponse { error_code: error.as_i16(), ..Default::default() }
}

fn note(response: &mut OffsetDeleteResponse, name: &str, index: i32, error: ErrorCode) {
    let partition =
        OffsetDeleteResponsePartition { partition_index: index, error_code: error.as_i16() };
    match response.topics.iter_mut().rev().find(|topic| topic.name == name) {
        Some(topic) => topic.partitions.push(partition),
        None => response
            .topics
            .push(OffsetDeleteResponseTopic { name: name.to_owned(), partitions: vec![partition] }),
    }
}
