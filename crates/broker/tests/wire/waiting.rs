//! Producers that wait for followers.

use std::path::Path;

use klamm_protocol::messages::ProduceRequest;

use crate::broker::eventually;
use crate::cluster::Cluster;
use crate::fake_follower::FakeFollower;
use crate::socket::{Socket, batch, produce_request, records, sequenced};

/// Nobody leaves the ISR for not fetching.
const PATIENT: (&str, &str) = ("replica.lag.time.max.ms", "60000");

fn len(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |metadata| metadata.len())
}

fn answer(socket: &mut Socket) -> (i16, i64) {
    let (_, response) = socket.receive::<ProduceRequest>(9);
    let answer = &response.responses[0].partition_responses[0];
    (answer.error_code, answer.base_offset)
}

#[test]
fn hazard_81_a_duplicate_is_not_acknowledged_before_its_original_is_replicated() {
    let mut cluster = Cluster::start(2, &[PATIENT]);
    cluster.topic("t", 1, &[("min.insync.replicas", "2")]);
    let leader = cluster.leader("t", 0, None);
    let (mut follower, hanging) = FakeFollower::of(&mut cluster, "t", 3 - leader);
    let request =
        |sequence, value| produce_request("t", 0, -1, sequenced(4711, sequence, &[value]));
    let mut original = cluster.connect(leader);
    original.send(9, &request(0, b"once"));
    eventually("it is in the log", || records(&follower.asks(0)).len() == 1);
    let mut again = cluster.connect(leader);
    again.send(9, &request(0, b"once"));
    // Appended after the duplicate was looked at.
    again.send(9, &request(1, b"next"));
    eventually("both are in the log", || records(&follower.asks(0)).len() == 2);
    assert!(original.is_silent() && again.is_silent(), "nobody else has it");
    follower.asks(1);
    assert_eq!(answer(&mut original), (0, 0));
    assert_eq!(answer(&mut again), (0, 0), "at its original's offset");
    assert!(again.is_silent());
    follower.asks(2);
    assert_eq!(answer(&mut again), (0, 1));
    cluster.expire(hanging);
}

#[test]
fn hazard_85_producers_that_wait_do_not_starve_the_followers_that_they_wait_for() {
    const BUDGET: &str = "2097152";
    let settings =
        [PATIENT, ("queued.max.request.bytes", BUDGET), ("socket.request.max.bytes", BUDGET)];
    let mut cluster = Cluster::start(2, &settings);
    cluster.topic("t", 1, &[("min.insync.replicas", "2")]);
    let leader = cluster.leader("t", 0, None);
    let (mut follower, hanging) = FakeFollower::of(&mut cluster, "t", 3 - leader);
    let value = vec![b'x'; 900_000];
    let log = cluster.data_dir(leader).join("t-0/00000000000000000000.log");
    let mut waiting: Vec<Socket> = Vec::new();
    for offset in 1..=8 {
        let mut socket = cluster.connect(leader);
        socket.send(9, &produce_request("t", 0, -1, batch(&[&value])));
        waiting.push(socket);
        // Together they are far above what all requests may hold.
        eventually("it is in the log", || len(&log) > offset * 900_000);
    }
    for offset in 1..=8 {
        follower.asks(offset);
    }
    let mut offsets: Vec<(i16, i64)> = waiting.iter_mut().map(answer).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..8).map(|offset| (0, offset)).collect::<Vec<_>>());
    cluster.expire(hanging);
}
