//! A log that was taken over with transactions in it, committed, aborted and open: what consumers of
//! each isolation level are told.

use std::sync::Arc;

use klamm_env::Env;
use klamm_log::{LeaderAppend, Log, LogConfig, LogDir, OpenLog, Origin, TopicPartition};
use klamm_protocol::compression::Compression;
use klamm_protocol::messages::fetch::{AbortedTransaction, PartitionData};
use klamm_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use klamm_protocol::messages::{FetchRequest, ListOffsetsRequest};
use klamm_protocol::records::{BatchBuilder, ControlType, EndTxnMarker, NewRecord, ProducerFields};
use tempfile::TempDir;
use uuid::Uuid;

use crate::broker::{TestBroker, start, try_start};
use crate::socket::{Socket, batch, batches, fetch_request};

/// Offset of the record of the transaction that is open.
const OPEN: i64 = 7;
const END: i64 = 9;

/// One record; of a transaction if there is a producer.
fn record(producer_id: Option<i64>, timestamp: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None, 1 << 20);
    if let Some(producer_id) = producer_id {
        builder.set_transactional(true);
        builder.set_producer(ProducerFields { producer_id, producer_epoch: 0, base_sequence: 0 });
    }
    builder
        .append(&NewRecord { timestamp, value: Some(b"x"), ..Default::default() })
        .expect("room");
    builder.build().expect("builds").to_vec()
}

fn end(producer_id: i64, control_type: ControlType, timestamp: i64) -> Vec<u8> {
    let marker = EndTxnMarker { control_type, coordinator_epoch: 0 };
    BatchBuilder::end_txn(producer_id, 0, timestamp, marker).to_vec()
}

/// Writes the log of `t`-0 in `dir`, where no broker runs.
fn write_log(dir: &TempDir, topic_id: Uuid) {
    let env = Env::real().expect("an environment");
    let dir = Arc::new(LogDir::open(env.files, dir.path()).expect("the broker has stopped"));
    let (partition, config) = (TopicPartition::new("t", 0), LogConfig::default());
    let open = OpenLog { dir: Arc::clone(&dir), partition, topic_id, config, now_ms: 1 };
    let (mut log, _) = Log::open(open).expect("the topic's log");
    let leader_epoch = log.latest_epoch().unwrap_or(0);
    let (abort, commit) = (ControlType::Abort, ControlType::Commit);
    let written = [
        record(None, 1000),
        record(Some(1), 2000),
        record(Some(2), 9000),
        end(1, commit, 2500),
        record(Some(2), 3000),
        record(None, 4000),
        end(2, abort, 4500),
        record(Some(3), 10_000),
        record(None, 5000),
    ];
    for (records, offset) in written.iter().zip(0..) {
        let append = LeaderAppend { leader_epoch, now_ms: 1, origin: Origin::Coordinator };
        assert_eq!(log.append_as_leader(records, append).expect("appended").first_offset, offset);
    }
    log.close().expect("closed");
    dir.write_recovery_points().expect("stored");
    dir.write_log_start_offsets().expect("stored");
}

fn broker_with_transactions() -> (TempDir, TestBroker, Uuid) {
    let (dir, broker) = start(&[]);
    let topic_id = broker.topic("t", 1, &[]);
    broker.stop();
    write_log(&dir, topic_id);
    let broker = try_start(dir.path(), &[]).expect("restarts");
    (dir, broker, topic_id)
}

fn fetch(socket: &mut Socket, offset: i64, isolation_level: i8) -> PartitionData {
    let request = FetchRequest { isolation_level, ..fetch_request("t", 0, offset, 0) };
    socket.call(12, &request).responses[0].partitions[0].clone()
}

/// Base offsets of the batches of an answer.
fn offsets(data: &PartitionData) -> Vec<i64> {
    batches(data).iter().map(|batch| batch.base_offset).collect()
}

fn aborted() -> AbortedTransaction {
    AbortedTransaction { producer_id: 2, first_offset: 2 }
}

#[test]
fn read_uncommitted_gets_all_up_to_the_high_watermark() {
    let (_dir, broker, _) = broker_with_transactions();
    let data = fetch(&mut broker.connect(), 0, 0);
    assert_eq!((data.error_code, data.high_watermark, data.last_stable_offset), (0, END, OPEN));
    assert_eq!(offsets(&data), (0..END).collect::<Vec<_>>());
    assert_eq!(data.aborted_transactions, None);
}

#[test]
fn read_committed_gets_all_up_to_the_last_stable_offset_and_what_of_it_was_aborted() {
    // HAZARDS 64: the transaction that was aborted may have begun before the asked offset.
    let (_dir, broker, topic_id) = broker_with_transactions();
    let mut socket = broker.connect();
    for (offset, listed) in
        [(0, vec![aborted()]), (3, vec![aborted()]), (6, vec![aborted()]), (OPEN, vec![])]
    {
        let data = fetch(&mut socket, offset, 1);
        assert_eq!((data.error_code, data.high_watermark, data.last_stable_offset), (0, END, OPEN));
        assert_eq!(offsets(&data), (offset..OPEN).collect::<Vec<_>>());
        assert_eq!(data.aborted_transactions, Some(listed), "at {offset}");
    }
    let beyond = fetch(&mut socket, END, 1);
    assert_eq!((beyond.error_code, beyond.last_stable_offset), (0, OPEN));
    assert_eq!(beyond.aborted_transactions, Some(vec![]));
    for version in 4..=18 {
        let mut request = FetchRequest { isolation_level: 1, ..fetch_request("t", 0, 0, 0) };
        if version >= 13 {
            request.topics[0].topic_id = topic_id;
        }
        if version >= 15 {
            request.replica_id = -1;
        }
        let data = socket.call(version, &request).responses[0].partitions[0].clone();
        assert_eq!(data.aborted_transactions, Some(vec![aborted()]), "version {version}");
        assert_eq!(data.last_stable_offset, OPEN, "version {version}");
    }
}

#[test]
fn an_aborted_transaction_behind_the_batches_that_are_sent_is_not_listed() {
    let (_dir, broker, _) = broker_with_transactions();
    let mut request = FetchRequest { isolation_level: 1, ..fetch_request("t", 0, 0, 0) };
    request.topics[0].partitions[0].partition_max_bytes = 1;
    let data = broker.connect().call(12, &request).responses[0].partitions[0].clone();
    assert_eq!((offsets(&data), data.aborted_transactions), (vec![0], Some(vec![])));
}

#[test]
fn the_latest_offset_is_the_last_stable_one_and_times_behind_it_are_not_found() {
    let (_dir, broker, _) = broker_with_transactions();
    let mut socket = broker.connect();
    let mut list = |isolation_level, timestamp| {
        let partition = ListOffsetsPartition { timestamp, ..Default::default() };
        let topics = vec![ListOffsetsTopic { name: "t".into(), partitions: vec![partition] }];
        let request =
            ListOffsetsRequest { replica_id: -1, isolation_level, topics, ..Default::default() };
        let found = socket.call(8, &request).topics[0].partitions[0].clone();
        assert_eq!(found.error_code, 0);
        (found.offset, found.timestamp)
    };
    assert_eq!((list(0, -1), list(1, -1)), ((END, -1), (OPEN, -1)));
    assert_eq!((list(0, -2), list(1, -2)), ((0, -1), (0, -1)));
    // The greatest timestamp of all is asked for, not that of what may be seen.
    assert_eq!((list(0, -3), list(1, -3)), ((OPEN, 10_000), (-1, -1)));
    assert_eq!((list(0, 9500), list(1, 9500)), ((OPEN, 10_000), (-1, -1)));
    // An aborted record has its time all the same.
    assert_eq!((list(0, 2600), list(1, 2600)), ((2, 9000), (2, 9000)));
}

#[test]
fn an_open_transaction_takes_no_more_records_and_keeps_others_from_committed_readers() {
    let (_dir, broker, _) = broker_with_transactions();
    let mut socket = broker.connect();
    let refused = socket.produce("t", 0, -1, record(Some(3), 11_000).into());
    assert_eq!(refused.error_code, 53, "transactions are not offered");
    assert_eq!(socket.produce("t", 0, -1, batch(&[b"plain"])).error_code, 0);
    let data = fetch(&mut socket, 0, 1);
    assert_eq!((data.high_watermark, data.last_stable_offset), (END + 1, OPEN));
}
