//! Random bodies for every API: the broker stays up, within its memory, and serves others.

use std::time::{Duration, Instant};

use klamm_protocol::api::{INTERNAL, SERVED, ServedApi};
use klamm_protocol::messages::RequestBody;
use klamm_protocol::{ApiKey, Encode, Reader, Writer};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::broker_process::{BrokerProcess, Connection, batch};

/// Time for each API, unless KLAMM_FUZZ_MS says otherwise.
const FUZZ_MS: u64 = 250;
/// Requests on one connection before its answers are taken.
const BURST: usize = 8;
/// What the broker may grow by, in KiB.
const GROWTH_KIB: u64 = 128 * 1024;
/// Bytes that lengths, counts and versions like to be.
const EXTREMES: [u8; 6] = [0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff];

#[test]
fn random_bodies_of_every_api_leave_the_broker_serving() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = BrokerProcess::start(dir.path());
    let mut other = broker.connect();
    other.create_topic("other", 1);
    let before = broker.resident_kib();
    let seed = std::env::var("KLAMM_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| std::process::id().into());
    let millis = std::env::var("KLAMM_FUZZ_MS").ok().and_then(|millis| millis.parse().ok());
    let time = Duration::from_millis(millis.unwrap_or(FUZZ_MS));
    println!("KLAMM_FUZZ_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    for row in SERVED.iter().chain(INTERNAL) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            burst(&broker, row, &mut random);
        }
        let stderr = broker.stderr();
        assert!(!stderr.contains("panicked"), "{:?}, seed {seed}: {stderr}", row.key);
        other.produce("other", &batch(b"still here"));
    }
    let growth = broker.resident_kib().saturating_sub(before);
    assert!(growth < GROWTH_KIB, "{growth} KiB more than before, seed {seed}");
    let expected = SERVED.len() + INTERNAL.len();
    assert_eq!(other.read_all("other", 0).len(), expected, "seed {seed}");
    broker.assert_serves();
}

/// Several requests on one connection, the answers taken at the end.
fn burst(broker: &BrokerProcess, row: &ServedApi, random: &mut SmallRng) {
    let mut client = broker.connect();
    for _ in 0..BURST {
        send(&mut client, row, random);
    }
    client.finish_sending();
    while client.receive_raw().is_some() {}
}

fn send(client: &mut Connection, row: &ServedApi, random: &mut SmallRng) {
    let version = random.random_range(row.min..=row.max);
    let body = match random.random_range(0..3) {
        0 => noise(random),
        _ => spoiled(valid(row.key, version), random),
    };
    client.send_body(row.key.as_i16(), version, row.key.is_flexible(version), &body);
}

fn noise(random: &mut SmallRng) -> Vec<u8> {
    let length = random.random_range(0..200);
    (0..length).map(|_| byte(random)).collect()
}

fn byte(random: &mut SmallRng) -> u8 {
    if random.random() { EXTREMES[random.random_range(0..EXTREMES.len())] } else { random.random() }
}

/// The plainest body of an API: zeros decode as far as they can and are cut to what was read.
fn valid(key: ApiKey, version: i16) -> Vec<u8> {
    for length in 0..64 {
        let mut reader = Reader::new(vec![0; length].into());
        if let Ok(body) = RequestBody::decode(key, version, &mut reader) {
            let mut writer = Writer::new();
            if body.encode(&mut writer, version).is_ok() {
                return writer.finish().bytes.to_vec();
            }
        }
    }
    Vec::new()
}

/// The body with a few bytes changed, put in, repeated or cut off.
fn spoiled(mut body: Vec<u8>, random: &mut SmallRng) -> Vec<u8> {
    for _ in 0..random.random_range(1..8) {
        let at = random.random_range(0..=body.len());
        match random.random_range(0..5) {
            0 => body.truncate(at),
            1 => body.insert(at, byte(random)),
            2 => drop(body.splice(at..at, noise(random).into_iter().take(20))),
            3 => drop(body.splice(at..at, [1, b'a'])),
            _ if at < body.len() => body[at] = byte(random),
            _ => body.push(byte(random)),
        }
    }
    body
}
