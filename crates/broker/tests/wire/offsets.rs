use klamm_protocol::compression::Compression;
use klamm_protocol::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsTopic};
use klamm_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopic,
};
use klamm_protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use klamm_protocol::messages::{
    DeleteRecordsRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest,
};
use klamm_protocol::records::{BatchBuilder, NewRecord};

use crate::broker::{TestBroker, start};
use crate::socket::{Socket, batch, records};

fn asked(timestamp: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition { timestamp, ..Default::default() };
    ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic { name: "t".to_owned(), partitions: vec![partition] }],
        ..Default::default()
    }
}

fn list(socket: &mut Socket, version: i16, timestamp: i64) -> ListOffsetsPartitionResponse {
    socket.call(version, &asked(timestamp)).topics[0].partitions[0].clone()
}

/// Records with these timestamps, each in a batch of its own.
fn publish(socket: &mut Socket, timestamps: &[i64]) {
    for timestamp in timestamps {
        let mut builder = BatchBuilder::new(Compression::Lz4, 1 << 20);
        let record = NewRecord { timestamp: *timestamp, value: Some(b"x"), ..Default::default() };
        builder.append(&record).expect("room");
        let answer = socket.produce("t", 0, -1, builder.build().expect("builds"));
        assert_eq!(answer.error_code, 0);
    }
}

fn broker_with_times() -> (tempfile::TempDir, TestBroker) {
    let (dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    publish(&mut broker.connect(), &[1000, 3000, 2000]);
    (dir, broker)
}

#[test]
fn offsets_are_found_by_time() {
    let (_dir, broker) = broker_with_times();
    let epoch = broker.leader_epoch("t", 0);
    let mut socket = broker.connect();
    for version in 1..=11 {
        let known_epoch = if version >= 4 { epoch } else { -1 };
        for (time, offset, timestamp) in
            [(0, 0, 1000), (1000, 0, 1000), (1001, 1, 3000), (2500, 1, 3000), (3001, -1, -1)]
        {
            let found = list(&mut socket, version, time);
            assert_eq!((found.error_code, found.offset, found.timestamp), (0, offset, timestamp));
            assert_eq!(found.leader_epoch, if offset < 0 { -1 } else { known_epoch });
        }
    }
}

#[test]
fn negative_times_have_their_meanings_since_their_versions() {
    let (_dir, broker) = broker_with_times();
    let mut socket = broker.connect();
    for (time, since, offset, timestamp) in [
        (-1, 1, 3, -1),
        (-2, 1, 0, -1),
        (-3, 7, 1, 3000),
        (-4, 8, 0, -1),
        (-5, 9, -1, -1),
        (-6, 11, -1, -1),
    ] {
        let found = list(&mut socket, 11, time);
        assert_eq!(
            (found.error_code, found.offset, found.timestamp),
            (0, offset, timestamp),
            "{time}"
        );
        if since > 1 {
            assert_eq!(list(&mut socket, since - 1, time).error_code, 35, "{time}");
        }
    }
    assert_eq!(list(&mut socket, 11, -7).error_code, 35);
}

#[test]
fn a_partition_asked_for_twice_is_refused() {
    let (_dir, broker) = broker_with_times();
    let mut request = asked(-1);
    let again = request.topics[0].partitions[0].clone();
    request.topics[0].partitions.push(again);
    let response = broker.connect().call(11, &request);
    let codes: Vec<_> = response.topics[0].partitions.iter().map(|p| p.error_code).collect();
    assert_eq!(codes, [42], "once");
}

#[test]
fn epochs_end_where_the_next_begins() {
    let (dir, broker) = broker_with_times();
    let first = broker.leader_epoch("t", 0);
    broker.stop();
    let broker = crate::broker::try_start(dir.path(), &[]).expect("restarts");
    let second = broker.leader_epoch("t", 0);
    assert!(second > first, "an election after every restart");
    let mut socket = broker.connect();
    socket.produce("t", 0, -1, batch(&[b"x"]));
    for (current, asked, expected) in [
        (-1, first, (0, first, 3)),
        (second, second, (0, second, 4)),
        (-1, second + 1, (0, -1, -1)),
        (first, first, (74, -1, -1)),
        (second + 1, first, (75, -1, -1)),
    ] {
        let partition = OffsetForLeaderPartition {
            partition: 0,
            current_leader_epoch: current,
            leader_epoch: asked,
        };
        let topic = OffsetForLeaderTopic { topic: "t".to_owned(), partitions: vec![partition] };
        let request = OffsetForLeaderEpochRequest { replica_id: -1, topics: vec![topic] };
        let answer = socket.call(4, &request).topics[0].partitions[0].clone();
        assert_eq!((answer.error_code, answer.leader_epoch, answer.end_offset), expected);
    }
}

fn delete(socket: &mut Socket, topic: &str, offset: i64) -> (i16, i64) {
    let partition = DeleteRecordsPartition { partition_index: 0, offset };
    let topic = DeleteRecordsTopic { name: topic.to_owned(), partitions: vec![partition] };
    let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1000 };
    let answer = socket.call(2, &request).topics[0].partitions[0].clone();
    (answer.error_code, answer.low_watermark)
}

#[test]
fn deleted_records_are_not_read_again_after_a_restart_either() {
    let (dir, broker) = broker_with_times();
    broker.topic("compacted", 1, &[("cleanup.policy", "compact")]);
    let mut socket = broker.connect();
    assert_eq!(delete(&mut socket, "t", 4), (1, -1));
    assert_eq!(delete(&mut socket, "t", -2), (1, -1));
    assert_eq!(delete(&mut socket, "nowhere", 0), (3, -1));
    assert_eq!(delete(&mut socket, "compacted", 0), (44, -1));
    assert_eq!(delete(&mut socket, "t", 2), (0, 2));
    assert_eq!(socket.fetch("t", 0, 0, 0).error_code, 1);
    assert_eq!(records(&socket.fetch("t", 0, 2, 0)).len(), 1);
    drop(socket);
    broker.stop();
    let broker = crate::broker::try_start(dir.path(), &[]).expect("restarts");
    let mut socket = broker.connect();
    assert_eq!(list(&mut socket, 5, -2).offset, 2);
    assert_eq!(delete(&mut socket, "t", -1), (0, 3));
}

#[test]
fn retention_moves_the_log_start_in_logs_that_nobody_opened_too() {
    let (dir, broker) = start(&[]);
    let small = [("segment.bytes", "1048576"), ("retention.bytes", "1000000")];
    broker.topic("t", 1, &small);
    let mut socket = broker.connect();
    for _ in 0..8 {
        assert_eq!(socket.produce("t", 0, -1, batch(&[&vec![1; 500_000]])).error_code, 0);
    }
    drop(socket);
    broker.stop();
    let broker = crate::broker::try_start(dir.path(), &[("log.retention.check.interval.ms", "50")]);
    let broker = broker.expect("restarts");
    // Nothing but retention has opened the log by now.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let mut socket = broker.connect();
    crate::broker::eventually("old segments are gone", || list(&mut socket, 5, -2).offset > 0);
    assert_eq!(list(&mut socket, 5, -1).offset, 8);
}
