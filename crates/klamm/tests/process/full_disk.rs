//! Hazard 47, a disk that fills up: producers are told, nothing acknowledged is lost, and all goes on when
//! there is room again.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use klamm_protocol::ErrorCode;
use klamm_protocol::messages::{DeleteTopicState, DeleteTopicsRequest};

use crate::broker_process::{Connection, Launch, batch, eventually};

const DISK: &str = "size=24m";
const BALLAST_BYTES: usize = 8 << 20;
const RECORD_BYTES: usize = 100_000;

/// A small disk of its own, in memory.
struct SmallDisk {
    mount: PathBuf,
    _dir: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts one; none where this machine does not let us, which CI as root must.
    fn mount(test: &str) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().expect("a directory");
        let mount = dir.path().join("disk");
        std::fs::create_dir_all(&mount).expect("writable");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", DISK, "tmpfs"])
            .arg(&mount)
            .output()
            .is_ok_and(|output| output.status.success());
        if mounted {
            return Some(SmallDisk { mount, _dir: dir });
        }
        let is_root = rustix::process::geteuid().is_root();
        let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!(is_root && in_ci), "{test}: no tmpfs can be mounted, in CI, as root");
        // Past the capture of the test's output: it is to be seen.
        let line = format!("left out: full_disk::{test} (it needs root and mount)\n");
        std::io::stderr().write_all(line.as_bytes()).expect("standard error");
        None
    }

    fn data(&self) -> PathBuf {
        self.mount.join("data")
    }

    /// Takes all the room there is.
    fn fill(&self) -> PathBuf {
        let path = self.mount.join("filler");
        let mut file = std::fs::File::create(&path).expect("a file still fits");
        for chunk in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; chunk]).is_ok() {}
        }
        path
    }

    fn ballast(&self) -> PathBuf {
        let path = self.mount.join("ballast");
        std::fs::write(&path, vec![0; BALLAST_BYTES]).expect("room for the ballast");
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.mount).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.mount.display());
        }
    }
}

fn launch(data: &Path) -> Launch {
    Launch::on(data).set("log.segment.bytes=2097152").set("log.segment.delete.delay.ms=0")
}

fn value(number: usize) -> Vec<u8> {
    let mut value = vec![b'.'; RECORD_BYTES];
    value[..8].copy_from_slice(format!("{number:08}").as_bytes());
    value
}

/// Produces until it is refused; answers how many were acknowledged in all.
fn produce_until_full(client: &mut Connection, mut acknowledged: usize) -> usize {
    for _ in 0..1000 {
        let produced = client.try_produce("t", 0, -1, &batch(&value(acknowledged)));
        if produced.error_code != 0 {
            assert_eq!(produced.error_code, ErrorCode::KafkaStorageError.as_i16());
            assert!(ErrorCode::KafkaStorageError.is_retriable());
            return acknowledged;
        }
        assert_eq!(produced.base_offset, acknowledged as i64);
        acknowledged += 1;
    }
    panic!("the disk did not fill up")
}

/// Everything acknowledged is there, and nothing else.
fn assert_holds(client: &mut Connection, acknowledged: usize) {
    let found = client.read_all("t", 0);
    assert_eq!(found.len(), acknowledged);
    for (offset, found) in found {
        let number = usize::try_from(offset).expect("positive");
        assert_eq!(found[..8], value(number)[..8], "at {offset}");
        assert_eq!(found.len(), RECORD_BYTES);
    }
}

fn produce_again(client: &mut Connection, acknowledged: usize) {
    eventually("producing with room again", || {
        let produced = client.try_produce("t", 0, -1, &batch(&value(acknowledged)));
        match produced.error_code {
            0 => {
                assert_eq!(produced.base_offset, acknowledged as i64);
                Some(())
            }
            _ => {
                assert_eq!(produced.error_code, ErrorCode::KafkaStorageError.as_i16());
                None
            }
        }
    });
}

#[test]
fn producers_are_told_reads_go_on_and_room_heals_it() {
    let Some(disk) = SmallDisk::mount("producers_are_told_reads_go_on_and_room_heals_it") else {
        return;
    };
    let ballast = disk.ballast();
    let broker = launch(&disk.data()).start();
    let mut client = broker.connect();
    client.create_topic("t", 1);
    let mut acknowledged = produce_until_full(&mut client, 0);
    assert!(acknowledged > 20, "{acknowledged} records on {DISK}");
    assert_holds(&mut client, acknowledged);
    // It keeps saying so, to everyone, and stays up.
    for _ in 0..5 {
        let mut other = broker.connect();
        let refused = other.try_produce("t", 0, 1, &batch(&value(acknowledged)));
        assert_eq!(refused.error_code, ErrorCode::KafkaStorageError.as_i16());
    }
    assert_holds(&mut client, acknowledged);
    std::fs::remove_file(ballast).expect("there");
    produce_again(&mut client, acknowledged);
    acknowledged = produce_until_full(&mut client, acknowledged + 1);
    assert_holds(&mut client, acknowledged);
    broker.assert_serves();
}

#[test]
fn deleting_a_topic_makes_room() {
    let Some(disk) = SmallDisk::mount("deleting_a_topic_makes_room") else { return };
    let broker = launch(&disk.data()).start();
    let mut client = broker.connect();
    client.create_topic("old", 1);
    for number in 0..80 {
        client.produce("old", &batch(&value(number)));
    }
    client.create_topic("t", 1);
    let acknowledged = produce_until_full(&mut client, 0);
    let gone = DeleteTopicState { name: Some("old".to_owned()), ..DeleteTopicState::default() };
    let request = DeleteTopicsRequest {
        topics: vec![gone],
        timeout_ms: 10_000,
        ..DeleteTopicsRequest::default()
    };
    let deleted = client.call(6, &request);
    assert_eq!(deleted.responses[0].error_code, 0, "deleting works on a full disk");
    produce_again(&mut client, acknowledged);
    assert_holds(&mut client, acknowledged + 1);
    broker.assert_serves();
}

#[test]
fn a_restart_on_a_full_disk_serves_what_is_there() {
    let Some(disk) = SmallDisk::mount("a_restart_on_a_full_disk_serves_what_is_there") else {
        return;
    };
    let mut broker = launch(&disk.data()).start();
    let mut client = broker.connect();
    client.create_topic("t", 1);
    let acknowledged = produce_until_full(&mut client, 0);
    for clean in [true, false, true, false] {
        let launch = if clean { broker.stop_cleanly() } else { broker.kill() };
        broker = launch.start();
        let mut client = broker.connect();
        assert_holds(&mut client, acknowledged);
        let refused = client.try_produce("t", 0, -1, &batch(&value(acknowledged)));
        assert_eq!(refused.error_code, ErrorCode::KafkaStorageError.as_i16());
    }
    broker.assert_serves();
}

#[test]
fn a_disk_without_a_single_byte_is_no_loss() {
    let Some(disk) = SmallDisk::mount("a_disk_without_a_single_byte_is_no_loss") else { return };
    let broker = launch(&disk.data()).start();
    let mut client = broker.connect();
    client.create_topic("t", 1);
    for number in 0..30 {
        client.produce("t", &batch(&value(number)));
    }
    let filler = disk.fill();
    let acknowledged = produce_until_full(&mut client, 30);
    assert_holds(&mut client, acknowledged);
    let error = client.try_create_topic("more", 1);
    assert!(error != ErrorCode::None || client.metadata("more", false).error_code == 0);
    broker.assert_serves();
    // Whether it starts without room or says why not, nothing is lost.
    let launch = broker.kill();
    match launch.clone().try_start() {
        Ok(broker) => {
            assert_holds(&mut broker.connect(), acknowledged);
            broker.kill();
        }
        Err(ended) => assert!(ended.complaint().contains("space"), "{ended:#?}"),
    }
    std::fs::remove_file(filler).expect("there");
    let broker = launch.start();
    let mut client = broker.connect();
    assert_holds(&mut client, acknowledged);
    produce_again(&mut client, acknowledged);
}
