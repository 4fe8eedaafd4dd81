//! ListPartitionReassignments (46), version 0: partitions on their way to other brokers.
//!
//! Null for the list means every partition. What is named and stays where it is, or does not exist,
//! is left out. Every broker answers from what it knows, without asking the controller.

use std::collections::BTreeSet;

use klamm_cluster::{Partition, Topic};
use klamm_protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment, OngoingTopicReassignment,
};

use crate::request::{Answer, RequestContext};

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: ListPartitionReassignmentsRequest,
) -> Answer<ListPartitionReassignmentsResponse> {
    let image = ctx.broker.image();
    let topics = match &request.topics {
        None => image.topics().filter_map(|topic| ongoing(topic, |_| true)).collect(),
        Some(named) => named
            .iter()
            .filter_map(|named| {
                let wanted: BTreeSet<i32> = named.partition_indexes.iter().copied().collect();
                ongoing(image.topic(&named.name)?, |index| wanted.contains(&index))
            })
            .collect(),
    };
    Answer::Now(ListPartitionReassignmentsResponse {
        topics,
        error_message: None,
        ..Default::default()
    })
}

fn ongoing(topic: &Topic, is_wanted: impl Fn(i32) -> bool) -> Option<OngoingTopicReassignment> {
    let moves = |partition: &Partition<'_>| {
        let assignment = partition.assignment;
        !(assignment.adding.is_empty() && assignment.removing.is_empty())
    };
    let moving = topic.partitions().filter(|it| is_wanted(it.index) && moves(it));
    let partitions: Vec<_> = moving
        .map(|partition| OngoingPartitionReassignment {
            partition_index: partition.index,
            replicas: partition.assignment.replicas.clone(),
            adding_replicas: partition.assignment.adding.clone(),
            removing_replicas: partition.assignment.removing.clone(),
        })
        .collect();
    let name = topic.name.to_string();
    (!partitions.is_empty()).then_some(OngoingTopicReassignment { name, partitions })
}
