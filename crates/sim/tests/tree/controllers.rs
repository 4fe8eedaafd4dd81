//! Brokers that register, stand for controller and decide, over an ensemble of bad manners.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use klamm_cluster::controller::{
    self, ConfigRules, ControllerHandle, ControllerSettings, ControllerState, NewTopic,
    PartitionDefaults, Registered, TopicDefaults,
};
use klamm_cluster::nodes::broker::{Endpoint, RegistrationNode};
use klamm_cluster::nodes::config::ConfigResource;
use klamm_cluster::nodes::controller::ControllerEpochNode;
use klamm_cluster::nodes::decode;
use klamm_cluster::registration::{Registration, last_registration, open_cluster, register};
use klamm_cluster::restart::{Restart, next_epoch};
use klamm_cluster::tree::{Home, SessionState};
use klamm_env::{Loop, Random};
use klamm_sim::tree::{Manners, SimEnsemble, SimHome};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use tokio::sync::watch;
use uuid::Uuid;

use super::PausedClock;

const BROKERS: i32 = 3;
/// A connection that breaks with every twentieth request would never let a whole tree be read.
const MANNERS: Manners =
    Manners { delay_max: Duration::from_millis(10), breaks: 0.002, ..Manners::BAD };
const DEFAULTS: TopicDefaults = TopicDefaults { partitions: 1, replication_factor: 1 };

struct Anything;

impl ConfigRules for Anything {
    fn check(&self, _: &ConfigResource, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn list_default(&self, _: &ConfigResource, _: &str) -> Option<String> {
        None
    }
}

struct Seeded(std::sync::Mutex<SmallRng>);

impl Random for Seeded {
    fn fill(&self, buffer: &mut [u8]) {
        self.0.lock().unwrap().fill_bytes(buffer);
    }
}

fn client(id: i32) -> String {
    format!("broker {id}")
}

/// Into the tree, whatever comes in between; the process is the same all the time.
async fn enter(home: &SimHome, id: i32) -> Registered {
    let incarnation = Uuid::from_u128(u128::from(id.unsigned_abs()) << 64 | 1);
    loop {
        let Ok(tree) = home.connect().await else { continue };
        if open_cluster(&*tree, "sim").await.is_err() {
            continue;
        }
        let Ok(last) = last_registration(&*tree, id).await else { continue };
        let restart = if last.is_some() { Restart::Clean } else { Restart::First };
        let epoch = next_epoch(last.as_ref().map(|last| &last.value), incarnation, restart);
        let endpoint = Endpoint { listener: "P".into(), host: "h".into(), port: 1 };
        let registration = Registration {
            id,
            node: RegistrationNode {
                endpoints: vec![endpoint],
                security_protocols: Default::default(),
                inter_broker_listener: "P".into(),
                rack: None,
                incarnation,
                broker_epoch: epoch.epoch,
                features: Default::default(),
                log_dir_missing: false,
                offsets_in_tree: false,
            },
            epoch: epoch.clone(),
            expected: last.map(|last| last.version),
            earlier_incarnations: vec![incarnation],
        };
        if register(&*tree, &registration).await.is_ok() {
            return Registered { tree, epoch: epoch.epoch };
        }
    }
}

/// A broker for as long as the future is polled.
async fn keep_in(home: SimHome, id: i32, registered: watch::Sender<Registered>) {
    loop {
        let tree = Arc::clone(&registered.borrow().tree);
        let mut state = tree.state();
        let _ = state.wait_for(|state| *state == SessionState::Expired).await;
        registered.send_replace(enter(&home, id).await);
    }
}

async fn active(controllers: &[ControllerHandle]) -> usize {
    loop {
        for (at, controller) in controllers.iter().enumerate() {
            if matches!(*controller.state().borrow(), ControllerState::Active { .. }) {
                return at;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Asks whoever decides until one topic more is there.
async fn create(controllers: &[ControllerHandle], name: &str) {
    loop {
        let at = active(controllers).await;
        let topic = NewTopic {
            name: name.into(),
            partitions: 3,
            replication_factor: 1,
            ..NewTopic::default()
        };
        let mut answers = controllers[at].create_topics(vec![topic], DEFAULTS, false).await;
        match answers.pop().unwrap() {
            Ok(_) => return,
            // Made by a write whose answer was lost, under another controller.
            Err(refused) if refused.code == klamm_protocol::ErrorCode::TopicAlreadyExists => return,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Each broker in turn is silent past its session's end, or only past its lease; somebody decides
/// again every time.
async fn trouble(ensemble: &SimEnsemble, controllers: &[ControllerHandle]) {
    for round in 0..2 * BROKERS {
        let silent = client(1 + round % BROKERS);
        let share = if round < BROKERS { 3 } else { 2 };
        ensemble.cut(&silent, true);
        tokio::time::sleep(MANNERS.session_timeout * share * 2 / 5).await;
        ensemble.cut(&silent, false);
        create(controllers, &format!("round{round}")).await;
    }
    ensemble.lose_quorum();
    tokio::time::sleep(MANNERS.session_timeout * 2).await;
    ensemble.regain_quorum();
}

async fn run(seed: u64) -> i32 {
    let clock = PausedClock::start();
    let ensemble = SimEnsemble::new(seed, MANNERS, Arc::clone(&clock));
    let homes: Vec<SimHome> = (1..=BROKERS)
        .map(|id| ensemble.home(&client(id), Arc::clone(&clock), &Loop::current()))
        .collect();
    let ids = 1..=BROKERS;
    let entered = join_all(ids.clone().zip(&homes).map(|(id, home)| enter(home, id))).await;
    let mut controllers = Vec::new();
    let mut kept = Vec::new();
    for ((id, home), registered) in ids.zip(homes).zip(entered) {
        let settings = ControllerSettings {
            broker_id: id,
            defaults: PartitionDefaults::default(),
            rules: Arc::new(Anything),
            purge_delay: Duration::from_secs(60),
            leader_rebalance: None,
        };
        let rng = SmallRng::seed_from_u64(seed << 8 | u64::from(id.unsigned_abs()));
        let random = Arc::new(Seeded(std::sync::Mutex::new(rng)));
        let registered = watch::Sender::new(registered);
        let on = Loop::current();
        controllers.push(controller::start(registered.subscribe(), settings, random, &on));
        kept.push(keep_in(home, id, registered));
    }
    let work = async {
        for n in 0..10 {
            create(&controllers, &format!("t{n}")).await;
        }
        trouble(&ensemble, &controllers).await;
        create(&controllers, "last").await;
    };
    let all = async {
        tokio::select! { biased; () = work => {}, _ = join_all(kept) => {} }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(600), all).await;
    assert!(in_time.is_ok(), "seed {seed}: nobody decides any more");
    check(&ensemble, seed)
}

/// Every topic is there once and whole; the controller's epoch counts elections. Answers the epoch.
fn check(ensemble: &SimEnsemble, seed: u64) -> i32 {
    let truth = ensemble.truth();
    let names = truth.children("/names").unwrap();
    let topics = truth.children("/topics").unwrap();
    assert_eq!(names.len(), 10 + 2 * 3 + 1, "seed {seed}");
    assert_eq!(topics.len(), names.len(), "seed {seed}: a topic without a name");
    for topic in topics {
        let partitions = truth.children(&format!("/topics/{topic}/p")).unwrap();
        assert_eq!(partitions.len(), 3, "seed {seed}");
    }
    let node = truth.get("/controller_epoch").unwrap();
    let epoch: ControllerEpochNode = decode("/controller_epoch", &node.data).unwrap();
    assert_eq!(epoch.epoch, node.stat.version, "I1, seed {seed}: each election counts one up");
    epoch.epoch
}

#[tokio::test(start_paused = true)]
async fn somebody_decides_again_after_every_trouble() {
    for seed in 0..20 {
        let elections = run(seed).await;
        assert!(elections > 1, "seed {seed}: the trouble never met the controller");
    }
}
