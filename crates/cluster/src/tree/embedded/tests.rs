//! The embedded home: conformance, and what crashes may do to its files.
#![expect(clippy::disallowed_methods, reason = "the tests damage files by hand")]

mod disk;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use klamm_env::{Env, Loop};

use super::EmbeddedHome;
use super::store::{Store, StoreError};
use crate::conformance::{CASES, Case, Fault, Report, Subject, run_all};
use crate::tree::state::{Change, TreeState};
use crate::tree::{CreateMode, Home, Op, SessionId, SessionState, Tree, TreeError};
use disk::{Disk, Failure};

struct Embedded {
    env: Env,
    dir: tempfile::TempDir,
    home: Mutex<EmbeddedHome>,
}

impl Embedded {
    async fn new() -> Embedded {
        let env = Env::real().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let home = open(&env, dir.path()).await.unwrap();
        Embedded { env, dir, home: Mutex::new(home) }
    }

    fn home(&self) -> EmbeddedHome {
        self.home.lock().unwrap().clone()
    }
}

async fn open(env: &Env, dir: &Path) -> Result<EmbeddedHome, StoreError> {
    EmbeddedHome::open(env, dir.join("tree"), &Loop::current()).await
}

impl Subject for Embedded {
    fn connect(&self) -> BoxFuture<'_, Arc<dyn Tree>> {
        let home = self.home();
        async move { home.connect().await.unwrap() }.boxed()
    }

    fn expire(&self, session: SessionId) -> BoxFuture<'_, ()> {
        let home = self.home();
        async move { home.expire(session).await }.boxed()
    }

    fn can(&self, fault: Fault) -> bool {
        fault == Fault::Restart
    }

    fn inflict(&self, fault: Fault, session: SessionId) -> BoxFuture<'_, ()> {
        assert_eq!(fault, Fault::Restart);
        async move {
            self.home().expire(session).await;
            let again = open(&self.env, self.dir.path()).await.unwrap();
            *self.home.lock().unwrap() = again;
        }
        .boxed()
    }

    fn session_timeout(&self) -> Option<std::time::Duration> {
        None
    }

    fn heal(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

#[tokio::test]
async fn conforms() {
    let Report { passed, skipped } =
        run_all(async || Arc::new(Embedded::new().await) as Arc<dyn Subject>).await;
    assert_eq!(passed.len() + skipped.len(), CASES.len());
    let unlike_an_ensemble = |case: &&Case| case.needs.is_some_and(|f| f != Fault::Restart);
    let expected: Vec<_> = CASES.iter().filter(unlike_an_ensemble).map(|case| case.name).collect();
    assert_eq!(skipped, expected);
}

fn put(path: &str, version: i32, data: &str) -> Change {
    Change::Put { path: path.into(), version, data: Bytes::copy_from_slice(data.as_bytes()) }
}

fn open_store(dir: &Path) -> Result<(Store, TreeState), StoreError> {
    Store::open(Env::real().unwrap().files, dir.join("tree"))
}

fn content(state: &TreeState) -> Vec<Change> {
    state.persistent().collect()
}

/// Commits of different shapes, and the state after each.
fn fill(dir: &Path) -> Vec<Vec<Change>> {
    let (mut store, mut state) = open_store(dir).unwrap();
    let commits = [
        vec![put("/a", 0, "")],
        vec![put("/a/b", 0, "x"), put("/a/c", 0, "y")],
        vec![put("/a/b", 1, &"long ".repeat(100))],
        vec![Change::Delete { path: "/a/c".into() }],
        vec![put("/d", 0, "z")],
    ];
    let mut states = vec![content(&state)];
    for commit in commits {
        store.append(&commit).ok().unwrap();
        commit.into_iter().for_each(|change| state.restore(change).unwrap());
        states.push(content(&state));
    }
    states
}

fn journal(dir: &Path) -> PathBuf {
    dir.join("tree/journal-00000000000000000001")
}

#[test]
fn a_journal_cut_anywhere_gives_a_prefix_of_the_commits() {
    let dir = tempfile::tempdir().unwrap();
    let states = fill(dir.path());
    let whole = std::fs::read(journal(dir.path())).unwrap();
    let mut seen = 0;
    for len in 0..=whole.len() {
        std::fs::write(journal(dir.path()), &whole[..len]).unwrap();
        let (mut store, state) = open_store(dir.path()).unwrap();
        let at = states.iter().position(|known| *known == content(&state));
        let at = at.unwrap_or_else(|| panic!("cut at {len}: {:?}", content(&state)));
        assert!(at >= seen, "cut at {len}: {at} commits, {seen} before");
        seen = at;
        // It goes on from there, and nothing of the cut end comes back.
        store.append(&[put("/next", 0, "n")]).ok().unwrap();
        drop(store);
        let (_, mut again) = open_store(dir.path()).unwrap();
        again.restore(Change::Delete { path: "/next".into() }).unwrap();
        assert_eq!(content(&again), states[at], "cut at {len}");
    }
    assert_eq!(seen, states.len() - 1, "nothing acknowledged is lost");
}

#[test]
fn an_unfinished_end_of_any_content_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let states = fill(dir.path());
    let whole = std::fs::read(journal(dir.path())).unwrap();
    let ends: [&[u8]; 5] =
        [&[0; 4096], b"\xffKJ\x01", b"\xffKJ\x01\xff\xff\xff\xff", b"x", &whole[..40]];
    for end in ends {
        std::fs::write(journal(dir.path()), [&whole, end].concat()).unwrap();
        let opened = open_store(dir.path());
        if end == &whole[..40] {
            assert!(matches!(opened, Err(StoreError::Damaged { .. })), "an old commit follows");
            continue;
        }
        assert_eq!(content(&opened.unwrap().1), states[states.len() - 1], "{end:?}");
        assert_eq!(std::fs::read(journal(dir.path())).unwrap(), whole);
    }
}

#[test]
fn damage_before_an_acknowledged_commit_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let states = fill(dir.path());
    let whole = std::fs::read(journal(dir.path())).unwrap();
    let mut last_frame = 0;
    let mut at = 0;
    while at < whole.len() {
        last_frame = at;
        at += 12 + u32::from_be_bytes(whole[at + 4..at + 8].try_into().unwrap()) as usize;
    }
    for byte in 0..whole.len() {
        let mut bad = whole.clone();
        bad[byte] ^= 0x40;
        std::fs::write(journal(dir.path()), &bad).unwrap();
        match open_store(dir.path()) {
            Err(error) => {
                assert!(byte < last_frame, "byte {byte}: {error}");
                assert!(error.to_string().contains("unreadable"), "{error}");
            }
            // Damage of the very last commit cannot be told from a crash.
            Ok((_, state)) => {
                assert!(byte >= last_frame, "byte {byte} went unnoticed");
                assert_eq!(content(&state), states[states.len() - 2]);
            }
        }
    }
}

#[test]
fn a_folded_journal_gives_the_same_tree() {
    let dir = tempfile::tempdir().unwrap();
    let states = fill(dir.path());
    let (mut store, state) = open_store(dir.path()).unwrap();
    store.compact(&state);
    assert!(!journal(dir.path()).exists());
    let (mut store, state) = open_store(dir.path()).unwrap();
    assert_eq!(content(&state), states[states.len() - 1]);
    store.append(&[put("/next", 0, "n")]).ok().unwrap();
    let (_, state) = open_store(dir.path()).unwrap();
    assert_eq!(content(&state).len(), states[states.len() - 1].len() + 1);
}

#[test]
fn a_crash_between_snapshot_and_new_journal_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let states = fill(dir.path());
    let old = std::fs::read(journal(dir.path())).unwrap();
    let (mut store, state) = open_store(dir.path()).unwrap();
    store.compact(&state);
    // The old journal is still there; it is folded in already and may go on.
    std::fs::write(journal(dir.path()), &old).unwrap();
    let (mut store, state) = open_store(dir.path()).unwrap();
    assert_eq!(content(&state), states[states.len() - 1]);
    store.append(&[put("/next", 0, "n")]).ok().unwrap();
    let (_, state) = open_store(dir.path()).unwrap();
    assert!(content(&state).contains(&put("/next", 0, "n")));
}

#[test]
fn a_damaged_or_missing_snapshot_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let (mut store, state) = open_store(dir.path()).unwrap();
    store.compact(&state);
    store.append(&[put("/next", 0, "n")]).ok().unwrap();
    let path = dir.path().join("tree/snapshot-00000000000000000005");
    let whole = std::fs::read(&path).unwrap();
    for bad in [&whole[..whole.len() - 1], &[&whole[..], b"x"].concat(), b""] {
        std::fs::write(&path, bad).unwrap();
        let error = open_store(dir.path()).err().unwrap().to_string();
        assert!(error.contains("the snapshot is not whole"), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    let error = open_store(dir.path()).err().unwrap().to_string();
    assert!(error.contains("begins at commit 6, but the tree ends at 0"), "{error}");
}

#[test]
fn a_journal_that_outgrows_its_snapshot_is_due_for_folding() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, mut state) = open_store(dir.path()).unwrap();
    let large = "x".repeat(400 * 1024);
    let mut version = 0;
    while !store.is_overgrown() {
        let change = put("/a", version, &large);
        store.append(std::slice::from_ref(&change)).ok().unwrap();
        state.restore(change).unwrap();
        version += 1;
        assert!(version < 100, "the journal grows without end");
    }
    store.compact(&state);
    assert!(!store.is_overgrown());
    let (_, again) = open_store(dir.path()).unwrap();
    assert_eq!(content(&again), content(&state));
}

#[tokio::test]
async fn writes_that_wait_share_a_sync() {
    let subject = Embedded::new().await;
    let tree = subject.connect().await;
    tree.create("/n", Bytes::new(), CreateMode::Persistent).await.unwrap();
    let set = || Op::Set { path: "/n".into(), data: Bytes::new(), expected: None };
    let writes = (0..100).map(|_| tree.multi(vec![set()]));
    let results = futures_util::future::join_all(writes).await;
    assert!(results.iter().all(Result::is_ok));
    let bytes = std::fs::read(journal(subject.dir.path())).unwrap();
    let frames = bytes.windows(4).filter(|window| *window == b"\xffKJ\x01").count();
    assert!(frames <= 10, "{frames} commits for 100 writes at once");
    assert_eq!(tree.get("/n").await.unwrap().stat.version, 100);
}

#[tokio::test]
async fn the_first_commit_costs_three_syncs_and_every_other_one_and_none_is_answered_before() {
    let dir = tempfile::tempdir().unwrap();
    let (env, disk) = Disk::new();
    let home = open(&env, dir.path()).await.unwrap();
    let tree = home.connect().await.unwrap();
    assert_eq!(disk.take_log(), [] as [&str; 0], "an empty tree writes nothing");
    tree.create("/a", Bytes::new(), CreateMode::Persistent).await.unwrap();
    assert_eq!(disk.take_log(), ["sync dir tree", "sync parent", "write", "sync"]);
    tree.set("/a", Bytes::new(), None).await.unwrap();
    assert_eq!(disk.take_log(), ["write", "sync"]);
    tree.create("/e", Bytes::new(), CreateMode::Ephemeral).await.unwrap();
    tree.multi(vec![Op::check("/a", 1)]).await.unwrap();
    assert_eq!(disk.take_log(), [] as [&str; 0], "nothing that outlives the process changed");
    tree.close().await;
    open(&env, dir.path()).await.unwrap();
    // Hazard 96: written anew, because a sync of what was merely read back proves nothing.
    assert_eq!(disk.take_log(), ["write", "sync"], "what is kept is durable before it is believed");
}

#[tokio::test]
async fn a_full_disk_refuses_the_change_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (env, disk) = Disk::new();
    let home = open(&env, dir.path()).await.unwrap();
    let tree = home.connect().await.unwrap();
    tree.create("/a", Bytes::new(), CreateMode::Persistent).await.unwrap();
    disk.fail(Failure::Full);
    let refused = tree.set("/a", Bytes::from_static(b"x"), None).await.unwrap_err();
    assert_eq!(refused, TreeError::StorageFull);
    assert_eq!(tree.get("/a").await.unwrap().stat.version, 0);
    tree.create("/e", Bytes::new(), CreateMode::Ephemeral).await.unwrap();
    disk.fail(Failure::None);
    tree.set("/a", Bytes::from_static(b"y"), Some(0)).await.unwrap();
    tree.close().await;
    let again = open(&env, dir.path()).await.unwrap().connect().await.unwrap();
    assert_eq!(again.get("/a").await.unwrap().data, "y");
}

#[tokio::test]
async fn hazard_43_after_a_failed_sync_nothing_is_believed_any_more() {
    for failure in [Failure::Write, Failure::Sync] {
        let dir = tempfile::tempdir().unwrap();
        let (env, disk) = Disk::new();
        let home = open(&env, dir.path()).await.unwrap();
        let tree = home.connect().await.unwrap();
        tree.create("/a", Bytes::new(), CreateMode::Persistent).await.unwrap();
        let mut watcher = tree.watch(&["/a"]).await.unwrap();
        disk.fail(failure);
        let unclear = tree.set("/a", Bytes::new(), None).await.unwrap_err();
        assert!(unclear.is_unclear(), "{failure:?}: {unclear}");
        disk.fail(Failure::None);
        assert_eq!(*tree.state().borrow(), SessionState::Expired);
        assert_eq!(watcher.next().await, None);
        assert_eq!(tree.get("/a").await, Err(TreeError::SessionExpired));
        assert!(home.connect().await.is_err(), "no second try on that disk");
    }
}
