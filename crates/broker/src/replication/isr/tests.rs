//! Changes of several partitions on their way to the tree.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use klamm_cluster::nodes::broker::EpochNode;
use klamm_cluster::nodes::topic::{AssignNode, Assignment, NameNode, PartitionNode, TopicNode};
use klamm_cluster::nodes::{NodeKey, SKELETON, encode};
use klamm_cluster::tree::embedded::EmbeddedHome;
use klamm_cluster::tree::{Home as _, MultiLimits, Node, Op, SessionId, SessionState, Watcher};
use klamm_cluster::{FlushClass, ImageWatch};
use klamm_env::{Env, Loop};
use tempfile::TempDir;
use tokio::sync::watch;

use super::*;

const TOPIC: Uuid = Uuid::from_u128(7);
const LEADER: Member = Member { id: 1, epoch: 4 };
const OTHER: Member = Member { id: 2, epoch: 5 };

/// A session that counts its multis, and answers one of them as if the connection broke.
struct Counting {
    tree: Arc<dyn Tree>,
    multis: AtomicUsize,
    /// The number of that one.
    loses: Option<usize>,
}

impl Tree for Counting {
    fn session(&self) -> SessionId {
        self.tree.session()
    }

    fn state(&self) -> watch::Receiver<SessionState> {
        self.tree.state()
    }

    fn get<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Node, TreeError>> {
        self.tree.get(path)
    }

    fn children<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Vec<String>, TreeError>> {
        self.tree.children(path)
    }

    fn multi(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<Vec<OpResult>, MultiError>> {
        let number = self.multis.fetch_add(1, Ordering::Relaxed);
        let is_lost = self.loses == Some(number);
        async move {
            let answer = self.tree.multi(ops).await;
            if is_lost { Err(TreeError::ConnectionLoss.into()) } else { answer }
        }
        .boxed()
    }

    fn watch<'a>(&'a self, roots: &'a [&'a str]) -> BoxFuture<'a, Result<Watcher, TreeError>> {
        self.tree.watch(roots)
    }

    fn max_multi(&self) -> MultiLimits {
        MultiLimits::ZOOKEEPER
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.tree.close()
    }
}

/// Partitions that broker 1 leads, with broker 2 in sync, and the writes that strike it off.
struct Struck {
    tree: Counting,
    writes: Vec<IsrWrite>,
    _folder: TempDir,
}

fn state() -> PartitionNode {
    PartitionNode {
        leader: Some(LEADER.id),
        leader_epoch: 3,
        partition_epoch: 9,
        isr: vec![LEADER, OTHER],
        elr: Vec::new(),
        offline: Vec::new(),
        min_isr: 1,
        flush: FlushClass::Acked,
        unclean_epoch: -1,
        controller_epoch: 1,
        nonce: 0,
    }
}

fn epoch_node() -> EpochNode {
    EpochNode {
        epoch: LEADER.epoch,
        incarnation: Uuid::from_u128(1),
        prev_epoch: 0,
        clean_since: 1,
        intact_since: 1,
        shutting_down: false,
    }
}

impl Struck {
    async fn off(count: i32) -> Struck {
        let (env, folder) = (Env::real().unwrap(), TempDir::new().unwrap());
        let on = Loop::current();
        let home = EmbeddedHome::open(&env, folder.path().join("tree"), &on).await.unwrap();
        let tree = home.connect().await.unwrap();
        let replicas = Assignment { replicas: vec![1, 2], ..Assignment::default() };
        let assign = AssignNode { partitions: (0..count).map(|_| replicas.clone()).collect() };
        let topic = TopicNode { name: "t".to_owned(), deleting: false };
        let mut ops: Vec<Op> = SKELETON.iter().map(|path| Op::create(*path, "")).collect();
        ops.push(Op::create(NodeKey::BrokerEpoch(1).path(), encode(&epoch_node())));
        ops.push(Op::create(NodeKey::Topic(TOPIC).path(), encode(&topic)));
        ops.push(Op::create(NodeKey::Assign(TOPIC).path(), encode(&assign)));
        ops.push(Op::create(NodeKey::partitions_folder(TOPIC), Bytes::new()));
        let partition =
            |index| Op::create(NodeKey::Partition(TOPIC, index).path(), encode(&state()));
        ops.extend((0..count).map(partition));
        let name = NameNode { topic_id: TOPIC };
        ops.push(Op::create(NodeKey::Name("t".to_owned()).path(), encode(&name)));
        for op in ops {
            tree.multi(vec![op]).await.unwrap();
        }
        let image = ImageWatch::start(Arc::clone(&tree), &on).await.unwrap().current();
        let expected = Expected { leader: LEADER, leader_epoch: 3, version: 0 };
        let struck = |index| isr_change(&image, (TOPIC, index), expected, &[LEADER], &[], 0);
        let writes = (0..count).map(|index| struck(index).unwrap()).collect();
        let tree = Counting { tree, multis: AtomicUsize::new(0), loses: None };
        Struck { tree, writes, _folder: folder }
    }

    async fn write(&self) -> (Vec<Outcome>, usize) {
        let outcomes = write(&self.tree, &self.writes).await;
        (outcomes, self.tree.multis.load(Ordering::Relaxed))
    }

    /// Somebody else writes it as it is.
    async fn overtake(&self, key: NodeKey, data: Bytes) {
        self.tree.tree.set(&key.path(), data, None).await.unwrap();
    }
}

#[tokio::test]
async fn many_changes_are_few_requests() {
    let struck = Struck::off(150).await;
    let (outcomes, multis) = struck.write().await;
    assert_eq!(outcomes, [Outcome::Written(1); 150]);
    assert_eq!(multis, 2, "98 changes and what they check fit into one");
}

#[tokio::test]
async fn where_one_has_moved_on_the_others_are_written_alone() {
    let struck = Struck::off(5).await;
    struck.overtake(NodeKey::Partition(TOPIC, 3), encode(&state())).await;
    let (outcomes, multis) = struck.write().await;
    let mut expected = [Outcome::Written(1); 5];
    expected[3] = Outcome::Overtaken;
    assert_eq!(outcomes, expected);
    assert_eq!(multis, 1 + 5);
}

#[tokio::test]
async fn a_leader_whose_registration_is_over_is_refused_everything() {
    let struck = Struck::off(3).await;
    struck.overtake(NodeKey::BrokerEpoch(1), encode(&epoch_node())).await;
    let (outcomes, _) = struck.write().await;
    assert_eq!(outcomes, [Outcome::Refused; 3]);
    let kept = struck.tree.get(&NodeKey::Partition(TOPIC, 0).path()).await.unwrap();
    assert_eq!(kept.stat.version, 0);
}

#[tokio::test]
async fn a_lost_answer_leaves_all_of_that_multi_unclear() {
    let mut struck = Struck::off(120).await;
    struck.tree.loses = Some(1);
    let (outcomes, _) = struck.write().await;
    assert_eq!(outcomes[..98], [Outcome::Written(1); 98]);
    assert_eq!(outcomes[98..], [Outcome::Unclear; 22]);
}
