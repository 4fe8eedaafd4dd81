//! Killed again and again in the middle of producing: nothing acknowledged is lost or doubled.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use klamm_protocol::messages::ProduceRequest;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::broker_process::{BrokerProcess, Connection, Launch, batch, eventually, idempotent};

const KILLS: usize = 20;
/// As many as an idempotent producer may have in flight.
const IN_FLIGHT: i32 = 5;
const VERSION: i16 = 9;
const PRODUCERS: i32 = 4;

#[test]
fn twenty_kills_in_a_row_lose_nothing_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut random = SmallRng::seed_from_u64(20);
    let mut broker = BrokerProcess::start(dir.path());
    broker.connect().create_topic("t", 1);
    let mut acknowledged: BTreeMap<i64, String> = BTreeMap::new();
    let mut number = 0;
    for kill in 0..KILLS {
        let mut client = broker.connect();
        let acks = if kill % 2 == 0 { -1 } else { 1 };
        let sent: Vec<_> = (0..40).map(|index| format!("value {}", number + index)).collect();
        for value in &sent {
            let record = batch(value.as_bytes());
            client.send(VERSION, &Connection::produce_request("t", 0, acks, Some(&record)));
        }
        number += sent.len();
        let answers = random.random_range(0..sent.len());
        for (index, value) in sent.iter().take(answers).enumerate() {
            let behind = i32::try_from(sent.len() - 1 - index).expect("few");
            let response = client.receive_behind::<ProduceRequest>(VERSION, behind);
            let part = &response.responses[0].partition_responses[0];
            assert_eq!(part.error_code, 0);
            acknowledged.insert(part.base_offset, value.clone());
        }
        broker = broker.kill().start();
    }
    let found: BTreeMap<_, _> = broker.connect().read_all("t", 0).into_iter().collect();
    assert!(acknowledged.len() > KILLS, "only {} acknowledged", acknowledged.len());
    for (offset, value) in &acknowledged {
        let there = found.get(offset).map(|value| &value[..]);
        assert_eq!(there, Some(value.as_bytes()), "at {offset}");
    }
}

#[test]
fn an_idempotent_producer_that_retries_over_kills_is_in_the_log_exactly_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut random = SmallRng::seed_from_u64(5);
    let mut broker = BrokerProcess::start(dir.path());
    let mut client = broker.connect();
    client.create_topic("t", 1);
    let (id, epoch) = client.init_producer();
    let mut next = 0;
    let mut kills = 0;
    while kills < KILLS {
        let last = next + IN_FLIGHT;
        for sequence in next..last {
            let value = sequence.to_string();
            let record = idempotent(id, epoch, sequence, &[value.as_bytes()]);
            client.send(VERSION, &Connection::produce_request("t", 0, -1, Some(&record)));
        }
        // Some rounds go through whole, the others are cut off anywhere.
        let answers = random.random_range(0..=IN_FLIGHT);
        for sequence in next..next + answers {
            let response = client.receive_behind::<ProduceRequest>(VERSION, last - 1 - sequence);
            let part = &response.responses[0].partition_responses[0];
            assert_eq!((part.error_code, part.base_offset), (0, i64::from(sequence)));
        }
        next += answers;
        if answers < IN_FLIGHT {
            broker = broker.kill().start();
            client = broker.connect();
            kills += 1;
        }
    }
    for sequence in next..next + IN_FLIGHT {
        let value = sequence.to_string();
        let offset = client.produce("t", &idempotent(id, epoch, sequence, &[value.as_bytes()]));
        assert_eq!(offset, i64::from(sequence));
    }
    let found = client.read_all("t", 0);
    assert_eq!(found.len(), usize::try_from(next + IN_FLIGHT).expect("positive"));
    for (offset, value) in found {
        assert_eq!(value[..], *offset.to_string().as_bytes());
    }
}

#[test]
fn many_producers_over_rolling_segments_lose_nothing_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut broker = Launch::on(dir.path()).set("log.segment.bytes=1048576").start();
    broker.connect().create_topic("t", PRODUCERS);
    let mut acknowledged = vec![BTreeMap::new(); usize::try_from(PRODUCERS).expect("few")];
    for round in 0..4_u8 {
        let address = broker.address();
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|partition| {
                std::thread::spawn(move || produce_until_gone(address, partition, round))
            })
            .collect();
        // The kill comes when the first partition has rolled again.
        let mut watcher = broker.connect();
        let enough = i64::from(round + 1) * 20;
        eventually("a few segments", || {
            (watcher.list_offset("t", 0, -1, -1).1 >= enough).then_some(())
        });
        let launch = broker.kill();
        for (known, producer) in acknowledged.iter_mut().zip(producers) {
            known.extend(producer.join().expect("a producer does not panic"));
        }
        broker = launch.start();
    }
    let mut client = broker.connect();
    for (partition, known) in (0..).zip(&acknowledged) {
        let found: BTreeMap<_, _> = client.read_all("t", partition).into_iter().collect();
        assert!(known.len() > 4, "only {} acknowledged in {partition}", known.len());
        for (offset, first) in known {
            let there = found.get(offset).and_then(|value| value.first());
            assert_eq!(there, Some(first), "partition {partition} at {offset}");
        }
    }
}

#[test]
fn recovery_says_how_far_it_is_in_few_lines_and_when_it_is_done() {
    const LOGS: i32 = 25;
    let dir = tempfile::tempdir().expect("a directory");
    let broker = BrokerProcess::start(dir.path());
    let mut client = broker.connect();
    client.create_topic("t", LOGS);
    for partition in 0..LOGS {
        assert_eq!(client.try_produce("t", partition, -1, &batch(b"kept")).error_code, 0);
    }
    let broker = broker.kill().start();
    let said = |line: &str| broker.stderr().matches(line).count();
    assert_eq!(said("the logs were not closed in order"), 1);
    let mut client = broker.connect();
    for partition in 0..LOGS {
        assert_eq!(said("all logs are recovered"), 0, "at {partition}");
        assert_eq!(client.read_all("t", partition).len(), 1);
    }
    eventually("the last line", || (said("all logs are recovered") == 1).then_some(()));
    let lines = said("logs are left to recover");
    assert!((5..=10).contains(&lines), "{lines} lines");
    let broker = broker.stop_cleanly().start();
    assert!(broker.stderr().contains("the logs were closed in order"), "{}", broker.stderr());
}

/// Large records of one byte to one partition until the broker is gone; offsets and bytes of those
/// that were acknowledged.
fn produce_until_gone(address: SocketAddr, partition: i32, round: u8) -> Vec<(i64, u8)> {
    let mut client = Connection::open(address);
    let mut acknowledged = Vec::new();
    for number in 0..=u8::MAX {
        let byte = round.wrapping_mul(50).wrapping_add(number);
        let record = batch(&vec![byte; 100_000]);
        client.send(VERSION, &Connection::produce_request("t", partition, -1, Some(&record)));
        let Some(response) = client.try_receive::<ProduceRequest>(VERSION, 0) else { break };
        let part = &response.responses[0].partition_responses[0];
        assert_eq!(part.error_code, 0);
        acknowledged.push((part.base_offset, byte));
    }
    acknowledged
}
