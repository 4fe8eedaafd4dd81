//! What a restart finds: judged by the log directories, elected anew, strays put aside.

use std::path::Path;

use klamm_cluster::FlushClass;
use klamm_cluster::nodes::NodeKey;
use klamm_cluster::nodes::broker::EpochNode;
use klamm_cluster::nodes::topic::PartitionNode;
use klamm_cluster::tree::Home;
use klamm_cluster::tree::embedded::EmbeddedHome;
use klamm_env::{Env, Loop};
use klamm_protocol::messages::IncrementalAlterConfigsRequest;
use klamm_protocol::messages::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use uuid::Uuid;

use crate::broker::{TestBroker, eventually, start, try_start};
use crate::socket::{batch, fetch_request, records};

/// The broker's registration and the state of `topic`-0, from the tree of a broker that is gone.
fn tree(dir: &Path, topic: Uuid) -> (EpochNode, PartitionNode) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let env = Env::real().unwrap();
        let dir = dir.join("klamm.tree");
        let home = EmbeddedHome::open(&env, dir, &Loop::current()).await.unwrap();
        let tree = home.connect().await.unwrap();
        let epoch = tree.get(&NodeKey::BrokerEpoch(1).path()).await.unwrap();
        let state = tree.get(&NodeKey::Partition(topic, 0).path()).await.unwrap();
        let decoded = klamm_cluster::nodes::decode("epoch", &epoch.data).unwrap();
        (decoded, klamm_cluster::nodes::decode("state", &state.data).unwrap())
    })
}

fn restarted(dir: &Path) -> TestBroker {
    try_start(dir, &[]).expect("restarts")
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn directories(dir: &Path, what: &str) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(what)).collect()
}

#[test]
fn an_orderly_restart_is_clean_and_elects_anew() {
    let (dir, broker) = start(&[]);
    let topic = broker.topic("t", 1, &[("flush", "os")]);
    broker.stop();
    assert!(dir.path().join("klamm.clean").exists());
    let broker = restarted(dir.path());
    assert!(!dir.path().join("klamm.clean").exists(), "removed before anything is served");
    assert_eq!(broker.leader_epoch("t", 0), 1);
    broker.stop();
    let (epoch, state) = tree(dir.path(), topic);
    assert_eq!((epoch.epoch, epoch.prev_epoch), (2, 1));
    assert_eq!((epoch.clean_since, epoch.intact_since), (1, 1));
    assert_eq!((state.leader_epoch, state.unclean_epoch), (1, -1));
}

#[test]
fn a_process_that_dies_leaves_a_restart_that_is_sound_within_the_boot() {
    let (running, broker) = start(&[]);
    let topic = broker.topic("t", 1, &[("flush", "os")]);
    let mut socket = broker.connect();
    socket.produce("t", 0, -1, batch(&[b"kept"]));
    drop(socket);
    // What kill -9 would leave: the files as they are while the process runs.
    let dir = tempfile::TempDir::new().unwrap();
    copy(running.path(), dir.path());
    assert!(!dir.path().join("klamm.clean").exists());
    let broker = restarted(dir.path());
    let response = broker.connect().call(12, &fetch_request("t", 0, 0, 0));
    assert_eq!(records(&response.responses[0].partitions[0]).len(), 1);
    broker.stop();
    let (epoch, state) = tree(dir.path(), topic);
    assert_eq!((epoch.epoch, epoch.clean_since), (2, 1));
    assert_eq!((state.leader_epoch, state.unclean_epoch), (1, -1));
}

#[test]
fn hazard_97_from_os_to_acked_in_two_steps_of_the_leader_epoch() {
    let (dir, broker) = start(&[]);
    let topic = broker.topic("t", 1, &[("flush", "os")]);
    broker.connect().produce("t", 0, -1, batch(&[b"before"]));
    let resource = AlterConfigsResource {
        resource_type: 2,
        resource_name: "t".to_owned(),
        configs: vec![AlterableConfig {
            name: "flush".to_owned(),
            config_operation: 0,
            value: Some("acked".to_owned()),
        }],
    };
    let request =
        IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    assert_eq!(broker.connect().call(1, &request).responses[0].error_code, 0);
    eventually("the leader's word has come", || broker.leader_epoch("t", 0) == 2);
    let mut socket = broker.connect();
    assert_eq!(socket.produce("t", 0, -1, batch(&[b"after"])).base_offset, 1);
    drop(socket);
    broker.stop();
    assert_eq!(tree(dir.path(), topic).1.flush, FlushClass::Acked);
}

#[test]
fn a_wiped_disk_with_the_tree_elsewhere_is_not_taken_for_whole() {
    let (dir, broker) = start(&[]);
    let topic = broker.topic("t", 1, &[]);
    broker.stop();
    // Everything but the tree is lost.
    for entry in std::fs::read_dir(dir.path()).unwrap().flatten() {
        if entry.file_name() == "klamm.tree" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            std::fs::remove_dir_all(entry.path()).unwrap();
        } else {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let broker = restarted(dir.path());
    let mut socket = broker.connect();
    let refused = socket.produce("t", 0, -1, batch(&[b"x"]));
    assert_ne!(refused.error_code, 0, "nobody leads what may have been lost");
    drop(socket);
    broker.stop();
    let (epoch, state) = tree(dir.path(), topic);
    assert_eq!((epoch.clean_since, epoch.intact_since), (2, 2));
    assert_eq!(state.leader, None);
}

#[test]
fn a_tree_that_was_removed_is_refused_in_one_line() {
    let (dir, broker) = start(&[]);
    broker.stop();
    std::fs::remove_dir_all(dir.path().join("klamm.tree")).unwrap();
    let refused = try_start(dir.path(), &[]).err().expect("refused").to_string();
    assert!(refused.contains("older than the disk") && !refused.contains('\n'), "{refused}");
}

#[test]
fn hazard_31_a_directory_that_nobody_knows_is_put_aside_and_not_removed() {
    let (dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    broker.stop();
    std::fs::create_dir(dir.path().join("ghost-3")).unwrap();
    std::fs::write(dir.path().join("ghost-3/00000000000000000000.log"), b"data").unwrap();
    let broker = restarted(dir.path());
    let aside = directories(dir.path(), "ghost-3");
    assert!(matches!(&aside[..], [name] if name.ends_with("-stray")), "{aside:?}");
    assert!(dir.path().join(&aside[0]).join("00000000000000000000.log").exists());
    broker.stop();
}

#[test]
fn hazard_30_the_log_of_an_older_topic_of_the_same_name_is_put_aside() {
    let (dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    socket.produce("t", 0, -1, batch(&[b"new"]));
    drop(socket);
    broker.stop();
    // As if the topic had been deleted and made again while the broker was down.
    let metadata = dir.path().join("t-0/partition.metadata");
    std::fs::write(&metadata, "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAABQ").unwrap();
    let broker = restarted(dir.path());
    let mut socket = broker.connect();
    let answer = socket.produce("t", 0, -1, batch(&[b"first of its own"]));
    assert_eq!((answer.error_code, answer.base_offset), (0, 0));
    assert_eq!(directories(dir.path(), "-stray").len(), 1);
}
