//! OffsetDelete: forgets committed offsets of a group.
//!
//! Version 0. Partitions that do not exist fail alone with UNKNOWN_TOPIC_OR_PARTITION and come
//! first in the answer; topics that a member subscribes to fail with GROUP_SUBSCRIBED_TO_TOPIC. A
//! group with members of another protocol than the consumers' is NON_EMPTY_GROUP as a whole, an
//! unknown one GROUP_ID_NOT_FOUND.

use std::collections::BTreeMap;

use klamm_coordinator::Answer as Made;
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
    let mut done = Done::default();
    let mut partitions = Vec::new();
    for topic in request.topics {
        let known = image.topic(&topic.name);
        for partition in topic.partitions {
            let index = partition.partition_index;
            match known.and_then(|known| known.partition(index)) {
                Some(_) => partitions.push((topic.name.clone(), index)),
                None => {
                    done.note(&topic.name, index, ErrorCode::UnknownTopicOrPartition);
                }
            }
        }
    }
    let shard = match ctx.broker.coordinators.shard(&ctx.broker, &group_id).await {
        Ok(shard) => shard,
        Err(error) => return Answer::Now(failed(error)),
    };
    let asked = partitions.clone();
    let promise = shard.delete_offsets(group_id, partitions);
    answer(promise, move |made| match made {
        Ok(Made::DeleteOffsets(Ok(codes))) => {
            for ((topic, index), code) in asked.iter().zip(codes) {
                done.note(topic, *index, code);
            }
            done.response
        }
        Ok(Made::DeleteOffsets(Err(error))) | Err(error) => failed(error),
        Ok(other) => unreachable!("an offset deletion answered with {other:?}"),
    })
}

fn failed(error: ErrorCode) -> OffsetDeleteResponse {
    OffsetDeleteResponse { error_code: error.as_i16(), ..Default::default() }
}

/// The answer so far.
#[derive(Default)]
struct Done {
    response: OffsetDeleteResponse,
    /// Where each topic stands in the response: a request may name very many.
    places: BTreeMap<String, usize>,
}

impl Done {
    fn note(&mut self, name: &str, index: i32, error: ErrorCode) {
        let partition =
            OffsetDeleteResponsePartition { partition_index: index, error_code: error.as_i16() };
        let topics = &mut self.response.topics;
        let place = *self.places.entry(name.to_owned()).or_insert(topics.len());
        match topics.get_mut(place) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(OffsetDeleteResponseTopic {
                name: name.to_owned(),
                partitions: vec![partition],
            }),
        }
    }
}
