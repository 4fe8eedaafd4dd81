//! What real clients lean on without saying so.

use std::time::{Duration, Instant};

use klamm_protocol::messages::{
    ApiVersionsRequest, FetchRequest, MetadataRequest, MetadataRequestTopic, ProduceRequest,
};
use klamm_protocol::{ApiKey, ErrorCode, api};

use crate::broker_process::{BrokerProcess, Connection, batch, eventually};

fn broker() -> (tempfile::TempDir, BrokerProcess) {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = BrokerProcess::start(dir.path());
    (dir, broker)
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let (_dir, broker) = broker();
    let mut client = broker.connect();
    client.create_topic("t", 1);
    let mut long_poll = Connection::fetch_request("t", 0, 0);
    (long_poll.min_bytes, long_poll.max_wait_ms) = (10_000_000, 300);
    let produce = Connection::produce_request("t", 0, -1, Some(&batch(b"acknowledged")));
    let metadata = MetadataRequest { topics: Some(vec![]), ..MetadataRequest::default() };
    let begun = Instant::now();
    client.send(9, &produce);
    client.send(11, &long_poll);
    client.send(1, &metadata);
    client.send(9, &produce);
    client.send(2, &ApiVersionsRequest::default());
    // The correlation ids are checked with each.
    let first = client.receive_behind::<ProduceRequest>(9, 4);
    assert_eq!(first.responses[0].partition_responses[0].base_offset, 0);
    let fetched = client.receive_behind::<FetchRequest>(11, 3);
    assert!(begun.elapsed() >= Duration::from_millis(300), "the fetch waited");
    assert!(!fetched.responses[0].partitions[0].records.is_empty());
    client.receive_behind::<MetadataRequest>(1, 2);
    let second = client.receive_behind::<ProduceRequest>(9, 1);
    assert_eq!(second.responses[0].partition_responses[0].base_offset, 1);
    client.receive_behind::<ApiVersionsRequest>(2, 0);
}

/// Hazard 84: no request overtakes another.
#[test]
fn hundreds_of_pipelined_requests_are_all_answered() {
    let (_dir, broker) = broker();
    let mut client = broker.connect();
    client.create_topic("t", 1);
    let total = 500;
    let request = Connection::produce_request("t", 0, -1, Some(&batch(b"x")));
    for _ in 0..total {
        client.send(9, &request);
    }
    for index in 0..total {
        let response = client.receive_behind::<ProduceRequest>(9, total - 1 - index);
        let part = &response.responses[0].partition_responses[0];
        assert_eq!((part.error_code, part.base_offset), (0, i64::from(index)));
    }
}

#[test]
fn hazard_84_requests_behind_one_that_opens_the_log_do_not_overtake_it() {
    let (_dir, broker) = broker();
    let mut client = broker.connect();
    let topics: Vec<String> = (0..20).map(|n| format!("t{n}")).collect();
    for topic in &topics {
        client.create_topic(topic, 1);
        client.produce(topic, &batch(b"before"));
    }
    drop(client);
    // The logs are open when they are used, each for the first time in the midst of others' requests.
    let broker = broker.stop_cleanly().start();
    let mut client = broker.connect();
    for topic in &topics {
        for _ in 0..5 {
            let request = Connection::produce_request(topic, 0, -1, Some(&batch(b"x")));
            client.send(9, &request);
        }
    }
    let (mut behind, each) = (5 * 20, 5);
    for topic in &topics {
        for index in 0..each {
            behind -= 1;
            let response = client.receive_behind::<ProduceRequest>(9, behind);
            let part = &response.responses[0].partition_responses[0];
            assert_eq!((part.error_code, part.base_offset), (0, 1 + index), "{topic}");
        }
    }
}

#[test]
fn a_waiting_fetch_gets_what_another_connection_produces() {
    let (_dir, broker) = broker();
    let mut producer = broker.connect();
    producer.create_topic("t", 1);
    let mut consumer = broker.connect();
    let mut request = Connection::fetch_request("t", 0, 0);
    (request.min_bytes, request.max_wait_ms) = (1, 60_000);
    consumer.send(11, &request);
    producer.produce("t", &batch(b"news"));
    let fetched = consumer.receive_behind::<FetchRequest>(11, 0);
    assert!(!fetched.responses[0].partitions[0].records.is_empty());
}

#[test]
fn what_is_advertised_is_what_is_served_but_for_produce() {
    let (_dir, broker) = broker();
    let mut client = broker.connect();
    let response = client.call(0, &ApiVersionsRequest::default());
    for advertised in &response.api_keys {
        let key = ApiKey::from_i16(advertised.api_key).expect("known");
        let row = api::find(key).expect("served");
        assert_eq!(advertised.max_version, row.max, "{key}");
        // Old librdkafka compresses nothing unless Produce 0 is there.
        let oldest = if key == ApiKey::Produce { 0 } else { row.min };
        assert_eq!(advertised.min_version, oldest, "{key}");
    }
    assert_eq!(response.api_keys.len(), api::SERVED.len());
    let transactions = [ApiKey::AddPartitionsToTxn, ApiKey::EndTxn, ApiKey::TxnOffsetCommit];
    for key in transactions {
        assert!(response.api_keys.iter().all(|row| row.api_key != key.as_i16()), "{key}");
    }
}

#[test]
fn a_software_name_that_is_none_is_an_invalid_request() {
    let (_dir, broker) = broker();
    for (name, version) in
        [("", ""), ("a b", "1"), ("-a", "1"), ("a", ""), ("a", "1 0"), ("ä", "1"), ("a-", "1")]
    {
        let mut client = broker.connect();
        let request = ApiVersionsRequest {
            client_software_name: name.to_owned(),
            client_software_version: version.to_owned(),
        };
        for api_version in [3, 4] {
            let response = client.call(api_version, &request);
            let expected = ErrorCode::InvalidRequest.as_i16();
            assert_eq!(response.error_code, expected, "{name:?} {version:?}");
        }
        // Older versions carry no name.
        assert_eq!(client.call(2, &ApiVersionsRequest::default()).error_code, 0);
    }
    let request = ApiVersionsRequest {
        client_software_name: "apache-kafka-java".to_owned(),
        client_software_version: "4.1.0".to_owned(),
    };
    assert_eq!(broker.connect().call(4, &request).error_code, 0);
}

#[test]
fn empty_feature_lists_are_left_out_of_the_answer() {
    let (_dir, broker) = broker();
    let mut client = broker.connect();
    let body = [2, b'k', 2, b'1', 0];
    client.send_body(18, 3, true, &body);
    let answer = client.receive_raw().expect("an answer");
    // Old librdkafka fails on a tag for finalized_features_epoch = -1: it is left out, so the
    // answer ends in the throttle time and a count of tags that fits what follows.
    let rows = api::SERVED.len();
    let fixed = 4 + 2 + 1 + rows * 7 + 4;
    assert!(answer.len() > fixed, "{} bytes for {rows} rows", answer.len());
    let tags = &answer[fixed..];
    assert!(!tags.windows(8).any(|bytes| bytes == [0xff; 8]), "{tags:?}");
}

#[test]
fn null_client_ids_and_unknown_tags_are_taken() {
    let (_dir, broker) = broker();
    let mut client = broker.connect();
    // Header version 1, client id null.
    client.send_raw(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff]);
    assert_eq!(client.receive_raw().expect("an answer")[..4], [0, 0, 0, 1]);
    // Header version 2 and a body, both with a tag that nobody knows.
    let header = [0, 3, 0, 12, 0, 0, 0, 2, 0, 1, b'h', 1, 99, 2, 0xaa, 0xbb];
    let body = [1, 0, 0, 1, 77, 1, 0xcc];
    let frame = [&[0, 0, 0, 23][..], &header, &body].concat();
    client.send_raw(&frame);
    assert_eq!(client.receive_raw().expect("an answer")[..5], [0, 0, 0, 2, 0]);
}

#[test]
fn the_versions_of_old_clients_work_from_topic_to_record() {
    let (_dir, broker) = broker();
    let mut client = broker.connect();
    // kafka-go and old tools ask in version 0 and 1, where an unknown topic is created.
    for version in [0, 1, 4, 5, 6, 8] {
        let name = format!("old-{version}");
        let topic =
            MetadataRequestTopic { name: Some(name.clone()), ..MetadataRequestTopic::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: true,
            ..MetadataRequest::default()
        };
        let led = eventually("a leader", || {
            let mut response = client.call(version, &request);
            let topic = response.topics.remove(0);
            let led = topic.partitions.iter().all(|part| part.leader_id >= 0);
            (topic.error_code == 0 && led && !topic.partitions.is_empty()).then_some(topic)
        });
        assert_eq!(led.name.as_deref(), Some(&name[..]));
    }
    // rskafka: Produce 3 and Fetch 4; kafka-go: 2 and 5 and 10; kafkajs: 7 and 11.
    for (produce, fetch) in [(3, 4), (3, 5), (7, 10), (7, 11), (8, 11), (9, 12), (11, 12)] {
        let request = Connection::produce_request("old-0", 0, -1, Some(&batch(b"old")));
        let response = client.call(produce, &request);
        let part = &response.responses[0].partition_responses[0];
        assert_eq!(part.error_code, 0);
        let request = Connection::fetch_request("old-0", 0, part.base_offset);
        let response = client.call(fetch, &request);
        let part = &response.responses[0].partitions[0];
        assert_eq!((response.error_code, part.error_code), (0, 0));
        assert!(!part.records.is_empty(), "Fetch {fetch}");
    }
}

#[test]
fn metadata_of_nothing_and_of_everything_differ_by_version() {
    let (_dir, broker) = broker();
    let mut client = broker.connect();
    client.create_topic("a", 1);
    client.create_topic("b", 1);
    let none = MetadataRequest { topics: Some(vec![]), ..MetadataRequest::default() };
    assert_eq!(
        client
            .call(0, &MetadataRequest { allow_auto_topic_creation: true, ..none.clone() })
            .topics
            .len(),
        2
    );
    assert_eq!(client.call(4, &none).topics.len(), 0);
    let all = MetadataRequest { topics: None, ..MetadataRequest::default() };
    let response = client.call(12, &all);
    assert_eq!(response.topics.len(), 2);
    assert!(response.cluster_id.is_some());
    assert!(response.controller_id >= 0);
    assert!(response.topics.iter().all(|topic| !topic.topic_id.is_nil()));
}
