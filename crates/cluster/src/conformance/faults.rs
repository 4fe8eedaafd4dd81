//! Answers that are lost, quorums that are lost, restarts.

use std::sync::Arc;

use super::{Fault, Subject, caught_up, data, gone, make, no_node, reach, text};
use crate::tree::CreateMode::{Ephemeral, Persistent};
use crate::tree::{Op, SessionState, TreeError};

pub(super) async fn a_reply_lost_after_the_write_is_unclear_and_the_write_stands(
    subject: Arc<dyn Subject>,
) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    make(&*tree, &["/a"]).await;
    subject.inflict(Fault::LoseNextReply, tree.session()).await;
    let lost = tree.set("/a", data("x"), Some(0)).await.unwrap_err();
    assert!(lost.is_unclear(), "{lost}");
    other.set("/a", data("y"), Some(1)).await.unwrap();
}

pub(super) async fn a_lost_reply_is_settled_by_reading_the_nonce(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/epoch"]).await;
    let ops = vec![Op::create_ephemeral("/office", "nonce 7"), Op::set("/epoch", "1", 0)];
    subject.inflict(Fault::LoseNextReply, tree.session()).await;
    let lost = tree.multi(ops.clone()).await.unwrap_err();
    assert!(lost.error.is_unclear(), "{lost}");
    let again = tree.multi(ops).await.unwrap_err();
    assert!(again.error.is_conflict(), "{again}");
    assert_eq!(text(&*tree, "/office").await, "nonce 7");
}

pub(super) async fn an_unclear_creation_is_not_repeated_blindly(subject: Arc<dyn Subject>) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    subject.inflict(Fault::LoseNextReply, tree.session()).await;
    let lost = tree.create("/a", data("x"), Persistent).await.unwrap_err();
    assert!(lost.is_unclear(), "{lost}");
    caught_up(&*other).await;
    // Made once: version 0, as it was sent.
    let node = other.get("/a").await.unwrap();
    assert_eq!((node.data, node.stat.version), (data("x"), 0));
    other.delete("/a", Some(0)).await.unwrap();
    caught_up(&*tree).await;
    assert_eq!(tree.get("/a").await, Err(no_node("/a")), "nobody sent it again");
}

pub(super) async fn without_a_quorum_nothing_is_written(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    subject.inflict(Fault::QuorumLoss, tree.session()).await;
    let refused = tree.create("/b", data(""), Persistent).await.unwrap_err();
    subject.heal().await;
    let again = subject.connect().await;
    make(&*again, &["/c"]).await;
    if !refused.is_unclear() {
        assert_eq!(again.get("/b").await, Err(no_node("/b")), "{refused}");
    }
}

pub(super) async fn an_ended_session_may_still_be_listed_and_is_known_by_its_owner(
    subject: Arc<dyn Subject>,
) {
    let tree = subject.connect().await;
    tree.create("/e", data(""), Ephemeral).await.unwrap();
    subject.inflict(Fault::QuorumLoss, tree.session()).await;
    reach(&*tree, SessionState::Expired).await;
    subject.heal().await;
    let again = subject.connect().await;
    caught_up(&*again).await;
    // Nobody counted the time: the ensemble believes in the old session for a while.
    if let Some(node) = again.find("/e").await.unwrap() {
        assert_eq!(node.stat.owner, Some(tree.session()));
        assert_ne!(node.stat.owner, Some(again.session()));
    }
    gone(&*again, "/e").await;
    again.create("/e", data(""), Ephemeral).await.unwrap();
}

pub(super) async fn what_was_confirmed_survives_a_restart(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a", "/a/b", "/gone"]).await;
    tree.set("/a/b", data("x"), None).await.unwrap();
    tree.delete("/gone", None).await.unwrap();
    subject.inflict(Fault::Restart, tree.session()).await;
    let again = subject.connect().await;
    caught_up(&*again).await;
    assert_eq!(text(&*again, "/a/b").await, "x");
    assert_eq!(again.get("/gone").await, Err(no_node("/gone")));
}

pub(super) async fn ephemerals_live_as_long_as_their_session_over_a_restart(
    subject: Arc<dyn Subject>,
) {
    let tree = subject.connect().await;
    tree.create("/e", data(""), Ephemeral).await.unwrap();
    subject.inflict(Fault::Restart, tree.session()).await;
    let again = subject.connect().await;
    match tree.get("/e").await {
        Ok(node) => assert_eq!(node.stat.owner, Some(tree.session()), "the session goes on"),
        Err(over) => {
            let expected = matches!(over, TreeError::SessionExpired | TreeError::ConnectionLoss);
            assert!(expected, "{over}");
            gone(&*again, "/e").await;
        }
    }
}

pub(super) async fn versions_survive_a_restart(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    for _ in 0..3 {
        tree.set("/a", data(""), None).await.unwrap();
    }
    subject.inflict(Fault::Restart, tree.session()).await;
    let again = subject.connect().await;
    caught_up(&*again).await;
    assert_eq!(again.get("/a").await.unwrap().stat.version, 3);
    again.set("/a", data(""), Some(3)).await.unwrap();
}
