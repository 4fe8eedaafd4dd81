//! Fetches and look-ups that cannot be answered with data.

use klamm_protocol::ErrorCode;
use klamm_protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use klamm_protocol::messages::{FetchRequest, FetchResponse, OffsetForLeaderEpochRequest};
use uuid::Uuid;

use crate::broker_process::{BrokerProcess, Connection, batch};

struct Fixture {
    _dir: tempfile::TempDir,
    broker: BrokerProcess,
    client: Connection,
    epoch: i32,
}

impl Fixture {
    /// A topic `t` with one partition and three records.
    fn new() -> Fixture {
        let dir = tempfile::tempdir().expect("a directory");
        let broker = BrokerProcess::start(dir.path());
        let mut client = broker.connect();
        client.create_topic("t", 1);
        for value in [b"0", b"1", b"2"] {
            client.produce("t", &batch(value));
        }
        let epoch = client.leader_epoch("t");
        Fixture { _dir: dir, broker, client, epoch }
    }
}

/// The error of the first partition.
fn partition_error(response: &FetchResponse) -> ErrorCode {
    assert_eq!(response.error_code, 0, "{response:?}");
    ErrorCode::from_i16(response.responses[0].partitions[0].error_code).expect("known")
}

fn error(response: &FetchResponse) -> ErrorCode {
    ErrorCode::from_i16(response.error_code).expect("known")
}

#[test]
fn offsets_outside_of_the_log_are_out_of_range_at_once() {
    let mut fixture = Fixture::new();
    for offset in [-1, -2, 4, i64::MAX, i64::MIN] {
        let mut request = Connection::fetch_request("t", 0, offset);
        // An error does not wait for data.
        (request.max_wait_ms, request.min_bytes) = (i32::MAX, i32::MAX);
        let response = fixture.client.call(11, &request);
        assert_eq!(partition_error(&response), ErrorCode::OffsetOutOfRange, "{offset}");
        let part = &response.responses[0].partitions[0];
        assert!(part.records.is_empty(), "{offset}");
    }
    // The end itself is where the next record will be.
    let fetched = fixture.client.fetch("t", 0, 3);
    assert_eq!((fetched.error, fetched.records.len()), (ErrorCode::None, 0));
    assert_eq!((fetched.log_start_offset, fetched.high_watermark), (0, 3));
    fixture.broker.assert_serves();
}

#[test]
fn unknown_partitions_topics_and_topic_ids_are_named_as_such() {
    let mut fixture = Fixture::new();
    let unknown = ErrorCode::UnknownTopicOrPartition;
    for (topic, partition) in
        [("t", 1), ("t", -1), ("t", i32::MIN), ("t", i32::MAX), ("nope", 0), ("", 0)]
    {
        let request = Connection::fetch_request(topic, partition, 0);
        for version in [4, 11, 12] {
            let response = fixture.client.call(version, &request);
            assert_eq!(partition_error(&response), unknown, "{topic:?} {partition}");
        }
        let listed = fixture.client.list_offset(topic, partition, -1, -1);
        assert_eq!(listed, (unknown, -1), "{topic:?} {partition}");
    }
    for id in [Uuid::from_u128(1), Uuid::max(), Uuid::nil()] {
        let mut request = Connection::fetch_request("", 0, 0);
        request.topics[0].topic_id = id;
        let response = fixture.client.call(16, &request);
        assert_eq!(partition_error(&response), ErrorCode::UnknownTopicId, "{id}");
    }
    let id = fixture.client.metadata("t", false).topic_id;
    let mut request = Connection::fetch_request("", 7, 0);
    request.topics[0].topic_id = id;
    let response = fixture.client.call(16, &request);
    assert_eq!(partition_error(&response), unknown);
}

#[test]
fn a_leader_epoch_that_is_not_current_is_fenced_or_unknown() {
    let mut fixture = Fixture::new();
    let epoch = fixture.epoch;
    for (epoch, expected) in [
        (epoch, ErrorCode::None),
        (-1, ErrorCode::None),
        (epoch + 1, ErrorCode::UnknownLeaderEpoch),
        (i32::MAX, ErrorCode::UnknownLeaderEpoch),
    ] {
        let mut request = Connection::fetch_request("t", 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(partition_error(&fixture.client.call(11, &request)), expected, "{epoch}");
        assert_eq!(fixture.client.list_offset("t", 0, epoch, -1).0, expected, "{epoch}");
        assert_eq!(look_up(&mut fixture.client, epoch), expected, "{epoch}");
    }
    // A restart is a new epoch; the one before is fenced from then on.
    let broker = fixture.broker.stop_cleanly().start();
    let mut client = broker.connect();
    let newer = client.leader_epoch("t");
    assert!(newer > epoch, "{newer} after {epoch}");
    let mut request = Connection::fetch_request("t", 0, 0);
    request.topics[0].partitions[0].current_leader_epoch = epoch;
    let fenced = ErrorCode::FencedLeaderEpoch;
    assert_eq!(partition_error(&client.call(11, &request)), fenced);
    assert_eq!(client.list_offset("t", 0, epoch, -1).0, fenced);
    assert_eq!(look_up(&mut client, epoch), fenced);
}

fn look_up(client: &mut Connection, current_leader_epoch: i32) -> ErrorCode {
    let part = OffsetForLeaderPartition { partition: 0, current_leader_epoch, leader_epoch: 0 };
    let topic = OffsetForLeaderTopic { topic: "t".to_owned(), partitions: vec![part] };
    let request = OffsetForLeaderEpochRequest { replica_id: -1, topics: vec![topic] };
    let response = client.call(4, &request);
    ErrorCode::from_i16(response.topics[0].partitions[0].error_code).expect("known")
}

#[test]
fn sessions_that_do_not_exist_or_run_ahead_are_refused() {
    let mut fixture = Fixture::new();
    let with_session = |id, epoch| FetchRequest {
        session_id: id,
        session_epoch: epoch,
        ..Connection::fetch_request("t", 0, 0)
    };
    for (id, epoch) in [(12345, 1), (i32::MAX, i32::MAX), (-5, 3), (0, 3)] {
        let response = fixture.client.call(11, &with_session(id, epoch));
        let expected = ErrorCode::FetchSessionIdNotFound;
        assert_eq!(error(&response), expected, "session {id} epoch {epoch}");
    }
    let opened = fixture.client.call(11, &with_session(0, 0));
    assert_eq!(error(&opened), ErrorCode::None);
    let id = opened.session_id;
    assert_ne!(id, 0, "sessions are offered");
    let ahead = fixture.client.call(11, &with_session(id, 5));
    assert_eq!(error(&ahead), ErrorCode::InvalidFetchSessionEpoch);
    let next = fixture.client.call(11, &with_session(id, 1));
    assert_eq!(error(&next), ErrorCode::None);
    let again = fixture.client.call(11, &with_session(id, 1));
    assert_eq!(error(&again), ErrorCode::InvalidFetchSessionEpoch);
}

/// CVE-2018-1288.
#[test]
fn a_client_that_claims_to_be_a_replica_gets_nothing() {
    let mut fixture = Fixture::new();
    for replica in [0, 1, 2, i32::MAX] {
        let request = FetchRequest { replica_id: replica, ..Connection::fetch_request("t", 0, 0) };
        let response = fixture.client.call(11, &request);
        let refused = response.error_code != 0
            || response
                .responses
                .iter()
                .flat_map(|topic| &topic.partitions)
                .all(|part| part.error_code != 0 && part.records.is_empty());
        assert!(refused, "replica {replica}: {response:?}");
    }
    // And it has moved nothing.
    fixture.client.produce("t", &batch(b"3"));
    assert_eq!(fixture.client.fetch("t", 0, 0).high_watermark, 4);
}

#[test]
fn wild_limits_neither_stall_nor_break_a_fetch() {
    let mut fixture = Fixture::new();
    for limit in [0, 1, -1, i32::MIN, i32::MAX] {
        let mut request = Connection::fetch_request("t", 0, 0);
        request.max_bytes = limit;
        request.topics[0].partitions[0].partition_max_bytes = limit;
        (request.min_bytes, request.max_wait_ms) = (limit, 1);
        let response = fixture.client.call(11, &request);
        assert_eq!(partition_error(&response), ErrorCode::None, "{limit}");
        assert!(!response.responses[0].partitions[0].records.is_empty(), "{limit}");
    }
    for wait in [-1, i32::MIN, 0] {
        let mut request = Connection::fetch_request("t", 0, 3);
        (request.min_bytes, request.max_wait_ms) = (1, wait);
        assert_eq!(partition_error(&fixture.client.call(11, &request)), ErrorCode::None);
    }
}

#[test]
fn one_partition_asked_for_thousands_of_times_is_no_amplification() {
    let mut fixture = Fixture::new();
    fixture.client.produce("t", &batch(&vec![b'x'; 900_000]));
    let before = fixture.broker.resident_kib();
    let mut request = Connection::fetch_request("t", 0, 0);
    let part = request.topics[0].partitions[0].clone();
    request.topics[0].partitions = vec![part; 20_000];
    request.max_bytes = 1 << 20;
    let response = fixture.client.call(11, &request);
    let sent: usize = response.responses[0].partitions.iter().map(|part| part.records.len()).sum();
    assert!(sent < 4 << 20, "{sent} bytes of records where 1 MiB was allowed");
    let growth = fixture.broker.resident_kib().saturating_sub(before);
    assert!(growth < 64 * 1024, "{growth} KiB");
    fixture.broker.assert_serves();
}

#[test]
fn timestamps_that_mean_nothing_are_answered() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.client.list_offset("t", 0, -1, -1), (ErrorCode::None, 3));
    assert_eq!(fixture.client.list_offset("t", 0, -1, -2), (ErrorCode::None, 0));
    assert_eq!(fixture.client.list_offset("t", 0, -1, i64::MAX), (ErrorCode::None, -1));
    assert_eq!(fixture.client.list_offset("t", 0, -1, 0), (ErrorCode::None, 0));
    for timestamp in [-7, -100, i64::MIN] {
        let (_, offset) = fixture.client.list_offset("t", 0, -1, timestamp);
        assert!((-1..=3).contains(&offset), "{timestamp}: {offset}");
    }
    fixture.broker.assert_serves();
}
