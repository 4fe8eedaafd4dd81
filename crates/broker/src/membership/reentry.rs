//! The way back into the cluster of a process that never stopped: its session with the tree is over,
//! the next one starts from nothing (R6).
//!
//! ```text
//! session over -> new session -> same cluster? still ours? -> note the attempt -> register
//!   -> note success -> read everything -> controller and fence go over
//! ```

use std::sync::Arc;
use std::time::Duration;

use klamm_cluster::controller::Registered;
use klamm_cluster::image::{ImageError, ImageWatch};
use klamm_cluster::nodes::broker::RegistrationNode;
use klamm_cluster::nodes::cluster::ClusterNode;
use klamm_cluster::nodes::{NodeKey, decode};
use klamm_cluster::registration::{self, RegistrationError, last_registration};
use klamm_cluster::restart;
use klamm_cluster::tree::{Home, SessionState, Tree, TreeError};
use klamm_env::threads::run_blocking;
use klamm_env::{Loop, Threads};
use klamm_log::{DirRegistration, LogDir, RegisteredPair, Registration};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// Pause between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// What it takes to come back.
pub(super) struct Reentry {
    pub(super) home: Arc<dyn Home>,
    pub(super) threads: Arc<dyn Threads>,
    pub(super) control: Loop,
    pub(super) broker_id: i32,
    pub(super) cluster_id: String,
    pub(super) log_dirs: Vec<Arc<LogDir>>,
    /// The broker as it described itself.
    pub(super) node: RegistrationNode,
    /// The registration that the directories know.
    pub(super) own: DirRegistration,
    pub(super) images: ImageWatch,
    pub(super) registered: watch::Sender<Registered>,
    /// Why the broker cannot go on.
    pub(super) ended: watch::Sender<Option<String>>,
}

/// Why an attempt failed.
enum Failed {
    /// It may go better the next time.
    Now(String),
    /// The broker is not the one in the tree any more.
    ForGood(String),
}

impl Reentry {
    /// Comes back as often as a session ends; returns when the broker cannot go on.
    pub(super) async fn run(mut self) {
        loop {
            let tree = Arc::clone(&self.registered.borrow().tree);
            let mut state = tree.state();
            // An error means that nobody keeps the session any more: it is over.
            let _ = state.wait_for(|state| *state == SessionState::Expired).await;
            warn!(session = %tree.session(), "the session with the tree is over");
            match self.come_back().await {
                Ok(registered) => {
                    let epoch = registered.epoch;
                    info!(session = %registered.tree.session(), epoch, "registered again");
                    self.registered.send_replace(registered);
                }
                Err(reason) => {
                    error!("{reason}");
                    self.ended.send_replace(Some(reason));
                    return;
                }
            }
        }
    }

    async fn come_back(&mut self) -> Result<Registered, String> {
        loop {
            match self.enter().await {
                Ok(registered) => return Ok(registered),
                Err(Failed::ForGood(reason)) => return Err(reason),
                Err(Failed::Now(reason)) => {
                    warn!("not back in the cluster yet: {reason}");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn enter(&mut self) -> Result<Registered, Failed> {
        let tree = self.home.connect().await?;
        tree.catch_up().await?;
        self.same_cluster(&*tree).await?;
        let last = last_registration(&*tree, self.broker_id).await?;
        let Some(last) = last.filter(|last| last.incarnation == self.own.pair.incarnation) else {
            let id = self.broker_id;
            let reason = format!("broker id {id} was taken by another process in the meantime");
            return Err(Failed::ForGood(reason));
        };
        // A process that never stopped has lost nothing.
        let epoch = restart::next_epoch_of_running(&last.value);
        let pair = RegisteredPair { broker_epoch: epoch.epoch, incarnation: epoch.incarnation };
        let next = DirRegistration { pair, ..self.own.clone() };
        let before = DirRegistration {
            pair: RegisteredPair { broker_epoch: last.epoch, incarnation: last.incarnation },
            ..self.own.clone()
        };
        self.note(Registration { registered: Some(before), attempted: Some(next.clone()) }).await?;
        let registration = registration::Registration {
            id: self.broker_id,
            node: RegistrationNode { broker_epoch: epoch.epoch, ..self.node.clone() },
            expected: Some(last.version),
            earlier_incarnations: vec![self.own.pair.incarnation],
            epoch: epoch.clone(),
        };
        let in_tree = self.node.offsets_in_tree;
        registration::agree_on_offsets(&*tree, self.broker_id, in_tree).await?;
        registration::register(&*tree, &registration).await?;
        // Another one may have come at the same time.
        registration::agree_on_offsets(&*tree, self.broker_id, in_tree).await?;
        self.note(Registration { registered: Some(next.clone()), attempted: Some(next.clone()) })
            .await?;
        self.own = next;
        self.images.follow(Arc::clone(&tree), &self.control).await?;
        Ok(Registered { tree, epoch: epoch.epoch })
    }

    async fn same_cluster(&self, tree: &dyn Tree) -> Result<(), Failed> {
        let path = NodeKey::Cluster.path();
        let node = tree.find(&path).await?;
        let node = node.map(|node| decode::<ClusterNode>(&path, &node.data));
        match node {
            Some(Ok(node)) if node.cluster_id == self.cluster_id => Ok(()),
            Some(Ok(node)) => {
                let (found, own) = (node.cluster_id, &self.cluster_id);
                Err(Failed::ForGood(format!("the tree is cluster {found}'s now, not {own}'s")))
            }
            Some(Err(error)) => Err(Failed::ForGood(error.to_string())),
            None => Err(Failed::ForGood("the tree has been emptied".to_owned())),
        }
    }

    async fn note(&self, registration: Registration) -> Result<(), Failed> {
        for dir in &self.log_dirs {
            let (job_dir, job) = (Arc::clone(dir), registration.clone());
            let noted =
                run_blocking(&*self.threads, move || job_dir.write_registration(&job)).await;
            noted.map_err(|error| Failed::ForGood(format!("{}: {error}", dir.path().display())))?;
        }
        Ok(())
    }
}

impl From<TreeError> for Failed {
    fn from(error: TreeError) -> Failed {
        Failed::Now(error.to_string())
    }
}

impl From<RegistrationError> for Failed {
    fn from(error: RegistrationError) -> Failed {
        match error {
            RegistrationError::Node(error) => Failed::ForGood(error.to_string()),
            // Also an overtaken one: the next look says by whom.
            error => Failed::Now(error.to_string()),
        }
    }
}

impl From<ImageError> for Failed {
    fn from(error: ImageError) -> Failed {
        Failed::Now(error.to_string())
    }
}
