//! Stopping, killing and starting again: what was acknowledged is there, once, as it was.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::broker_process::{BrokerProcess, Connection, Launch, Signal, batch, idempotent};

/// How a broker ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Term,
    Interrupt,
    Kill,
}

fn end(broker: BrokerProcess, how: End, dir: &Path) {
    let signal = match how {
        End::Kill => return drop(broker.kill()),
        End::Term => Signal::TERM,
        End::Interrupt => Signal::INT,
    };
    let ended = broker.stop(signal);
    assert!(ended.status.success(), "{how:?}: {ended:#?}");
    assert_eq!(ended.stdout.len(), 1, "one line on standard output: {:?}", ended.stdout);
    let (start, address) = ended.stdout[0].split_once(" ready on ").expect("the ready line");
    assert!(start.starts_with("klamm"), "{start}");
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    assert!(dir.join("t-0").is_dir());
}

/// Hazard 91: no incarnation leads on in the epoch of the one before.
#[test]
fn every_acknowledged_record_and_offset_outlives_every_kind_of_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut broker = BrokerProcess::start(dir.path());
    broker.connect().create_topic("t", 1);
    let mut epoch = -1;
    let mut expected: Vec<String> = Vec::new();
    for (round, how) in [End::Term, End::Kill, End::Interrupt, End::Kill, End::Kill, End::Term]
        .into_iter()
        .enumerate()
    {
        let mut client = broker.connect();
        let now = client.leader_epoch("t");
        assert!(now > epoch, "an election after every restart: {now} after {epoch}");
        epoch = now;
        // The page cache outlives kill -9: acks=1 is as good as acks=all here.
        for acks in [-1, 1] {
            for number in 0..5 {
                let value = format!("round {round} acks {acks} number {number}");
                let produced = client.try_produce("t", 0, acks, &batch(value.as_bytes()));
                assert_eq!(produced.error_code, 0, "{value}");
                assert_eq!(produced.base_offset, expected.len() as i64, "{value}");
                expected.push(value);
            }
        }
        client.find_coordinator("g");
        let committed = expected.len() as i64;
        client.commit("g", "t", committed);
        end(broker, how, dir.path());
        broker = BrokerProcess::start(dir.path());
        let mut client = broker.connect();
        assert_eq!(client.committed("g", "t"), committed, "after {how:?}");
        assert_holds(&mut client, &expected, how);
    }
}

fn assert_holds(client: &mut Connection, expected: &[String], how: End) {
    let found = client.read_all("t", 0);
    let values: Vec<_> = found.iter().map(|(_, value)| String::from_utf8_lossy(value)).collect();
    assert_eq!(values, expected, "after {how:?}");
    assert!(found.iter().zip(0..).all(|((offset, _), index)| *offset == index));
}

#[test]
fn topics_ids_and_sequences_outlive_every_kind_of_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut broker = BrokerProcess::start(dir.path());
    let mut client = broker.connect();
    client.create_topic("t", 3);
    client.create_topic("gone", 1);
    let topic_id = client.metadata("t", false).topic_id;
    let (id, epoch) = client.init_producer();
    let mut ids = vec![id];
    for (round, how) in [End::Term, End::Kill, End::Interrupt, End::Kill].into_iter().enumerate() {
        let sequence = i32::try_from(round).expect("few");
        let mut client = broker.connect();
        let offset = client.produce("t", &idempotent(id, epoch, sequence, &[b"once"]));
        end(broker, how, dir.path());
        broker = BrokerProcess::start(dir.path());
        let mut client = broker.connect();
        let again = client.produce("t", &idempotent(id, epoch, sequence, &[b"once"]));
        assert_eq!(again, offset, "a duplicate after {how:?} is the original");
        let topic = client.metadata("t", false);
        assert_eq!((topic.topic_id, topic.partitions.len()), (topic_id, 3));
        let (new_id, _) = client.init_producer();
        assert!(!ids.contains(&new_id), "producer id {new_id} was given out before");
        ids.push(new_id);
    }
    assert_eq!(broker.connect().read_all("t", 0).len(), 4);
}

#[test]
fn a_second_signal_or_open_connections_do_not_keep_it_from_stopping() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = BrokerProcess::start(dir.path());
    let mut waiting = broker.connect();
    waiting.create_topic("t", 1);
    let mut request = Connection::fetch_request("t", 0, 0);
    (request.max_wait_ms, request.min_bytes) = (600_000, 1);
    waiting.send(11, &request);
    let _idle: Vec<_> = (0..20).map(|_| broker.connect()).collect();
    let mut half = broker.connect();
    half.send_raw(&[0, 0, 1, 0, 0, 18]);
    let ended = broker.stop(Signal::TERM);
    assert!(ended.status.success(), "{ended:#?}");
}

/// The partition's files that end in `suffix`, in order.
fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("t-0")).expect("the partition's directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut found: Vec<_> = paths.filter(|path| path.to_string_lossy().ends_with(suffix)).collect();
    found.sort();
    found
}

/// A directory whose topic `t` holds `0` to `9`, one batch each; the broker has ended.
fn ten_records(how: End) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = BrokerProcess::start(dir.path());
    let mut client = broker.connect();
    client.create_topic("t", 1);
    for number in 0..10 {
        client.produce("t", &batch(number.to_string().as_bytes()));
    }
    end(broker, how, dir.path());
    dir
}

fn ten() -> Vec<String> {
    (0..10).map(|number| number.to_string()).collect()
}

#[test]
fn bytes_after_the_last_batch_are_cut_off() {
    let mut wrong_checksum = batch(b"torn");
    wrong_checksum[7] = 10;
    wrong_checksum[20] ^= 1;
    let half = batch(&[b'h'; 500])[..300].to_vec();
    let noise: Vec<u8> = (0..999_u32).map(|byte| (byte * 37 % 251) as u8).collect();
    for how in [End::Kill, End::Term] {
        for tail in [&wrong_checksum[..], &half, &noise, &[0; 4096], &[0xff; 100], &[0]] {
            let dir = ten_records(how);
            let log = files(dir.path(), ".log").pop().expect("a segment");
            let mut file = OpenOptions::new().append(true).open(&log).expect("writable");
            file.write_all(tail).expect("writable");
            let broker = BrokerProcess::start(dir.path());
            let mut client = broker.connect();
            assert_holds(&mut client, &ten(), how);
            assert_eq!(client.produce("t", &batch(b"10")), 10);
            let broker = broker.kill().start();
            let mut all = ten();
            all.push("10".to_owned());
            assert_holds(&mut broker.connect(), &all, End::Kill);
        }
    }
}

#[test]
fn a_log_that_was_cut_keeps_its_whole_batches() {
    for how in [End::Kill, End::Term] {
        for cut in [1, 30] {
            let dir = ten_records(how);
            let log = files(dir.path(), ".log").pop().expect("a segment");
            let file = OpenOptions::new().write(true).open(&log).expect("writable");
            let length = file.metadata().expect("there").len();
            file.set_len(length - cut).expect("writable");
            let broker = BrokerProcess::start(dir.path());
            let mut client = broker.connect();
            assert_holds(&mut client, &ten()[..9], how);
            assert_eq!(client.produce("t", &batch(b"9")), 9);
            assert_holds(&mut client, &ten(), how);
        }
    }
}

/// Hazards 18, 38 and 40.
#[test]
fn indexes_and_snapshots_that_are_gone_or_garbage_are_rebuilt() {
    for how in [End::Kill, End::Term] {
        for garbage in [None, Some(&[][..]), Some(&[0xff; 64]), Some(&[0; 4096])] {
            let dir = ten_records(how);
            for suffix in [".index", ".timeindex", ".snapshot", "leader-epoch-checkpoint"] {
                for path in files(dir.path(), suffix) {
                    match garbage {
                        None => fs::remove_file(path).expect("there"),
                        Some(garbage) => fs::write(path, garbage).expect("writable"),
                    }
                }
            }
            let broker = BrokerProcess::start(dir.path());
            let mut client = broker.connect();
            assert_holds(&mut client, &ten(), how);
            assert_eq!(client.list_offset("t", 0, -1, 0).1, 0, "by timestamp");
            assert_eq!(client.fetch("t", 0, 7).records.len(), 3);
            assert_eq!(client.produce("t", &batch(b"10")), 10);
        }
    }
}

#[test]
fn a_damaged_batch_in_the_middle_is_never_served_as_sound() {
    let dir = ten_records(End::Kill);
    let log = files(dir.path(), ".log").pop().expect("a segment");
    let mut bytes = fs::read(&log).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::write(&log, bytes).expect("writable");
    let broker = BrokerProcess::start(dir.path());
    let mut client = broker.connect();
    let fetched = client.fetch("t", 0, 0);
    // What comes, comes as it was written.
    let values: Vec<_> =
        fetched.records.iter().map(|(_, value)| String::from_utf8_lossy(value)).collect();
    assert!(values.len() < 10, "{values:?}");
    assert_eq!(values, ten()[..values.len()]);
    broker.assert_serves();
}

#[test]
fn segments_roll_and_are_found_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Launch::on(dir.path()).set("log.segment.bytes=1048576").start();
    let mut client = broker.connect();
    client.create_topic("t", 1);
    let values: Vec<Vec<u8>> = (0..8_u8).map(|number| vec![b'a' + number; 400_000]).collect();
    for value in &values {
        client.produce("t", &batch(value));
    }
    assert!(files(dir.path(), ".log").len() > 2);
    let launch = broker.kill();
    for path in files(dir.path(), "index") {
        fs::remove_file(path).expect("there");
    }
    let broker = launch.start();
    let found = broker.connect().read_all("t", 0);
    assert_eq!(found.len(), values.len());
    assert!(found.iter().zip(&values).all(|((_, found), value)| found == value));
}
