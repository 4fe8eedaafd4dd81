//! What only this home has: chroots, access lists, credentials, a clock that jumps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use klamm_cluster::tree::zookeeper::{Credentials, ZooKeeperConfig, ZooKeeperHome, ZooKeeperTree};
use klamm_cluster::tree::{CreateMode, Op, SessionState, Tree, TreeError};
use klamm_ensemble::Ensemble;
use klamm_env::{Clock, Env, Loop};

use crate::subject::config;

/// Runs all of it, one after the other.
pub(crate) async fn run(ensemble: &Ensemble) {
    let servers = ensemble.addresses().join(",");
    println!("a_missing_chroot_is_made_and_nothing_else");
    a_missing_chroot_is_made_and_nothing_else(&servers).await;
    println!("nodes_belong_to_their_creator");
    nodes_belong_to_their_creator(&servers).await;
    println!("nodes_that_all_may_read_are_written_by_their_creator_and_secrets_are_not_read");
    nodes_that_all_may_read_are_written_by_their_creator_and_secrets_are_not_read(&servers).await;
    println!("servers_that_are_not_there_are_named");
    servers_that_are_not_there_are_named().await;
    println!("a_thread_that_was_stopped_knows_at_once_that_its_lease_has_run_out");
    a_thread_that_was_stopped_knows_at_once_that_its_lease_has_run_out(&servers).await;
    println!("a_large_tree_is_read_whole");
    a_large_tree_is_read_whole(&servers).await;
}

async fn begin(config: ZooKeeperConfig) -> ZooKeeperTree {
    let env = Env::real().unwrap();
    ZooKeeperHome::new(&env, config, &Loop::current()).begin().await.unwrap()
}

async fn make(tree: &ZooKeeperTree, paths: &[&str]) {
    for path in paths {
        tree.create(path, Bytes::new(), CreateMode::Persistent).await.unwrap();
    }
}

async fn a_missing_chroot_is_made_and_nothing_else(servers: &str) {
    let tree = begin(config(&format!("{servers}/made/for/us"))).await;
    assert_eq!(tree.children("/").await.unwrap(), [] as [&str; 0]);
    let root = begin(config(servers)).await;
    tree.create("/a", Bytes::new(), CreateMode::Persistent).await.unwrap();
    root.multi(vec![Op::Check { path: "/made/for/us/a".into(), expected: Some(0) }]).await.unwrap();
    let found = root.subtree("/made").await.unwrap();
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["/made", "/made/for", "/made/for/us", "/made/for/us/a"]);
    root.close().await;
    tree.close().await;
}

fn digest(connect: &str, password: &str, readable_by_all: bool) -> ZooKeeperConfig {
    let credentials = Credentials::Digest { user: "klamm".into(), password: password.into() };
    ZooKeeperConfig { credentials, readable_by_all, ..config(connect) }
}

async fn nodes_belong_to_their_creator(servers: &str) {
    let connect = format!("{servers}/private");
    let owner = begin(digest(&connect, "right", false)).await;
    make(&owner, &["/a"]).await;
    let own = begin(digest(&connect, "right", false)).await;
    own.set("/a", Bytes::from_static(b"x"), Some(0)).await.unwrap();
    let denied = TreeError::AccessDenied { path: "/a".into() };
    // The chroot is private as well: a stranger does not even get in to create a node.
    for stranger in [config(&connect), digest(&connect, "wrong", false)] {
        let stranger = begin(stranger).await;
        assert_eq!(stranger.get("/a").await, Err(denied.clone()));
        assert_eq!(stranger.set("/a", Bytes::new(), None).await, Err(denied.clone()));
        let made = stranger.create("/b", Bytes::new(), CreateMode::Persistent).await;
        assert_eq!(made, Err(TreeError::AccessDenied { path: "/b".into() }));
        stranger.close().await;
    }
    own.close().await;
    owner.close().await;
}

async fn nodes_that_all_may_read_are_written_by_their_creator_and_secrets_are_not_read(
    servers: &str,
) {
    let connect = format!("{servers}/readable");
    let owner = begin(digest(&connect, "right", true)).await;
    let secret = "/config/users/admin";
    make(&owner, &["/topics", "/config", "/config/users", secret]).await;
    let stranger = begin(config(&connect)).await;
    stranger.get("/topics").await.unwrap();
    let denied = |path: &str| TreeError::AccessDenied { path: path.into() };
    assert_eq!(stranger.set("/topics", Bytes::new(), None).await, Err(denied("/topics")));
    assert_eq!(stranger.get(secret).await, Err(denied(secret)));
    stranger.close().await;
    owner.close().await;
}

async fn servers_that_are_not_there_are_named() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let connect = format!("{free}/x");
    let config =
        ZooKeeperConfig { connection_timeout: Duration::from_millis(300), ..config(&connect) };
    let env = Env::real().unwrap();
    let refused = ZooKeeperHome::new(&env, config, &Loop::current()).begin().await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains(&connect) && text.contains("300ms") && !text.contains('\n'), "{text}");
}

/// The machine's clock, plus what the test adds.
struct JumpingClock {
    real: Arc<dyn Clock>,
    ahead_ms: AtomicU64,
}

impl Clock for JumpingClock {
    fn monotonic(&self) -> Duration {
        self.real.monotonic()
    }

    fn boot_time(&self) -> Duration {
        self.real.boot_time() + Duration::from_millis(self.ahead_ms.load(Ordering::Relaxed))
    }

    fn wall_ms(&self) -> i64 {
        self.real.wall_ms()
    }
}

async fn a_thread_that_was_stopped_knows_at_once_that_its_lease_has_run_out(servers: &str) {
    let real = Env::real().unwrap();
    let clock = Arc::new(JumpingClock { real: Arc::clone(&real.clock), ahead_ms: 0.into() });
    let env = Env { clock: clock.clone(), ..real };
    let home = ZooKeeperHome::new(&env, config(&format!("{servers}/jump")), &Loop::current());
    let tree = home.begin().await.unwrap();
    make(&tree, &["/a"]).await;
    let seen = Mutex::new(Vec::new());
    let note = |at: &str| seen.lock().unwrap().push((at.to_owned(), tree.state_now()));
    note("before");
    clock.ahead_ms.store(60_000, Ordering::Relaxed);
    // No task has run since: only the clock knows.
    note("after");
    let refused = tree.set("/a", Bytes::from_static(b"x"), Some(0)).await;
    assert_eq!(refused, Err(TreeError::SessionLost));
    let expected = [("before", SessionState::Connected), ("after", SessionState::Lost)];
    assert_eq!(*seen.lock().unwrap(), expected.map(|(at, state)| (at.to_owned(), state)));
    // The session itself is well: the next probe brings it back, with nothing written.
    let mut state = tree.state();
    state.wait_for(|state| *state == SessionState::Lost).await.unwrap();
    state.wait_for(|state| *state == SessionState::Connected).await.unwrap();
    assert_eq!(tree.get("/a").await.unwrap().stat.version, 0);
    tree.close().await;
}

const LARGE: usize = 2_000;

async fn a_large_tree_is_read_whole(servers: &str) {
    let tree = begin(config(&format!("{servers}/large"))).await;
    make(&tree, &["/t"]).await;
    let paths: Vec<String> = (0..LARGE).map(|n| format!("/t/{n}")).collect();
    for paths in paths.chunks(tree.max_multi().ops) {
        let ops = paths.iter().map(|path| Op::create(path.as_str(), "x")).collect();
        tree.multi(ops).await.unwrap();
    }
    let clock = Env::real().unwrap().clock;
    let begun = clock.monotonic();
    assert_eq!(tree.subtree("/t").await.unwrap().len(), LARGE + 1);
    println!("{LARGE} nodes read in {:?}", clock.monotonic() - begun);
    tree.close().await;
}
