//! All or nothing.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;

use super::{Subject, bad_version, data, make, no_node, text};
use crate::tree::{MultiError, Op, OpResult, Stat, TreeError};

pub(super) async fn a_multi_does_all_of_it(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/old", "/set"]).await;
    let ops = vec![
        Op::check("/set", 0),
        Op::create("/new", "n"),
        Op::set("/set", "s", 0),
        Op::delete("/old", 0),
    ];
    tree.multi(ops).await.unwrap();
    assert_eq!((text(&*tree, "/new").await, text(&*tree, "/set").await), ("n".into(), "s".into()));
    assert_eq!(tree.get("/old").await, Err(no_node("/old")));
}

pub(super) async fn a_multi_answers_each_operation(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    let ops =
        vec![Op::check("/a", 0), Op::set("/a", "", 0), Op::create("/b", ""), Op::delete("/b", 0)];
    let stat = |version| Stat { version, owner: None };
    let expected =
        [OpResult::Checked, OpResult::Set(stat(1)), OpResult::Created(stat(0)), OpResult::Deleted];
    assert_eq!(tree.multi(ops).await.unwrap(), expected);
}

pub(super) async fn a_multi_that_fails_does_nothing(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a", "/b"]).await;
    let ops = vec![
        Op::set("/a", "x", 0),
        Op::create("/c", ""),
        Op::delete("/b", 0),
        Op::check("/missing", 0),
    ];
    tree.multi(ops).await.unwrap_err();
    assert_eq!(text(&*tree, "/a").await, "");
    assert_eq!(tree.get("/a").await.unwrap().stat.version, 0);
    assert!(tree.get("/b").await.is_ok());
    assert_eq!(tree.get("/c").await, Err(no_node("/c")));
}

pub(super) async fn a_multi_names_the_first_operation_that_failed(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    let ops = vec![Op::set("/a", "", 0), Op::set("/a", "", 7), Op::delete("/missing", 0)];
    let failed = tree.multi(ops).await.unwrap_err();
    assert_eq!(failed, MultiError::at(1, bad_version("/a", 7)));
}

pub(super) async fn later_operations_see_earlier_ones(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    let ops = vec![
        Op::create("/a", ""),
        Op::create("/a/b", ""),
        Op::check("/a/b", 0),
        Op::set("/a/b", "x", 0),
        Op::check("/a/b", 1),
    ];
    tree.multi(ops).await.unwrap();
    assert_eq!(text(&*tree, "/a/b").await, "x");
}

pub(super) async fn a_check_of_a_version_holds_or_fails(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    tree.set("/a", data(""), None).await.unwrap();
    tree.multi(vec![Op::check("/a", 1)]).await.unwrap();
    tree.multi(vec![Op::Check { path: "/a".into(), expected: None }]).await.unwrap();
    let failed = tree.multi(vec![Op::check("/a", 0)]).await.unwrap_err();
    assert_eq!(failed, MultiError::at(0, bad_version("/a", 0)));
}

pub(super) async fn a_check_alone_writes_nothing(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    tree.multi(vec![Op::check("/a", 0)]).await.unwrap();
    assert_eq!(tree.get("/a").await.unwrap().stat.version, 0);
}

pub(super) async fn a_check_of_a_missing_node_fails(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    let failed = tree.multi(vec![Op::check("/a", 0)]).await.unwrap_err();
    assert_eq!(failed, MultiError::at(0, no_node("/a")));
}

pub(super) async fn a_multi_can_set_one_node_twice(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    tree.multi(vec![Op::set("/a", "x", 0), Op::set("/a", "y", 1)]).await.unwrap();
    assert_eq!(text(&*tree, "/a").await, "y");
    assert_eq!(tree.get("/a").await.unwrap().stat.version, 2);
}

pub(super) async fn a_multi_can_create_and_delete(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    tree.multi(vec![Op::create("/a", ""), Op::delete("/a", 0)]).await.unwrap();
    assert_eq!(tree.get("/a").await, Err(no_node("/a")));
}

pub(super) async fn a_multi_can_replace_a_node(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    tree.set("/a", data("x"), None).await.unwrap();
    tree.multi(vec![Op::delete("/a", 1), Op::create("/a", "y")]).await.unwrap();
    let node = tree.get("/a").await.unwrap();
    assert_eq!((node.data, node.stat.version), (data("y"), 0));
}

pub(super) async fn an_empty_multi_does_nothing(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    assert_eq!(tree.multi(vec![]).await, Ok(vec![]));
}

pub(super) async fn a_multi_of_the_largest_size_fits(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    // Enough for every home, and more than one packet.
    let ops = tree.max_multi().ops.min(5_000);
    let multi = (0..ops).map(|n| Op::create(format!("/n{n}"), "")).collect();
    assert_eq!(tree.multi(multi).await.unwrap().len(), ops);
}

pub(super) async fn a_multi_of_too_many_operations_is_refused(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    let ops = vec![Op::Check { path: "/a".into(), expected: None }; tree.max_multi().ops + 1];
    let failed = tree.multi(ops).await.unwrap_err();
    assert!(matches!(failed.error, TreeError::TooLarge { .. }), "{failed}");
}

pub(super) async fn a_multi_of_too_many_bytes_is_refused(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    let part = Bytes::from(vec![1; 128 * 1024]);
    let count = tree.max_multi().bytes / part.len() + 1;
    let ops = (0..count).map(|n| Op::create(format!("/n{n}"), part.clone())).collect();
    let failed = tree.multi(ops).await.unwrap_err();
    assert!(matches!(failed.error, TreeError::TooLarge { .. }), "{failed}");
    assert_eq!(tree.get("/n0").await, Err(no_node("/n0")));
}

pub(super) async fn a_fence_stops_a_writer_that_was_overtaken(subject: Arc<dyn Subject>) {
    let (old, new) = (subject.connect().await, subject.connect().await);
    make(&*old, &["/epoch", "/state"]).await;
    let write = |text: &'static str, epoch| {
        vec![
            Op::check("/epoch", epoch),
            Op::Set { path: "/state".into(), data: data(text), expected: None },
        ]
    };
    old.multi(write("old", 0)).await.unwrap();
    new.set("/epoch", data(""), Some(0)).await.unwrap();
    new.multi(write("new", 1)).await.unwrap();
    let failed = old.multi(write("old again", 0)).await.unwrap_err();
    assert_eq!(failed, MultiError::at(0, bad_version("/epoch", 0)));
    assert_eq!(text(&*new, "/state").await, "new");
}

pub(super) async fn concurrent_multis_do_not_mix(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a", "/b"]).await;
    let set =
        |path: &str, text: &str| Op::Set { path: path.into(), data: data(text), expected: None };
    let writers = (0..8).map(|n| {
        let ops = vec![set("/a", &n.to_string()), set("/b", &n.to_string())];
        tree.multi(ops)
    });
    assert!(join_all(writers).await.iter().all(Result::is_ok));
    assert_eq!(text(&*tree, "/a").await, text(&*tree, "/b").await);
    assert_eq!(tree.get("/a").await.unwrap().stat.version, 8);
}
