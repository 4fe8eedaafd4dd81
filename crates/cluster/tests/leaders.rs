//! Two brokers on one tree, and leadership that returns to the preferred one: on request, and by
//! itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use klamm_cluster::controller::{
    self, ConfigRules, ControllerHandle, ControllerSettings, ControllerState, ElectionType,
    LeaderRebalance, NewTopic, PartitionDefaults, Registered, TopicDefaults,
};
use klamm_cluster::nodes::broker::{Endpoint, RegistrationNode};
use klamm_cluster::nodes::config::ConfigResource;
use klamm_cluster::registration::{Registration, last_registration, open_cluster, register};
use klamm_cluster::restart::{Restart, next_epoch};
use klamm_cluster::tree::embedded::EmbeddedHome;
use klamm_cluster::tree::{Home, Tree};
use klamm_cluster::{Image, ImageWatch};
use klamm_env::{Env, Loop};
use klamm_protocol::ErrorCode;
use tokio::sync::watch;
use uuid::Uuid;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

struct Anything;

impl ConfigRules for Anything {
    fn check(&self, _: &ConfigResource, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn list_default(&self, _: &ConfigResource, _: &str) -> Option<String> {
        None
    }
}

/// Broker 1 decides, broker 2 comes and goes; `t`-0 prefers broker 2.
struct Cluster {
    home: EmbeddedHome,
    images: ImageWatch,
    controller: ControllerHandle,
    second: Arc<dyn Tree>,
    // The controller ends with it.
    _registered: watch::Sender<Registered>,
}

async fn enter(home: &EmbeddedHome, id: i32, restart: Restart) -> Registered {
    let tree = home.connect().await.unwrap();
    open_cluster(&*tree, "the-cluster").await.unwrap();
    let last = last_registration(&*tree, id).await.unwrap();
    let before = last.as_ref().map_or(0, |last| last.value.epoch);
    let process = u128::from(id.unsigned_abs()) << 64 | u128::from(before.unsigned_abs());
    let incarnation = Uuid::from_u128(process);
    let epoch = next_epoch(last.as_ref().map(|last| &last.value), incarnation, restart);
    let registration = Registration {
        id,
        node: RegistrationNode {
            endpoints: vec![Endpoint { listener: "P".into(), host: "h".into(), port: 1 }],
            security_protocols: BTreeMap::new(),
            inter_broker_listener: "P".into(),
            rack: None,
            incarnation,
            broker_epoch: epoch.epoch,
            features: BTreeMap::new(),
            log_dir_missing: false,
            offsets_in_tree: false,
        },
        epoch: epoch.clone(),
        expected: last.map(|last| last.version),
        earlier_incarnations: vec![],
    };
    register(&*tree, &registration).await.unwrap();
    Registered { tree, epoch: epoch.epoch }
}

impl Cluster {
    async fn start(dir: &Path, leader_rebalance: Option<LeaderRebalance>) -> Cluster {
        let env = Env::real().unwrap();
        let on = Loop::current();
        let home = EmbeddedHome::open(&env, dir.join("tree"), &on).await.unwrap();
        let registered = enter(&home, 1, Restart::First).await;
        let second = enter(&home, 2, Restart::First).await.tree;
        let images = ImageWatch::start(Arc::clone(&registered.tree), &on).await.unwrap();
        let settings = ControllerSettings {
            broker_id: 1,
            defaults: PartitionDefaults::default(),
            rules: Arc::new(Anything),
            purge_delay: Duration::from_secs(60),
            leader_rebalance,
        };
        let registered = watch::Sender::new(registered);
        let controller = controller::start(registered.subscribe(), settings, env.random, &on);
        assert!(matches!(controller.ready().await, ControllerState::Active { .. }));
        let topic = NewTopic {
            name: "t".into(),
            partitions: -1,
            replication_factor: -1,
            assignments: [(0, vec![2, 1])].into(),
            ..NewTopic::default()
        };
        let defaults = TopicDefaults { partitions: 1, replication_factor: 1 };
        let created = controller.create_topics(vec![topic], defaults, false).await;
        assert!(created[0].is_ok(), "{created:?}");
        Cluster { home, images, controller, second, _registered: registered }
    }

    async fn await_leader(&self, id: i32) {
        let leads = |image: &Image| {
            let topic = image.topic("t");
            topic.and_then(|topic| topic.partition(0)?.leader) == Some(id)
        };
        let led = tokio::time::timeout(PATIENCE, self.images.wait_for(leads)).await;
        assert!(led.is_ok(), "broker {id} does not lead");
    }

    /// Broker 2 goes, broker 1 leads, and broker 2 comes back with all that it had.
    async fn bounce_the_preferred(&mut self) {
        self.await_leader(2).await;
        self.home.expire(self.second.session()).await;
        self.await_leader(1).await;
        self.second = enter(&self.home, 2, Restart::Clean).await.tree;
        let is_back = self.images.wait_for(|image| image.broker(2).is_some());
        tokio::time::timeout(PATIENCE, is_back).await.expect("broker 2 is back");
    }
}

#[tokio::test]
async fn leadership_returns_by_itself_to_a_broker_that_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let rebalance = LeaderRebalance { interval: Duration::from_millis(20), percentage: 10 };
    let mut cluster = Cluster::start(dir.path(), Some(rebalance)).await;
    for _ in 0..3 {
        cluster.bounce_the_preferred().await;
        cluster.await_leader(2).await;
    }
}

#[tokio::test]
async fn leadership_returns_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path(), None).await;
    cluster.bounce_the_preferred().await;
    let elections = cluster.controller.elect_leaders(ElectionType::Preferred, None).await.unwrap();
    let shown: Vec<_> = elections.iter().map(|it| (&*it.topic, it.partition)).collect();
    assert_eq!(shown, [("t", 0)]);
    let epoch = *elections[0].outcome.as_ref().unwrap();
    cluster.await_leader(2).await;
    let image = cluster.images.current();
    assert!(image.topic("t").unwrap().partition(0).unwrap().leader_epoch >= epoch);

    let named = vec![("t".into(), 0), ("t".into(), 7), ("u".into(), 0)];
    let asked = cluster.controller.elect_leaders(ElectionType::Preferred, Some(named));
    let codes: Vec<_> = asked
        .await
        .unwrap()
        .into_iter()
        .map(|it| it.outcome.map_err(|refusal| refusal.code))
        .collect();
    let unknown = Err(ErrorCode::UnknownTopicOrPartition);
    assert_eq!(codes, [Err(ErrorCode::ElectionNotNeeded), unknown, unknown]);

    cluster.controller.resign().await;
    let refused = cluster.controller.elect_leaders(ElectionType::Preferred, None).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::NotController);
}
