//! Clients that announce much and send little hold up nobody and cost nothing.

use std::time::{Duration, Instant};

use klamm_protocol::messages::ProduceRequest;

use crate::broker_process::{BrokerProcess, Connection, Launch, batch, eventually};

/// As much as `socket.request.max.bytes` allows.
const ANNOUNCED: i32 = 100 * 1024 * 1024;
/// What the broker may grow by, in KiB.
const GROWTH_KIB: u64 = 48 * 1024;
/// Longer than this and the others are held up. They need milliseconds.
const HELD_UP: Duration = Duration::from_secs(10);

/// Clients that announce a request, send some of it and then nothing more.
fn stalled(broker: &BrokerProcess, count: usize, announced: i32, sent: usize) -> Vec<Connection> {
    let client = |_| {
        let mut client = broker.connect();
        client.send_raw(&announced.to_be_bytes());
        client.send_raw(&vec![0; sent]);
        client
    };
    (0..count).map(client).collect()
}

/// Large and small requests of an honest client.
fn assert_others_are_served(broker: &BrokerProcess) {
    let begun = Instant::now();
    let mut honest = broker.connect();
    honest.assert_alive();
    for size in [10, 900_000, 10, 900_000] {
        honest.produce("honest", &batch(&vec![b'x'; size]));
    }
    assert!(begun.elapsed() < HELD_UP, "held up for {:?}", begun.elapsed());
}

#[test]
fn announced_bodies_that_never_come_hold_up_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = BrokerProcess::start(dir.path());
    broker.connect().create_topic("honest", 1);
    assert_others_are_served(&broker);
    let before = broker.resident_kib();
    let stalled = stalled(&broker, 64, ANNOUNCED, 0);
    assert_others_are_served(&broker);
    let growth = broker.resident_kib().saturating_sub(before);
    assert!(growth < GROWTH_KIB, "{growth} KiB for {} announcements", stalled.len());
}

/// Hazard 85: who holds memory and does not go on gives way.
#[test]
fn bodies_that_stop_half_way_hold_up_nobody_for_long() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Launch::on(dir.path())
        .set("queued.max.request.bytes=4194304")
        .set("socket.request.max.bytes=4194304")
        .start();
    broker.connect().create_topic("honest", 1);
    // Together far above what all requests may hold.
    let stalled = stalled(&broker, 24, 4_000_000, 250_000);
    assert_others_are_served(&broker);
    drop(stalled);
    assert_others_are_served(&broker);
}

#[test]
fn large_requests_from_many_clients_at_once_all_get_through() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Launch::on(dir.path())
        .set("queued.max.request.bytes=2097152")
        .set("socket.request.max.bytes=2097152")
        .start();
    broker.connect().create_topic("honest", 1);
    let (address, value) = (broker.address(), vec![b'x'; 900_000]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Connection::open(address);
                for _ in 0..4 {
                    client.produce("honest", &batch(&value));
                }
            });
        }
    });
    assert_eq!(broker.connect().fetch("honest", 0, 31).high_watermark, 32);
}

#[test]
fn a_frame_that_arrives_byte_by_byte_is_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = BrokerProcess::start(dir.path());
    let mut client = broker.connect();
    for byte in [0, 0, 0, 11, 0, 18, 0, 0, 0, 0, 0, 9, 0, 1, b'h'] {
        client.send_raw(&[byte]);
    }
    let answer = client.receive_raw().expect("an answer");
    assert_eq!(answer[..4], [0, 0, 0, 9]);
}

#[test]
fn a_client_that_takes_no_answers_holds_up_only_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = BrokerProcess::start(dir.path());
    let mut honest = broker.connect();
    honest.create_topic("honest", 1);
    for _ in 0..8 {
        honest.produce("honest", &batch(&vec![b'x'; 900_000]));
    }
    let before = broker.resident_kib();
    let mut greedy: Vec<_> = (0..16).map(|_| broker.connect()).collect();
    for client in &mut greedy {
        for _ in 0..20 {
            client.send(11, &Connection::fetch_request("honest", 0, 0));
        }
    }
    assert_others_are_served(&broker);
    let growth = broker.resident_kib().saturating_sub(before);
    assert!(growth < GROWTH_KIB, "{growth} KiB for answers that nobody takes");
    drop(greedy);
    assert_others_are_served(&broker);
}

#[test]
fn a_client_that_leaves_while_it_waits_takes_nothing_with_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = BrokerProcess::start(dir.path());
    let mut honest = broker.connect();
    honest.create_topic("honest", 1);
    for number in 0..50 {
        let mut client = broker.connect();
        let mut wait = Connection::fetch_request("honest", 0, number);
        (wait.max_wait_ms, wait.min_bytes) = (60_000, 1);
        client.send(11, &wait);
        let record = batch(b"left");
        let request: ProduceRequest = Connection::produce_request("honest", 0, -1, Some(&record));
        client.send(9, &request);
        drop(client);
    }
    // Whatever was sent whole was appended, though nobody took the answers.
    eventually("the appends of those who left", || {
        (honest.fetch("honest", 0, 0).high_watermark == 50).then_some(())
    });
    broker.assert_serves();
}
