//! Recursive watches.

use std::sync::Arc;
use std::time::Duration;

use super::{Subject, caught_up, data, make, text};
use crate::tree::CreateMode::{Ephemeral, Persistent};
use crate::tree::EventKind::{Changed, Created, Deleted, Missed};
use crate::tree::{EventKind, Op, Tree, WATCH_EVENTS_MAX, Watcher};

async fn expect(watcher: &mut Watcher, kind: EventKind, path: &str) {
    let event = tokio::time::timeout(Duration::from_secs(10), watcher.next()).await;
    let event = event.unwrap_or_else(|_| panic!("no event {kind:?} of {path}"));
    let event = event.expect("the session lives");
    assert_eq!((event.kind, event.path.as_str()), (kind, path));
}

/// A write of another node under watch shows that nothing came before it.
async fn expect_nothing(tree: &dyn Tree, watcher: &mut Watcher, marker: &str) {
    tree.create(marker, data(""), Persistent).await.unwrap();
    expect(watcher, Created, marker).await;
}

pub(super) async fn a_watch_tells_of_creation_change_and_deletion(subject: Arc<dyn Subject>) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    let mut watcher = tree.watch(&["/a"]).await.unwrap();
    make(&*other, &["/a"]).await;
    expect(&mut watcher, Created, "/a").await;
    other.set("/a", data("x"), None).await.unwrap();
    expect(&mut watcher, Changed, "/a").await;
    other.delete("/a", None).await.unwrap();
    expect(&mut watcher, Deleted, "/a").await;
}

pub(super) async fn a_watch_tells_of_what_happens_below(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a", "/a/b"]).await;
    let mut watcher = tree.watch(&["/a"]).await.unwrap();
    make(&*tree, &["/a/b/c"]).await;
    expect(&mut watcher, Created, "/a/b/c").await;
    tree.set("/a/b/c", data("x"), None).await.unwrap();
    expect(&mut watcher, Changed, "/a/b/c").await;
    tree.delete("/a/b/c", None).await.unwrap();
    expect(&mut watcher, Deleted, "/a/b/c").await;
}

pub(super) async fn a_watch_does_not_tell_of_siblings(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a", "/ab", "/b"]).await;
    let mut watcher = tree.watch(&["/a"]).await.unwrap();
    tree.set("/ab", data("x"), None).await.unwrap();
    tree.set("/b", data("x"), None).await.unwrap();
    make(&*tree, &["/ab/c"]).await;
    expect_nothing(&*tree, &mut watcher, "/a/marker").await;
}

pub(super) async fn a_watch_stands_before_the_node_exists(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    let mut watcher = tree.watch(&["/a/b"]).await.unwrap();
    make(&*tree, &["/a", "/a/b", "/a/b/c"]).await;
    expect(&mut watcher, Created, "/a/b").await;
    expect(&mut watcher, Created, "/a/b/c").await;
}

pub(super) async fn a_watch_goes_on_after_the_first_event(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    let mut watcher = tree.watch(&["/a"]).await.unwrap();
    for version in 0..5 {
        tree.set("/a", data("x"), Some(version)).await.unwrap();
        expect(&mut watcher, Changed, "/a").await;
    }
}

pub(super) async fn a_watch_of_several_roots(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    let mut watcher = tree.watch(&["/a", "/b"]).await.unwrap();
    make(&*tree, &["/c", "/b", "/a"]).await;
    expect(&mut watcher, Created, "/b").await;
    expect(&mut watcher, Created, "/a").await;
}

pub(super) async fn a_watch_tells_of_every_node_of_a_multi(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/r", "/r/old", "/r/set"]).await;
    let mut watcher = tree.watch(&["/r"]).await.unwrap();
    let ops = vec![
        Op::check("/r", 0),
        Op::create("/r/new", ""),
        Op::set("/r/set", "", 0),
        Op::delete("/r/old", 0),
    ];
    tree.multi(ops).await.unwrap();
    expect(&mut watcher, Created, "/r/new").await;
    expect(&mut watcher, Changed, "/r/set").await;
    expect(&mut watcher, Deleted, "/r/old").await;
}

pub(super) async fn a_watch_tells_nothing_of_a_multi_that_failed(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/r"]).await;
    let mut watcher = tree.watch(&["/r"]).await.unwrap();
    let ops = vec![Op::set("/r", "", 0), Op::check("/r", 0)];
    tree.multi(ops).await.unwrap_err();
    expect_nothing(&*tree, &mut watcher, "/r/marker").await;
}

pub(super) async fn events_carry_their_session(subject: Arc<dyn Subject>) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    let mut watcher = tree.watch(&["/a"]).await.unwrap();
    make(&*other, &["/a"]).await;
    assert_eq!(watcher.next().await.unwrap().session, tree.session());
}

pub(super) async fn own_writes_are_seen_too(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    let mut watcher = tree.watch(&["/"]).await.unwrap();
    make(&*tree, &["/a"]).await;
    loop {
        let event = watcher.next().await.unwrap();
        if (event.kind, event.path.as_str()) == (Created, "/a") {
            break;
        }
    }
}

pub(super) async fn the_end_of_a_session_is_seen_by_others(subject: Arc<dyn Subject>) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    tree.create("/e", data(""), Ephemeral).await.unwrap();
    caught_up(&*other).await;
    let mut watcher = other.watch(&["/e"]).await.unwrap();
    subject.expire(tree.session()).await;
    expect(&mut watcher, Deleted, "/e").await;
}

pub(super) async fn a_new_value_is_read_after_the_event(subject: Arc<dyn Subject>) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    make(&*other, &["/a"]).await;
    caught_up(&*tree).await;
    let mut watcher = tree.watch(&["/a"]).await.unwrap();
    for n in 0..10 {
        other.set("/a", data(&n.to_string()), None).await.unwrap();
        expect(&mut watcher, Changed, "/a").await;
        assert_eq!(text(&*tree, "/a").await, n.to_string());
    }
}

pub(super) async fn a_watch_ends_with_its_session(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    let mut watcher = tree.watch(&["/a"]).await.unwrap();
    subject.expire(tree.session()).await;
    assert_eq!(watcher.next().await, None);
    assert_eq!(watcher.next_batch().await, None);
}

pub(super) async fn events_of_an_ended_session_are_dropped(subject: Arc<dyn Subject>) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    let mut watcher = tree.watch(&["/a"]).await.unwrap();
    make(&*other, &["/a"]).await;
    subject.expire(tree.session()).await;
    assert_eq!(watcher.next().await, None, "what a session missed, the next one reads");
}

pub(super) async fn a_new_session_reads_what_the_old_one_missed(subject: Arc<dyn Subject>) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    make(&*other, &["/a"]).await;
    let _watcher = tree.watch(&["/a"]).await.unwrap();
    subject.expire(tree.session()).await;
    other.set("/a", data("x"), None).await.unwrap();
    let again = subject.connect().await;
    let mut watcher = again.watch(&["/a"]).await.unwrap();
    // A write of its own makes a session see everything before.
    make(&*again, &["/own"]).await;
    assert_eq!(text(&*again, "/a").await, "x");
    other.set("/a", data("y"), None).await.unwrap();
    expect(&mut watcher, Changed, "/a").await;
}

pub(super) async fn a_dropped_watch_leaves_others_alone(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    let mut stays = tree.watch(&["/a"]).await.unwrap();
    for version in 0..5 {
        // As one that only waits for a first event.
        let mut once = tree.watch(&["/a"]).await.unwrap();
        tree.set("/a", data("x"), Some(version)).await.unwrap();
        expect(&mut once, Changed, "/a").await;
        drop(once);
        expect(&mut stays, Changed, "/a").await;
    }
    make(&*tree, &["/a/b"]).await;
    expect(&mut stays, Created, "/a/b").await;
}

pub(super) async fn watches_of_one_node_are_all_told(subject: Arc<dyn Subject>) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    let mut above = tree.watch(&["/"]).await.unwrap();
    let mut same = tree.watch(&["/a"]).await.unwrap();
    let mut again = tree.watch(&["/a"]).await.unwrap();
    let mut elsewhere = other.watch(&["/a"]).await.unwrap();
    make(&*tree, &["/a"]).await;
    for watcher in [&mut above, &mut same, &mut again, &mut elsewhere] {
        expect(watcher, Created, "/a").await;
    }
}

pub(super) async fn a_watch_of_nested_roots_tells_once(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    let mut watcher = tree.watch(&["/a", "/a/b", "/a"]).await.unwrap();
    make(&*tree, &["/a/b", "/a/c"]).await;
    expect(&mut watcher, Created, "/a/b").await;
    expect(&mut watcher, Created, "/a/c").await;
}

pub(super) async fn too_many_events_become_one_that_says_so(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    if tree.max_multi().ops <= WATCH_EVENTS_MAX {
        return;
    }
    make(&*tree, &["/a"]).await;
    let mut watcher = tree.watch(&["/a"]).await.unwrap();
    let set = Op::Set { path: "/a".into(), data: data(""), expected: None };
    tree.multi(vec![set; WATCH_EVENTS_MAX + 10]).await.unwrap();
    expect(&mut watcher, Missed, "/a").await;
    assert_eq!(watcher.try_next(), None);
    tree.set("/a", data(""), None).await.unwrap();
    expect(&mut watcher, Changed, "/a").await;
}
