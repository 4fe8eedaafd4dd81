use klamm_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use klamm_protocol::messages::metadata::MetadataRequestTopic;
use klamm_protocol::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use klamm_protocol::messages::{ListOffsetsRequest, MetadataRequest, OffsetCommitRequest};

use crate::broker::start;

/// Work that grows with the square of it would outlast any client's patience.
const NAMES: i32 = 200_000;

#[test]
fn a_metadata_request_costs_what_it_names() {
    let (_dir, broker) = start(&[]);
    let topic = |n| MetadataRequestTopic { name: Some(format!("t{n}")), ..Default::default() };
    let request = MetadataRequest {
        topics: Some((0..NAMES).map(topic).collect()),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let answer = broker.connect().call(9, &request);
    assert_eq!(answer.topics.len(), NAMES as usize);
}

#[test]
fn an_offset_commit_costs_what_it_names() {
    let (_dir, broker) = start(&[]);
    let topic = |n| OffsetCommitRequestTopic {
        name: format!("t{n}"),
        partitions: vec![OffsetCommitRequestPartition::default()],
        ..Default::default()
    };
    let topics = (0..NAMES).map(topic).collect();
    let request = OffsetCommitRequest { group_id: "g".to_owned(), topics, ..Default::default() };
    assert_eq!(broker.connect().call(8, &request).topics.len(), NAMES as usize);
}

#[test]
fn a_look_up_of_offsets_costs_what_it_names() {
    let (_dir, broker) = start(&[]);
    let partition =
        |n| ListOffsetsPartition { partition_index: n, timestamp: -1, ..Default::default() };
    let partitions = (0..NAMES).map(partition).collect();
    let topics = vec![ListOffsetsTopic { name: "t".to_owned(), partitions }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
    let answer = broker.connect().call(7, &request);
    assert_eq!(answer.topics[0].partitions.len(), NAMES as usize);
}
