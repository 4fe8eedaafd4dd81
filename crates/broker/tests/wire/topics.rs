use klamm_protocol::messages::create_partitions::CreatePartitionsTopic;
use klamm_protocol::messages::create_topics::CreatableTopic;
use klamm_protocol::messages::delete_topics::DeleteTopicState;
use klamm_protocol::messages::metadata::{MetadataRequestTopic, MetadataResponseTopic};
use klamm_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeLogDirsRequest,
    MetadataRequest,
};
use uuid::Uuid;

use crate::broker::{TestBroker, start};
use crate::socket::batch;

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC_EXCEPTION: i16 = 17;
const INVALID_REQUEST: i16 = 42;
const TOPIC_DELETION_DISABLED: i16 = 73;
const UNKNOWN_TOPIC_ID: i16 = 100;

fn described(broker: &TestBroker, version: i16, name: &str, create: bool) -> MetadataResponseTopic {
    let topic = MetadataRequestTopic { name: Some(name.to_owned()), ..Default::default() };
    let request = MetadataRequest {
        topics: Some(vec![topic]),
        allow_auto_topic_creation: create,
        ..Default::default()
    };
    broker.connect().call(version, &request).topics.remove(0)
}

#[test]
fn a_topic_that_somebody_asks_for_takes_a_record_at_once() {
    let (_dir, broker) = start(&[("num.partitions", "3")]);
    for version in 0..=13 {
        let name = format!("made-{version}");
        let topic = described(&broker, version, &name, true);
        assert_eq!((topic.error_code, topic.partitions.len()), (0, 3), "version {version}");
        assert!(topic.partitions.iter().all(|partition| partition.leader_id == 1));
        assert_eq!(topic.topic_id.is_nil(), version < 10);
        let answer = broker.connect().produce(&name, 2, -1, batch(&[b"first"]));
        assert_eq!((answer.error_code, answer.base_offset), (0, 0), "version {version}");
    }
}

#[test]
fn a_topic_is_not_made_where_client_or_broker_forbid_it() {
    let (_dir, broker) = start(&[]);
    assert_eq!(described(&broker, 9, "t", false).error_code, UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(described(&broker, 9, "a b", true).error_code, INVALID_TOPIC_EXCEPTION);
    assert_eq!(
        described(&broker, 9, "__cluster_metadata", true).error_code,
        INVALID_TOPIC_EXCEPTION
    );
    let (_dir, broker) = start(&[("auto.create.topics.enable", "false")]);
    for version in [0, 4, 13] {
        assert_eq!(described(&broker, version, "t", true).error_code, UNKNOWN_TOPIC_OR_PARTITION);
    }
}

#[test]
fn one_refused_topic_does_not_hold_up_the_others() {
    let (_dir, broker) = start(&[]);
    let topic = |name: &str, num_partitions| CreatableTopic {
        name: name.to_owned(),
        num_partitions,
        replication_factor: 1,
        ..Default::default()
    };
    let topics = vec![topic("good", 2), topic("a b", 1), topic("none", 0), topic("also", 1)];
    let request = CreateTopicsRequest { topics, timeout_ms: 10_000, validate_only: false };
    let response = broker.connect().call(5, &request);
    let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [0, INVALID_TOPIC_EXCEPTION, 37, 0], "{response:?}");
    assert_eq!((response.topics[0].num_partitions, response.topics[0].replication_factor), (2, 1));
    assert!(response.topics[0].configs.as_ref().is_some_and(|configs| configs.len() > 30));
    assert_eq!(described(&broker, 9, "also", false).partitions.len(), 1);
}

#[test]
fn validation_alone_makes_nothing() {
    let (_dir, broker) = start(&[]);
    let topic = CreatableTopic {
        name: "t".to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, validate_only: true };
    assert_eq!(broker.connect().call(7, &request).topics[0].error_code, 0);
    assert_eq!(described(&broker, 9, "t", false).error_code, UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn a_new_partition_takes_a_record_at_once() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let more = CreatePartitionsTopic { name: "t".to_owned(), count: 4, assignments: None };
    let request =
        CreatePartitionsRequest { topics: vec![more], timeout_ms: 10_000, validate_only: false };
    let mut socket = broker.connect();
    assert_eq!(socket.call(3, &request).results[0].error_code, 0);
    assert_eq!(socket.produce("t", 3, -1, batch(&[b"x"])).error_code, 0);
    // As many as there are is no increase.
    assert_eq!(socket.call(3, &request).results[0].error_code, 37);
}

fn delete(name: Option<&str>, topic_id: Uuid) -> DeleteTopicsRequest {
    let topics = vec![DeleteTopicState { name: name.map(str::to_owned), topic_id }];
    DeleteTopicsRequest { topics, timeout_ms: 10_000, ..Default::default() }
}

#[test]
fn the_name_of_a_deleted_topic_is_free_for_an_empty_one() {
    let (_dir, broker) = start(&[]);
    let mut before = Uuid::nil();
    let mut socket = broker.connect();
    for _ in 0..3 {
        let id = broker.topic("t", 1, &[]);
        assert_ne!(id, before);
        let answer = socket.produce("t", 0, -1, batch(&[b"old"]));
        assert_eq!((answer.error_code, answer.base_offset), (0, 0));
        let deleted = socket.call(6, &delete(None, id)).responses.remove(0);
        assert_eq!((deleted.error_code, deleted.name.as_deref()), (0, Some("t")));
        let again = socket.call(6, &delete(None, id)).responses.remove(0);
        assert_eq!(again.error_code, UNKNOWN_TOPIC_ID);
        before = id;
    }
    let gone = socket.call(6, &delete(Some("t"), Uuid::nil())).responses.remove(0);
    assert_eq!(gone.error_code, UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn deletion_can_be_disabled() {
    let (_dir, broker) = start(&[("delete.topic.enable", "false")]);
    broker.topic("t", 1, &[]);
    for (version, code) in
        [(1, INVALID_REQUEST), (3, TOPIC_DELETION_DISABLED), (5, TOPIC_DELETION_DISABLED)]
    {
        let request = DeleteTopicsRequest {
            topic_names: vec!["t".to_owned()],
            timeout_ms: 10_000,
            ..Default::default()
        };
        let response = broker.connect().call(version, &request);
        assert_eq!(response.responses[0].error_code, code, "version {version}");
    }
    assert_eq!(described(&broker, 9, "t", false).error_code, 0);
}

#[test]
fn log_directories_tell_what_lies_in_them() {
    let (dir, broker) = start(&[]);
    broker.topic("t", 2, &[]);
    let mut socket = broker.connect();
    socket.produce("t", 1, -1, batch(&[b"some bytes"]));
    let all = socket.call(4, &DescribeLogDirsRequest { topics: None });
    assert_eq!((all.error_code, all.results.len()), (0, 1));
    let found = &all.results[0];
    assert_eq!(found.log_dir, dir.path().display().to_string());
    assert!(found.total_bytes > 0 && found.usable_bytes > 0);
    let partitions = &found.topics.iter().find(|topic| topic.name == "t").unwrap().partitions;
    let sizes: Vec<bool> = partitions.iter().map(|part| part.partition_size > 0).collect();
    assert_eq!(sizes, [false, true]);
}
