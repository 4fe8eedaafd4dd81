//! One node at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::future::{join, join_all};

use super::{Subject, among, bad_version, caught_up, data, make, make_large, no_node, text};
use crate::tree::CreateMode::Persistent;
use crate::tree::{NODE_BYTES_MAX, Stat, TreeError};

pub(super) async fn a_new_tree_has_only_a_root(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    let children = tree.children("/").await.unwrap();
    assert!(children.iter().all(|name| name == "zookeeper"), "{children:?}");
}

pub(super) async fn a_node_is_created_at_version_0_and_read_back(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    let stat = tree.create("/a", data("x"), Persistent).await.unwrap();
    assert_eq!(stat, Stat { version: 0, owner: None });
    let node = tree.get("/a").await.unwrap();
    assert_eq!((node.data, node.stat), (data("x"), stat));
}

pub(super) async fn a_node_may_be_empty_or_as_large_as_allowed(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/empty"]).await;
    assert!(tree.get("/empty").await.unwrap().data.is_empty());
    // A multi that carries it has to fit as well.
    let size = NODE_BYTES_MAX.min(tree.max_multi().bytes - 1024);
    let large = Bytes::from(vec![7; size]);
    tree.create("/large", large.clone(), Persistent).await.unwrap();
    assert_eq!(tree.get("/large").await.unwrap().data, large);
}

pub(super) async fn a_larger_node_is_refused(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    let large = Bytes::from(vec![7; NODE_BYTES_MAX + 1]);
    let refused = tree.create("/a", large.clone(), Persistent).await.unwrap_err();
    assert!(matches!(refused, TreeError::TooLarge { .. }), "{refused}");
    make(&*tree, &["/a"]).await;
    let refused = tree.set("/a", large, None).await.unwrap_err();
    assert!(matches!(refused, TreeError::TooLarge { .. }), "{refused}");
    assert!(tree.get("/a").await.unwrap().data.is_empty());
}

pub(super) async fn a_node_needs_its_parent(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    let refused = tree.create("/a/b", data(""), Persistent).await.unwrap_err();
    assert!(matches!(refused, TreeError::NoNode { .. }), "{refused}");
    assert_eq!(tree.get("/a/b").await, Err(no_node("/a/b")));
}

pub(super) async fn a_node_is_not_created_twice(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    tree.create("/a", data("first"), Persistent).await.unwrap();
    let refused = tree.create("/a", data("second"), Persistent).await.unwrap_err();
    assert_eq!(refused, TreeError::NodeExists { path: "/a".into() });
    assert_eq!(text(&*tree, "/a").await, "first");
}

pub(super) async fn illegal_paths_are_refused(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    for path in ["", "a", "/a/", "//a", "/.", "/a/..", "/a\0b", "/\u{1f600}"] {
        let invalid = |error: &TreeError| matches!(error, TreeError::InvalidPath { .. });
        assert!(tree.get(path).await.is_err_and(|e| invalid(&e)), "get {path:?}");
        assert!(tree.children(path).await.is_err_and(|e| invalid(&e)), "children {path:?}");
        let made = tree.create(path, data(""), Persistent).await;
        assert!(made.is_err_and(|e| invalid(&e)), "create {path:?}");
        assert!(tree.watch(&[path]).await.is_err_and(|e| invalid(&e)), "watch {path:?}");
    }
}

pub(super) async fn a_node_that_is_not_there_cannot_be_read_set_or_deleted(
    subject: Arc<dyn Subject>,
) {
    let tree = subject.connect().await;
    assert_eq!(tree.get("/a").await, Err(no_node("/a")));
    assert_eq!(tree.children("/a").await, Err(no_node("/a")));
    assert_eq!(tree.set("/a", data(""), None).await, Err(no_node("/a")));
    assert_eq!(tree.set("/a", data(""), Some(0)).await, Err(no_node("/a")));
    assert_eq!(tree.delete("/a", None).await, Err(no_node("/a")));
}

pub(super) async fn set_counts_the_version_up(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    for version in 0..3 {
        let stat = tree.set("/a", data("x"), Some(version)).await.unwrap();
        assert_eq!(stat.version, version + 1);
        assert_eq!(tree.get("/a").await.unwrap().stat, stat);
    }
}

pub(super) async fn set_at_another_version_changes_nothing(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    tree.set("/a", data("x"), Some(0)).await.unwrap();
    for wrong in [0, 2] {
        assert_eq!(tree.set("/a", data("y"), Some(wrong)).await, Err(bad_version("/a", wrong)));
    }
    assert_eq!(text(&*tree, "/a").await, "x");
    assert_eq!(tree.get("/a").await.unwrap().stat.version, 1);
}

pub(super) async fn set_at_any_version(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    tree.set("/a", data("x"), None).await.unwrap();
    assert_eq!(tree.set("/a", data("y"), None).await.unwrap().version, 2);
}

pub(super) async fn delete_removes_a_node(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a", "/a/b"]).await;
    tree.delete("/a/b", Some(0)).await.unwrap();
    assert_eq!(tree.get("/a/b").await, Err(no_node("/a/b")));
    assert_eq!(tree.children("/a").await, Ok(vec![]));
}

pub(super) async fn delete_at_another_version_changes_nothing(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    assert_eq!(tree.delete("/a", Some(1)).await, Err(bad_version("/a", 1)));
    assert!(tree.get("/a").await.is_ok());
}

pub(super) async fn a_node_with_children_is_not_deleted(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a", "/a/b"]).await;
    assert_eq!(tree.delete("/a", None).await, Err(TreeError::NotEmpty { path: "/a".into() }));
    assert!(tree.get("/a/b").await.is_ok());
}

pub(super) async fn the_root_stays(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    assert!(tree.delete("/", None).await.is_err());
    assert!(tree.create("/", data(""), Persistent).await.is_err());
    assert!(tree.get("/").await.is_ok());
}

pub(super) async fn a_node_made_anew_begins_at_version_0(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/a"]).await;
    tree.set("/a", data("x"), None).await.unwrap();
    tree.delete("/a", Some(1)).await.unwrap();
    let stat = tree.create("/a", data("y"), Persistent).await.unwrap();
    assert_eq!(stat.version, 0, "a version is a token, not an identity");
}

pub(super) async fn children_are_names_in_order(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/p", "/p/c", "/p/a", "/p/b", "/p/a/x"]).await;
    assert_eq!(tree.children("/p").await.unwrap(), ["a", "b", "c"]);
}

pub(super) async fn children_of_a_leaf_are_none(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/p"]).await;
    assert_eq!(tree.children("/p").await, Ok(vec![]));
}

pub(super) async fn find_tells_missing_from_failing(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/p"]).await;
    assert!(tree.find("/p").await.unwrap().is_some());
    assert!(tree.find("/q").await.unwrap().is_none());
    assert!(tree.find("q").await.is_err());
}

pub(super) async fn subtree_holds_a_node_and_all_below(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/p", "/p/a", "/p/a/x", "/p/b", "/q"]).await;
    let found: Vec<String> =
        tree.subtree("/p").await.unwrap().into_iter().map(|(path, _)| path).collect();
    assert_eq!(found, ["/p", "/p/a", "/p/a/x", "/p/b"]);
    let all = tree.subtree("/").await.unwrap();
    assert!(["/", "/p/a/x", "/q"].iter().all(|path| all.iter().any(|(found, _)| found == path)));
}

pub(super) async fn subtree_of_nothing_is_empty(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    assert_eq!(tree.subtree("/p").await, Ok(vec![]));
}

pub(super) async fn a_large_subtree_is_read_whole_while_nodes_in_it_come_and_go(
    subject: Arc<dyn Subject>,
) {
    let (tree, other) = (subject.connect().await, subject.connect().await);
    let stay = make_large(&*tree, "/p").await;
    make(&*other, &["/p/0/000gone", "/p/3/folder", "/p/3/folder/below"]).await;
    let over = AtomicBool::new(false);
    let come_and_go = async {
        for n in 0..20 {
            let come = format!("/p/{}/{n:03}new", n % 8);
            make(&*other, &[&come]).await;
            other.delete(&come, None).await.unwrap();
        }
        for gone in ["/p/0/000gone", "/p/3/folder/below", "/p/3/folder"] {
            other.delete(gone, None).await.unwrap();
        }
        over.store(true, Ordering::Relaxed);
    };
    let read = async {
        loop {
            let is_last = over.load(Ordering::Relaxed);
            let found = tree.subtree("/p").await.unwrap();
            assert_eq!(among(&found, &stay), stay, "each that stays once, in order");
            if is_last {
                return;
            }
            // A home may answer without ever waiting.
            tokio::task::yield_now().await;
        }
    };
    join(read, come_and_go).await;
    caught_up(&*tree).await;
    let found = tree.subtree("/p").await.unwrap();
    assert_eq!(found.len(), 1 + 8 + stay.len(), "nothing else is left");
}

pub(super) async fn find_all_answers_in_the_order_it_was_asked(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    let mut asked = make_large(&*tree, "/p").await;
    asked.reverse();
    asked.insert(7, "/p/nobody".to_owned());
    asked.push(asked[0].clone());
    let found = tree.find_all(&asked).await.unwrap();
    assert_eq!(found.len(), asked.len());
    for (path, node) in asked.iter().zip(found) {
        let held = node.map(|node| node.data);
        assert_eq!(held, (path != "/p/nobody").then(|| data(path)), "{path}");
    }
    assert_eq!(tree.find_all(&[]).await, Ok(vec![]));
    assert!(tree.find_all(&["/p".to_owned(), "p".to_owned()]).await.is_err(), "an illegal path");
}

pub(super) async fn names_that_sort_around_the_slash_do_not_mix(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    make(&*tree, &["/p", "/p-x", "/p0", "/p.x", "/p/a", "/p/a-b", "/p/a/c"]).await;
    assert_eq!(tree.children("/p").await.unwrap(), ["a", "a-b"]);
    let found = tree.subtree("/p").await.unwrap();
    let mut found: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, ["/p", "/p/a", "/p/a-b", "/p/a/c"]);
}

pub(super) async fn concurrent_sets_at_one_version_have_one_winner(subject: Arc<dyn Subject>) {
    let (one, two) = (subject.connect().await, subject.connect().await);
    make(&*one, &["/a"]).await;
    let sets = (0..20).map(|n| {
        let tree = if n % 2 == 0 { &one } else { &two };
        tree.set("/a", data(&n.to_string()), Some(0))
    });
    let results = join_all(sets).await;
    let winners: Vec<usize> = (0..20).filter(|n| results[*n].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    caught_up(&*one).await;
    assert_eq!(text(&*one, "/a").await, winners[0].to_string());
}

pub(super) async fn concurrent_creates_have_one_winner(subject: Arc<dyn Subject>) {
    let (one, two) = (subject.connect().await, subject.connect().await);
    let (first, second) = tokio::join!(
        one.create("/a", data("1"), Persistent),
        two.create("/a", data("2"), Persistent)
    );
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
}

pub(super) async fn a_counter_by_compare_and_set_loses_nothing(subject: Arc<dyn Subject>) {
    let tree = subject.connect().await;
    tree.create("/n", data("0"), Persistent).await.unwrap();
    let counters = (0..4).map(|_| async {
        let tree = subject.connect().await;
        caught_up(&*tree).await;
        for _ in 0..5 {
            loop {
                let node = tree.get("/n").await.unwrap();
                let n: u32 = std::str::from_utf8(&node.data).unwrap().parse().unwrap();
                let next = data(&(n + 1).to_string());
                if tree.set("/n", next, Some(node.stat.version)).await.is_ok() {
                    break;
                }
            }
        }
    });
    join_all(counters).await;
    // A session may trail; a write of its own makes it see everything before.
    let stat = tree.set("/n", data("20"), None).await.unwrap();
    assert_eq!(stat.version, 21);
}
