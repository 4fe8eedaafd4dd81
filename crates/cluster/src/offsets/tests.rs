//! The offsets of one coordinator in an embedded tree, with answers that get lost on the way.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use klamm_env::{Env, Loop};
use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::nodes::consumers::{encode_offset, group_folder};
use crate::nodes::encode;
use crate::nodes::topic::{FlushClass, Member};
use crate::tree::embedded::EmbeddedHome;
use crate::tree::{CreateMode, Home as _, MultiError, Node, OpResult, SessionState, Watcher, path};

const TOPIC_ID: Uuid = Uuid::from_u128(5);

/// What happens to the next multi that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It is done; the answer gets lost.
    AnswerLost,
    /// It gets lost.
    RequestLost,
    /// It is taken for lost and arrives behind the next one.
    Delayed,
    /// The session's lease has run out.
    SessionLost,
}

/// A session with faults.
struct Flaky {
    tree: Arc<dyn Tree>,
    faults: Mutex<Vec<Fault>>,
    delayed: Mutex<Option<Vec<Op>>>,
    multis: Mutex<usize>,
    limits: MultiLimits,
}

impl Flaky {
    fn over(tree: Arc<dyn Tree>) -> Flaky {
        let limits = MultiLimits::ZOOKEEPER;
        Flaky {
            tree,
            faults: Mutex::default(),
            delayed: Mutex::default(),
            multis: Mutex::default(),
            limits,
        }
    }

    fn next(&self, fault: Fault) {
        self.faults.lock().unwrap().push(fault);
    }

    async fn multi_with_faults(&self, ops: Vec<Op>) -> Result<Vec<OpResult>, MultiError> {
        let changes = ops.iter().any(|op| !matches!(op, Op::Check { .. }));
        let fault = if changes { self.faults.lock().unwrap().pop() } else { None };
        *self.multis.lock().unwrap() += usize::from(changes);
        let lost = || Err(TreeError::ConnectionLoss.into());
        match fault {
            Some(Fault::RequestLost) => return lost(),
            Some(Fault::SessionLost) => return Err(TreeError::SessionLost.into()),
            Some(Fault::Delayed) => {
                *self.delayed.lock().unwrap() = Some(ops);
                return lost();
            }
            Some(Fault::AnswerLost) | None => {}
        }
        let answer = self.tree.multi(ops).await;
        let delayed = self.delayed.lock().unwrap().take();
        if let Some(delayed) = delayed {
            let late = self.tree.multi(delayed).await;
            assert!(late.is_err(), "a late write is fenced: {late:?}");
        }
        if fault == Some(Fault::AnswerLost) { lost() } else { answer }
    }
}

impl Tree for Flaky {
    fn session(&self) -> SessionId {
        self.tree.session()
    }

    fn state(&self) -> watch::Receiver<SessionState> {
        self.tree.state()
    }

    fn get<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Node, TreeError>> {
        self.tree.get(path)
    }

    fn children<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Vec<String>, TreeError>> {
        self.tree.children(path)
    }

    fn multi(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<Vec<OpResult>, MultiError>> {
        self.multi_with_faults(ops).boxed()
    }

    fn watch<'a>(&'a self, roots: &'a [&'a str]) -> BoxFuture<'a, Result<Watcher, TreeError>> {
        self.tree.watch(roots)
    }

    fn max_multi(&self) -> MultiLimits {
        self.limits
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.tree.close()
    }
}

struct World {
    home: EmbeddedHome,
    tree: Flaky,
    _dir: TempDir,
}

fn state(leader: i32, leader_epoch: i32, partition_epoch: i32) -> Bytes {
    encode(&PartitionNode {
        leader: Some(leader),
        leader_epoch,
        partition_epoch,
        isr: vec![Member { id: leader, epoch: 1 }],
        elr: Vec::new(),
        offline: Vec::new(),
        min_isr: 1,
        flush: FlushClass::Acked,
        unclean_epoch: -1,
        controller_epoch: 1,
        nonce: 0,
    })
}

fn state_path() -> String {
    NodeKey::Partition(TOPIC_ID, 0).path()
}

const OWNER: Owner = Owner { topic_id: TOPIC_ID, partition: 0, broker: 1, leader_epoch: 4 };

impl World {
    async fn new() -> World {
        let env = Env::real().unwrap();
        let dir = TempDir::new().unwrap();
        let home = EmbeddedHome::open(&env, dir.path().join("tree"), &Loop::current()).await;
        let home = home.unwrap();
        let tree = home.connect().await.unwrap();
        let topic = format!("/topics/{}", name::uuid_to_text(TOPIC_ID));
        for folder in ["/topics", &topic, &format!("{topic}/p")] {
            tree.create(folder, Bytes::new(), CreateMode::Persistent).await.unwrap();
        }
        tree.create(&state_path(), state(1, 4, 0), CreateMode::Persistent).await.unwrap();
        World { home, tree: Flaky::over(tree), _dir: dir }
    }

    async fn open(&self) -> OffsetStore {
        OffsetStore::open(&self.tree, OWNER).await.unwrap()
    }

    /// What somebody with a shell writes.
    async fn by_hand(&self, path: &str, data: &'static str) {
        let above: Vec<&str> = std::iter::successors(path::parent(path), |of| path::parent(of))
            .filter(|of| *of != "/")
            .collect();
        for folder in above.into_iter().rev() {
            let _ = self.tree.tree.create(folder, Bytes::new(), CreateMode::Persistent).await;
        }
        match self.tree.tree.set(path, Bytes::from_static(data.as_bytes()), None).await {
            Ok(_) => {}
            Err(_) => {
                let data = Bytes::from_static(data.as_bytes());
                self.tree.tree.create(path, data, CreateMode::Persistent).await.unwrap();
            }
        }
    }

    async fn at(&self, path: &str) -> Option<String> {
        let node = self.tree.find(path).await.unwrap()?;
        Some(String::from_utf8(node.data.to_vec()).unwrap())
    }

    async fn set_state(&self, leader: i32, leader_epoch: i32, partition_epoch: i32) {
        let data = state(leader, leader_epoch, partition_epoch);
        self.tree.tree.set(&state_path(), data, None).await.unwrap();
    }
}

fn details(offset: i64) -> DetailsNode {
    DetailsNode {
        offset,
        leader_epoch: 2,
        metadata: "m".to_owned(),
        commit_ms: 1000 + offset,
        expire_ms: None,
        topic_id: Uuid::from_u128(9),
    }
}

fn change(partition: i32, to: To) -> Change {
    Change { group: "g".to_owned(), topic: "t".to_owned(), partition, to }
}

fn set(partition: i32, offset: i64) -> Change {
    change(partition, To::Set(details(offset)))
}

fn path_of(partition: i32) -> String {
    offset_path("g", "t", partition)
}

async fn write(store: &mut OffsetStore, tree: &dyn Tree, changes: &[Change]) -> Vec<Outcome> {
    let written = store.write(tree, changes).await;
    assert_eq!(written.error, None);
    written.outcomes
}

fn wanted(partitions: &[i32]) -> Wanted {
    Wanted::Only([("t".to_owned(), partitions.iter().copied().collect())].into())
}

/// Partition and offset of what was found; -1: nothing.
fn offsets(found: &[Found]) -> Vec<(i32, i64)> {
    let offset = |found: &Found| found.stored.as_ref().map_or(-1, |stored| stored.offset);
    found.iter().map(|found| (found.partition, offset(found))).collect()
}

#[tokio::test]
async fn a_commit_is_a_plain_number_with_details_below_it() {
    let world = World::new().await;
    let mut store = world.open().await;
    assert_eq!(write(&mut store, &world.tree, &[set(0, 42)]).await, [Outcome::Done]);
    assert_eq!(world.at("/consumers/g/offsets/t/0").await.as_deref(), Some("42"));
    assert_eq!(write(&mut store, &world.tree, &[set(0, 43)]).await, [Outcome::Done]);
    assert_eq!(world.at("/consumers/g/offsets/t/0").await.as_deref(), Some("43"));
    let mut next = world.open().await;
    let found = next.load(&world.tree, |group| group == "g").await.unwrap();
    let stored = Stored { offset: 43, details: Some(details(43)) };
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].stored, Some(stored));
    assert_eq!(next.load(&world.tree, |_| false).await.unwrap(), []);
}

#[tokio::test]
async fn a_deposed_coordinator_writes_nothing() {
    for (leader, epoch) in [(2, 5), (1, 5)] {
        let world = World::new().await;
        let mut store = world.open().await;
        write(&mut store, &world.tree, &[set(0, 1)]).await;
        world.set_state(leader, epoch, 1).await;
        let written = store.write(&world.tree, &[set(0, 2)]).await;
        assert_eq!(written.outcomes, [Outcome::Open]);
        assert_eq!(written.error, Some(OffsetsError::Deposed));
        assert_eq!(store.prove(&world.tree).await, Err(OffsetsError::Deposed));
        assert_eq!(world.at(&path_of(0)).await.as_deref(), Some("1"));
        let opened = OffsetStore::open(&world.tree, OWNER).await.map(|_| ());
        assert_eq!(opened, Err(OffsetsError::Deposed));
    }
}

#[tokio::test]
async fn a_change_of_the_in_sync_set_deposes_nobody() {
    let world = World::new().await;
    let mut store = world.open().await;
    for (partition_epoch, offset) in [(1, 1), (2, 2)] {
        world.set_state(1, 4, partition_epoch).await;
        assert_eq!(write(&mut store, &world.tree, &[set(0, offset)]).await, [Outcome::Done]);
    }
    assert_eq!(store.take_news(), [], "the nodes were not in doubt");
}

#[tokio::test]
async fn lost_requests_and_answers_are_settled_by_reading() {
    for fault in [Fault::AnswerLost, Fault::RequestLost, Fault::Delayed] {
        let world = World::new().await;
        let mut store = world.open().await;
        // A node that has to be made, one that is there, one that goes.
        for (changes, expected) in [
            ([set(0, 1), set(1, 1)], [Some("1"), Some("1")]),
            ([set(0, 2), set(1, 2)], [Some("2"), Some("2")]),
            ([change(0, To::Gone), set(1, 3)], [None, Some("3")]),
        ] {
            world.tree.next(fault);
            let outcomes = write(&mut store, &world.tree, &changes).await;
            assert_eq!(outcomes, [Outcome::Done, Outcome::Done], "{fault:?}");
            for (partition, expected) in [0, 1].into_iter().zip(expected) {
                assert_eq!(world.at(&path_of(partition)).await.as_deref(), expected, "{fault:?}");
            }
        }
    }
}

/// Only then is it known that a commit that failed is not written over the next one.
#[tokio::test]
async fn what_was_given_up_does_not_come_after_what_followed() {
    let world = World::new().await;
    let mut store = world.open().await;
    write(&mut store, &world.tree, &[set(0, 1)]).await;
    world.tree.next(Fault::Delayed);
    // Dropped while it is on its way, as a time-out would.
    {
        let changes = [set(0, 2)];
        let mut first = Box::pin(store.write(&world.tree, &changes));
        while world.tree.delayed.lock().unwrap().is_none() {
            assert!((&mut first).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(write(&mut store, &world.tree, &[set(0, 3)]).await, [Outcome::Done]);
    assert_eq!(world.at(&path_of(0)).await.as_deref(), Some("3"));
}

#[tokio::test]
async fn a_session_that_is_lost_leaves_the_rest_open() {
    let mut world = World::new().await;
    world.tree.limits = MultiLimits { ops: 7, ..MultiLimits::ZOOKEEPER };
    let mut store = world.open().await;
    write(&mut store, &world.tree, &[set(0, 1)]).await;
    world.tree.faults.lock().unwrap().extend([Fault::SessionLost]);
    let written = store.write(&world.tree, &[set(0, 2)]).await;
    assert_eq!(written.outcomes, [Outcome::Open]);
    assert_eq!(written.error, Some(OffsetsError::Tree(TreeError::SessionLost)));
    assert_eq!(write(&mut store, &world.tree, &[set(0, 3)]).await, [Outcome::Done]);
    assert_eq!(world.at(&path_of(0)).await.as_deref(), Some("3"));
}

#[tokio::test]
async fn many_commits_go_in_multis_that_fit() {
    let world = World::new().await;
    let mut store = world.open().await;
    let many: Vec<Change> = (0..500).map(|partition| set(partition, 7)).collect();
    assert_eq!(write(&mut store, &world.tree, &many).await, vec![Outcome::Done; 500]);
    // 99 operations beside the check, two for each.
    assert_eq!(*world.tree.multis.lock().unwrap(), 11);
    let found = store.read(&world.tree, "g", &Wanted::All).await.unwrap();
    assert_eq!(found.len(), 500);
    let large = DetailsNode { metadata: "\u{1}".repeat(60_000), ..details(8) };
    let large: Vec<Change> =
        (0..4).map(|partition| change(partition, To::Set(large.clone()))).collect();
    assert_eq!(write(&mut store, &world.tree, &large).await, vec![Outcome::Done; 4]);
    assert_eq!(*world.tree.multis.lock().unwrap(), 15);
}

#[tokio::test]
async fn of_many_commits_of_one_offset_the_last_is_written() {
    let world = World::new().await;
    let mut store = world.open().await;
    let many: Vec<Change> = (0..50).map(|offset| set(0, offset)).collect();
    assert_eq!(write(&mut store, &world.tree, &many).await, vec![Outcome::Done; 50]);
    assert_eq!(world.at(&path_of(0)).await.as_deref(), Some("49"));
    assert_eq!(*world.tree.multis.lock().unwrap(), 1);
}

fn gone_if(partition: i32, offset: i64) -> Change {
    change(partition, To::GoneIf { offset, commit_ms: details(offset).commit_ms })
}

#[tokio::test]
async fn what_was_committed_since_does_not_expire() {
    let world = World::new().await;
    let mut store = world.open().await;
    write(&mut store, &world.tree, &[set(0, 1), set(1, 1)]).await;
    let changes = [set(0, 2), gone_if(0, 1), gone_if(1, 1)];
    let outcomes = write(&mut store, &world.tree, &changes).await;
    assert_eq!(outcomes, [Outcome::Done, Outcome::Kept, Outcome::Done]);
    assert_eq!(world.at(&path_of(0)).await.as_deref(), Some("2"));
    assert_eq!(world.at(&path_of(1)).await, None);
    // Nor what somebody has written by hand.
    world.by_hand(&path_of(0), "9").await;
    let outcomes = write(&mut store, &world.tree, &[gone_if(0, 2)]).await;
    assert_eq!(outcomes, [Outcome::Kept]);
    assert_eq!(offsets(&store.take_news()), [(0, 9)]);
    assert_eq!(world.at(&path_of(0)).await.as_deref(), Some("9"));
    // The other way round: what expires does not take a later commit along.
    let outcomes = write(&mut store, &world.tree, &[set(1, 5), gone_if(1, 5), set(1, 6)]).await;
    assert_eq!(outcomes, [Outcome::Done; 3]);
    assert_eq!(world.at(&path_of(1)).await.as_deref(), Some("6"));
}

#[tokio::test]
async fn nodes_made_and_changed_by_hand_are_honoured() {
    let world = World::new().await;
    world.by_hand("/consumers/g/offsets/t/0", "5\n").await;
    world.by_hand("/consumers/g/offsets/t/1", "nonsense").await;
    world.by_hand("/consumers/g/offsets/t/01", "5").await;
    world.by_hand("/consumers/g/owners/t/0", "somebody").await;
    let mut store = world.open().await;
    let found = store.load(&world.tree, |_| true).await.unwrap();
    assert_eq!(offsets(&found), [(0, 5), (1, -1)]);
    assert_eq!(found[0].stored, Some(Stored { offset: 5, details: None }));
    write(&mut store, &world.tree, &[set(0, 6), set(1, 6)]).await;
    // A number without its details, and one in a place that was not known.
    world.by_hand("/consumers/g/offsets/t/0", "3").await;
    world.by_hand("/consumers/g/offsets/t/2", "8").await;
    let found = store.read(&world.tree, "g", &wanted(&[0, 1, 2, 3])).await.unwrap();
    assert_eq!(offsets(&found), [(0, 3), (1, 6), (2, 8)]);
    assert_eq!(found[0].stored.as_ref().unwrap().details, None, "they are about another offset");
    // Changed behind the coordinator's back: the commit comes after it.
    world.by_hand("/consumers/g/offsets/t/0", "4").await;
    assert_eq!(write(&mut store, &world.tree, &[set(0, 10)]).await, [Outcome::Done]);
    assert_eq!(world.at(&path_of(0)).await.as_deref(), Some("10"));
    assert!(offsets(&store.take_news()).contains(&(2, 8)));
}

#[tokio::test]
async fn what_somebody_deletes_by_hand_is_gone_and_made_anew() {
    let world = World::new().await;
    let mut store = world.open().await;
    write(&mut store, &world.tree, &[set(0, 1), set(1, 1)]).await;
    for path in [details_path("g", "t", 0), path_of(0)] {
        world.tree.delete(&path, None).await.unwrap();
    }
    let found = store.read(&world.tree, "g", &wanted(&[0, 1])).await.unwrap();
    assert_eq!(offsets(&found), [(1, 1), (0, -1)]);
    for path in [details_path("g", "t", 1), path_of(1), topic_folder("g", "t")] {
        world.tree.delete(&path, None).await.unwrap();
    }
    let found = store.read(&world.tree, "g", &wanted(&[0, 1])).await.unwrap();
    assert_eq!(offsets(&found), [(1, -1)]);
    for path in [offsets_folder("g"), group_folder("g")] {
        world.tree.delete(&path, None).await.unwrap();
    }
    assert_eq!(write(&mut store, &world.tree, &[set(0, 2)]).await, [Outcome::Done]);
    assert_eq!(world.at(&path_of(0)).await.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_group_without_offsets_leaves_no_folders() {
    let world = World::new().await;
    let mut store = world.open().await;
    let other = Change { topic: "u".to_owned(), ..set(0, 1) };
    write(&mut store, &world.tree, &[set(0, 1), other.clone()]).await;
    write(&mut store, &world.tree, &[change(0, To::Gone)]).await;
    assert_eq!(world.at(&topic_folder("g", "t")).await, None);
    assert_eq!(world.at(&topic_folder("g", "u")).await.as_deref(), Some(""));
    write(&mut store, &world.tree, &[Change { to: To::Gone, ..other }]).await;
    assert_eq!(world.at(&group_folder("g")).await, None);
    // What is not ours stays, and what is around it.
    write(&mut store, &world.tree, &[set(0, 2)]).await;
    world.by_hand("/consumers/g/owners", "x").await;
    assert_eq!(write(&mut store, &world.tree, &[change(0, To::Gone)]).await, [Outcome::Done]);
    assert_eq!(world.at(&path_of(0)).await, None);
    assert_eq!(write(&mut store, &world.tree, &[set(0, 3)]).await, [Outcome::Done]);
    assert_eq!(world.at(&path_of(0)).await.as_deref(), Some("3"));
}

#[tokio::test]
async fn a_new_session_proves_its_office_before_it_reads_or_writes() {
    let world = World::new().await;
    let mut store = world.open().await;
    write(&mut store, &world.tree, &[set(0, 1)]).await;
    let next = Flaky::over(world.home.connect().await.unwrap());
    assert_eq!(write(&mut store, &next, &[set(0, 2)]).await, [Outcome::Done]);
    world.set_state(1, 5, 1).await;
    let third = Flaky::over(world.home.connect().await.unwrap());
    let written = store.write(&third, &[set(0, 3)]).await;
    assert_eq!(written.error, Some(OffsetsError::Deposed));
    assert_eq!(*third.multis.lock().unwrap(), 0, "not even tried");
}

#[tokio::test]
async fn names_of_all_kinds_have_their_place() {
    let world = World::new().await;
    let mut store = world.open().await;
    let names = ["", "a/b", ".", "..", "ünï", "%", "\0", "\u{1f600}"];
    let changes: Vec<Change> =
        names.iter().map(|group| Change { group: (*group).to_owned(), ..set(0, 1) }).collect();
    write(&mut store, &world.tree, &changes).await;
    let mut next = world.open().await;
    let found = next.load(&world.tree, |_| true).await.unwrap();
    let mut groups: Vec<&str> = found.iter().map(|found| found.group.as_str()).collect();
    groups.sort_unstable();
    let mut names = names.to_vec();
    names.sort_unstable();
    assert_eq!(groups, names);
    // Not a name that is written there.
    world.by_hand("/consumers/sp ace/offsets/t/0", "1").await;
    assert_eq!(next.load(&world.tree, |_| true).await.unwrap().len(), names.len());
    assert_eq!(encode_offset(1), "1");
}
