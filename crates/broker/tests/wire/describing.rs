//! DescribeTopicPartitions: everything about topics, page by page; and what moves.

use klamm_protocol::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, RequestCursor,
    TopicRequest,
};
use klamm_protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
};

use crate::broker::{TestBroker, start};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC_EXCEPTION: i16 = 17;
const INVALID_REQUEST: i16 = 42;
/// Read, write, create, delete, alter, describe, and describe and alter settings.
const ALL_OPERATIONS: i32 = 0b1101_1111_1000;

fn named(names: &[&str]) -> DescribeTopicPartitionsRequest {
    let topics = names.iter().map(|name| TopicRequest { name: (*name).to_owned() });
    DescribeTopicPartitionsRequest { topics: topics.collect(), ..Default::default() }
}

fn from(topic: &str, partition_index: i32) -> Option<RequestCursor> {
    Some(RequestCursor { topic_name: topic.to_owned(), partition_index })
}

/// The topics with the numbers of their partitions, and where the next page begins.
type Shown = (Vec<(String, Vec<i32>)>, Option<(String, i32)>);

fn shown(response: DescribeTopicPartitionsResponse) -> Shown {
    let topics = response.topics.into_iter().map(|topic| {
        assert_eq!(topic.error_code, 0, "{topic:?}");
        let partitions = topic.partitions.iter().map(|partition| partition.partition_index);
        (topic.name.expect("always named"), partitions.collect())
    });
    let cursor = response.next_cursor;
    let next = cursor.map(|Cursor { topic_name, partition_index }| (topic_name, partition_index));
    (topics.collect(), next)
}

fn three_topics(set: &[(&str, &str)]) -> (tempfile::TempDir, TestBroker) {
    let (dir, broker) = start(set);
    for (name, partitions) in [("b", 2), ("a", 3), ("c", 1)] {
        broker.topic(name, partitions, &[]);
    }
    (dir, broker)
}

fn topic(name: &str, partitions: &[i32]) -> (String, Vec<i32>) {
    (name.to_owned(), partitions.to_vec())
}

#[test]
fn a_topic_is_described_with_all_that_there_is_to_it() {
    let (_dir, broker) = start(&[]);
    let id = broker.topic("t", 2, &[]);
    let mut response = broker.connect().call(0, &named(&["t", "missing", "a b", "t"]));
    let errors: Vec<_> =
        response.topics.iter().map(|it| (it.name.clone(), it.error_code)).collect();
    let expected =
        [("a b", INVALID_TOPIC_EXCEPTION), ("missing", UNKNOWN_TOPIC_OR_PARTITION), ("t", 0)];
    assert_eq!(errors, expected.map(|(name, code)| (Some(name.to_owned()), code)));
    assert_eq!(response.next_cursor, None);
    for topic in &response.topics {
        assert_eq!(topic.topic_authorized_operations, ALL_OPERATIONS, "{topic:?}");
    }
    let found = response.topics.remove(2);
    assert_eq!((found.topic_id, found.is_internal), (id, false));
    let indexes: Vec<i32> = found.partitions.iter().map(|it| it.partition_index).collect();
    assert_eq!(indexes, [0, 1]);
    for partition in found.partitions {
        assert_eq!((partition.error_code, partition.leader_id, partition.leader_epoch), (0, 1, 0));
        assert_eq!((partition.replica_nodes, partition.isr_nodes), (vec![1], vec![1]));
        assert_eq!(partition.eligible_leader_replicas, Some(vec![]));
        assert_eq!(partition.last_known_elr, Some(vec![]));
        assert!(partition.offline_replicas.is_empty());
    }
}

#[test]
fn pages_follow_one_another_through_all_topics() {
    let (_dir, broker) = three_topics(&[]);
    let mut socket = broker.connect();
    let mut page = |cursor, response_partition_limit| {
        let request =
            DescribeTopicPartitionsRequest { topics: vec![], response_partition_limit, cursor };
        shown(socket.call(0, &request))
    };
    let next = |topic: &str, index| Some((topic.to_owned(), index));
    assert_eq!(page(None, 2), (vec![topic("a", &[0, 1])], next("a", 2)));
    assert_eq!(page(from("a", 2), 2), (vec![topic("a", &[2]), topic("b", &[0])], next("b", 1)));
    assert_eq!(page(from("b", 1), 2), (vec![topic("b", &[1]), topic("c", &[0])], None));
    assert_eq!(page(None, 3), (vec![topic("a", &[0, 1, 2])], next("b", 0)));
    // A topic that has gone since, and a partition that never was.
    assert_eq!(page(from("bb", 5), 9), (vec![topic("c", &[0])], None));
    assert_eq!(page(from("c", 5), 9), (vec![topic("c", &[])], None));
    for limit in [0, -1, i32::MIN] {
        assert_eq!(page(None, limit), (vec![topic("a", &[0])], next("a", 1)), "one at least");
    }
}

#[test]
fn a_page_is_no_longer_than_the_broker_allows() {
    let (_dir, broker) = three_topics(&[("max.request.partition.size.limit", "4")]);
    let response = broker.connect().call(0, &named(&[]));
    let expected = (vec![topic("a", &[0, 1, 2]), topic("b", &[0])], Some(("b".to_owned(), 1)));
    assert_eq!(shown(response), expected);
}

#[test]
fn a_cursor_that_makes_no_sense_is_refused() {
    let (_dir, broker) = three_topics(&[]);
    let mut socket = broker.connect();
    for (names, cursor) in [(&["a", "c"][..], from("b", 0)), (&["a"][..], from("a", -1))] {
        let request = DescribeTopicPartitionsRequest { cursor, ..named(names) };
        let response = socket.call(0, &request);
        let answered: Vec<_> =
            response.topics.iter().map(|it| it.name.as_deref().unwrap()).collect();
        assert_eq!(answered, names);
        assert!(response.topics.iter().all(|topic| topic.error_code == INVALID_REQUEST));
    }
    let request =
        DescribeTopicPartitionsRequest { cursor: from("b", 0), ..named(&["a", "b", "c"]) };
    let expected = (vec![topic("b", &[0, 1]), topic("c", &[0])], None);
    assert_eq!(shown(socket.call(0, &request)), expected, "what lies before it is done");
}

#[test]
fn nothing_moves_on_one_broker() {
    let (_dir, broker) = three_topics(&[]);
    let named =
        ListPartitionReassignmentsTopics { name: "a".to_owned(), partition_indexes: vec![0, 1, 7] };
    for topics in [None, Some(vec![]), Some(vec![named])] {
        let request = ListPartitionReassignmentsRequest { topics, ..Default::default() };
        let response = broker.connect().call(0, &request);
        assert_eq!((response.error_code, response.error_message), (0, None));
        assert!(response.topics.is_empty());
    }
}
