//! What a home does when the world fails it.

use std::sync::Arc;

use super::{Fault, Subject, data, make, no_node, text};
use crate::tree::CreateMode::{Ephemeral, Persistent};
use crate::tree::{EventKind, Op, SessionState, TreeError};

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

pub(super) async fn a_reconnect_within_a_session_keeps_ephemerals_and_says_missed(
    subject: Arc<dyn Subject>,
) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    tree.create("/e", data(""), Ephemeral).await.unwrap();
    let mut watcher = tree.watch(&["/a"]).await.unwrap();
    subject.inflict(Fault::Reconnect, tree.session()).await;
    let mut state = tree.state();
    state.wait_for(|state| *state == SessionState::Connected).await.unwrap();
    assert!(other.get("/e").await.is_ok());
    let event = watcher.next().await.unwrap();
    assert_eq!(event.kind, EventKind::Missed, "{event:?}");
    make(&*other, &["/a"]).await;
    assert_eq!(watcher.next().await.unwrap().kind, EventKind::Created);
}

pub(super) async fn a_dropped_connection_suspends(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    let mut state = tree.state();
    let seen = tokio::spawn(async move {
        state.wait_for(|state| *state == SessionState::Suspended).await.is_ok()
    });
    subject.inflict(Fault::Reconnect, tree.session()).await;
    assert!(seen.await.unwrap());
}

pub(super) async fn without_a_quorum_nothing_is_written(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    subject.inflict(Fault::QuorumLoss, tree.session()).await;
    let refused = tree.create("/b", data(""), Persistent).await;
    assert!(refused.is_err());
    subject.heal().await;
    let again = subject.connect().await;
    make(&*again, &["/c"]).await;
}

pub(super) async fn what_was_confirmed_survives_a_restart(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a", "/a/b", "/gone"]).await;
    tree.set("/a/b", data("x"), None).await.unwrap();
    tree.delete("/gone", None).await.unwrap();
    subject.inflict(Fault::Restart, tree.session()).await;
    let again = subject.connect().await;
    assert_eq!(text(&*again, "/a/b").await, "x");
    assert_eq!(again.get("/gone").await, Err(no_node("/gone")));
}

pub(super) async fn ephemerals_do_not_survive_a_restart(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    tree.create("/e", data(""), Ephemeral).await.unwrap();
    subject.inflict(Fault::Restart, tree.session()).await;
    let again = subject.connect().await;
    assert_eq!(again.get("/e").await, Err(no_node("/e")));
    let dead = tree.get("/e").await.unwrap_err();
    assert!(matches!(dead, TreeError::SessionExpired | TreeError::ConnectionLoss), "{dead}");
}

pub(super) async fn versions_survive_a_restart(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    for _ in 0..3 {
        tree.set("/a", data(""), None).await.unwrap();
    }
    subject.inflict(Fault::Restart, tree.session()).await;
    let again = subject.connect().await;
    assert_eq!(again.get("/a").await.unwrap().stat.version, 3);
    again.set("/a", data(""), Some(3)).await.unwrap();
}
