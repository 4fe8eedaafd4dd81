use klamm_protocol::compression::Compression;
use klamm_protocol::messages::{InitProducerIdRequest, ProduceRequest};
use klamm_protocol::records::{BatchBuilder, NewRecord};

use crate::broker::{eventually, start};
use crate::socket::{batch, builder, produce_request, records, sequenced};

#[test]
fn what_is_published_is_read_back() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    for (acks, offset) in [(1, 0), (-1, 2)] {
        let answer = socket.produce("t", 0, acks, batch(&[b"one", b"two"]));
        assert_eq!((answer.error_code, answer.base_offset), (0, offset), "{answer:?}");
        assert_eq!((answer.log_append_time_ms, answer.log_start_offset), (-1, 0));
    }
    let data = socket.fetch("t", 0, 0, 5_000);
    let expected: Vec<(i64, _)> = [b"one", b"two", b"one", b"two"]
        .iter()
        .zip(0..)
        .map(|(v, at)| (at, v[..].into()))
        .collect();
    assert_eq!(records(&data), expected);
    assert_eq!((data.high_watermark, data.last_stable_offset, data.log_start_offset), (4, 4, 0));
}

#[test]
fn every_version_and_codec_is_taken() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    let mut expected = 0;
    for version in 3..=11 {
        for codec in [
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ] {
            let mut builder = BatchBuilder::new(codec, 1 << 20);
            let record = NewRecord { value: Some(b"compress me"), ..Default::default() };
            builder.append(&record).expect("room");
            let records = builder.build().expect("builds");
            let response = socket.call(version, &produce_request("t", 0, 1, records));
            let answer = &response.responses[0].partition_responses[0];
            if codec == Compression::Zstd && version < 7 {
                assert_eq!(answer.error_code, 76, "version {version}");
                continue;
            }
            assert_eq!(answer.error_code, 0, "version {version}, {codec:?}: {answer:?}");
            expected += 1;
        }
    }
    eventually("all are committed", || {
        broker.connect().fetch("t", 0, 0, 0).high_watermark == expected
    });
    assert_eq!(records(&socket.fetch("t", 0, 0, 0)).len() as i64, expected);
}

#[test]
fn acks_0_is_not_answered_and_an_error_closes_the_connection() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    socket.send(9, &produce_request("t", 0, 0, batch(&[b"quiet"])));
    // The next answer belongs to the next request.
    let answer = socket.produce("t", 0, -1, batch(&[b"loud"]));
    assert_eq!((answer.error_code, answer.base_offset), (0, 1));
    socket.send(9, &produce_request("nowhere", 0, 0, batch(&[b"lost"])));
    assert!(socket.is_closed());
}

#[test]
fn partitions_fail_one_by_one() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let mut request = produce_request("t", 0, -1, batch(&[b"good"]));
    let other = produce_request("t", 7, -1, batch(&[b"no such partition"]));
    request.topic_data.extend(other.topic_data);
    let response = broker.connect().call(9, &request);
    let codes: Vec<_> =
        response.responses.iter().map(|topic| topic.partition_responses[0].error_code).collect();
    assert_eq!(codes, [0, 3]);
}

#[test]
fn damaged_and_illegal_batches_are_refused_by_name() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    broker.topic("compacted", 1, &[("cleanup.policy", "compact")]);
    broker.topic("small", 1, &[("max.message.bytes", "100")]);
    let mut socket = broker.connect();
    let mut damaged = batch(&[b"value"]).to_vec();
    *damaged.last_mut().expect("not empty") ^= 1;
    let mut old = batch(&[b"value"]).to_vec();
    old[16] = 1;
    let two = [batch(&[b"one"]), batch(&[b"two"])].concat();
    let mut control = builder(&[b"value"]);
    control.set_control(true);
    for (topic, records, code) in [
        ("t", damaged, 2),
        ("t", old, 87),
        ("t", two, 87),
        ("t", Vec::new(), 87),
        ("t", control.build().expect("builds").to_vec(), 87),
        ("small", batch(&[&[0; 200]]).to_vec(), 10),
    ] {
        let answer = socket.produce(topic, 0, -1, records.into());
        assert_eq!((answer.error_code, answer.base_offset), (code, -1), "{answer:?}");
    }
    let answer = socket.produce("compacted", 0, -1, batch(&[b"without a key"]));
    assert_eq!(answer.error_code, 87);
    assert_eq!(answer.record_errors[0].batch_index, 0);
    assert!(answer.error_message.is_some());
    assert_eq!(socket.fetch("t", 0, 0, 0).high_watermark, 0, "nothing was stored");
}

#[test]
fn acks_beside_0_1_and_all_are_refused() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    for acks in [2, -2] {
        assert_eq!(broker.connect().produce("t", 0, acks, batch(&[b"x"])).error_code, 21);
    }
}

fn idempotent() -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: None,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    }
}

#[test]
fn a_duplicate_is_answered_with_its_first_offset_and_a_gap_is_refused() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    let answer = socket.call(4, &idempotent());
    assert_eq!((answer.error_code, answer.producer_epoch), (0, 0));
    let id = answer.producer_id;
    for sequence in 0..5 {
        let answer = socket.produce("t", 0, -1, sequenced(id, sequence, &[b"x"]));
        assert_eq!((answer.error_code, answer.base_offset), (0, i64::from(sequence)));
    }
    for sequence in 0..5 {
        let answer = socket.produce("t", 0, -1, sequenced(id, sequence, &[b"x"]));
        assert_eq!((answer.error_code, answer.base_offset), (0, i64::from(sequence)));
    }
    assert_eq!(socket.produce("t", 0, -1, sequenced(id, 9, &[b"x"])).error_code, 45);
    assert_eq!(socket.fetch("t", 0, 0, 0).high_watermark, 5);
}

#[test]
fn producer_ids_are_never_given_twice() {
    let (dir, broker) = start(&[]);
    let request = idempotent();
    let first = broker.connect().call(5, &request).producer_id;
    let second = broker.connect().call(0, &request).producer_id;
    assert_ne!(first, second);
    broker.stop();
    let broker = crate::broker::try_start(dir.path(), &[]).expect("restarts");
    assert!(broker.connect().call(4, &request).producer_id > second);
}

#[test]
fn transactions_are_refused_with_a_code_that_ends_the_attempt() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    let request = InitProducerIdRequest {
        transactional_id: Some("tx".to_owned()),
        transaction_timeout_ms: 1000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    assert_eq!(socket.call(4, &request).error_code, 53);
    let empty = InitProducerIdRequest { transactional_id: Some(String::new()), ..request };
    assert_eq!(socket.call(4, &empty).error_code, 42);
    let named = ProduceRequest {
        transactional_id: Some("tx".to_owned()),
        ..produce_request("t", 0, -1, batch(&[b"x"]))
    };
    let response = socket.call(9, &named);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 53);
    let mut transactional = builder(&[b"x"]);
    transactional.set_transactional(true);
    let transactional = transactional.build().expect("builds");
    assert_eq!(socket.produce("t", 0, -1, transactional).error_code, 53);
}

#[test]
fn log_append_time_is_the_brokers_and_is_told() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let answer = broker.connect().produce("t", 0, -1, batch(&[b"x"]));
    assert!(answer.log_append_time_ms > 1_700_000_000_000, "{answer:?}");
}

#[test]
fn clients_do_not_write_to_the_brokers_own_topics() {
    let (_dir, broker) = start(&[]);
    let find = klamm_protocol::messages::FindCoordinatorRequest {
        key: "g".to_owned(),
        ..Default::default()
    };
    let mut socket = broker.connect();
    socket.call(3, &find);
    assert_eq!(socket.produce("__consumer_offsets", 0, -1, batch(&[b"x"])).error_code, 17);
}

#[test]
fn flush_os_acknowledges_too() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[("flush", "os")]);
    let mut socket = broker.connect();
    assert_eq!(socket.produce("t", 0, -1, batch(&[b"x"])).error_code, 0);
    assert_eq!(socket.fetch("t", 0, 0, 0).high_watermark, 1);
}

#[test]
fn flush_messages_and_flush_ms_are_no_obstacle() {
    let (_dir, broker) = start(&[]);
    broker.topic("counted", 1, &[("flush", "os"), ("flush.messages", "1")]);
    broker.topic("timed", 1, &[("flush", "os"), ("flush.ms", "20")]);
    let mut socket = broker.connect();
    for topic in ["counted", "timed"] {
        for offset in 0..5 {
            let answer = socket.produce(topic, 0, -1, batch(&[b"x"]));
            assert_eq!((answer.error_code, answer.base_offset), (0, offset));
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
