use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use klamm_protocol::compression::Compression;
use klamm_protocol::messages::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use klamm_protocol::messages::{DeleteTopicsRequest, IncrementalAlterConfigsRequest};
use klamm_protocol::records::{BatchBuilder, NewRecord};

use crate::broker::{TestBroker, eventually, start, try_start};
use crate::socket::{Socket, batches};

const VALUE_BYTES: usize = 20_000;

/// Rounds over the same keys, until several segments of the smallest size are full.
fn write(socket: &mut Socket, rounds: usize) -> i64 {
    let mut written = 0;
    for round in 0..rounds {
        for key in 0..10 {
            let mut builder = BatchBuilder::new(Compression::None, 1 << 20);
            let (key, value) = (format!("key-{key}"), format!("{round:>VALUE_BYTES$}"));
            let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
            builder.append(&NewRecord { key, value, ..Default::default() }).expect("room");
            let answer = socket.produce("t", 0, -1, builder.build().expect("builds"));
            assert_eq!(answer.error_code, 0, "{answer:?}");
            written += 1;
        }
    }
    written
}

/// Offset of the newest record by key, and how many records there are. Goes on behind each batch as
/// clients do: a batch may have no records any more.
fn read(broker: &TestBroker) -> (BTreeMap<String, i64>, usize) {
    let mut socket = broker.connect();
    let (mut offset, mut newest, mut count) = (0, BTreeMap::new(), 0);
    loop {
        let data = socket.fetch("t", 0, offset, 0);
        assert_eq!(data.error_code, 0, "{data:?}");
        for batch in batches(&data) {
            offset = batch.next_offset();
            for record in batch.records(1 << 20).expect("readable") {
                let record = record.expect("readable");
                count += 1;
                let key = String::from_utf8_lossy(&record.key.expect("a key")).into_owned();
                newest.insert(key, record.offset);
            }
        }
        if offset >= data.high_watermark {
            return (newest, count);
        }
    }
}

const COMPACTED: &[(&str, &str)] = &[
    ("cleanup.policy", "compact"),
    ("segment.bytes", "1048576"),
    ("min.cleanable.dirty.ratio", "0.1"),
];

#[test]
fn a_compacted_topic_keeps_the_newest_record_of_each_key_over_a_restart() {
    let (dir, broker) = start(&[("log.cleaner.backoff.ms", "20")]);
    broker.topic("t", 1, COMPACTED);
    let mut socket = broker.connect();
    let written = write(&mut socket, 30);
    let before = read(&broker).0;
    eventually("most old records are gone", || read(&broker).1 < 100);
    assert_eq!(read(&broker).0, before, "the newest of each key is where it was");
    broker.stop();
    let broker = try_start(dir.path(), &[]).expect("a broker");
    assert_eq!(read(&broker).0, before);
    let answer = broker.connect().fetch("t", 0, 0, 0);
    assert_eq!((answer.high_watermark, answer.log_start_offset), (written, 0));
}

#[test]
fn a_topic_that_becomes_compacted_is_cleaned() {
    let (_dir, broker) = start(&[("log.cleaner.backoff.ms", "20")]);
    broker.topic("t", 1, &[("segment.bytes", "1048576")]);
    let mut socket = broker.connect();
    let written = write(&mut socket, 12);
    assert_eq!(read(&broker).1 as i64, written);
    for (name, value) in COMPACTED {
        assert_eq!(set_config(&mut socket, "t", name, value), 0);
    }
    eventually("it is cleaned", || (read(&broker).1 as i64) < written);
}

#[test]
fn a_deleted_topic_does_not_wait_for_the_pass_over_it() {
    // A pass over a megabyte takes ten seconds at this rate, and more than one write is in it.
    let slow = ("log.cleaner.io.max.bytes.per.second", "100000");
    let (_dir, broker) = start(&[("log.cleaner.backoff.ms", "1"), slow]);
    broker.topic("t", 1, COMPACTED);
    let mut socket = broker.connect();
    write(&mut socket, 24);
    assert_eq!(delete_topic(&mut socket, "t"), 0);
    let started = Instant::now();
    broker.topic("t", 1, COMPACTED);
    let answer = socket.produce("t", 0, -1, one_record());
    assert_eq!((answer.error_code, answer.base_offset), (0, 0));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

fn one_record() -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None, 1 << 20);
    builder.append(&NewRecord { key: Some(b"k"), ..Default::default() }).expect("room");
    builder.build().expect("builds")
}

fn delete_topic(socket: &mut Socket, name: &str) -> i16 {
    let request = DeleteTopicsRequest {
        topic_names: vec![name.to_owned()],
        timeout_ms: 10_000,
        ..Default::default()
    };
    socket.call(5, &request).responses[0].error_code
}

pub(crate) fn set_config(socket: &mut Socket, topic: &str, name: &str, value: &str) -> i16 {
    let config = AlterableConfig {
        name: name.to_owned(),
        config_operation: 0,
        value: Some(value.to_owned()),
    };
    let resource = AlterConfigsResource {
        resource_type: 2,
        resource_name: topic.to_owned(),
        configs: vec![config],
    };
    let request =
        IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    socket.call(1, &request).responses[0].error_code
}
