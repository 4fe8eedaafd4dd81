//! DescribeTopicPartitions (75), version 0: topics with their partitions, a page at a time.
//!
//! - No topics means all of them. Topics come in the order of their names; one that was named and is
//!   not there has an error, and counts for nothing in the page.
//! - A page holds as many partitions as the client and `max.request.partition.size.limit` allow, one at
//!   least; the cursor says where the next page begins. A cursor whose topic is not among those named
//!   refuses the request.
//! - Here alone are the eligible leader replicas. Last known ones there never are: the last leader
//!   stays in the ISR of a partition that has lost it.
//! - Authorized operations are always told.

use std::collections::BTreeSet;

use klamm_cluster::{Image, Partition, Topic};
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use uuid::Uuid;

use super::metadata::NO_LEADER;
use crate::authorized_operations as operations;
use crate::request::{Answer, RequestContext};
use crate::topic_name;

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> Answer<DescribeTopicPartitionsResponse> {
    let image = ctx.broker.image();
    let (first_topic, first_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_str(), cursor.partition_index),
        None => ("", 0),
    };
    let all = request.topics.is_empty();
    let named: BTreeSet<&str> = if all {
        image.topics().map(|topic| &*topic.name).collect()
    } else {
        request.topics.iter().map(|topic| topic.name.as_str()).collect()
    };
    let is_among = all || request.cursor.is_none() || named.contains(first_topic);
    if !is_among || first_partition < 0 {
        let refused = |name: &str| DescribeTopicPartitionsResponseTopic {
            is_internal: false,
            ..failed(ErrorCode::InvalidRequest, name)
        };
        let topics = request.topics.iter().map(|topic| refused(&topic.name)).collect();
        return Answer::Now(DescribeTopicPartitionsResponse { topics, ..Default::default() });
    }
    let limit = ctx.broker.config().max_request_partition_size_limit;
    let mut page = Page {
        image: &image,
        listener: &ctx.connection.listener.name,
        left: usize::try_from(limit.min(request.response_partition_limit)).unwrap_or(0).max(1),
        response: DescribeTopicPartitionsResponse::default(),
    };
    for name in named.into_iter().filter(|name| *name >= first_topic) {
        let first = if name == first_topic { first_partition } else { 0 };
        if !page.add(name, first) {
            break;
        }
    }
    let mut response = page.response;
    for topic in &mut response.topics {
        topic.topic_authorized_operations = operations::TOPIC;
    }
    Answer::Now(response)
}

/// An answer that is being filled.
struct Page<'a> {
    image: &'a Image,
    listener: &'a str,
    /// Partitions that it still takes.
    left: usize,
    response: DescribeTopicPartitionsResponse,
}

impl Page<'_> {
    /// Adds a topic from partition `first` on; whether there may be more.
    fn add(&mut self, name: &str, first: i32) -> bool {
        if self.left == 0 {
            self.end_before(name, 0);
            return false;
        }
        let Some(topic) = self.image.topic(name) else {
            let unknown = ErrorCode::UnknownTopicOrPartition;
            let error =
                topic_name::check(name).map_or(ErrorCode::InvalidTopicException, |()| unknown);
            self.response.topics.push(failed(error, name));
            return true;
        };
        let count = i32::try_from(self.left).unwrap_or(i32::MAX);
        let end = first.saturating_add(count).min(topic.partition_count());
        let partitions: Vec<_> = (first..end)
            .filter_map(|index| topic.partition(index))
            .map(|partition| self.described(partition))
            .collect();
        self.left -= partitions.len();
        self.response.topics.push(with_partitions(topic, partitions));
        if end < topic.partition_count() {
            self.end_before(name, end);
            return false;
        }
        true
    }

    fn end_before(&mut self, topic: &str, partition_index: i32) {
        self.response.next_cursor = Some(Cursor { topic_name: topic.to_owned(), partition_index });
    }

    fn described(&self, partition: Partition<'_>) -> DescribeTopicPartitionsResponsePartition {
        let ids = |members: &[klamm_cluster::Member]| members.iter().map(|it| it.id).collect();
        DescribeTopicPartitionsResponsePartition {
            error_code: ErrorCode::None.as_i16(),
            partition_index: partition.index,
            leader_id: partition.leader_on(self.image, self.listener).unwrap_or(NO_LEADER),
            leader_epoch: partition.leader_epoch,
            replica_nodes: partition.replicas().to_vec(),
            isr_nodes: ids(&partition.isr),
            eligible_leader_replicas: Some(ids(&partition.elr)),
            last_known_elr: Some(Vec::new()),
            offline_replicas: partition.offline_replicas(self.image, self.listener),
        }
    }
}

fn with_partitions(
    topic: &Topic,
    partitions: Vec<DescribeTopicPartitionsResponsePartition>,
) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        name: Some(topic.name.to_string()),
        topic_id: topic.id,
        is_internal: topic_name::is_internal(&topic.name),
        partitions,
        ..Default::default()
    }
}

fn failed(error: ErrorCode, name: &str) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: error.as_i16(),
        name: Some(name.to_owned()),
        topic_id: Uuid::nil(),
        is_internal: topic_name::is_internal(name),
        ..Default::default()
    }
}
