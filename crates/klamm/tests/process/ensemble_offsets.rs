//! Committed offsets in a real ensemble (`offsets.storage=zookeeper`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use klamm_cluster::tree::zookeeper::Credentials;
use klamm_cluster::tree::{CreateMode, Tree as _};
use klamm_protocol::ErrorCode;
use tempfile::TempDir;

use crate::broker_process::{BrokerProcess, Launch, eventually};
use crate::ensemble::Servers;

/// What a commit may take in an outage: `offsets.commit.timeout.ms` and some patience.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

pub(crate) fn run(servers: &mut Servers) {
    println!("committed offsets outlive their coordinator");
    committed_offsets_outlive_their_coordinator(servers);
    println!("commits are refused while the ensemble is out and none is lost");
    commits_are_refused_while_the_ensemble_is_out_and_none_is_lost(servers);
    println!("brokers that keep offsets elsewhere are refused");
    brokers_that_keep_offsets_elsewhere_are_refused(servers);
}

fn launch(servers: &Servers, dir: &TempDir, chroot: &str, id: i32) -> Launch {
    servers
        .launch(dir.path(), chroot)
        .set(&format!("broker.id={id}"))
        .set("offsets.storage=zookeeper")
        .set("offsets.commit.timeout.ms=2000")
}

fn node(servers: &Servers, chroot: &str, path: &str) -> Option<String> {
    servers.by_hand(chroot, Credentials::Anonymous, async |tree| {
        let node = tree.find(path).await.expect("an answer")?;
        Some(String::from_utf8(node.data.to_vec()).expect("text"))
    })
}

fn committed_offsets_outlive_their_coordinator(servers: &Servers) {
    let chroot = "/offsets";
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut brokers: BTreeMap<i32, BrokerProcess> =
        (1..).zip(&dirs).map(|(id, dir)| (id, launch(servers, dir, chroot, id).start())).collect();
    brokers[&1].connect().create_topic("t", 1);
    let first = brokers[&1].connect().coordinator("g");
    let mut connection = brokers[&first].connect();
    connection.commit("g", "t", 41);
    connection.commit("g", "t", 42);
    let path = "/consumers/g/offsets/t/0";
    assert_eq!(node(servers, chroot, path).as_deref(), Some("42"));
    // Somebody writes a number with a client of ZooKeeper.
    servers.by_hand(chroot, Credentials::Anonymous, async |tree| {
        tree.set(path, Bytes::from_static(b"7"), None).await.expect("set");
        let mut above = String::from("/consumers");
        for name in ["made", "offsets", "t", "0"] {
            above = format!("{above}/{name}");
            let text = if name == "0" { "1234" } else { "" };
            let made =
                tree.create(&above, Bytes::from_static(text.as_bytes()), CreateMode::Persistent);
            made.await.expect("made");
        }
    });
    assert_eq!(connection.committed("g", "t"), 7);
    assert_eq!(connection.committed("made", "t"), 1234);
    connection.commit("g", "t", 43);
    drop(connection);
    let killed = brokers.remove(&first).expect("it runs").kill();
    let (second, other) = brokers.iter().next().expect("one is left");
    let (second, mut connection) = (*second, other.connect());
    eventually("the other one coordinates", || {
        (connection.coordinator("g") == second).then_some(())
    });
    assert_eq!(connection.committed("g", "t"), 43);
    assert_eq!(connection.committed("made", "t"), 1234);
    connection.commit("g", "t", 44);
    connection.commit("made", "t", 1235);
    assert_eq!(node(servers, chroot, path).as_deref(), Some("44"));
    let details = node(servers, chroot, &format!("{path}/details")).expect("there");
    assert!(details.contains("\"metadata\":\"at 44\""), "{details}");
    let again = killed.start();
    // Both are down at once, without warning.
    let launches = [again.kill(), brokers.remove(&second).expect("it runs").kill()];
    let brokers = launches.map(Launch::start);
    let mut connection = brokers[0].connect();
    let coordinator = connection.coordinator("g");
    assert_eq!(brokers[usize::from(coordinator != first)].connect().committed("g", "t"), 44);
}

fn commits_are_refused_while_the_ensemble_is_out_and_none_is_lost(servers: &mut Servers) {
    let dir = tempfile::tempdir().unwrap();
    let broker = launch(servers, &dir, "/offsets-outage", 1).start();
    let mut connection = broker.connect();
    connection.create_topic("t", 1);
    connection.find_coordinator("g");
    connection.commit("g", "t", 5);
    servers.kill(0..3);
    for offset in 6..9 {
        let asked = Instant::now();
        let code = connection.try_commit("g", "t", offset);
        assert_eq!(code, ErrorCode::CoordinatorNotAvailable);
        assert!(asked.elapsed() < ANSWERED_WITHIN, "{:?}", asked.elapsed());
    }
    // Heartbeats and all that needs no offsets go on.
    broker.assert_serves();
    servers.heal();
    eventually("commits are taken again", || {
        (connection.try_commit("g", "t", 20) == ErrorCode::None).then_some(())
    });
    assert_eq!(connection.committed("g", "t"), 20);
    assert_eq!(node(servers, "/offsets-outage", "/consumers/g/offsets/t/0").as_deref(), Some("20"));
    let broker = broker.kill().start();
    assert_eq!(broker.connect().committed("g", "t"), 20);
}

fn brokers_that_keep_offsets_elsewhere_are_refused(servers: &Servers) {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let broker = launch(servers, &dirs[0], "/offsets-agree", 1).start();
    let other = servers.launch(dirs[1].path(), "/offsets-agree").set("broker.id=2");
    let ended = other.clone().refused();
    let complaint = ended.complaint();
    assert!(complaint.contains("offsets.storage=zookeeper"), "{complaint}");
    broker.assert_serves();
    let other = other.set("offsets.storage=zookeeper").start();
    other.connect().coordinator("g");
}
