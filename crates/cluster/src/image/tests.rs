//! The image follows the tree.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use klamm_env::{Env, Loop};

use super::{Changes, Image, ImageWatch, Leaderless};
use crate::nodes::broker::{Endpoint, RegistrationNode};
use crate::nodes::config::{ConfigKind, ConfigNode, ConfigResource};
use crate::nodes::topic::{
    AssignNode, Assignment, FlushClass, Member, NameNode, PartitionNode, TopicNode,
};
use crate::nodes::{NodeKey, SKELETON, encode};
use crate::tree::embedded::EmbeddedHome;
use crate::tree::{Home, Node, Op, Stat, Tree};
use uuid::Uuid;

const ID: Uuid = Uuid::from_u128(7);

fn topic_ops() -> Vec<Op> {
    let assign = AssignNode {
        partitions: vec![Assignment { replicas: vec![1], ..Assignment::default() }; 2],
    };
    let topic = TopicNode { name: "t".into(), deleting: false };
    vec![
        Op::create(NodeKey::Topic(ID).path(), encode(&topic)),
        Op::create(NodeKey::Assign(ID).path(), encode(&assign)),
        Op::create(NodeKey::partitions_folder(ID), ""),
        Op::create(NodeKey::Partition(ID, 0).path(), encode(&state(0))),
        Op::create(NodeKey::Partition(ID, 1).path(), encode(&state(0))),
        Op::create(NodeKey::Name("t".into()).path(), encode(&NameNode { topic_id: ID })),
    ]
}

fn state(epoch: i32) -> PartitionNode {
    PartitionNode {
        leader: Some(1),
        leader_epoch: epoch,
        partition_epoch: epoch,
        isr: vec![Member { id: 1, epoch: 1 }],
        elr: vec![],
        offline: vec![],
        min_isr: 1,
        flush: FlushClass::Acked,
        unclean_epoch: -1,
        controller_epoch: 1,
        nonce: 0,
    }
}

async fn tree(dir: &tempfile::TempDir) -> Arc<dyn Tree> {
    let env = Env::real().unwrap();
    let home = EmbeddedHome::open(&env, dir.path().join("tree"), &Loop::current()).await.unwrap();
    let tree = home.connect().await.unwrap();
    tree.multi(SKELETON.iter().map(|path| Op::create(*path, "")).collect()).await.unwrap();
    tree
}

#[tokio::test]
async fn an_image_follows_what_changes_and_says_what() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tree(&dir).await;
    tree.multi(topic_ops()).await.unwrap();
    let watch = ImageWatch::start(Arc::clone(&tree), &Loop::current()).await.unwrap();
    let image = watch.current();
    let topic = image.topic("t").unwrap();
    assert_eq!((topic.id, topic.partition_count()), (ID, 2));
    assert_eq!(topic.partition(1).unwrap().leader_epoch, 0);

    let mut updates = watch.subscribe();
    assert!(updates.next().await.changes.everything, "the first one is about everything");
    let set = Op::set(NodeKey::Partition(ID, 1).path(), encode(&state(1)), 0);
    tree.multi(vec![set]).await.unwrap();
    let update = updates.next().await;
    assert_eq!(update.changes.partitions, [(ID, 1)].into());
    assert!(update.changes.topics.is_empty());
    assert_eq!(update.image.topic("t").unwrap().partition(1).unwrap().leader_epoch, 1);
    assert_eq!(
        image.topic("t").unwrap().partition(1).unwrap().leader_epoch,
        0,
        "an old image stays"
    );
}

#[tokio::test]
async fn waiting_for_an_image_ends_when_it_is_so() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tree(&dir).await;
    let watch = ImageWatch::start(Arc::clone(&tree), &Loop::current()).await.unwrap();
    let waits = watch.wait_for(|image| image.topic("t").is_some());
    let (image, written) = tokio::join!(waits, tree.multi(topic_ops()));
    written.unwrap();
    assert_eq!(image.topics().count(), 1);
    let deleted = vec![Op::delete(NodeKey::Name("t".into()).path(), 0)];
    tree.multi(deleted).await.unwrap();
    let waits = watch.wait_for(|image| image.topic("t").is_none());
    let image = tokio::time::timeout(Duration::from_secs(10), waits).await.unwrap();
    assert!(image.topic_by_id(ID).is_none() && image.any_topic(ID).is_some());
}

#[tokio::test]
async fn an_unreadable_node_keeps_what_was_known() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tree(&dir).await;
    tree.multi(topic_ops()).await.unwrap();
    let watch = ImageWatch::start(Arc::clone(&tree), &Loop::current()).await.unwrap();
    let garbage = Op::set(NodeKey::Partition(ID, 0).path(), "{", 0);
    let good = Op::set(NodeKey::Partition(ID, 1).path(), encode(&state(1)), 0);
    tree.multi(vec![garbage, good]).await.unwrap();
    let changed = |image: &Image| image.topic("t").unwrap().partition(1).unwrap().leader_epoch == 1;
    let image = watch.wait_for(changed).await;
    assert_eq!(image.topic("t").unwrap().partition(0).unwrap().leader_epoch, 0);
    assert!(ImageWatch::start(tree, &Loop::current()).await.is_err(), "a new start refuses it");
}

#[test]
fn settings_by_kind() {
    let mut image = Image::default();
    let mut put = |resource: ConfigResource, value: &str| {
        let node = ConfigNode { config: [("k".to_owned(), value.to_owned())].into() };
        let node = Node { data: encode(&node), stat: Stat { version: 0, owner: None } };
        let path = NodeKey::Config(resource).path();
        image.apply(&path, Some(&node), &mut Changes::default()).unwrap();
    };
    put(ConfigResource::topic("t"), "1");
    put(ConfigResource::broker(None), "2");
    put(ConfigResource::broker(Some(3)), "3");
    assert_eq!(image.topic_config("t")["k"], "1");
    assert!(image.topic_config("u").is_empty());
    assert_eq!((&*image.broker_config(None)["k"], &*image.broker_config(Some(3))["k"]), ("2", "3"));
    let brokers: Vec<_> = image.configs(ConfigKind::Broker).map(|(r, _)| r.name.clone()).collect();
    assert_eq!(brokers, [None, Some("3".into())]);
    assert_eq!(image.configs(ConfigKind::Topic).count(), 1);
}

#[test]
fn strangers_in_the_tree_are_left_alone() {
    let mut image = Image::default();
    let node = Node { data: Bytes::from_static(b"?"), stat: Stat { version: 0, owner: None } };
    for path in ["/consumers", "/topics/not-an-id", "/brokers/ids/x", "/config/other/x"] {
        image.apply(path, Some(&node), &mut Changes::default()).unwrap();
    }
    assert_eq!(image.topics().count(), 0);
}

fn registration(broker_epoch: i64, listeners: &[&str]) -> RegistrationNode {
    let endpoint = |listener: &&str| Endpoint {
        listener: (*listener).to_owned(),
        host: "h".to_owned(),
        port: 1,
    };
    RegistrationNode {
        endpoints: listeners.iter().map(endpoint).collect(),
        security_protocols: Default::default(),
        inter_broker_listener: "INSIDE".to_owned(),
        rack: None,
        incarnation: ID,
        broker_epoch,
        features: Default::default(),
        log_dir_missing: false,
        offsets_in_tree: false,
    }
}

/// `t`-0 on brokers 1, which has both listeners and whose disk is gone, 2, which has one, and 3, which
/// is not registered.
fn three_replicas(leader: Option<i32>) -> Image {
    let broker = |id, node| Op::create_ephemeral(NodeKey::Broker(id).path(), encode(&node));
    let member = |id| Member { id, epoch: 1 };
    let state = PartitionNode {
        leader,
        isr: vec![member(1), member(2), member(3)],
        offline: vec![member(1)],
        ..state(0)
    };
    let assignment = Assignment { replicas: vec![1, 2, 3], ..Assignment::default() };
    let topic = TopicNode { name: "t".into(), deleting: false };
    let mut image = Image::default();
    let ops = [
        broker(1, registration(1, &["OUTSIDE", "INSIDE"])),
        broker(2, registration(1, &["INSIDE"])),
        Op::create(NodeKey::Topic(ID).path(), encode(&topic)),
        Op::create(
            NodeKey::Assign(ID).path(),
            encode(&AssignNode { partitions: vec![assignment] }),
        ),
        Op::create(NodeKey::Partition(ID, 0).path(), encode(&state)),
        Op::create(NodeKey::Name("t".into()).path(), encode(&NameNode { topic_id: ID })),
    ];
    image.preview(&ops).unwrap();
    image
}

fn leader(image: &Image, listener: &str) -> Result<i32, Leaderless> {
    image.topic("t").unwrap().partition(0).unwrap().leader_on(image, listener)
}

#[test]
fn a_leader_is_one_for_clients_of_the_listeners_that_it_has() {
    let image = three_replicas(Some(2));
    assert_eq!(leader(&image, "INSIDE"), Ok(2));
    assert_eq!(leader(&image, "OUTSIDE"), Err(Leaderless::NoListener));
    assert_eq!(leader(&three_replicas(Some(3)), "INSIDE"), Err(Leaderless::NotThere));
    assert_eq!(leader(&three_replicas(None), "INSIDE"), Err(Leaderless::NotThere));
}

#[test]
fn a_replica_is_offline_without_its_broker_its_disk_or_the_clients_listener() {
    let mut image = three_replicas(Some(2));
    let shown = |image: &Image, listener: &str| {
        let topic = image.topic("t").unwrap();
        let partition = topic.partition(0).unwrap();
        (
            partition.unreachable_replicas(image, listener),
            partition.offline_replicas(image, listener),
        )
    };
    assert_eq!(shown(&image, "INSIDE"), (vec![3], vec![1, 3]));
    assert_eq!(shown(&image, "OUTSIDE"), (vec![2, 3], vec![1, 2, 3]));
    let again = encode(&registration(2, &["OUTSIDE", "INSIDE"]));
    image.preview(&[Op::set(NodeKey::Broker(1).path(), again, 0)]).unwrap();
    assert_eq!(shown(&image, "OUTSIDE"), (vec![2, 3], vec![2, 3]), "its new process has its disk");
}
