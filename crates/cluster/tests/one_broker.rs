//! One broker on the embedded tree, through its whole life: set-up, registration, controller, topics,
//! kill and restart. The same calls in the same order as crate `broker` makes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use klamm_cluster::controller::{
    self, ConfigAlteration, ConfigChange, ConfigEdit, ConfigRules, ControllerHandle,
    ControllerSettings, ControllerState, EditOp, MorePartitions, NewTopic, PartitionDefaults,
    Registered, TopicDefaults, TopicRef,
};
use klamm_cluster::nodes::broker::{Endpoint, EpochNode, RegistrationNode};
use klamm_cluster::nodes::config::ConfigResource;
use klamm_cluster::registration::{
    Registration, RegistrationError, agree_on_offsets, begin_shutdown, last_registration,
    open_cluster, register,
};
use klamm_cluster::restart::{Restart, next_epoch, next_epoch_of_running};
use klamm_cluster::tree::embedded::EmbeddedHome;
use klamm_cluster::tree::{CreateMode, Home, Op, Tree};
use klamm_cluster::{ImageWatch, Member};
use klamm_env::{Env, Loop};
use klamm_protocol::ErrorCode;
use tokio::sync::watch;

const DEFAULTS: TopicDefaults = TopicDefaults { partitions: 1, replication_factor: 1 };
const PURGE_DELAY: Duration = Duration::from_millis(50);

struct Anything;

impl ConfigRules for Anything {
    fn check(&self, _: &ConfigResource, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn list_default(&self, _: &ConfigResource, _: &str) -> Option<String> {
        None
    }
}

struct Broker {
    registered: watch::Sender<Registered>,
    home: EmbeddedHome,
    tree: Arc<dyn Tree>,
    epoch: EpochNode,
    images: ImageWatch,
    controller: ControllerHandle,
}

fn registration(epoch: EpochNode, expected: Option<i32>) -> Registration {
    Registration {
        id: 1,
        node: RegistrationNode {
            endpoints: vec![Endpoint {
                listener: "PLAINTEXT".into(),
                host: "127.0.0.1".into(),
                port: 9092,
            }],
            security_protocols: BTreeMap::new(),
            inter_broker_listener: "PLAINTEXT".into(),
            rack: None,
            incarnation: epoch.incarnation,
            broker_epoch: epoch.epoch,
            features: BTreeMap::new(),
            log_dir_missing: false,
            offsets_in_tree: false,
        },
        epoch,
        expected,
        earlier_incarnations: vec![],
    }
}

impl Broker {
    async fn start(dir: &Path, restart: Restart) -> Broker {
        let env = Env::real().unwrap();
        let on = Loop::current();
        let home = EmbeddedHome::open(&env, dir.join("tree"), &on).await.unwrap();
        let tree = home.connect().await.unwrap();
        open_cluster(&*tree, "the-cluster").await.unwrap();
        let last = last_registration(&*tree, 1).await.unwrap();
        let incarnation = env.random.uuid();
        let epoch = next_epoch(last.as_ref().map(|last| &last.value), incarnation, restart);
        let expected = last.map(|last| last.version);
        register(&*tree, &registration(epoch.clone(), expected)).await.unwrap();
        let images = ImageWatch::start(Arc::clone(&tree), &on).await.unwrap();
        let settings = ControllerSettings {
            broker_id: 1,
            defaults: PartitionDefaults::default(),
            rules: Arc::new(Anything),
            purge_delay: PURGE_DELAY,
            leader_rebalance: None,
        };
        let registered = Registered { tree: Arc::clone(&tree), epoch: epoch.epoch };
        let registered = watch::Sender::new(registered);
        let controller = controller::start(registered.subscribe(), settings, env.random, &on);
        Broker { registered, home, tree, epoch, images, controller }
    }

    async fn ready(&self) -> i32 {
        match self.controller.ready().await {
            ControllerState::Active { epoch } => epoch,
            other => panic!("{other:?}"),
        }
    }

    async fn create(&self, name: &str, partitions: i32) -> Result<uuid::Uuid, ErrorCode> {
        let topic = NewTopic {
            name: name.into(),
            partitions,
            replication_factor: -1,
            ..NewTopic::default()
        };
        let mut results = self.controller.create_topics(vec![topic], DEFAULTS, false).await;
        results.pop().unwrap().map(|created| created.id).map_err(|refusal| refusal.code)
    }

    /// As the process dies: nothing is told to anybody.
    async fn kill(self) {
        self.home.expire(self.tree.session()).await;
    }
}

#[tokio::test]
async fn a_broker_sets_up_registers_decides_and_serves_its_image() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), Restart::First).await;
    assert_eq!(broker.ready().await, 1);
    let id = broker.create("t", 3).await.unwrap();
    let image = broker.images.wait_for(|image| image.topic("t").is_some()).await;
    assert_eq!(image.cluster_id(), "the-cluster");
    assert_eq!((image.controller(), image.brokers().count()), (Some(1), 1));
    let topic = image.topic("t").unwrap();
    assert_eq!((topic.id, topic.partition_count()), (id, 3));
    for partition in topic.partitions() {
        assert_eq!(partition.leader_member(), Some(Member { id: 1, epoch: broker.epoch.epoch }));
    }
}

#[tokio::test]
async fn what_was_created_is_there_after_a_kill_and_led_by_the_new_process() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), Restart::First).await;
    let id = broker.create("t", 2).await.unwrap();
    broker.kill().await;
    let broker = Broker::start(dir.path(), Restart::IntactSameBoot).await;
    assert_eq!(broker.ready().await, 2, "a controller epoch of its own");
    let led = |image: &klamm_cluster::Image| {
        image.topic("t").is_some_and(|topic| topic.partitions().all(|p| p.leader_epoch == 1))
    };
    let image = broker.images.wait_for(led).await;
    let topic = image.topic("t").unwrap();
    assert_eq!(topic.id, id);
    for partition in topic.partitions() {
        assert_eq!(partition.leader_member(), Some(Member { id: 1, epoch: 2 }));
        assert_eq!(partition.unclean_epoch, -1);
    }
}

#[tokio::test]
async fn requests_of_every_kind_one_answer_per_item() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), Restart::First).await;
    let topics = ["a", "bad name", "b", "a"].map(|name| NewTopic {
        name: name.into(),
        partitions: -1,
        replication_factor: -1,
        ..NewTopic::default()
    });
    let controller = &broker.controller;
    let validated = controller.create_topics(topics.to_vec(), DEFAULTS, true).await;
    let created = controller.create_topics(topics.to_vec(), DEFAULTS, false).await;
    for results in [&validated, &created] {
        let codes: Vec<ErrorCode> = results
            .iter()
            .map(|result| result.as_ref().map_or_else(|refusal| refusal.code, |_| ErrorCode::None))
            .collect();
        let expected = [
            ErrorCode::None,
            ErrorCode::InvalidTopicException,
            ErrorCode::None,
            ErrorCode::TopicAlreadyExists,
        ];
        assert_eq!(codes, expected);
    }
    let more = |count| MorePartitions { name: "a".into(), count, assignments: vec![] };
    let grown = controller.create_partitions(vec![more(4), more(2)], false).await;
    assert!(grown[0].is_ok() && grown[1].is_err(), "{grown:?}");
    let edit = ConfigEdit { key: "retention.ms".into(), op: EditOp::Set("5".into()) };
    let alteration = ConfigAlteration {
        resource: ConfigResource::topic("a"),
        change: ConfigChange::Edit(vec![edit]),
    };
    assert_eq!(controller.alter_configs(vec![alteration], false).await, [Ok(())]);
    let first = controller.allocate_producer_ids(1, 1).await.unwrap();
    let second = controller.allocate_producer_ids(1, 1).await.unwrap();
    assert_eq!(second.first, first.first + first.len);
    let shown = |image: &klamm_cluster::Image| {
        image.topic("a").is_some_and(|topic| topic.partition_count() == 4)
            && !image.topic_config("a").is_empty()
    };
    broker.images.wait_for(shown).await;
}

#[tokio::test]
async fn a_deleted_topic_leaves_the_tree_and_its_name_is_free_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), Restart::First).await;
    let old = broker.create("t", 2).await.unwrap();
    let deleted = broker.controller.delete_topics(vec![TopicRef::Name("t".into())]).await;
    assert_eq!(deleted, [Ok(("t".to_owned(), old))]);
    let new = broker.create("t", 1).await.unwrap();
    assert_ne!(old, new);
    let gone = broker.images.wait_for(|image| image.any_topic(old).is_none());
    let image = tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
    assert_eq!(image.topic("t").map(|topic| topic.id), Some(new));
}

#[tokio::test]
async fn a_topic_deleted_just_before_a_kill_is_purged_by_the_next_controller() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), Restart::First).await;
    let id = broker.create("t", 1).await.unwrap();
    broker.controller.delete_topics(vec![TopicRef::Id(id)]).await[0].as_ref().unwrap();
    broker.kill().await;
    let broker = Broker::start(dir.path(), Restart::Clean).await;
    assert!(broker.images.current().any_topic(id).is_some());
    let gone = broker.images.wait_for(|image| image.any_topic(id).is_none());
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
}

#[tokio::test]
async fn hazard_24_a_controller_that_was_overtaken_writes_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), Restart::First).await;
    broker.ready().await;
    // Another session takes the office, as after a session that was thought dead.
    let other = broker.home.connect().await.unwrap();
    let epoch = other.get("/controller_epoch").await.unwrap();
    let taken = vec![
        Op::delete("/controller", 0),
        Op::create_ephemeral(
            "/controller",
            br#"{"version":2,"brokerid":2,"broker_epoch":1,"nonce":5}"#.as_slice(),
        ),
        Op::set("/controller_epoch", br#"{"version":1,"epoch":2}"#.as_slice(), epoch.stat.version),
    ];
    other.multi(taken).await.unwrap();
    assert_eq!(broker.create("t", 1).await, Err(ErrorCode::NotController));
    let mut state = broker.controller.state();
    let standby = |state: &ControllerState| *state == ControllerState::Standby { controller: 2 };
    state.wait_for(standby).await.unwrap();
    assert!(broker.images.current().topic("t").is_none());
    other.close().await;
    assert_eq!(broker.ready_again().await, 3, "elected anew when the office is free");
    broker.create("t", 1).await.unwrap();
}

impl Broker {
    async fn ready_again(&self) -> i32 {
        let mut state = self.controller.state();
        let active = |state: &ControllerState| matches!(state, ControllerState::Active { .. });
        let state = state.wait_for(active).await.unwrap();
        match *state {
            ControllerState::Active { epoch } => epoch,
            ref other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_asked_of_one_controller_epoch_is_not_done_in_another() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), Restart::First).await;
    let epoch = broker.ready().await;
    let topic = |name: &str| NewTopic {
        name: name.into(),
        partitions: 1,
        replication_factor: 1,
        ..NewTopic::default()
    };
    let create = async |within: i32, name: &str| {
        let controller = broker.controller.within(within);
        let mut results = controller.create_topics(vec![topic(name)], DEFAULTS, false).await;
        results.pop().unwrap().map(drop).map_err(|refusal| refusal.code)
    };
    assert_eq!(create(epoch, "now").await, Ok(()));
    for another in [epoch - 1, epoch + 1] {
        assert_eq!(create(another, "never").await, Err(ErrorCode::NotController));
    }
    broker.create("any", 1).await.unwrap();
    let image = broker.images.wait_for(|image| image.topic("any").is_some()).await;
    assert!(image.topic("now").is_some() && image.topic("never").is_none());
}

#[tokio::test]
async fn a_topic_gets_the_id_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), Restart::First).await;
    let id = uuid::Uuid::from_u128(0x1234_5678);
    let topic = |name: &str, id| NewTopic {
        name: name.into(),
        id,
        partitions: 1,
        replication_factor: 1,
        ..NewTopic::default()
    };
    let topics = vec![topic("given", id), topic("drawn", uuid::Uuid::nil())];
    let created = broker.controller.create_topics(topics, DEFAULTS, false).await;
    assert_eq!(created[0].as_ref().map(|created| created.id), Ok(id));
    assert!(created[1].as_ref().is_ok_and(|created| !created.id.is_nil() && created.id != id));
}

#[tokio::test]
async fn after_resigning_every_request_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), Restart::First).await;
    broker.ready().await;
    begin_shutdown(&*broker.tree, 1, broker.epoch.epoch).await.unwrap();
    broker.controller.resign().await;
    assert_eq!(broker.create("t", 1).await, Err(ErrorCode::NotController));
    let office = broker.images.wait_for(|image| image.controller().is_none()).await;
    assert!(office.broker_epoch(1).unwrap().shutting_down);
}

#[tokio::test]
async fn hazard_87_a_tree_of_somebody_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::real().unwrap();
    let home = EmbeddedHome::open(&env, dir.path().join("tree"), &Loop::current()).await.unwrap();
    let tree = home.connect().await.unwrap();
    tree.create("/brokers", "".into(), CreateMode::Persistent).await.unwrap();
    let refused = open_cluster(&*tree, "x").await.unwrap_err();
    assert!(matches!(&refused, RegistrationError::ForeignTree { found } if found == "/brokers"));
    assert_eq!(tree.children("/").await.unwrap(), ["brokers"], "and not touched");
}

#[tokio::test]
async fn hazard_27_a_second_process_waits_until_the_id_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), Restart::First).await;
    let other = broker.home.connect().await.unwrap();
    let last = last_registration(&*other, 1).await.unwrap().unwrap();
    let epoch = next_epoch(Some(&last.value), uuid::Uuid::from_u128(5), Restart::Clean);
    let second = registration(epoch, Some(last.version));
    let waits = tokio::spawn({
        let other = Arc::clone(&other);
        async move { register(&*other, &second).await }
    });
    // Enough turns for everything that does not wait for the first one's end.
    for n in 0..20 {
        let path = format!("/turn{n}");
        other.create(&path, "".into(), CreateMode::Persistent).await.unwrap();
    }
    let holder = other.get("/brokers/ids/1").await.unwrap();
    assert_eq!(holder.stat.owner, Some(broker.tree.session()));
    broker.home.expire(broker.tree.session()).await;
    waits.await.unwrap().unwrap();
    let node = other.get("/brokers/ids/1").await.unwrap();
    assert_eq!(node.stat.owner, Some(other.session()));
}

#[tokio::test]
async fn an_earlier_process_on_the_same_directory_is_replaced_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), Restart::First).await;
    let other = broker.home.connect().await.unwrap();
    let last = last_registration(&*other, 1).await.unwrap().unwrap();
    let epoch = next_epoch(Some(&last.value), uuid::Uuid::from_u128(5), Restart::Clean);
    let mut second = registration(epoch, Some(last.version));
    second.earlier_incarnations = vec![broker.epoch.incarnation];
    register(&*other, &second).await.unwrap();
}

#[tokio::test]
async fn a_registration_that_was_overtaken_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), Restart::First).await;
    let other = broker.home.connect().await.unwrap();
    let stale = next_epoch(None, uuid::Uuid::from_u128(5), Restart::First);
    let refused = register(&*other, &registration(stale, None)).await.unwrap_err();
    assert!(matches!(refused, RegistrationError::Overtaken { id: 1 }), "{refused}");
}

#[tokio::test]
async fn ten_thousand_partitions_are_created_and_led_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Env::real().unwrap().clock;
    let broker = Broker::start(dir.path(), Restart::First).await;
    broker.ready().await;
    let begun = clock.monotonic();
    broker.create("wide", 10_000).await.unwrap();
    let shown = |image: &klamm_cluster::Image| {
        image.topic("wide").is_some_and(|topic| topic.partitions().count() == 10_000)
    };
    broker.images.wait_for(shown).await;
    println!("10,000 partitions created in {:?}", clock.monotonic() - begun);
    broker.kill().await;
    let begun = clock.monotonic();
    let broker = Broker::start(dir.path(), Restart::IntactSameBoot).await;
    broker.ready().await;
    let led = |image: &klamm_cluster::Image| {
        let topic = image.topic("wide");
        topic.is_some_and(|topic| topic.partitions().all(|p| p.leader_epoch == 1))
    };
    broker.images.wait_for(led).await;
    println!("10,000 partitions led again in {:?}", clock.monotonic() - begun);
}

#[tokio::test]
async fn in_the_next_session_a_broker_registers_and_its_controller_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), Restart::First).await;
    let before = broker.create("before", 1).await.unwrap();
    broker.home.expire(broker.tree.session()).await;
    assert_eq!(broker.create("between", 1).await, Err(ErrorCode::NotController));
    let tree = broker.home.connect().await.unwrap();
    let last = last_registration(&*tree, 1).await.unwrap().unwrap();
    let epoch = next_epoch_of_running(&last.value);
    register(&*tree, &registration(epoch.clone(), Some(last.version))).await.unwrap();
    broker.images.follow(Arc::clone(&tree), &Loop::current()).await.unwrap();
    let next = Registered { tree: Arc::clone(&tree), epoch: epoch.epoch };
    broker.registered.send_replace(next);
    assert_eq!(broker.ready_again().await, 2, "a controller epoch of its own");
    let after = broker.create("after", 1).await.unwrap();
    let image = broker.images.wait_for(|image| image.topic("after").is_some()).await;
    assert_eq!(image.topic("before").map(|topic| topic.id), Some(before));
    assert_eq!(image.topic("after").map(|topic| topic.id), Some(after));
    let led = |image: &klamm_cluster::Image| {
        let all = image.topics().flat_map(|topic| topic.partitions());
        all.map(|p| p.leader_member()).all(|leader| leader == Some(Member { id: 1, epoch: 2 }))
    };
    broker.images.wait_for(led).await;
}

#[tokio::test]
async fn brokers_agree_where_committed_offsets_are() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), Restart::First).await;
    agree_on_offsets(&*broker.tree, 1, true).await.expect("it is not asked about itself");
    agree_on_offsets(&*broker.tree, 2, false).await.expect("they agree");
    let refused = agree_on_offsets(&*broker.tree, 2, true).await.unwrap_err().to_string();
    for part in ["broker 1", "offsets.storage=kafka", "zookeeper"] {
        assert!(refused.contains(part), "{refused}");
    }
}
