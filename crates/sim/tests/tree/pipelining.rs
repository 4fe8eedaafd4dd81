//! Requests of one session travel together: many take hardly longer than one, and keep their order.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use klamm_cluster::tree::{CreateMode, Home as _, MULTI_OPS_MAX, Op, Tree};
use klamm_env::Loop;
use klamm_sim::tree::{Manners, SimEnsemble};
use tokio::time::Instant;

use super::PausedClock;

const NODES: usize = 5000;
/// The longest that one request takes there and back, with the lag of its server.
const TRIP: Duration = Duration::from_millis(45);
const MANNERS: Manners = Manners {
    delay_max: Duration::from_millis(20),
    lag_max: Duration::from_millis(5),
    ..Manners::GOOD
};

fn path(n: usize) -> String {
    format!("/p/{n:04}")
}

/// A session, and [`NODES`] nodes below `/p`.
async fn large() -> Arc<dyn Tree> {
    let clock = PausedClock::start();
    let ensemble = SimEnsemble::new(3, MANNERS, Arc::clone(&clock));
    let tree = ensemble.home("client", clock, &Loop::current()).connect().await.unwrap();
    tree.create("/p", Bytes::new(), CreateMode::Persistent).await.unwrap();
    let paths: Vec<String> = (0..NODES).map(path).collect();
    for some in paths.chunks(MULTI_OPS_MAX) {
        tree.multi(some.iter().map(|path| Op::create(path.as_str(), "")).collect()).await.unwrap();
    }
    tree
}

#[tokio::test(start_paused = true)]
async fn a_large_tree_is_read_in_far_fewer_round_trips_than_it_has_nodes() {
    let tree = large().await;
    let begun = Instant::now();
    assert_eq!(tree.subtree("/p").await.unwrap().len(), 1 + NODES);
    let subtree = begun.elapsed();
    assert!(subtree < TRIP * 100, "{subtree:?} for {NODES} nodes");
    let paths: Vec<String> = (0..NODES).map(path).collect();
    let begun = Instant::now();
    assert_eq!(tree.find_all(&paths).await.unwrap().len(), NODES);
    let found = begun.elapsed();
    assert!(found < TRIP * 50, "{found:?} for {NODES} nodes");
}

#[tokio::test(start_paused = true)]
async fn others_are_answered_while_a_large_tree_is_read() {
    let tree = large().await;
    let read = async {
        tree.subtree("/p").await.unwrap();
        Instant::now()
    };
    let others = async {
        let mut longest = Duration::ZERO;
        for n in 0..5 {
            let begun = Instant::now();
            tree.set(&path(n), Bytes::from_static(b"x"), Some(0)).await.unwrap();
            longest = longest.max(begun.elapsed());
        }
        (longest, Instant::now())
    };
    let (read_at, (longest, at)) = join(read, others).await;
    assert!(longest < TRIP * 4, "{longest:?}");
    assert!(at < read_at, "they did not wait for the whole read");
}

#[tokio::test(start_paused = true)]
async fn requests_are_served_and_answered_in_their_order() {
    let tree = large().await;
    let answered = Mutex::new(Vec::new());
    let begun = Instant::now();
    let requests = (0..100).map(|n| {
        let (tree, answered) = (&tree, &answered);
        async move {
            if n % 2 == 0 {
                let next = Bytes::from(n.to_string());
                tree.set("/p/0000", next, Some(n / 2)).await.unwrap();
            } else {
                let seen = tree.get("/p/0000").await.unwrap();
                assert_eq!(seen.stat.version, n / 2 + 1, "it saw what was asked for before");
            }
            answered.lock().unwrap().push(n);
        }
    });
    join_all(requests).await;
    // One by one they would take fifty times as long as one.
    assert!(begun.elapsed() < TRIP * 6, "{:?}", begun.elapsed());
    let answered = answered.into_inner().unwrap();
    assert!(answered.is_sorted(), "{answered:?}");
}
