//! A process with few descriptors: connections wait before the logs go short, and what cannot be opened
//! is refused, with nothing acknowledged lost and no log directory offline.

use std::collections::BTreeMap;
use std::net::TcpStream;

use klamm_protocol::ErrorCode;
use klamm_protocol::messages::{DeleteTopicState, DeleteTopicsRequest};

use crate::broker_process::{BrokerProcess, Connection, Launch, batch, eventually};

const DESCRIPTORS: u32 = 96;
/// More than the process can open, and no more than the listener lets wait.
const CONNECTIONS: usize = 45;
const KEPT: i32 = 3;
const FILLER: i32 = 40;
const SEGMENT: &str = "log.segment.bytes=1048576";
const RECORD_BYTES: usize = 100_000;
/// Three segments full.
const RECORDS: usize = 30;

const STORAGE_ERROR: i16 = ErrorCode::KafkaStorageError.as_i16();

/// What was acknowledged, by partition and offset.
type Acknowledged = BTreeMap<(i32, i64), u8>;

/// Produces to `t` what would make its logs roll, whatever of it is refused.
fn produce(client: &mut Connection, byte: u8, acknowledged: &mut Acknowledged) {
    for _ in 0..RECORDS {
        for partition in 0..KEPT {
            let produced = client.try_produce("t", partition, -1, &batch(&[byte; RECORD_BYTES]));
            if produced.error_code == 0 {
                acknowledged.insert((partition, produced.base_offset), byte);
            } else {
                assert_eq!(produced.error_code, STORAGE_ERROR);
            }
        }
    }
}

/// The same as a client does it: what is refused is sent again until it is taken.
fn produce_on(client: &mut Connection, byte: u8, acknowledged: &mut Acknowledged) {
    for _ in 0..RECORDS {
        for partition in 0..KEPT {
            let record = batch(&[byte; RECORD_BYTES]);
            let produced = eventually("a batch is taken", || {
                let produced = client.try_produce("t", partition, -1, &record);
                assert!([0, STORAGE_ERROR].contains(&produced.error_code), "{produced:?}");
                (produced.error_code == 0).then_some(produced)
            });
            acknowledged.insert((partition, produced.base_offset), byte);
        }
    }
}

#[track_caller]
fn assert_holds(client: &mut Connection, acknowledged: &Acknowledged) {
    for partition in 0..KEPT {
        let found: BTreeMap<_, _> = client.read_all("t", partition).into_iter().collect();
        let known = acknowledged.iter().filter(|((of, _), _)| *of == partition);
        for ((_, offset), byte) in known {
            let there = found.get(offset).and_then(|value| value.first());
            assert_eq!(there, Some(byte), "partition {partition} at {offset}");
        }
    }
}

#[track_caller]
fn assert_online(broker: &BrokerProcess) {
    let stderr = broker.stderr();
    assert!(!stderr.contains("offline") && !stderr.contains("panicked"), "{stderr}");
}

#[test]
fn nothing_acknowledged_is_lost_and_all_goes_on_when_some_are_free() {
    let dir = tempfile::tempdir().expect("a directory");
    let launch = Launch::on(dir.path()).set(SEGMENT).set("log.segment.delete.delay.ms=0");
    let broker = launch.descriptors(DESCRIPTORS).start();
    let mut client = broker.connect();
    client.create_topic("t", KEPT);
    client.create_topic("filler", FILLER);
    let mut acknowledged = Acknowledged::new();
    produce_on(&mut client, 1, &mut acknowledged);
    // Most of them are never accepted, and those that are take nothing that the logs need.
    let crowd: Vec<_> = (0..CONNECTIONS)
        .map(|_| TcpStream::connect(broker.address()).expect("the kernel accepts it"))
        .collect();
    eventually("connections wait", || broker.stderr().contains("connections wait").then_some(()));
    produce_on(&mut client, 2, &mut acknowledged);
    // Each partition that is written to keeps a file open.
    let filler = batch(b"filler");
    let open = |client: &mut Connection, partition| {
        client.try_produce("filler", partition, -1, &filler).error_code == 0
    };
    eventually("a checkpoint has closed something", || open(&mut client, 0).then_some(()));
    let opened = (1..FILLER).filter(|partition| open(&mut client, *partition)).count();
    assert!(opened < 30, "{opened} more could be opened");
    produce(&mut client, 3, &mut acknowledged);
    assert_holds(&mut client, &acknowledged);
    assert_online(&broker);
    drop(crowd);
    let gone = DeleteTopicState { name: Some("filler".to_owned()), ..DeleteTopicState::default() };
    let request = DeleteTopicsRequest {
        topics: vec![gone],
        timeout_ms: 10_000,
        ..DeleteTopicsRequest::default()
    };
    assert_eq!(client.call(6, &request).responses[0].error_code, 0);
    produce_on(&mut client, 4, &mut acknowledged);
    assert_online(&broker);
    broker.assert_serves();
    let broker = broker.kill().start();
    assert_holds(&mut broker.connect(), &acknowledged);
    let broker = broker.stop_cleanly().start();
    assert_holds(&mut broker.connect(), &acknowledged);
    assert_online(&broker);
}
