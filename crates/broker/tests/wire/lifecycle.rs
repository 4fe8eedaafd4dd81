use std::io::Write;
use std::time::{Duration, Instant};

use klamm_protocol::messages::{DeleteTopicsRequest, FetchRequest};

use crate::broker::{eventually, start, try_start};
use crate::socket::{batch, fetch_request, records};

fn refusal(dir: &std::path::Path, set: &[(&str, &str)]) -> String {
    match try_start(dir, set) {
        Ok(_) => panic!("the broker started"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_restart_keeps_topics_and_records() {
    let (dir, broker) = start(&[]);
    let id = broker.topic("t", 3, &[]);
    let mut socket = broker.connect();
    for index in 0..3 {
        socket.produce("t", index, -1, batch(&[b"kept"]));
    }
    drop(socket);
    broker.stop();
    let broker = try_start(dir.path(), &[]).expect("restarts");
    let mut socket = broker.connect();
    for index in 0..3 {
        let mut request = fetch_request("", index, 0, 0);
        request.topics[0].topic_id = id;
        let response = socket.call(13, &request);
        assert_eq!(records(&response.responses[0].partitions[0]).len(), 1);
    }
    assert_eq!(socket.produce("t", 0, -1, batch(&[b"next"])).base_offset, 1);
}

#[test]
fn what_is_in_use_is_refused_in_one_line() {
    let (dir, broker) = start(&[]);
    let in_use = refusal(dir.path(), &[]);
    assert!(in_use.contains("in use") && !in_use.contains('\n'), "{in_use}");
    let listener = format!("PLAINTEXT://{}", broker.address());
    let other = tempfile::TempDir::new().expect("a directory");
    let taken = refusal(other.path(), &[("listeners", listener.as_str())]);
    assert!(taken.contains("port is in use") && !taken.contains('\n'), "{taken}");
    broker.connect().call(9, &klamm_protocol::messages::MetadataRequest::default());
}

#[test]
fn the_directory_of_another_broker_or_cluster_is_refused() {
    let (dir, broker) = start(&[]);
    broker.stop();
    let other_id = refusal(dir.path(), &[("broker.id", "7")]);
    assert!(other_id.contains("broker 1"), "{other_id}");
    let meta = dir.path().join("meta.properties");
    let text = std::fs::read_to_string(&meta).expect("written");
    let line = text.lines().find(|line| line.starts_with("cluster.id=")).expect("a cluster id");
    std::fs::write(&meta, text.replace(line, "cluster.id=AAAAAAAAAAAAAAAAAAAAAA"))
        .expect("written");
    let foreign = refusal(dir.path(), &[]);
    assert!(foreign.contains("cluster") && !foreign.contains('\n'), "{foreign}");
}

#[test]
fn an_orderly_stop_answers_who_waits_and_is_quick() {
    let (dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    socket.produce("t", 0, -1, batch(&[b"x"]));
    let sent = socket.send(12, &fetch_request("t", 0, 1, 60_000));
    std::thread::sleep(Duration::from_millis(50));
    let began = Instant::now();
    broker.stop();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(socket.receive::<FetchRequest>(12).0, sent);
    assert!(socket.is_closed());
    assert!(dir.path().join("klamm.clean").exists());
}

#[test]
fn a_deleted_topic_is_gone_and_its_name_is_free() {
    let (dir, broker) = start(&[("log.segment.delete.delay.ms", "0")]);
    let first = broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    socket.produce("t", 0, -1, batch(&[b"old"]));
    let mut reader = broker.connect();
    reader.send(12, &fetch_request("t", 0, 1, 15_000));
    let request = DeleteTopicsRequest {
        topic_names: vec!["t".to_owned()],
        timeout_ms: 5_000,
        ..Default::default()
    };
    assert_eq!(socket.call(3, &request).responses[0].error_code, 0);
    let (_, woken) = reader.receive::<FetchRequest>(12);
    assert_ne!(woken.responses[0].partitions[0].error_code, 0, "a waiting reader is told");
    eventually("the files are gone", || {
        let names = std::fs::read_dir(dir.path()).expect("readable").flatten();
        !names.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with("t-0"))
    });
    let second = broker.topic("t", 1, &[]);
    assert_ne!(first, second);
    assert_eq!(socket.produce("t", 0, -1, batch(&[b"new"])).base_offset, 0);
}

#[test]
fn many_partitions_share_the_syncs() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 40, &[]);
    let mut socket = broker.connect();
    for round in 0..3 {
        for index in 0..40 {
            socket.send(9, &crate::socket::produce_request("t", index, -1, batch(&[b"x"])));
        }
        for _ in 0..40 {
            let (_, response) = socket.receive::<klamm_protocol::messages::ProduceRequest>(9);
            let answer = &response.responses[0].partition_responses[0];
            assert_eq!((answer.error_code, answer.base_offset), (0, round));
        }
    }
}

#[test]
fn a_client_that_never_pauses_does_not_keep_the_broker_from_stopping() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    let mut writer = socket.stream.try_clone().expect("a socket");
    let header = [0u8, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    let frame = [&10i32.to_be_bytes()[..], &header].concat().repeat(1000);
    let sending = std::thread::spawn(move || while writer.write_all(&frame).is_ok() {});
    let reading = std::thread::spawn(move || while socket.frame().is_some() {});
    std::thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    broker.stop();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    sending.join().expect("ended");
    reading.join().expect("ended");
}
