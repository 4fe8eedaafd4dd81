//! A coordinator on a real log whose syncs the test decides: nothing is committed before.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use klamm_cluster::FlushClass;
use klamm_cluster::controller::Registered;
use klamm_cluster::tree::Home;
use klamm_cluster::tree::embedded::EmbeddedHome;
use klamm_coordinator::{
    Answer, Commit, CommitOffset, GroupConfig, Groups, Join, JoinAnswer, Now, Proposal, Protocol,
    Ticket,
};
use klamm_env::{Env, Loop};
use klamm_log::{LogConfig, LogDir, TopicPartition};
use klamm_protocol::ErrorCode;
use tempfile::TempDir;
use tokio::sync::watch;
use uuid::Uuid;

use super::load::read_groups;
use super::shard::Loaded;
use super::{OFFSETS_TOPIC, Promise, Shard};
use crate::data_dir::DataDir;
use crate::fence::Fence;
use crate::flusher::sync_group;
use crate::partition::{Leadership, Partition, Role};

const LONG: Duration = Duration::from_secs(60);

struct Fixture {
    env: Env,
    dir: Arc<DataDir>,
    partition: Arc<Partition>,
    registered: watch::Sender<Registered>,
    _folder: TempDir,
}

impl Fixture {
    async fn new() -> Fixture {
        let env = Env::real().expect("a runtime for blocking work");
        let folder = TempDir::new().expect("a folder");
        let log_dir = LogDir::open(Arc::clone(&env.files), folder.path()).expect("taken");
        let dir = Arc::new(DataDir::new(Arc::new(log_dir)));
        let id = TopicPartition::new(OFFSETS_TOPIC, 0);
        let config = LogConfig::default();
        let topic_id = Uuid::from_u128(7);
        let partition =
            Arc::new(Partition::new(env.clone(), id, topic_id, Arc::clone(&dir), config));
        let tree = folder.path().join("tree");
        let home = EmbeddedHome::open(&env, tree, &Loop::current()).await.expect("opened");
        let tree = home.connect().await.expect("begun");
        let registered = watch::Sender::new(Registered { tree, epoch: 1 });
        let fixture = Fixture { env, dir, partition, registered, _folder: folder };
        fixture.lead(0);
        fixture.partition.open().await.expect("opened");
        fixture
    }

    fn lead(&self, epoch: i32) {
        let leadership = Leadership { epoch, flush: FlushClass::Acked, min_isr: 1, isr: 1 };
        self.partition.apply(Role::Leads(leadership, None), &LogConfig::default());
    }

    async fn shard(&self, epoch: i32, commit_timeout: Duration) -> Arc<Shard> {
        let config = GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() };
        let reader = self.partition.open().await.expect("opened");
        let (groups, end) = read_groups(Groups::new(config), reader).expect("readable");
        let (env, fence) = (&self.env, &Fence::new(self.registered.subscribe()));
        let partition = Arc::clone(&self.partition);
        let loaded = Loaded { groups, log_end: end, offsets: None };
        Shard::start((env, fence), partition, epoch, loaded, commit_timeout)
    }

    /// Makes durable, and so commits, what has been appended.
    fn commit_log(&self) {
        sync_group(&self.dir, &self.dir.dirty.take_now());
    }
}

fn commit(offset: i64) -> impl FnOnce(&mut Groups, Now, Ticket) -> Proposal {
    move |groups, now, ticket| {
        let offsets = vec![CommitOffset {
            topic: "t".into(),
            topic_id: Uuid::nil(),
            partition: 0,
            offset,
            leader_epoch: -1,
            metadata: None,
        }];
        let commit = Commit {
            ticket,
            api_version: 8,
            group_id: "g".into(),
            generation: -1,
            member_id: String::new(),
            group_instance_id: None,
            retention_ms: None,
            offsets,
        };
        groups.commit(now, commit)
    }
}

fn join(group: &'static str) -> impl FnOnce(&mut Groups, Now, Ticket) -> Proposal {
    move |groups, now, ticket| {
        let join = Join {
            ticket,
            api_version: 3,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            group_id: group.into(),
            member_id: String::new(),
            group_instance_id: None,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "range".into(), metadata: "".into() }],
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            reason: None,
            fresh: Uuid::from_u128(1),
        };
        groups.join(now, join)
    }
}

fn fetch(shard: &Arc<Shard>) -> Promise<Option<i64>> {
    shard.read(|groups| groups.committed("g", "t", Uuid::nil(), 0).map(|it| it.offset))
}

/// R24, HAZARDS 74: neither an acknowledgement nor a read leaves before its record is committed.
#[tokio::test]
async fn answers_and_reads_wait_for_the_records_they_stand_on() {
    let fixture = Fixture::new().await;
    let shard = fixture.shard(0, LONG).await;
    assert_eq!(fetch(&shard).now_or_never(), Some(Ok(None)), "nothing is in flight");

    let mut acknowledged = shard.call(commit(42));
    let mut read = fetch(&shard);
    assert_eq!((&mut acknowledged).now_or_never(), None);
    assert_eq!((&mut read).now_or_never(), None);
    fixture.commit_log();
    assert_eq!(acknowledged.await, Ok(Answer::Commit(vec![ErrorCode::None])));
    assert_eq!(read.await, Ok(Some(42)));
    assert_eq!(fetch(&shard).now_or_never(), Some(Ok(Some(42))));
}

#[tokio::test]
async fn what_is_not_committed_in_time_is_not_acknowledged() {
    let fixture = Fixture::new().await;
    let shard = fixture.shard(0, Duration::from_millis(20)).await;
    assert_eq!(shard.call(commit(42)).await, Err(ErrorCode::CoordinatorNotAvailable));
}

#[tokio::test]
async fn the_next_coordinator_reads_what_the_last_one_wrote() {
    let fixture = Fixture::new().await;
    let first = fixture.shard(0, LONG).await;
    let acknowledged = first.call(commit(42));
    fixture.commit_log();
    acknowledged.await.expect("committed");
    fixture.lead(1);
    let second = fixture.shard(1, LONG).await;
    assert_eq!(fetch(&second).await, Ok(Some(42)));
}

#[tokio::test]
async fn another_leader_epoch_ends_all_that_waits() {
    let fixture = Fixture::new().await;
    let shard = fixture.shard(0, LONG).await;
    let acknowledged = shard.call(commit(42));
    let joined = shard.call(join("other"));
    fixture.lead(1);
    assert_eq!(acknowledged.await, Err(ErrorCode::NotCoordinator));
    match joined.await {
        Ok(Answer::Join(JoinAnswer { error: ErrorCode::NotCoordinator, .. }))
        | Err(ErrorCode::NotCoordinator) => {}
        other => panic!("{other:?}"),
    }
    assert!(!shard.is_of(&fixture.partition, 1));
    assert_eq!(shard.call(commit(43)).await, Err(ErrorCode::NotCoordinator));
    assert_eq!(fetch(&shard).await, Err(ErrorCode::NotCoordinator));
}

#[tokio::test]
async fn timers_run_by_themselves() {
    let fixture = Fixture::new().await;
    let shard = fixture.shard(0, LONG).await;
    let joined = shard.call(join("g"));
    fixture.commit_log();
    match tokio::time::timeout(LONG, joined).await.expect("the initial delay is over") {
        Ok(Answer::Join(join)) => {
            assert_eq!((join.error, join.generation, join.members.len()), (ErrorCode::None, 1, 1));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn offsets_of_a_deleted_topic_go() {
    let fixture = Fixture::new().await;
    let shard = fixture.shard(0, LONG).await;
    let acknowledged = shard.call(commit(42));
    fixture.commit_log();
    acknowledged.await.expect("committed");
    shard.forget_topic("t", Uuid::from_u128(9)).await;
    fixture.commit_log();
    assert_eq!(fetch(&shard).await, Ok(None));
}

/// An append that is refused changes nothing and says so.
#[tokio::test]
async fn a_refused_append_is_an_error_and_no_offset() {
    let fixture = Fixture::new().await;
    let shard = fixture.shard(0, LONG).await;
    let leadership = Leadership { epoch: 0, flush: FlushClass::Acked, min_isr: 2, isr: 1 };
    fixture.partition.apply(Role::Leads(leadership, None), &LogConfig::default());
    let refused = Answer::Commit(vec![ErrorCode::CoordinatorNotAvailable]);
    assert_eq!(shard.call(commit(42)).await, Ok(refused));
    assert_eq!(fetch(&shard).await, Ok(None));
}
