//! Sessions and what ends with them.

use std::sync::Arc;

use super::{Subject, caught_up, data, make, no_node, reach, text};
use crate::tree::CreateMode::{Ephemeral, Persistent};
use crate::tree::{Op, OpResult, SessionState, TreeError};

pub(super) async fn a_session_begins_connected(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    assert_eq!(*tree.state().borrow(), SessionState::Connected);
}

pub(super) async fn sessions_have_ids_of_their_own(subject: Arc<dyn Subject>) {
    let (one, two) = (subject.connect().await, subject.connect().await);
    assert_ne!(one.session(), two.session());
    let first = one.session();
    one.close().await;
    assert_ne!(subject.connect().await.session(), first);
}

pub(super) async fn an_ephemeral_node_names_its_owner(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    let stat = tree.create("/e", data(""), Ephemeral).await.unwrap();
    assert_eq!(stat.owner, Some(tree.session()));
    let other = subject.connect().await;
    caught_up(&*other).await;
    assert_eq!(other.get("/e").await.unwrap().stat.owner, Some(tree.session()));
}

pub(super) async fn a_persistent_node_has_no_owner(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/p"]).await;
    assert_eq!(tree.get("/p").await.unwrap().stat.owner, None);
}

pub(super) async fn an_ephemeral_node_goes_with_its_session(subject: Arc<dyn Subject>) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    make(&*tree, &["/d"]).await;
    tree.create("/d/e", data(""), Ephemeral).await.unwrap();
    tree.close().await;
    caught_up(&*other).await;
    assert_eq!(other.get("/d/e").await, Err(no_node("/d/e")));
    assert_eq!(other.children("/d").await, Ok(vec![]));
}

pub(super) async fn an_ephemeral_node_goes_when_its_session_expires(subject: Arc<dyn Subject>) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    tree.create("/e", data(""), Ephemeral).await.unwrap();
    subject.expire(tree.session()).await;
    caught_up(&*other).await;
    assert_eq!(other.get("/e").await, Err(no_node("/e")));
}

pub(super) async fn a_persistent_node_outlives_its_session(subject: Arc<dyn Subject>) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    make(&*tree, &["/p"]).await;
    tree.close().await;
    caught_up(&*other).await;
    assert!(other.get("/p").await.is_ok());
}

pub(super) async fn an_ephemeral_node_can_have_no_children(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    tree.create("/e", data(""), Ephemeral).await.unwrap();
    for mode in [Persistent, Ephemeral] {
        let refused = tree.create("/e/c", data(""), mode).await.unwrap_err();
        let expected = matches!(refused, TreeError::NoChildrenForEphemerals { .. });
        assert!(expected, "{refused}");
    }
}

pub(super) async fn an_ephemeral_node_can_be_set_and_deleted_by_others(subject: Arc<dyn Subject>) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    tree.create("/e", data(""), Ephemeral).await.unwrap();
    let stat = other.set("/e", data("x"), Some(0)).await.unwrap();
    assert_eq!((stat.version, stat.owner), (1, Some(tree.session())));
    other.delete("/e", Some(1)).await.unwrap();
    tree.create("/e", data("again"), Ephemeral).await.unwrap();
    assert_eq!(text(&*tree, "/e").await, "again");
}

pub(super) async fn another_session_cannot_take_an_ephemeral_name_before_it_is_gone(
    subject: Arc<dyn Subject>,
) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    tree.create("/e", data(""), Ephemeral).await.unwrap();
    let refused = other.create("/e", data(""), Ephemeral).await.unwrap_err();
    assert_eq!(refused, TreeError::NodeExists { path: "/e".into() });
    subject.expire(tree.session()).await;
    let stat = other.create("/e", data(""), Ephemeral).await.unwrap();
    assert_eq!(stat.owner, Some(other.session()));
}

pub(super) async fn an_expired_session_is_told_and_serves_nothing(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    subject.expire(tree.session()).await;
    reach(&*tree, SessionState::Expired).await;
    assert_eq!(tree.state_now(), SessionState::Expired);
    assert_eq!(tree.get("/a").await, Err(TreeError::SessionExpired));
    assert_eq!(tree.children("/").await, Err(TreeError::SessionExpired));
    assert_eq!(tree.set("/a", data(""), None).await, Err(TreeError::SessionExpired));
    assert_eq!(tree.watch(&["/a"]).await.map(|_| ()), Err(TreeError::SessionExpired));
}

pub(super) async fn closing_a_session_leaves_others_alone(subject: Arc<dyn Subject>) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    other.create("/e", data(""), Ephemeral).await.unwrap();
    tree.close().await;
    assert_eq!(*other.state().borrow(), SessionState::Connected);
    assert!(other.get("/e").await.is_ok());
}

pub(super) async fn a_node_deleted_and_made_by_another_session_survives_the_first(
    subject: Arc<dyn Subject>,
) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    tree.create("/e", data(""), Ephemeral).await.unwrap();
    other.multi(vec![Op::delete("/e", 0), Op::create_ephemeral("/e", "")]).await.unwrap();
    tree.close().await;
    assert_eq!(other.get("/e").await.unwrap().stat.owner, Some(other.session()));
}

pub(super) async fn an_ephemeral_and_a_persistent_node_in_one_multi(subject: Arc<dyn Subject>) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    make(&*tree, &["/epoch"]).await;
    let ops = vec![Op::create_ephemeral("/id", ""), Op::set("/epoch", "1", 0)];
    let results = tree.multi(ops.clone()).await.unwrap();
    assert!(matches!(results[..], [OpResult::Created(_), OpResult::Set(_)]), "{results:?}");
    other.multi(ops).await.unwrap_err();
    tree.close().await;
    caught_up(&*other).await;
    assert_eq!(other.get("/id").await, Err(no_node("/id")));
    assert_eq!(text(&*other, "/epoch").await, "1");
}
