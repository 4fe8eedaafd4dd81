//! Connections that break, servers that trail, and what a session may believe meanwhile.

use std::sync::Arc;

use futures_util::future::{join, join_all};
use tokio::time::Instant;

use super::{Fault, Subject, among, caught_up, data, gone, make, make_large, reach, text};
use crate::tree::CreateMode::Ephemeral;
use crate::tree::{EventKind, SessionState, TreeError};

pub(super) async fn a_dropped_connection_suspends(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    let suspended = reach(&*tree, SessionState::Suspended);
    join(suspended, subject.inflict(Fault::Reconnect, tree.session())).await;
    reach(&*tree, SessionState::Connected).await;
}

pub(super) async fn a_reconnect_within_a_session_keeps_ephemerals_and_says_missed(
    subject: Arc<dyn Subject>,
) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    tree.create("/e", data(""), Ephemeral).await.unwrap();
    let mut watcher = tree.watch(&["/a"]).await.unwrap();
    subject.inflict(Fault::Reconnect, tree.session()).await;
    let event = watcher.next().await.unwrap();
    assert_eq!(event.kind, EventKind::Missed, "{event:?}");
    reach(&*tree, SessionState::Connected).await;
    caught_up(&*other).await;
    assert!(other.get("/e").await.is_ok());
    make(&*other, &["/a"]).await;
    assert_eq!(watcher.next().await.unwrap().kind, EventKind::Created);
}

pub(super) async fn what_was_missed_within_a_session_is_read_after_the_reconnect(
    subject: Arc<dyn Subject>,
) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    make(&*tree, &["/d", "/d/gone", "/d/set"]).await;
    let mut watcher = tree.watch(&["/d"]).await.unwrap();
    subject.inflict(Fault::Cut, tree.session()).await;
    reach(&*tree, SessionState::Suspended).await;
    other.delete("/d/gone", None).await.unwrap();
    other.set("/d/set", data("x"), None).await.unwrap();
    make(&*other, &["/d/new"]).await;
    subject.heal().await;
    while watcher.next().await.unwrap().kind != EventKind::Missed {}
    caught_up(&*tree).await;
    assert_eq!(tree.children("/d").await.unwrap(), ["new", "set"]);
    assert_eq!(text(&*tree, "/d/set").await, "x");
    assert_eq!(tree.state_now(), SessionState::Connected, "the session is the same");
    other.set("/d/set", data("y"), None).await.unwrap();
    while watcher.next().await.unwrap().path != "/d/set" {}
}

pub(super) async fn reads_and_writes_wait_for_the_connection(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    subject.inflict(Fault::Cut, tree.session()).await;
    reach(&*tree, SessionState::Suspended).await;
    let work = join(tree.get("/a"), tree.set("/a", data("x"), Some(0)));
    let ((read, written), ()) = join(work, subject.heal()).await;
    assert!(read.is_ok(), "{read:?}");
    assert_eq!(written.unwrap().version, 1);
}

pub(super) async fn reads_go_on_over_a_reconnect(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    let reads = join_all((0..200).map(|_| tree.get("/a")));
    let (read, ()) = join(reads, subject.inflict(Fault::Reconnect, tree.session())).await;
    assert!(read.iter().all(Result::is_ok), "{read:?}");
}

pub(super) async fn a_large_subtree_is_read_whole_over_a_reconnect(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    let all = make_large(&*tree, "/p").await;
    let reconnect = subject.inflict(Fault::Reconnect, tree.session());
    let (found, ()) = join(tree.subtree("/p"), reconnect).await;
    assert_eq!(among(&found.unwrap(), &all), all);
}

pub(super) async fn a_session_without_connection_is_lost_before_it_expires(
    subject: Arc<dyn Subject>,
) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    tree.create("/e", data(""), Ephemeral).await.unwrap();
    subject.inflict(Fault::Cut, tree.session()).await;
    reach(&*tree, SessionState::Lost).await;
    // Lost first: nobody else has been told yet that the session is over.
    caught_up(&*other).await;
    assert!(other.get("/e").await.is_ok());
}

pub(super) async fn a_lost_session_writes_nothing_and_comes_back(subject: Arc<dyn Subject>) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    make(&*tree, &["/a"]).await;
    subject.inflict(Fault::Cut, tree.session()).await;
    reach(&*tree, SessionState::Lost).await;
    assert_eq!(tree.set("/a", data("x"), None).await, Err(TreeError::SessionLost));
    subject.heal().await;
    reach(&*tree, SessionState::Connected).await;
    caught_up(&*other).await;
    assert_eq!(other.get("/a").await.unwrap().stat.version, 0);
    tree.set("/a", data("y"), Some(0)).await.unwrap();
}

pub(super) async fn a_silent_session_expires_and_its_ephemerals_go(subject: Arc<dyn Subject>) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    tree.create("/e", data(""), Ephemeral).await.unwrap();
    subject.inflict(Fault::Cut, tree.session()).await;
    gone(&*other, "/e").await;
    assert_ne!(tree.state_now(), SessionState::Connected, "its owner knew before the others");
    assert_ne!(tree.state_now(), SessionState::Suspended, "its owner knew before the others");
    subject.heal().await;
    reach(&*tree, SessionState::Expired).await;
}

pub(super) async fn a_moved_session_sees_what_it_wrote(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    for n in 0..3 {
        tree.set("/a", data(&n.to_string()), Some(n)).await.unwrap();
        subject.inflict(Fault::Move, tree.session()).await;
        assert_eq!(text(&*tree, "/a").await, n.to_string());
    }
    tree.set("/a", data("end"), Some(3)).await.unwrap();
}

pub(super) async fn a_moved_session_keeps_watching(subject: Arc<dyn Subject>) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    make(&*tree, &["/a"]).await;
    let mut watcher = tree.watch(&["/a"]).await.unwrap();
    subject.inflict(Fault::Move, tree.session()).await;
    assert_eq!(watcher.next().await.unwrap().kind, EventKind::Missed);
    other.set("/a", data("x"), None).await.unwrap();
    assert_eq!(watcher.next().await.unwrap().kind, EventKind::Changed);
    assert_eq!(text(&*tree, "/a").await, "x");
}

pub(super) async fn a_lagging_server_shows_the_past_until_it_has_caught_up(
    subject: Arc<dyn Subject>,
) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    tree.create("/a", data("old"), crate::tree::CreateMode::Persistent).await.unwrap();
    let mut watcher = tree.watch(&["/a"]).await.unwrap();
    subject.inflict(Fault::Lag, tree.session()).await;
    other.set("/a", data("new"), Some(0)).await.unwrap();
    assert_eq!(text(&*other, "/a").await, "new");
    assert_eq!(text(&*tree, "/a").await, "old", "the server trails, or the fault did not fire");
    assert_eq!(watcher.try_next(), None);
    subject.heal().await;
    watcher.next().await.unwrap();
    assert_eq!(text(&*tree, "/a").await, "new");
}

pub(super) async fn a_write_that_relies_on_the_past_is_refused(subject: Arc<dyn Subject>) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    make(&*tree, &["/a"]).await;
    subject.inflict(Fault::Lag, tree.session()).await;
    other.set("/a", data("theirs"), Some(0)).await.unwrap();
    let seen = tree.get("/a").await.unwrap();
    assert_eq!(seen.stat.version, 0, "the server trails, or the fault did not fire");
    let write = tree.set("/a", data("mine"), Some(seen.stat.version));
    let (refused, ()) = join(write, subject.heal()).await;
    let refused = refused.unwrap_err();
    assert!(refused.is_conflict() || refused.is_unclear(), "{refused}");
    caught_up(&*other).await;
    assert_eq!(text(&*other, "/a").await, "theirs");
}

pub(super) async fn a_session_is_lost_where_only_its_server_answers(subject: Arc<dyn Subject>) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    tree.create("/e", data(""), Ephemeral).await.unwrap();
    subject.inflict(Fault::Lag, tree.session()).await;
    let begun = Instant::now();
    assert!(tree.get("/e").await.is_ok(), "its server answers reads, and pings");
    reach(&*tree, SessionState::Lost).await;
    // Nothing that was answered by its server alone has renewed the lease; a sixth is for the machine.
    let timeout = subject.session_timeout().expect("it can have this fault");
    assert!(begun.elapsed() <= timeout * 5 / 6, "lost only after {:?}", begun.elapsed());
    // Known here before the ensemble has given the session up.
    caught_up(&*other).await;
    assert!(other.get("/e").await.is_ok());
    subject.heal().await;
    let mut state = tree.state();
    let over =
        |state: &SessionState| matches!(state, SessionState::Connected | SessionState::Expired);
    state.wait_for(over).await.unwrap();
}
