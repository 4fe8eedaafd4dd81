//! Several brokers hold the same records, and lose none when one of them goes.

use bytes::Bytes;
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::FetchRequest;
use klamm_protocol::messages::fetch::ReplicaState;

use crate::broker::{eventually, try_start};
use crate::cluster::Cluster;
use crate::socket::{Socket, batch, fetch_request, records};

/// Followers and leaders give up on each other within a test's time.
const QUICK: &[(&str, &str)] = &[
    ("replica.lag.time.max.ms", "1500"),
    ("replica.fetch.backoff.ms", "50"),
    ("replica.fetch.wait.max.ms", "100"),
    ("default.replication.factor", "3"),
];

fn values(socket: &mut Socket, topic: &str) -> Vec<Bytes> {
    let data = socket.fetch(topic, 0, 0, 0);
    assert_eq!(data.error_code, 0);
    records(&data).into_iter().map(|(_, value)| value).collect()
}

fn produced(socket: &mut Socket, topic: &str, value: &[u8]) -> ErrorCode {
    let answer = socket.produce(topic, 0, -1, batch(&[value]));
    ErrorCode::from_i16(answer.error_code).expect("a known code")
}

#[test]
fn what_is_acknowledged_outlives_its_leader() {
    for flush in ["acked", "os"] {
        let mut cluster = Cluster::start(3, QUICK);
        cluster.topic("t", 1, &[("min.insync.replicas", "2"), ("flush", flush)]);
        let first = cluster.leader("t", 0, None);
        let mut socket = cluster.connect(first);
        for value in [b"one", b"two"] {
            assert_eq!(produced(&mut socket, "t", value), ErrorCode::None);
        }
        drop(socket);
        cluster.kill(first);
        let second = cluster.leader("t", 0, Some(first));
        let mut socket = cluster.connect(second);
        eventually("the new leader shows what was acknowledged", || {
            values(&mut socket, "t") == [b"one".as_slice(), b"two"]
        });
        assert_eq!(produced(&mut socket, "t", b"three"), ErrorCode::None);
        cluster.in_sync("t", 0, 2);
        cluster.start_broker(first);
        cluster.in_sync("t", 0, 3);
        drop(socket);
        // What the first one missed, it holds now.
        cluster.kill(second);
        cluster.leader("t", 0, Some(second));
        cluster.in_sync("t", 0, 2);
    }
}

#[test]
fn a_leader_whose_log_nobody_has_needed_goes_on_without_a_member_that_has_gone() {
    // No look at all partitions comes to its help within the test.
    let patient = [("replica.lag.time.max.ms", "600000"), ("default.replication.factor", "2")];
    let mut cluster = Cluster::start(2, &patient);
    // Leaders take turns, so one of two partitions is led by the controller, which the other broker
    // must not be: nobody would take its place while its session goes on.
    cluster.topic("t", 2, &[]);
    let leads = cluster.metadata(1).controller_id;
    let index = i32::from(cluster.leader("t", 0, None) != leads);
    let hanging = cluster.hang(3 - leads);
    cluster.kill(leads);
    cluster.start_broker(leads);
    assert_eq!(cluster.leader("t", index, None), leads);
    cluster.in_sync("t", index, 2);
    // Neither a follower nor a client has asked for a record since that broker is back.
    cluster.expire(hanging);
    cluster.in_sync("t", index, 1);
}

#[test]
fn a_clean_stop_hands_leadership_over_first() {
    let mut cluster = Cluster::start(3, QUICK);
    cluster.topic("t", 1, &[("min.insync.replicas", "2")]);
    let first = cluster.leader("t", 0, None);
    assert_eq!(produced(&mut cluster.connect(first), "t", b"kept"), ErrorCode::None);
    cluster.stop(first);
    let second = cluster.leader("t", 0, Some(first));
    let mut socket = cluster.connect(second);
    assert_eq!(produced(&mut socket, "t", b"more"), ErrorCode::None);
    eventually("both are there", || values(&mut socket, "t").len() == 2);
    cluster.start_broker(first);
    cluster.in_sync("t", 0, 3);
}

#[test]
fn below_min_insync_replicas_nothing_is_acknowledged_and_nothing_becomes_visible() {
    let mut cluster = Cluster::start(3, QUICK);
    cluster.topic("t", 1, &[("min.insync.replicas", "2")]);
    let leader = cluster.leader("t", 0, None);
    let mut socket = cluster.connect(leader);
    assert_eq!(produced(&mut socket, "t", b"seen"), ErrorCode::None);
    let others: Vec<i32> = (1..=3).filter(|id| *id != leader).collect();
    for other in &others {
        cluster.kill(*other);
    }
    cluster.in_sync("t", 0, 1);
    assert_eq!(produced(&mut socket, "t", b"refused"), ErrorCode::NotEnoughReplicas);
    let alone = socket.produce("t", 0, 1, batch(&[b"unseen"]));
    assert_eq!(alone.error_code, 0, "acks=1 does not ask the others");
    assert_eq!(values(&mut socket, "t"), [b"seen".as_slice()]);
    cluster.start_broker(others[0]);
    eventually("with two in sync it is committed", || {
        values(&mut socket, "t") == [b"seen".as_slice(), b"unseen"]
    });
}

#[test]
fn a_leader_that_returns_cuts_what_nobody_else_has() {
    let mut cluster = Cluster::start(2, QUICK);
    cluster.topic("t", 1, &[("min.insync.replicas", "2")]);
    let first = cluster.leader("t", 0, None);
    let second = 3 - first;
    assert_eq!(produced(&mut cluster.connect(first), "t", b"both"), ErrorCode::None);
    cluster.kill(second);
    cluster.in_sync("t", 0, 1);
    // Not committed: two have to hold it.
    let lonely = cluster.connect(first).produce("t", 0, 1, batch(&[b"lonely"]));
    assert_eq!((lonely.error_code, lonely.base_offset), (0, 1));
    cluster.kill(first);
    // It left the ISR with everything that was committed, and is eligible.
    cluster.start_broker(second);
    assert_eq!(cluster.leader("t", 0, Some(first)), second);
    let later = cluster.connect(second).produce("t", 0, 1, batch(&[b"later"]));
    assert_eq!((later.error_code, later.base_offset), (0, 1));
    cluster.start_broker(first);
    let mut socket = cluster.connect(second);
    eventually("the first one follows, and all is committed", || {
        values(&mut socket, "t") == [b"both".as_slice(), b"later"]
    });
    drop(socket);
    cluster.stop(second);
    assert_eq!(cluster.leader("t", 0, Some(second)), first);
    let mut socket = cluster.connect(first);
    assert_eq!(socket.produce("t", 0, 1, batch(&[b"last"])).base_offset, 2);
    cluster.start_broker(second);
    eventually("the new leader's records, and not the old one's", || {
        values(&mut socket, "t") == [b"both".as_slice(), b"later", b"last"]
    });
}

#[test]
fn a_client_that_says_it_is_a_replica_learns_nothing_and_moves_nothing() {
    let mut cluster = Cluster::start(2, QUICK);
    cluster.topic("t", 1, &[("min.insync.replicas", "1")]);
    let leader = cluster.leader("t", 0, None);
    let follower = 3 - leader;
    cluster.kill(follower);
    let mut socket = cluster.connect(leader);
    assert_eq!(socket.produce("t", 0, 1, batch(&[b"mine"])).error_code, 0);
    for (id, epoch) in [(follower, 1), (leader, 1), (77, -1)] {
        let mut request: FetchRequest = fetch_request("t", 0, 0, 0);
        request.replica_state = ReplicaState { replica_id: id, replica_epoch: epoch };
        request.topics[0].partitions[0].current_leader_epoch = 0;
        request.topics[0].topic_id = cluster.metadata(leader).topics[0].topic_id;
        request.topics[0].topic = String::new();
        let response = socket.call(16, &request);
        let data = &response.responses[0].partitions[0];
        assert_ne!(data.error_code, 0, "broker {id} in epoch {epoch}");
    }
}

/// Followers that hear of a high watermark with the next record only, or when this is over.
const SLEEPY: &[(&str, &str)] = &[
    ("replica.selector.class", "org.apache.kafka.common.replica.RackAwareReplicaSelector"),
    ("replica.fetch.wait.max.ms", "60000"),
    ("replica.lag.time.max.ms", "120000"),
    ("replica.socket.timeout.ms", "120000"),
];

#[test]
fn a_consumer_is_sent_to_the_replica_in_its_rack_and_gets_records_there_as_they_are_committed() {
    let cluster = Cluster::start(2, SLEEPY);
    cluster.topic("t", 1, &[("min.insync.replicas", "2")]);
    let leader = cluster.leader("t", 0, None);
    let follower = 3 - leader;
    let mut producer = cluster.connect(leader);
    assert_eq!(produced(&mut producer, "t", b"one"), ErrorCode::None);
    let asked = |socket: &mut Socket, rack: i32, offset| {
        let mut request = fetch_request("t", 0, offset, 10_000);
        request.rack_id = format!("rack-{rack}");
        socket.call(12, &request).responses[0].partitions[0].clone()
    };
    let mut socket = cluster.connect(leader);
    let here = asked(&mut socket, leader, 0);
    assert_eq!((here.preferred_read_replica, records(&here).len()), (-1, 1));
    let elsewhere = asked(&mut socket, follower, 0);
    assert_eq!((elsewhere.preferred_read_replica, records(&elsewhere).len()), (follower, 0));
    let mut socket = cluster.connect(follower);
    eventually("the follower shows what is committed", || values(&mut socket, "t").len() == 1);
    // Nothing comes after the last one: only the word that it is committed.
    for (offset, value) in [(1, b"two".as_slice()), (2, b"three")] {
        let mut request = fetch_request("t", 0, offset, 10_000);
        request.rack_id = format!("rack-{follower}");
        socket.send(12, &request);
        assert_eq!(produced(&mut producer, "t", value), ErrorCode::None);
        let (_, response) = socket.receive::<FetchRequest>(12);
        assert_eq!(records(&response.responses[0].partitions[0]), [(offset, value.into())]);
    }
}

#[test]
fn the_same_offsets_hold_the_same_records_on_every_replica() {
    let mut cluster = Cluster::start(3, QUICK);
    cluster.topic("t", 4, &[("min.insync.replicas", "2")]);
    for index in 0..4 {
        let leader = cluster.leader("t", index, None);
        let mut socket = cluster.connect(leader);
        for n in 0..20_u8 {
            let answer = socket.produce("t", index, -1, batch(&[&[n; 1000]]));
            assert_eq!(answer.error_code, 0);
        }
    }
    for id in 1..=3 {
        cluster.stop(id);
    }
    for index in 0..4 {
        let logs: Vec<Vec<u8>> = (1..=3)
            .map(|id| {
                let log = cluster.data_dir(id).join(format!("t-{index}/00000000000000000000.log"));
                std::fs::read(log).expect("a segment")
            })
            .collect();
        assert!(!logs[0].is_empty() && logs[0] == logs[1] && logs[1] == logs[2]);
    }
}

#[test]
fn a_broker_that_worked_alone_becomes_the_first_of_a_cluster() {
    let mut cluster = Cluster::start(0, QUICK);
    let alone = try_start(&cluster.data_dir(1), &[]).expect("starts");
    alone.topic("old", 1, &[]);
    let epoch = alone.leader_epoch("old", 0);
    let mut socket = alone.connect();
    assert_eq!(produced(&mut socket, "old", b"before"), ErrorCode::None);
    drop(socket);
    alone.stop();
    cluster.start_broker(1);
    assert!(
        !cluster.data_dir(1).join("klamm.tree").exists(),
        "it would be taken for the newer one"
    );
    let partition = cluster.partition(1, "old", 0);
    assert_eq!((partition.leader_id, partition.leader_epoch), (1, epoch + 1));
    let mut socket = cluster.connect(1);
    assert_eq!(values(&mut socket, "old"), [b"before".as_slice()]);
    cluster.start_broker(2);
    cluster.topic("new", 1, &[]);
    cluster.in_sync("new", 0, 2);
    // Nobody goes back by leaving the ensemble's name out.
    drop(socket);
    cluster.stop(1);
    let error = try_start(&cluster.data_dir(1), &[]).map(|_| ()).expect_err("another tree");
    assert!(error.to_string().contains("older than the disk"), "{error}");
}
