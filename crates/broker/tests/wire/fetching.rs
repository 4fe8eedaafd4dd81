use std::time::{Duration, Instant};

use klamm_protocol::messages::FetchRequest;
use klamm_protocol::messages::fetch::FetchTopic;
use uuid::Uuid;

use crate::broker::start;
use crate::socket::{batch, fetch_partition, fetch_request, records};

#[test]
fn a_long_poll_is_woken_by_what_arrives() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let mut reader = broker.connect();
    reader.send(12, &fetch_request("t", 0, 0, 15_000));
    std::thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    assert_eq!(broker.connect().produce("t", 0, 1, batch(&[b"news"])).error_code, 0);
    let (_, response) = reader.receive::<FetchRequest>(12);
    assert_eq!(records(&response.responses[0].partitions[0]).len(), 1);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_long_poll_ends_with_nothing_when_its_time_is_over() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let began = Instant::now();
    let data = broker.connect().fetch("t", 0, 0, 300);
    assert!(records(&data).is_empty() && data.error_code == 0);
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(290), "{waited:?}");
}

#[test]
fn min_bytes_are_waited_for() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let mut reader = broker.connect();
    let request = FetchRequest { min_bytes: 300, ..fetch_request("t", 0, 0, 15_000) };
    reader.send(12, &request);
    let mut writer = broker.connect();
    for _ in 0..4 {
        writer.produce("t", 0, -1, batch(&[&[7; 60]]));
    }
    let (_, response) = reader.receive::<FetchRequest>(12);
    assert!(records(&response.responses[0].partitions[0]).len() >= 2);
}

#[test]
fn an_error_is_answered_at_once() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    for (topic, index, offset, code) in
        [("t", 0, 1, 1), ("t", 0, -1, 1), ("t", 5, 0, 3), ("nowhere", 0, 0, 3)]
    {
        let began = Instant::now();
        let data = socket.fetch(topic, index, offset, 10_000);
        assert_eq!(data.error_code, code, "{topic}-{index} at {offset}");
        assert_eq!((data.high_watermark, data.log_start_offset), (-1, -1));
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn the_first_batch_is_sent_whole_and_the_rest_within_the_limits() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 2, &[]);
    let mut socket = broker.connect();
    for index in [0, 1] {
        for _ in 0..3 {
            socket.produce("t", index, -1, batch(&[&[1; 1000], &[2; 1000]]));
        }
    }
    let mut request = fetch_request("t", 0, 1, 0);
    request.max_bytes = 10;
    request.topics[0].partitions.push(fetch_partition(1, 0));
    let response = socket.call(12, &request);
    let parts = &response.responses[0].partitions;
    let offsets: Vec<i64> = records(&parts[0]).iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, [0, 1], "the whole batch round the asked offset");
    assert!(records(&parts[1]).is_empty());
    request.max_bytes = 5000;
    let response = socket.call(12, &request);
    let counts: Vec<_> =
        response.responses[0].partitions.iter().map(|part| records(part).len()).collect();
    assert_eq!(counts, [4, 0]);
}

#[test]
fn large_and_small_slices_arrive_byte_for_byte() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[("max.message.bytes", "2000000")]);
    let mut socket = broker.connect();
    let value = |len: usize, seed: usize| -> Vec<u8> {
        (0..len).map(|at| (at * 31 + seed * 7) as u8).collect()
    };
    let lens = [1, 100, 8_191, 8_192, 70_000, 1_000_000, 3];
    for (seed, len) in lens.iter().enumerate() {
        assert_eq!(socket.produce("t", 0, -1, batch(&[&value(*len, seed)])).error_code, 0);
    }
    for (seed, len) in lens.iter().enumerate() {
        let mut request = fetch_request("t", 0, seed as i64, 0);
        request.topics[0].partitions[0].partition_max_bytes = 1;
        let response = socket.call(12, &request);
        let got = records(&response.responses[0].partitions[0]);
        assert_eq!(got.len(), 1);
        assert!(got[0].1 == value(*len, seed), "record of {len} bytes");
    }
}

#[test]
fn every_version_is_answered_in_its_form() {
    let (_dir, broker) = start(&[]);
    let id = broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    socket.produce("t", 0, -1, batch(&[b"x"]));
    for version in 4..=18 {
        let mut request = fetch_request("t", 0, 0, 0);
        if version >= 13 {
            request.topics[0].topic = String::new();
            request.topics[0].topic_id = id;
        }
        if version >= 15 {
            request.replica_id = -1;
        }
        let response = socket.call(version, &request);
        let topic = &response.responses[0];
        assert_eq!(topic.topic.is_empty(), version >= 13);
        assert_eq!(topic.topic_id, if version >= 13 { id } else { Uuid::nil() });
        let part = &topic.partitions[0];
        assert_eq!((part.error_code, records(part).len()), (0, 1), "version {version}");
        assert_eq!(part.preferred_read_replica, -1);
        assert_eq!(part.aborted_transactions, None);
    }
}

#[test]
fn topic_ids_are_checked() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let mut request = fetch_request("", 0, 0, 0);
    request.topics[0].topic_id = Uuid::from_u128(7);
    let response = broker.connect().call(13, &request);
    assert_eq!(response.responses[0].partitions[0].error_code, 100);
}

#[test]
fn leader_epochs_are_checked() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let epoch = broker.leader_epoch("t", 0);
    let mut socket = broker.connect();
    for (known, code) in [(epoch, 0), (epoch - 1, 74), (epoch + 1, 75), (-1, 0)] {
        if known < -1 {
            continue;
        }
        let mut request = fetch_request("t", 0, 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = known;
        let response = socket.call(12, &request);
        let expected = if known == -1 { 0 } else { code };
        assert_eq!(response.responses[0].partitions[0].error_code, expected, "epoch {known}");
    }
}

#[test]
fn a_client_that_claims_to_be_a_replica_gets_nothing() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    socket.produce("t", 0, -1, batch(&[b"secret"]));
    let request = FetchRequest { replica_id: 1, ..fetch_request("t", 0, 0, 0) };
    let part = socket.call(12, &request).responses[0].partitions[0].clone();
    assert_eq!(part.error_code, 6);
    assert!(records(&part).is_empty());
}

#[test]
fn read_committed_lists_no_aborted_transaction() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    socket.produce("t", 0, -1, batch(&[b"x"]));
    let request = FetchRequest { isolation_level: 1, ..fetch_request("t", 0, 0, 0) };
    let part = socket.call(12, &request).responses[0].partitions[0].clone();
    assert_eq!(part.aborted_transactions, Some(vec![]));
    assert_eq!(records(&part).len(), 1);
}

#[test]
fn one_fetch_asks_for_many_topics() {
    let (_dir, broker) = start(&[]);
    let names = ["a", "b", "c"];
    let mut socket = broker.connect();
    for name in names {
        broker.topic(name, 2, &[]);
        socket.produce(name, 1, -1, batch(&[name.as_bytes()]));
    }
    let topic = |name: &&str| FetchTopic {
        topic: (*name).to_owned(),
        partitions: vec![fetch_partition(0, 0), fetch_partition(1, 0)],
        ..Default::default()
    };
    let mut request = fetch_request("", 0, 0, 5_000);
    request.topics = names.iter().map(topic).collect();
    let response = socket.call(12, &request);
    let got: Vec<_> = response
        .responses
        .iter()
        .map(|topic| (topic.topic.as_str(), records(&topic.partitions[1]).len()))
        .collect();
    assert_eq!(got, [("a", 1), ("b", 1), ("c", 1)]);
}
