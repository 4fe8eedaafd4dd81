//! Whose tree it is, and who is in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join;
use uuid::Uuid;

use super::{Fault, Subject, caught_up, data, make, reach};
use crate::nodes::broker::{Endpoint, EpochNode, RegistrationNode};
use crate::registration::{
    Registration, RegistrationError, last_registration, open_cluster, register,
    settled_registration,
};
use crate::restart::{Restart, next_epoch, next_epoch_of_running};
use crate::tree::CreateMode::{Ephemeral, Persistent};
use crate::tree::{SessionState, Tree};

pub(super) async fn an_empty_tree_is_set_up_once(subject: Arc<dyn Subject>) {
    let (one, two) = (subject.connect().await, subject.connect().await);
    let (first, second) = join(open_cluster(&*one, "one"), open_cluster(&*two, "two")).await;
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first, second, "both see the one that came first");
    assert!(one.get("/brokers/epochs").await.is_ok());
}

pub(super) async fn a_tree_of_another_cluster_is_told_by_its_id(subject: Arc<dyn Subject>) {
    let (one, two) = (subject.connect().await, subject.connect().await);
    open_cluster(&*one, "theirs").await.unwrap();
    assert_eq!(open_cluster(&*two, "ours").await.unwrap().cluster_id, "theirs");
}

pub(super) async fn a_live_kafka_tree_is_refused_and_nothing_is_written(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/cluster", "/brokers", "/brokers/ids", "/brokers/topics", "/config"]).await;
    tree.create("/cluster/id", data(r#"{"version":"1","id":"k"}"#), Persistent).await.unwrap();
    tree.create("/controller_epoch", data("7"), Persistent).await.unwrap();
    tree.create("/controller", data(r#"{"version":2,"brokerid":0}"#), Ephemeral).await.unwrap();
    let before = tree.subtree("/").await.unwrap();
    let refused = open_cluster(&*tree, "ours").await.unwrap_err();
    assert!(matches!(refused, RegistrationError::ForeignTree { .. }), "{refused}");
    caught_up(&*tree).await;
    assert_eq!(tree.subtree("/").await.unwrap(), before);
}

pub(super) async fn a_tree_from_the_future_is_refused(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    for text in
        [r#"{"version":1,"format":2,"cluster_id":"x"}"#, r#"{"version":9,"cluster_id":"x"}"#]
    {
        tree.create("/klamm", data(text), Persistent).await.unwrap();
        let refused = open_cluster(&*tree, "ours").await.unwrap_err();
        assert!(refused.to_string().contains("newer"), "{refused}");
        assert_eq!(tree.get("/klamm").await.unwrap().data, data(text));
        tree.delete("/klamm", Some(0)).await.unwrap();
    }
}

pub(super) async fn a_tree_with_garbage_is_refused(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    for text in ["", "{", "\u{0}\u{1}", r#"{"version":1}"#] {
        tree.create("/klamm", data(text), Persistent).await.unwrap();
        let refused = open_cluster(&*tree, "ours").await.unwrap_err();
        assert!(matches!(refused, RegistrationError::Node(_)), "{text:?}: {refused}");
        tree.delete("/klamm", Some(0)).await.unwrap();
    }
}

fn registration(epoch: EpochNode, expected: Option<i32>) -> Registration {
    let endpoint = Endpoint { listener: "PLAINTEXT".into(), host: "h".into(), port: 9092 };
    Registration {
        id: 1,
        node: RegistrationNode {
            endpoints: vec![endpoint],
            security_protocols: BTreeMap::new(),
            inter_broker_listener: "PLAINTEXT".into(),
            rack: None,
            incarnation: epoch.incarnation,
            broker_epoch: epoch.epoch,
            features: BTreeMap::new(),
            log_dir_missing: false,
            offsets_in_tree: false,
        },
        epoch,
        expected,
        earlier_incarnations: vec![],
    }
}

/// The next registration of broker 1 by a new process.
async fn newcomer(tree: &dyn Tree, process: u128) -> Registration {
    open_cluster(tree, "x").await.unwrap();
    let last = last_registration(tree, 1).await.unwrap();
    let last_node = last.as_ref().map(|last| &last.value);
    let epoch = next_epoch(last_node, Uuid::from_u128(process), Restart::Clean);
    registration(epoch, last.map(|last| last.version))
}

pub(super) async fn one_broker_id_belongs_to_one_session(subject: Arc<dyn Subject>) {
    let (one, two) = (subject.connect().await, subject.connect().await);
    open_cluster(&*one, "x").await.unwrap();
    register(&*one, &newcomer(&*one, 1).await).await.unwrap();
    let second = newcomer(&*two, 2).await;
    let registered = register(&*two, &second);
    let first_ends = async {
        // Turns in which the second one would have come in if it did not wait.
        for _ in 0..20 {
            caught_up(&*one).await;
            let holder = one.get("/brokers/ids/1").await.unwrap();
            assert_eq!(holder.stat.owner, Some(one.session()));
        }
        one.close().await;
    };
    let (registered, ()) = join(registered, first_ends).await;
    registered.unwrap();
    let holder = two.get("/brokers/ids/1").await.unwrap();
    assert_eq!(holder.stat.owner, Some(two.session()));
}

pub(super) async fn an_earlier_process_of_the_same_broker_is_replaced(subject: Arc<dyn Subject>) {
    let (one, two) = (subject.connect().await, subject.connect().await);
    open_cluster(&*one, "x").await.unwrap();
    let first = newcomer(&*one, 1).await;
    register(&*one, &first).await.unwrap();
    let mut second = newcomer(&*two, 2).await;
    second.earlier_incarnations = vec![first.epoch.incarnation];
    register(&*two, &second).await.unwrap();
    let holder = two.get("/brokers/ids/1").await.unwrap();
    assert_eq!(holder.stat.owner, Some(two.session()));
}

pub(super) async fn a_broker_registers_again_in_a_new_session(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    open_cluster(&*tree, "x").await.unwrap();
    let first = newcomer(&*tree, 1).await;
    register(&*tree, &first).await.unwrap();
    subject.expire(tree.session()).await;
    reach(&*tree, SessionState::Expired).await;
    let again = subject.connect().await;
    open_cluster(&*again, "x").await.unwrap();
    let last = last_registration(&*again, 1).await.unwrap().unwrap();
    let next = next_epoch_of_running(&last.value);
    assert_eq!((next.epoch, next.incarnation), (2, first.epoch.incarnation));
    register(&*again, &registration(next, Some(last.version))).await.unwrap();
}

pub(super) async fn a_registration_whose_reply_was_lost_stands_once(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    open_cluster(&*tree, "x").await.unwrap();
    let first = newcomer(&*tree, 1).await;
    subject.inflict(Fault::LoseNextReply, tree.session()).await;
    // Whatever reply it was that got lost: in the end there is one registration, epoch 1.
    register(&*tree, &first).await.unwrap();
    let epoch = last_registration(&*tree, 1).await.unwrap().unwrap();
    assert_eq!(epoch.value, first.epoch);
    let holder = tree.get("/brokers/ids/1").await.unwrap();
    assert_eq!(holder.stat.owner, Some(tree.session()));
}

pub(super) async fn a_registration_on_its_way_does_not_follow_a_settled_one(
    subject: Arc<dyn Subject>,
) {
    // R2: it was sent by a process that is gone, and comes when the next one has looked.
    let tree = subject.connect().await;
    open_cluster(&*tree, "x").await.unwrap();
    let first = newcomer(&*tree, 1).await;
    register(&*tree, &first).await.unwrap();
    let on_its_way = newcomer(&*tree, 1).await;
    let quiet = settled_registration(&*tree, 1, &[1]).await.unwrap().unwrap();
    assert_eq!(Some(quiet.version), on_its_way.expected, "nothing was on its way");
    let settled = settled_registration(&*tree, 1, &[1, 2]).await.unwrap().unwrap();
    assert_eq!(settled.value, first.epoch);
    let refused = register(&*tree, &on_its_way).await.unwrap_err();
    assert!(matches!(refused, RegistrationError::Overtaken { id: 1 }), "{refused}");
    let next = next_epoch(Some(&settled.value), Uuid::from_u128(2), Restart::Intact);
    let last = last_registration(&*tree, 1).await.unwrap().unwrap();
    assert_eq!((last.value, last.version), (settled.value, settled.version));
    let mut next = registration(next, Some(settled.version));
    next.earlier_incarnations = vec![first.epoch.incarnation];
    register(&*tree, &next).await.unwrap();
}

pub(super) async fn a_set_up_whose_reply_was_lost_stands_once(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    subject.inflict(Fault::LoseNextReply, tree.session()).await;
    let node = open_cluster(&*tree, "ours").await.unwrap();
    assert_eq!(node.cluster_id, "ours");
    assert_eq!(tree.get("/klamm").await.unwrap().stat.version, 0);
}
