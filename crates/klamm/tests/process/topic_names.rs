//! Topic names that no topic may have, and numbers that no topic may have.

use klamm_protocol::ErrorCode;

use crate::broker_process::{BrokerProcess, batch};

fn illegal() -> Vec<String> {
    let mut names: Vec<String> =
        ["", ".", "..", "a b", "a/b", "../a", "/", "a\\b", "a\0b", "ä", "a:b", "a\n", "a,b", "%2e"]
            .map(str::to_owned)
            .into();
    names.push("x".repeat(250));
    names.push("x".repeat(30_000));
    names
}

#[test]
fn an_illegal_name_is_refused_by_create_topics() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = BrokerProcess::start(dir.path());
    let mut client = broker.connect();
    for name in illegal() {
        let error = client.try_create_topic(&name, 1);
        assert_eq!(error, ErrorCode::InvalidTopicException, "{name:?}");
    }
    // The longest and oddest that are legal.
    for name in ["x".repeat(249), "...".to_owned(), "a.b-c_D9".to_owned()] {
        client.create_topic(&name, 1);
        client.produce(&name, &batch(b"legal"));
    }
}

#[test]
fn an_illegal_name_is_not_created_by_asking_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = BrokerProcess::start(dir.path());
    let mut client = broker.connect();
    for name in illegal() {
        let topic = client.metadata(&name, true);
        assert_eq!(topic.error_code, ErrorCode::InvalidTopicException.as_i16(), "{name:?}");
    }
    let inside = std::fs::read_dir(dir.path()).expect("the data directory");
    let names = inside.map(|entry| entry.expect("an entry").file_name());
    let logs: Vec<_> = names.filter(|name| name.to_string_lossy().ends_with("-0")).collect();
    assert!(logs.is_empty(), "{logs:?}");
}

#[test]
fn names_that_differ_only_in_dots_and_underscores_collide() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = BrokerProcess::start(dir.path());
    let mut client = broker.connect();
    client.create_topic("a.b", 1);
    assert_eq!(client.try_create_topic("a_b", 1), ErrorCode::InvalidTopicException);
    assert_eq!(client.try_create_topic("a.b", 1), ErrorCode::TopicAlreadyExists);
}

#[test]
fn impossible_numbers_of_partitions_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = BrokerProcess::start(dir.path());
    let mut client = broker.connect();
    for partitions in [0, -2, i32::MIN] {
        let error = client.try_create_topic("none", partitions);
        assert_eq!(error, ErrorCode::InvalidPartitions, "{partitions}");
    }
    // As Kafka: so many in one request are against its policy.
    let before = broker.resident_kib();
    for partitions in [i32::MAX, 10_001] {
        let error = client.try_create_topic("too-many", partitions);
        assert_eq!(error, ErrorCode::PolicyViolation, "{partitions}");
    }
    let growth = broker.resident_kib().saturating_sub(before);
    assert!(growth < 32 * 1024, "{growth} KiB for partitions that are refused");
    broker.assert_serves();
}
