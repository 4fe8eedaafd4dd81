//! Trees that are not what a broker expects: somebody else's, another cluster's, with nodes that cannot
//! be read.

use klamm_cluster::nodes::NodeKey;

use crate::broker::eventually;
use crate::cluster::Cluster;
use crate::socket::batch;
use crate::warnings;

const QUICK: &[(&str, &str)] = &[
    ("replica.lag.time.max.ms", "1500"),
    ("replica.fetch.backoff.ms", "50"),
    ("replica.fetch.wait.max.ms", "100"),
];

#[test]
fn hazard_87_no_broker_starts_in_the_chroot_of_a_live_kafka_and_nothing_is_written_there() {
    let mut cluster = Cluster::start(0, QUICK);
    let tree = cluster.tree();
    for path in ["/brokers", "/brokers/ids", "/brokers/topics", "/config", "/consumers", "/cluster"]
    {
        tree.create(path, "");
    }
    let broker =
        r#"{"version":5,"endpoints":["PLAINTEXT://kafka:9092"],"host":"kafka","port":9092}"#;
    tree.create("/brokers/ids/1", broker);
    tree.create("/cluster/id", r#"{"version":"1","id":"a-live-one"}"#);
    tree.create("/controller", r#"{"version":2,"brokerid":1}"#);
    tree.create("/controller_epoch", "7");
    let before = tree.everything();
    let refused = cluster.try_start_broker(1).expect_err("it is Kafka's").to_string();
    assert!(refused.contains("the tree is not Klamm's"), "{refused}");
    assert!(refused.contains("a chroot of its own"), "{refused}");
    assert_eq!(cluster.tree().everything(), before);
}

#[test]
fn a_broker_of_another_cluster_is_refused_and_nothing_is_written() {
    let mut theirs = Cluster::start(1, QUICK);
    theirs.topic("t", 1, &[]);
    assert_eq!(theirs.connect(1).produce("t", 0, -1, batch(&[b"theirs"])).error_code, 0);
    theirs.stop(1);
    let mut ours = Cluster::start(1, QUICK);
    ours.stop(1);
    let before = ours.tree().everything();
    std::fs::rename(theirs.data_dir(1), ours.data_dir(2)).expect("moved");
    let refused = ours.try_start_broker(2).expect_err("it is another's").to_string();
    assert!(refused.contains("belongs to"), "{refused}");
    assert_eq!(ours.tree().everything(), before);
    // In its own cluster it is what it was.
    std::fs::rename(ours.data_dir(2), theirs.data_dir(1)).expect("moved back");
    theirs.start_broker(1);
    let mut socket = theirs.connect(1);
    assert_eq!(socket.fetch("t", 0, 0, 0).high_watermark, 1);
}

#[test]
fn a_running_broker_ends_when_its_tree_has_become_another_clusters() {
    let mut cluster = Cluster::start(1, QUICK);
    cluster.topic("t", 1, &[]);
    let path = NodeKey::Cluster.path();
    let tree = cluster.tree();
    let node = String::from_utf8(tree.get(&path).expect("it is there").to_vec()).expect("text");
    let id = cluster.metadata(1).cluster_id.expect("it has one");
    assert!(node.contains(&id), "{node}");
    tree.set(&path, node.replace(&id, "another-one"));
    let before = tree.everything();
    let registered = NodeKey::Broker(1).path();
    cluster.expire_running(1);
    let reason = cluster.replaced(1);
    assert!(reason.contains("the tree is cluster another-one's now"), "{reason}");
    let after = cluster.tree().everything();
    let gone = |path: &str| path == registered || path == NodeKey::Controller.path();
    let stays = before.into_iter().filter(|(path, _)| !gone(path));
    assert_eq!(after, stays.collect::<Vec<_>>(), "it wrote nothing more");
}

/// What nobody can read: noise, another shape, a version from the future.
const UNREADABLE: &[(&str, &[u8])] = &[
    ("noise", &[0xff, 0, 0x7b]),
    ("nothing", b""),
    ("another shape", b"[1,2,3]"),
    ("a version from the future", br#"{"version":99,"leader":1}"#),
    ("a leader that is no replica in sync", br#"{"version":1,"leader":9,"leader_epoch":1}"#),
];

#[test]
fn a_node_that_cannot_be_read_is_named_and_harms_its_own_partition_alone() {
    warnings::note();
    let mut cluster = Cluster::start(2, QUICK);
    // Who decides goes on deciding; a new one would have to read everything.
    let stays = cluster.metadata(1).controller_id;
    let goes = 3 - stays;
    for (round, (what, data)) in UNREADABLE.iter().enumerate() {
        let name = format!("unreadable-{round}");
        cluster.topic(&name, 2, &[("min.insync.replicas", "1")]);
        let leaders: Vec<i32> = (0..2).map(|index| cluster.leader(&name, index, None)).collect();
        let (bad, good) = if leaders[0] == stays { (0, 1) } else { (1, 0) };
        assert_ne!(leaders[0], leaders[1], "each leads one");
        let path = NodeKey::Partition(cluster.topic_id(&name), bad).path();
        let sound = cluster.tree().get(&path).expect("it is there");
        cluster.tree().set(&path, *data);
        eventually("somebody says so", || warnings::told(&["keeping what was known", &path]));
        for (leader, index) in [(stays, bad), (goes, good)] {
            let answer = cluster.connect(leader).produce(&name, index, -1, batch(&[b"x"]));
            assert_eq!(answer.error_code, 0, "{what}: partition {index} is served on");
        }
        cluster.kill(goes);
        assert_eq!(cluster.leader(&name, good, Some(goes)), stays, "{what}: it is elected");
        let mut socket = cluster.connect(stays);
        eventually("it acknowledges", || {
            socket.produce(&name, good, -1, batch(&[b"y"])).error_code == 0
        });
        drop(socket);
        let refused = cluster.try_start_broker(goes).expect_err("it cannot read all").to_string();
        assert!(refused.contains(&path), "{refused}");
        cluster.tree().set(&path, sound);
        cluster.start_broker(goes);
        for index in [0, 1] {
            cluster.in_sync(&name, index, 2);
        }
    }
}

#[test]
fn a_broker_whose_session_ends_while_a_node_cannot_be_read_says_which_and_comes_back_after() {
    warnings::note();
    let cluster = Cluster::start(2, QUICK);
    cluster.topic("t", 2, &[("min.insync.replicas", "1")]);
    let stays = cluster.metadata(1).controller_id;
    let path = NodeKey::Assign(cluster.topic_id("t")).path();
    let sound = cluster.tree().get(&path).expect("it is there");
    cluster.tree().set(&path, "{");
    cluster.expire_running(3 - stays);
    eventually("it says which", || warnings::told(&["not back in the cluster yet", &path]));
    cluster.tree().set(&path, sound);
    for index in [0, 1] {
        eventually("it is led and takes records", || {
            let leader = cluster.partition(stays, "t", index).leader_id;
            let take = |leader| cluster.connect(leader).produce("t", index, 1, batch(&[b"z"]));
            leader > 0 && take(leader).error_code == 0
        });
        cluster.in_sync("t", index, 2);
    }
}
