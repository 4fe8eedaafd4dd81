//! I/O errors of the real thing: a file stands where a log's directory has to be.

use klamm_protocol::ErrorCode;

use crate::broker_process::{BrokerProcess, Connection, Launch, batch, eventually};

#[test]
fn with_its_last_log_directory_the_broker_ends_and_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = BrokerProcess::start(dir.path());
    let mut client = broker.connect();
    client.create_topic("t", 1);
    std::fs::write(dir.path().join("t-0"), b"in the way").expect("writable");
    client.send(9, &Connection::produce_request("t", 0, -1, Some(&batch(b"lost"))));
    let ended = broker.ended();
    assert_eq!(ended.status.code(), Some(1), "{ended:#?}");
    // Not the last line: other threads may still log what they met on the dead disk.
    let why = "klamm: every log directory is offline: ";
    assert!(ended.stderr.lines().any(|line| line.starts_with(why)), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

#[test]
fn without_one_of_two_log_directories_it_goes_on_and_after_a_restart_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let second = dir.path().join("second");
    let first = dir.path().join("first");
    let both = format!("{},{}", first.display(), second.display());
    let mut broker = Launch::on(both.as_ref()).start();
    let mut client = broker.connect();
    client.create_topic("t", 2);
    for path in [&first, &second] {
        // One of the two is where partition 1 is to lie.
        std::fs::write(path.join("t-1"), b"in the way").expect("writable");
    }
    client.produce("t", &batch(b"kept"));
    let refused = client.try_produce("t", 1, -1, &batch(b"lost"));
    assert_eq!(refused.error_code, ErrorCode::KafkaStorageError.as_i16());
    eventually("nobody leads there", || {
        let topic = client.metadata("t", false);
        let state = topic.partitions.iter().find(|state| state.partition_index == 1)?;
        (state.leader_id == -1).then_some(())
    });
    for path in [&first, &second] {
        std::fs::remove_file(path.join("t-1")).expect("there");
    }
    let again = client.try_produce("t", 1, -1, &batch(b"lost"));
    assert_eq!(again.error_code, refused.error_code, "offline for the life of the process");
    for clean in [false, true] {
        broker = if clean { broker.stop_cleanly() } else { broker.kill() }.start();
        let mut client = broker.connect();
        assert_eq!(client.read_all("t", 0).len(), 1);
        assert_eq!(client.try_produce("t", 1, -1, &batch(b"new")).error_code, 0);
    }
    broker.assert_serves();
    broker.stop_cleanly();
    for path in [&first, &second] {
        let marker = path.join("klamm.clean");
        assert!(!marker.exists(), "in this boot nobody vouches for logs that were not opened");
    }
}
