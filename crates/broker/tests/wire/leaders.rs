//! ElectLeaders on one broker: nothing to elect, unless a log directory is gone.

use klamm_env::Env;
use klamm_protocol::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, TopicPartitions,
};
use klamm_protocol::messages::metadata::MetadataRequest;
use tempfile::TempDir;

use crate::broker::{TestBroker, start, start_in};
use crate::socket::batch;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_REQUEST: i16 = 42;
const PREFERRED_LEADER_NOT_AVAILABLE: i16 = 80;
const ELECTION_NOT_NEEDED: i16 = 84;

fn elect(election_type: i8, topics: Option<&[(&str, &[i32])]>) -> ElectLeadersRequest {
    let topic = |(topic, partitions): &(&str, &[i32])| TopicPartitions {
        topic: (*topic).to_owned(),
        partitions: partitions.to_vec(),
    };
    let topic_partitions = topics.map(|topics| topics.iter().map(topic).collect());
    ElectLeadersRequest { election_type, topic_partitions, timeout_ms: 10_000 }
}

/// The codes by topic and partition; each error has a sentence.
fn codes(response: &ElectLeadersResponse) -> Vec<(&str, Vec<(i32, i16)>)> {
    let topics = response.replica_election_results.iter().map(|topic| {
        let partitions = topic.partition_result.iter().map(|result| {
            assert_eq!(result.error_message.is_some(), result.error_code != 0, "{result:?}");
            (result.partition_id, result.error_code)
        });
        (topic.topic.as_str(), partitions.collect())
    });
    topics.collect()
}

#[test]
fn a_partition_that_has_its_leader_needs_no_election() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 2, &[]);
    let mut socket = broker.connect();
    for (version, how) in [(0, PREFERRED), (1, PREFERRED), (1, UNCLEAN), (2, UNCLEAN)] {
        let named: &[(&str, &[i32])] = &[("t", &[1, 7, 0]), ("missing", &[0])];
        let response = socket.call(version, &elect(how, Some(named)));
        assert_eq!(response.error_code, 0);
        let of_t = vec![
            (1, ELECTION_NOT_NEEDED),
            (7, UNKNOWN_TOPIC_OR_PARTITION),
            (0, ELECTION_NOT_NEEDED),
        ];
        let of_missing = vec![(0, UNKNOWN_TOPIC_OR_PARTITION)];
        assert_eq!(codes(&response), [("t", of_t), ("missing", of_missing)]);

        let response = socket.call(version, &elect(how, None));
        assert_eq!(codes(&response), [("t", vec![])], "left out, as there is nothing to do");
        let response = socket.call(version, &elect(how, Some(&[])));
        assert!(codes(&response).is_empty());
    }
}

#[test]
fn an_election_of_another_type_is_refused_as_a_whole() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    for version in [1, 2] {
        let response = socket.call(version, &elect(7, Some(&[("t", &[0, 1])])));
        assert_eq!(response.error_code, INVALID_REQUEST);
        let refused = vec![(0, INVALID_REQUEST), (1, INVALID_REQUEST)];
        assert_eq!(codes(&response), [("t", refused)]);
        let response = socket.call(version, &elect(7, None));
        assert_eq!((response.error_code, codes(&response)), (INVALID_REQUEST, vec![]));
    }
}

fn leaders(broker: &TestBroker) -> Vec<i32> {
    let request = MetadataRequest { topics: None, ..Default::default() };
    let topic = broker.connect().call(9, &request).topics.remove(0);
    topic.partitions.iter().map(|partition| partition.leader_id).collect()
}

#[test]
fn partitions_that_lost_a_log_directory_are_led_again_on_the_operators_word() {
    let dir = TempDir::new().expect("a directory");
    let path = |name| dir.path().join(name).display().to_string();
    let environment = || Env::real().expect("an environment");
    let both = format!("{},{}", path("one"), path("two"));
    let broker = start_in(environment(), &both, &[]);
    broker.topic("t", 2, &[]);
    broker.stop();

    let broker = start_in(environment(), &path("one"), &[]);
    assert_eq!(leaders(&broker), [-1, -1], "not by itself while a directory is missing");
    let mut socket = broker.connect();
    let response = socket.call(2, &elect(PREFERRED, None));
    let refused = vec![(0, PREFERRED_LEADER_NOT_AVAILABLE), (1, PREFERRED_LEADER_NOT_AVAILABLE)];
    assert_eq!(codes(&response), [("t", refused)]);
    let response = socket.call(2, &elect(UNCLEAN, Some(&[("t", &[0, 1])])));
    assert_eq!(codes(&response), [("t", vec![(0, 0), (1, 0)])]);
    assert_eq!(leaders(&broker), [1, 1], "shown with the answer");
    for partition in [0, 1] {
        assert_eq!(socket.produce("t", partition, -1, batch(&[b"x"])).error_code, 0);
    }
    let response = socket.call(2, &elect(UNCLEAN, Some(&[("t", &[0])])));
    assert_eq!(codes(&response), [("t", vec![(0, ELECTION_NOT_NEEDED)])]);
}
