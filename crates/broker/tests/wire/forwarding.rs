//! What only the controller decides, asked of any broker.

use std::collections::BTreeSet;

use klamm_protocol::ErrorCode;
use klamm_protocol::messages::create_partitions::CreatePartitionsTopic;
use klamm_protocol::messages::create_topics::CreatableTopic;
use klamm_protocol::messages::delete_topics::DeleteTopicState;
use klamm_protocol::messages::describe_configs::DescribeConfigsResource;
use klamm_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use klamm_protocol::messages::metadata::{MetadataRequestTopic, MetadataResponseTopic};
use klamm_protocol::messages::{
    AlterConfigsRequest, ApiVersionsRequest, AskControllerRequest, CreatePartitionsRequest,
    CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest, ElectLeadersRequest,
    FindCoordinatorRequest, InitProducerIdRequest, MetadataRequest, alter_configs, elect_leaders,
};
use uuid::Uuid;

use crate::broker::{eventually, start};
use crate::cluster::Cluster;
use crate::socket::{Socket, batch};

const TOPIC: i8 = 2;
const SET: i8 = 0;

fn code(code: i16) -> ErrorCode {
    ErrorCode::from_i16(code).expect("a known code")
}

fn create(socket: &mut Socket, name: &str, replication_factor: i16) -> (ErrorCode, Uuid) {
    let topic = CreatableTopic {
        name: name.to_owned(),
        num_partitions: 2,
        replication_factor,
        ..CreatableTopic::default()
    };
    let topics = vec![topic];
    let request = CreateTopicsRequest { topics, timeout_ms: 20_000, validate_only: false };
    let result = socket.call(7, &request).topics.remove(0);
    (code(result.error_code), result.topic_id)
}

fn grow(socket: &mut Socket, name: &str, count: i32) -> ErrorCode {
    let topics = vec![CreatePartitionsTopic { name: name.to_owned(), count, assignments: None }];
    let request = CreatePartitionsRequest { topics, timeout_ms: 20_000, validate_only: false };
    code(socket.call(3, &request).results[0].error_code)
}

fn set(socket: &mut Socket, topic: &str, key: &str, value: &str) -> ErrorCode {
    let config = AlterableConfig {
        name: key.to_owned(),
        config_operation: SET,
        value: Some(value.to_owned()),
    };
    let resource = AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: topic.to_owned(),
        configs: vec![config],
    };
    let resources = vec![resource];
    let request = IncrementalAlterConfigsRequest { resources, validate_only: false };
    code(socket.call(1, &request).responses[0].error_code)
}

/// All settings of a topic are at their defaults from now on.
fn set_nothing(socket: &mut Socket, topic: &str) -> ErrorCode {
    let resource = alter_configs::AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: topic.to_owned(),
        configs: vec![],
    };
    let request = AlterConfigsRequest { resources: vec![resource], validate_only: false };
    code(socket.call(2, &request).responses[0].error_code)
}

fn value(socket: &mut Socket, topic: &str, key: &str) -> Option<String> {
    let resource = DescribeConfigsResource {
        resource_type: TOPIC,
        resource_name: topic.to_owned(),
        configuration_keys: Some(vec![key.to_owned()]),
    };
    let resources = vec![resource];
    let request = DescribeConfigsRequest { resources, ..DescribeConfigsRequest::default() };
    socket.call(4, &request).results.remove(0).configs.remove(0).value
}

fn delete(socket: &mut Socket, name: &str) -> ErrorCode {
    let topics =
        vec![DeleteTopicState { name: Some(name.to_owned()), ..DeleteTopicState::default() }];
    let request =
        DeleteTopicsRequest { topics, timeout_ms: 20_000, ..DeleteTopicsRequest::default() };
    code(socket.call(6, &request).responses[0].error_code)
}

fn metadata(socket: &mut Socket, name: &str, create: bool) -> MetadataResponseTopic {
    let name = Some(name.to_owned());
    let topic = MetadataRequestTopic { name, ..MetadataRequestTopic::default() };
    let request = MetadataRequest {
        topics: Some(vec![topic]),
        allow_auto_topic_creation: create,
        ..MetadataRequest::default()
    };
    socket.call(12, &request).topics.remove(0)
}

#[test]
fn every_broker_makes_changes_and_deletes_topics() {
    let cluster = Cluster::start(3, &[]);
    for id in 1..=3 {
        let mut socket = cluster.connect(id);
        let name = format!("t{id}");
        let (created, topic_id) = create(&mut socket, &name, 3);
        assert_eq!((created, topic_id.is_nil()), (ErrorCode::None, false), "broker {id}");
        // What a broker has confirmed, it shows.
        let shown = metadata(&mut socket, &name, false);
        assert_eq!((shown.topic_id, shown.partitions.len()), (topic_id, 2));
        assert!(shown.partitions.iter().all(|partition| partition.leader_id > 0));
        assert_eq!(create(&mut socket, &name, 3).0, ErrorCode::TopicAlreadyExists);
        assert_eq!(grow(&mut socket, &name, 4), ErrorCode::None);
        assert_eq!(metadata(&mut socket, &name, false).partitions.len(), 4);
        assert_eq!(grow(&mut socket, &name, 4), ErrorCode::InvalidPartitions);
        assert_eq!(set(&mut socket, &name, "retention.ms", "77"), ErrorCode::None);
        assert_eq!(value(&mut socket, &name, "retention.ms").as_deref(), Some("77"));
        assert_eq!(set_nothing(&mut socket, &name), ErrorCode::None);
        assert_ne!(value(&mut socket, &name, "retention.ms").as_deref(), Some("77"));
        assert_eq!(delete(&mut socket, &name), ErrorCode::None);
        let gone = code(metadata(&mut socket, &name, false).error_code);
        assert_eq!(gone, ErrorCode::UnknownTopicOrPartition);
        assert_eq!(delete(&mut socket, &name), ErrorCode::UnknownTopicOrPartition);
    }
}

#[test]
fn what_one_broker_has_confirmed_the_next_one_takes_for_granted() {
    // An image trails by some milliseconds: who asks a broker at once must not be told its past.
    let cluster = Cluster::start(3, &[]);
    let mut sockets = [1, 2, 3].map(|id| cluster.connect(id));
    for turn in 0..30 {
        let [one, two, three] = &mut sockets;
        assert_eq!(create(one, "t", 1).0, ErrorCode::None, "turn {turn}");
        assert_eq!(create(two, "t", 1).0, ErrorCode::TopicAlreadyExists, "turn {turn}");
        assert_eq!(grow(two, "t", 3), ErrorCode::None, "turn {turn}");
        assert_eq!(metadata(two, "t", false).partitions.len(), 3, "turn {turn}");
        assert_eq!(set(three, "t", "retention.ms", "1"), ErrorCode::None, "turn {turn}");
        assert_eq!(set(one, "t", "retention.bytes", "2"), ErrorCode::None, "turn {turn}");
        assert_eq!(delete(two, "t"), ErrorCode::None, "turn {turn}");
        sockets.rotate_left(1);
    }
}

#[test]
fn every_broker_makes_the_topics_that_somebody_asks_it_for() {
    let cluster = Cluster::start(3, &[("default.replication.factor", "3")]);
    for id in 1..=3 {
        let mut socket = cluster.connect(id);
        let topic = metadata(&mut socket, &format!("t{id}"), true);
        assert_eq!(code(topic.error_code), ErrorCode::None, "broker {id}");
        let leader = topic.partitions[0].leader_id;
        let answer = cluster.connect(leader).produce(&format!("t{id}"), 0, 1, batch(&[b"x"]));
        assert_eq!(code(answer.error_code), ErrorCode::None);
    }
    // The second and third one find what the first has made.
    for id in [3, 2, 1] {
        let request =
            FindCoordinatorRequest { key: "g".to_owned(), ..FindCoordinatorRequest::default() };
        let found = cluster.connect(id).call(3, &request);
        assert_eq!(code(found.error_code), ErrorCode::None, "broker {id}");
    }
}

#[test]
fn no_producer_id_is_given_twice() {
    let cluster = Cluster::start(3, &[]);
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        for id in 1..=3 {
            let request = InitProducerIdRequest {
                transactional_id: None,
                producer_id: -1,
                producer_epoch: -1,
                ..InitProducerIdRequest::default()
            };
            let answer = cluster.connect(id).call(4, &request);
            assert_eq!(code(answer.error_code), ErrorCode::None, "broker {id}");
            assert!(ids.insert(answer.producer_id), "{} twice", answer.producer_id);
        }
    }
}

#[test]
fn every_broker_holds_elections() {
    let cluster = Cluster::start(3, &[]);
    cluster.topic("t", 2, &[]);
    for id in 1..=3 {
        let named = elect_leaders::TopicPartitions { topic: "t".into(), partitions: vec![1, 7] };
        let request = ElectLeadersRequest {
            topic_partitions: Some(vec![named]),
            timeout_ms: 20_000,
            ..ElectLeadersRequest::default()
        };
        let answer = cluster.connect(id).call(2, &request);
        assert_eq!(code(answer.error_code), ErrorCode::None, "broker {id}");
        let results = &answer.replica_election_results[0].partition_result;
        let codes: Vec<ErrorCode> = results.iter().map(|result| code(result.error_code)).collect();
        assert_eq!(
            codes,
            [ErrorCode::ElectionNotNeeded, ErrorCode::UnknownTopicOrPartition],
            "broker {id}"
        );
    }
}

#[test]
fn every_leader_says_when_what_it_leads_is_on_its_disk() {
    let cluster = Cluster::start(3, &[("num.partitions", "6")]);
    cluster.topic("t", 6, &[("flush", "os")]);
    let mut socket = cluster.connect(1);
    assert_eq!(set(&mut socket, "t", "flush", "acked"), ErrorCode::None);
    // One epoch for the way from os to syncing, one for that to acked.
    eventually("all are acked", || {
        let partitions = metadata(&mut socket, "t", false).partitions;
        partitions.iter().all(|partition| partition.leader_epoch == 2)
    });
    let partitions = metadata(&mut socket, "t", false).partitions;
    let leaders: BTreeSet<i32> = partitions.iter().map(|partition| partition.leader_id).collect();
    assert!(leaders.len() > 1, "some of them are not the controller: {leaders:?}");
}

#[test]
fn when_the_controller_is_gone_the_next_one_is_asked() {
    let mut cluster = Cluster::start(4, &[]);
    let mut left = vec![1, 2, 3, 4];
    for in_order in [true, false, true] {
        let controller = cluster.metadata(left[0]).controller_id;
        left.retain(|id| *id != controller);
        let mut sockets = left.iter().map(|id| cluster.connect(*id)).collect::<Vec<_>>();
        if in_order {
            cluster.stop(controller);
        } else {
            cluster.kill(controller);
        }
        // One of them is the controller now, and the others ask it.
        for (socket, id) in sockets.iter_mut().zip(&left) {
            let name = format!("without-{controller}-by-{id}");
            assert_eq!(create(socket, &name, 1).0, ErrorCode::None, "{name}");
        }
    }
}

#[test]
fn what_brokers_ask_each_other_is_not_advertised_and_not_for_strangers() {
    let listeners = "CLIENTS://127.0.0.1:0,BROKERS://127.0.0.1:0";
    let protocols = "CLIENTS:PLAINTEXT,BROKERS:PLAINTEXT";
    for (inter_broker, refusal) in [
        ("BROKERS", "Brokers do not speak to each other on listener CLIENTS."),
        ("CLIENTS", "Broker 9 is not registered."),
    ] {
        let (_dir, broker) = start(&[
            ("listeners", listeners),
            ("listener.security.protocol.map", protocols),
            ("inter.broker.listener.name", inter_broker),
        ]);
        let mut socket = broker.connect();
        let served = socket.call(0, &ApiVersionsRequest::default());
        assert!(served.api_keys.iter().all(|api| api.api_key < 1000));
        let request = AskControllerRequest {
            broker_id: 9,
            broker_epoch: 1,
            controller_epoch: 1,
            producer_ids: true,
            ..AskControllerRequest::default()
        };
        let answer = socket.call(0, &request);
        assert_eq!(code(answer.error_code), ErrorCode::ClusterAuthorizationFailed);
        assert_eq!((answer.error_message.as_deref(), answer.results.len()), (Some(refusal), 0));
    }
}
