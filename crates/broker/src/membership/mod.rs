//! The broker's way into the cluster and out of it (R1, R2, R12): its log directories, the tree, its
//! registration, the controller, the first election.
//!
//! ```text
//! lock directories -> tree -> judge the restart -> note the attempt -> register -> note success
//!   -> remove clean markers -> follow the image, stand for controller -> leaders are in the tree
//! ```

mod ensemble;
mod entry;
mod home;
mod log_dirs;
mod reentry;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use klamm_cluster::Image;
use klamm_cluster::controller::{self, ControllerHandle, ControllerState, Registered};
use klamm_cluster::image::{ImageError, ImageWatch};
use klamm_cluster::moving::MoveError;
use klamm_cluster::nodes::consumers::FOLDER;
use klamm_cluster::offsets;
use klamm_cluster::registration::{self, RegistrationError, open_cluster};
use klamm_cluster::restart::RestartRefusal;
use klamm_cluster::tree::embedded::StoreError;
use klamm_cluster::tree::{Home, SessionState, Tree, TreeError};
use klamm_env::threads::run_blocking;
use klamm_env::{Env, Loop};
use klamm_log::{LogDir, LogDirError, RegisteredPair};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};
use uuid::Uuid;

use crate::config::BrokerConfig;
use crate::fence::Fence;
use crate::request::ListenerInfo;
use entry::Entry;
use home::{bring_own_tree, open_home};
use log_dirs::{new_cluster_id, open_log_dirs};
use reentry::Reentry;

/// Longest wait for others to take over what a stopping broker leads.
const HAND_OVER_MAX: Duration = Duration::from_secs(30);
/// Longest wait for the first election.
const ELECTION_WAIT_MAX: Duration = Duration::from_secs(30);

/// Why a broker did not get in, in one line.
#[derive(Debug, Error)]
pub enum MembershipError {
    /// A log directory cannot be used.
    #[error(transparent)]
    LogDir(#[from] LogDirError),
    /// The embedded tree cannot be opened.
    #[error("the embedded tree: {0}")]
    Store(#[from] StoreError),
    /// The tree failed.
    #[error("the tree: {0}")]
    Tree(#[from] TreeError),
    /// The tree cannot be read.
    #[error("the tree: {0}")]
    Image(#[from] ImageError),
    /// The broker's own tree cannot be brought along.
    #[error("the tree of this data directory cannot be moved into the ensemble: {0}")]
    Move(#[from] MoveError),
    /// The tree refuses this broker.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// What is on disk does not fit the tree.
    #[error(transparent)]
    Restart(#[from] RestartRefusal),
    /// A file of a log directory cannot be written.
    #[error("{path}: {error}")]
    Io {
        /// The directory.
        path: String,
        /// What it said.
        error: std::io::Error,
    },
    /// A file of TLS cannot be used.
    #[error("{key}: {path} {problem}")]
    Pem {
        /// The setting that names it.
        key: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No thread could be started.
    #[error("{0}")]
    Threads(std::io::Error),
    /// Offsets would be left behind.
    #[error(
        "offsets.storage is kafka, and the tree holds committed offsets, of group {group:?} for one: \
         they would be forgotten; set offsets.storage=zookeeper, or delete {FOLDER} if they are of no \
         use any more"
    )]
    OffsetsInTree {
        /// One group that has some.
        group: String,
    },
    /// Nobody decides.
    #[error("no controller was elected within {ELECTION_WAIT_MAX:?}")]
    NoController,
}

impl MembershipError {
    fn io(path: &Path, error: std::io::Error) -> MembershipError {
        MembershipError::Io { path: path.display().to_string(), error }
    }
}

/// Gives the way to the ensemble that `zookeeper.connect` names, where it is not a real one: in a
/// simulation. All else goes as with ZooKeeper.
pub trait HomeFactory: Send + Sync {
    /// The home; its tasks run on `on`.
    fn home(&self, on: &Loop) -> Arc<dyn Home>;
}

/// A broker that is in.
pub(crate) struct Membership {
    env: Env,
    broker_id: i32,
    cluster_id: String,
    incarnation: Uuid,
    log_dirs: Vec<Arc<LogDir>>,
    images: ImageWatch,
    controller: ControllerHandle,
    /// The newest registration; the controller ends with its sender.
    registered: watch::Sender<Registered>,
    /// Why the broker is not in any more.
    ended: watch::Sender<Option<String>>,
    // It knows the loop that it runs on, which would otherwise never end.
    _reentry: Option<AbortOnDrop>,
    // What runs on it ends with it.
    _control: Loop,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Membership {
    /// Goes all the way in; when it returns, every partition that can have a leader has one.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub(crate) async fn join(
        env: &Env,
        config: &BrokerConfig,
        listeners: Vec<ListenerInfo>,
        homes: Option<&dyn HomeFactory>,
    ) -> Result<Membership, MembershipError> {
        let broker_id = config.node_id.unwrap_or(config.broker_id);
        let log_dirs = open_log_dirs(env, config).await?;
        let control =
            env.threads.start_loops("klamm-control", 1).map_err(MembershipError::Threads)?;
        let control = control.into_iter().next().expect("one loop was asked for");
        let home = open_home(env, config, broker_id, &log_dirs, &control, homes).await?;
        let tree = home.connect().await?;
        if config.zookeeper_connect.is_some() {
            bring_own_tree(env, &log_dirs, &control, &*tree).await?;
        }
        let cluster = open_cluster(&*tree, &new_cluster_id(env, &log_dirs)).await?;
        for dir in &log_dirs {
            dir.check_owner(&cluster.cluster_id, broker_id)?;
        }
        if !config.keeps_offsets_in_tree()
            && let Some(group) = offsets::any_group(&*tree).await?
        {
            return Err(MembershipError::OffsetsInTree { group });
        }
        let entry = Entry { env, config, broker_id, log_dirs: &log_dirs };
        let (epoch, node, own) = entry.register(&*tree, &cluster.cluster_id, &listeners).await?;
        let images = ImageWatch::start(Arc::clone(&tree), &control).await?;
        let settings = entry.controller_settings();
        let random = Arc::clone(&env.random);
        let registered = Registered { tree: Arc::clone(&tree), epoch: epoch.epoch };
        let registered = watch::Sender::new(registered);
        let ended = watch::Sender::new(None);
        let controller = controller::start(registered.subscribe(), settings, random, &control);
        await_leaders(&*tree, &controller, &images, broker_id, epoch.epoch).await?;
        info!(broker = broker_id, epoch = epoch.epoch, cluster = cluster.cluster_id, "registered");
        let mut reentry = None;
        if config.zookeeper_connect.is_some() {
            let job = Reentry {
                home,
                threads: Arc::clone(&env.threads),
                control: control.clone(),
                broker_id,
                cluster_id: cluster.cluster_id.clone(),
                log_dirs: log_dirs.clone(),
                node,
                own,
                images: images.clone(),
                registered: registered.clone(),
                ended: ended.clone(),
            };
            reentry = Some(AbortOnDrop(control.spawn(job.run())));
        }
        Ok(Membership {
            env: env.clone(),
            broker_id,
            cluster_id: cluster.cluster_id,
            incarnation: epoch.incarnation,
            log_dirs,
            images,
            controller,
            registered,
            ended,
            _reentry: reentry,
            _control: control,
        })
    }

    /// This broker's id.
    pub(crate) fn broker_id(&self) -> i32 {
        self.broker_id
    }

    /// The epoch of the newest registration.
    pub(crate) fn broker_epoch(&self) -> i64 {
        self.registered.borrow().epoch
    }

    /// Whether the session may be believed.
    pub(crate) fn fence(&self) -> Fence {
        Fence::new(self.registered.subscribe())
    }

    /// Waits until the broker cannot go on; answers why.
    pub(crate) async fn replaced(&self) -> String {
        let mut ended = self.ended.subscribe();
        let reason = ended.wait_for(Option::is_some).await.map(|reason| reason.clone());
        reason.ok().flatten().expect("the sender is in `self`")
    }

    /// The cluster's id.
    pub(crate) fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The log directories, locked.
    pub(crate) fn log_dirs(&self) -> &[Arc<LogDir>] {
        &self.log_dirs
    }

    /// The metadata, as it changes.
    pub(crate) fn images(&self) -> &ImageWatch {
        &self.images
    }

    /// The controller, here or elsewhere.
    pub(crate) fn controller(&self) -> &ControllerHandle {
        &self.controller
    }

    /// First step of an orderly end: this broker gets no leadership any more, and others take over
    /// what it leads. Waits until they have, no longer than [`HAND_OVER_MAX`].
    pub(crate) async fn hand_over(&self) {
        let Registered { tree, epoch } = self.registered.borrow().clone();
        let told = registration::begin_shutdown(&*tree, self.broker_id, epoch).await;
        if let Err(error) = told {
            warn!("the tree is not told of the shutdown: {error}");
            return;
        }
        let id = self.broker_id;
        let handed_over = self.images.wait_for(|image| nothing_to_hand_over(image, id));
        if tokio::time::timeout(HAND_OVER_MAX, handed_over).await.is_err() {
            warn!("not everything that this broker leads was taken over within {HAND_OVER_MAX:?}");
        }
    }

    /// Next step: it decides nothing any more.
    pub(crate) async fn resign(&self) {
        self.controller.resign().await;
    }

    /// Last step, after every log is closed; `clean` if all of them are on stable storage.
    pub(crate) async fn leave(self, clean: bool) {
        let Registered { tree, epoch } = self.registered.borrow().clone();
        // After a failed sync in this boot the page cache may say more than the disk holds, of logs
        // that nobody has opened and written anew since (R23).
        let doubtful = |dir: &Arc<LogDir>| dir.offline().is_some() || dir.distrusts_page_cache();
        if clean && !self.log_dirs.iter().any(doubtful) {
            self.write_clean_markers(epoch).await;
        }
        // Others need not wait until the session is over by itself.
        tree.close().await;
    }

    async fn write_clean_markers(&self, broker_epoch: i64) {
        let pair = RegisteredPair { broker_epoch, incarnation: self.incarnation };
        let dirs = self.log_dirs.clone();
        run_blocking(&*self.env.threads, move || {
            for dir in dirs {
                if let Err(error) = dir.write_clean_marker(pair) {
                    warn!(dir = %dir.path().display(), "no clean marker: {error}");
                }
            }
        })
        .await;
    }
}

/// Waits until it is known who decides, and until this broker's image shows what was decided for its
/// partitions.
async fn await_leaders(
    tree: &dyn Tree,
    controller: &ControllerHandle,
    images: &ImageWatch,
    broker_id: i32,
    broker_epoch: i64,
) -> Result<(), MembershipError> {
    let led = async {
        if let ControllerState::Active { epoch } = controller.ready().await {
            images.wait_for(|image| image.controller_epoch() >= epoch).await;
            images.wait_for(|image| no_stale_leader(image, broker_id, broker_epoch)).await;
        }
    };
    let mut state = tree.state();
    tokio::select! {
        biased;
        () = led => Ok(()),
        // An error means that nobody keeps the session any more. Without it nothing will be known.
        _ = state.wait_for(|state| *state == SessionState::Expired) => {
            Err(TreeError::SessionExpired.into())
        }
        () = tokio::time::sleep(ELECTION_WAIT_MAX) => Err(MembershipError::NoController),
    }
}

/// Whether the broker leads nothing that another broker could lead.
fn nothing_to_hand_over(image: &Image, broker_id: i32) -> bool {
    let stays = |id: i32| {
        id != broker_id
            && image.broker(id).is_some()
            && image.broker_epoch(id).is_some_and(|epoch| !epoch.shutting_down)
    };
    image.topics().flat_map(|topic| topic.partitions()).all(|partition| {
        let successor = |member: &klamm_cluster::Member| {
            stays(member.id)
                && partition.replicas().contains(&member.id)
                && !partition.lost_its_disk(image, member.id)
        };
        partition.leader != Some(broker_id) || !partition.isr.iter().any(successor)
    })
}

/// Whether no partition is led by an earlier incarnation of this broker (R12).
fn no_stale_leader(image: &Image, broker_id: i32, broker_epoch: i64) -> bool {
    image.topics().flat_map(|topic| topic.partitions()).all(|partition| {
        let stale =
            |member: &klamm_cluster::Member| member.id == broker_id && member.epoch < broker_epoch;
        partition.leader != Some(broker_id) || !partition.isr.iter().any(stale)
    })
}
