//! `klamm log verify` on what a broker left.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::broker_process::{BrokerProcess, batch};

fn verify(path: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_klamm"));
    command.args(["log", "verify"]).arg(path).args(options).output().expect("the binary runs")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[test]
fn verify_says_ok_for_what_a_broker_left_and_names_a_damaged_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = BrokerProcess::start(dir.path());
    let mut client = broker.connect();
    for topic in ["good", "bad"] {
        client.create_topic(topic, 1);
        client.produce(topic, &batch(b"kept"));
    }
    broker.stop_cleanly();

    let sound = verify(dir.path(), &[]);
    assert_eq!(sound.status.code(), Some(0), "{sound:?}");
    let lines = text(&sound);
    assert!(lines.lines().count() >= 3, "{lines}");
    assert!(lines.lines().all(|line| line.contains(": OK")), "{lines}");
    assert!(lines.contains("good-0: OK, 1 segments, 1 batches, 1 records"), "{lines}");

    let log = dir.path().join("bad-0/00000000000000000000.log");
    let mut bytes = fs::read(&log).expect("readable");
    *bytes.last_mut().expect("a batch") ^= 1;
    fs::write(&log, &bytes).expect("writable");
    let damaged = verify(dir.path(), &[]);
    assert_eq!(damaged.status.code(), Some(1), "{damaged:?}");
    let lines = text(&damaged);
    assert!(lines.contains("good-0: OK"), "{lines}");
    assert!(lines.contains("bad-0: DAMAGED in 1 places"), "{lines}");
    assert!(lines.contains("bad-0/00000000000000000000.log at 0: CRC"), "{lines}");
    assert_eq!(fs::read(&log).expect("readable"), bytes, "verify changes nothing");

    let json = verify(&dir.path().join("bad-0"), &["--json"]);
    assert_eq!(json.status.code(), Some(1));
    let object: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one object");
    assert_eq!(object["sound"], false);
    assert_eq!(object["damage"][0]["position"], 0);
}
