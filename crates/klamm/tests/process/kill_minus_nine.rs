//! Killed again and again in the middle of producing: nothing acknowledged is lost or doubled.

use std::collections::BTreeMap;

use klamm_protocol::messages::ProduceRequest;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::broker_process::{BrokerProcess, Connection, batch, idempotent};

const KILLS: usize = 20;
/// As many as an idempotent producer may have in flight.
const IN_FLIGHT: i32 = 5;
const VERSION: i16 = 9;

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
