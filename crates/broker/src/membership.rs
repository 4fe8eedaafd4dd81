//! The broker's way into the cluster and out of it (R1, R2, R12): its log directories, the tree, its
//! registration, the controller, the first election.
//!
//! ```text
//! lock directories -> tree -> judge the restart -> note the attempt -> register -> note success
//!   -> remove clean markers -> follow the image, stand for controller -> leaders are in the tree
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use klamm_cluster::controller::{
    self, ControllerHandle, ControllerSettings, ControllerState, LeaderRebalance,
    PartitionDefaults, Registered,
};
use klamm_cluster::image::{ImageError, ImageWatch};
use klamm_cluster::moving::{MoveError, move_tree};
use klamm_cluster::nodes::broker::{Endpoint, EpochNode, RegistrationNode};
use klamm_cluster::nodes::consumers::FOLDER;
use klamm_cluster::offsets;
use klamm_cluster::registration::{
    self, RegistrationError, agree_on_offsets, open_cluster, settled_registration,
};
use klamm_cluster::restart::{self, FoundDir, Pair, RestartRefusal};
use klamm_cluster::tree::embedded::{EmbeddedHome, StoreError};
use klamm_cluster::tree::zookeeper::ZooKeeperHome;
use klamm_cluster::tree::{Home, SessionState, Tree, TreeError};
use klamm_cluster::{FlushClass, Image};
use klamm_env::threads::run_blocking;
use klamm_env::{Env, Files, Loop};
use klamm_log::{
    DirRegistration, LogDir, LogDirError, MetaProperties, OpenFiles, RegisteredPair, Registration,
    uuid_to_base64,
};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};
use uuid::Uuid;

use crate::config::{self, BrokerConfig, TableRules};
use crate::ensemble;
use crate::fence::Fence;
use crate::reentry::Reentry;
use crate::request::ListenerInfo;

/// The folder of the embedded tree, in the first log directory.
const TREE_DIR: &str = "klamm.tree";
/// The same, once its content is in an ensemble.
const MOVED_TREE_DIR: &str = "klamm.tree.moved";
/// How long a deleted topic stays in the tree, so that every broker sees its mark.
const PURGE_DELAY: Duration = Duration::from_secs(60);
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

/// Where the tree lives: in the ensemble if one is named, in a file otherwise.
async fn open_home(
    env: &Env,
    config: &BrokerConfig,
    broker_id: i32,
    log_dirs: &[Arc<LogDir>],
    control: &Loop,
    homes: Option<&dyn HomeFactory>,
) -> Result<Arc<dyn Home>, MembershipError> {
    let Some(connect) = &config.zookeeper_connect else {
        let dir = log_dirs[0].path().join(TREE_DIR);
        return Ok(Arc::new(EmbeddedHome::open(env, dir, control).await?));
    };
    if let Some(homes) = homes {
        return Ok(homes.home(control));
    }
    let ensemble = ensemble::config(env, config, connect, broker_id).await?;
    Ok(Arc::new(ZooKeeperHome::new(env, ensemble, control)))
}

/// A broker that has worked alone takes its tree along into the ensemble.
async fn bring_own_tree(
    env: &Env,
    log_dirs: &[Arc<LogDir>],
    control: &Loop,
    ensemble: &dyn Tree,
) -> Result<(), MembershipError> {
    let own = log_dirs[0].path().join(TREE_DIR);
    let (files, looked_at) = (Arc::clone(&env.files), own.clone());
    let found = run_blocking(&*env.threads, move || files.metadata(&looked_at)).await;
    let failed = |error| MembershipError::Io { path: text(&own), error };
    if found.map_err(failed)?.is_none() {
        return Ok(());
    }
    let home = EmbeddedHome::open(env, own.clone(), control).await?;
    let moved = move_tree(&*home.connect().await?, ensemble).await;
    match moved {
        Ok(moved) => info!(?moved, "the tree of this data directory is in the ensemble now"),
        // It was made before its first write.
        Err(MoveError::Nothing) => {}
        Err(error) => return Err(error.into()),
    }
    drop(home);
    let (files, from, dir) = (Arc::clone(&env.files), own.clone(), log_dirs[0].path().to_owned());
    let put_aside = move || {
        files.rename(&from, &dir.join(MOVED_TREE_DIR))?;
        files.sync_dir(&dir)
    };
    run_blocking(&*env.threads, put_aside).await.map_err(failed)
}

async fn open_log_dirs(
    env: &Env,
    config: &BrokerConfig,
) -> Result<Vec<Arc<LogDir>>, MembershipError> {
    let paths: Vec<PathBuf> = config.data_dirs().into_iter().map(PathBuf::from).collect();
    let files = Arc::clone(&env.files);
    let open_files = Arc::new(OpenFiles::new(open_files_max(&*env.files, config)));
    let opened = run_blocking(&*env.threads, move || {
        let open = |path: &PathBuf| {
            let dir = LogDir::open(Arc::clone(&files), path)?;
            Ok(Arc::new(dir.with_open_files(Arc::clone(&open_files))))
        };
        paths.iter().map(open).collect::<Result<Vec<_>, LogDirError>>()
    });
    Ok(opened.await?)
}

/// Half of the descriptors is left to connections and to the files that are written to.
fn open_files_max(files: &dyn Files, config: &BrokerConfig) -> usize {
    let limit = files.raise_descriptor_limit();
    if let Ok(given @ 1..) = usize::try_from(config.log_open_files_max) {
        return given;
    }
    let half =
        limit.and_then(|limit| usize::try_from(limit.saturating_sub(DESCRIPTORS_OWN) / 2).ok());
    half.unwrap_or(OPEN_FILES_DEFAULT_MAX).clamp(1, OPEN_FILES_DEFAULT_MAX)
}

/// Descriptors that event loops, locks, the tree and a few connections need.
const DESCRIPTORS_OWN: u64 = 48;
/// Open segment files where neither the configuration nor the system says less.
const OPEN_FILES_DEFAULT_MAX: usize = 65_536;

/// For a tree that is empty: what the directories say already, or a new one.
fn new_cluster_id(env: &Env, dirs: &[Arc<LogDir>]) -> String {
    let known = dirs.iter().find_map(|dir| dir.found().meta.as_ref());
    known.map_or_else(|| uuid_to_base64(env.random.uuid()), |meta| meta.cluster_id.clone())
}

/// A broker on its way in.
struct Entry<'a> {
    env: &'a Env,
    config: &'a BrokerConfig,
    broker_id: i32,
    log_dirs: &'a [Arc<LogDir>],
}

impl Entry<'_> {
    async fn register(
        &self,
        tree: &dyn Tree,
        cluster_id: &str,
        listeners: &[ListenerInfo],
    ) -> Result<(EpochNode, RegistrationNode, DirRegistration), MembershipError> {
        agree_on_offsets(tree, self.broker_id, self.config.keeps_offsets_in_tree()).await?;
        let last = settled_registration(tree, self.broker_id, &self.attempted()).await?;
        let in_tree = last.as_ref().map(|last| Pair::from(&last.value));
        let boot_id = self.log_dirs[0].boot_id();
        let found: Vec<_> = self.log_dirs.iter().map(|dir| found(dir)).collect();
        let judgement = restart::judge(&found, in_tree, boot_id)?;
        if judgement.log_dir_missing {
            warn!(missing = ?judgement.missing_dirs, "log directories of the last run are missing");
        }
        let incarnation = self.env.random.uuid();
        let last_node = last.as_ref().map(|last| &last.value);
        let epoch = restart::next_epoch(last_node, incarnation, judgement.restart);
        info!(restart = ?judgement.restart, epoch = epoch.epoch, "judged by the log directories");
        let pair = RegisteredPair { broker_epoch: epoch.epoch, incarnation };
        let directories = self.write_meta(cluster_id).await?;
        let own = DirRegistration { pair, directories, boot_id: boot_id.to_owned() };
        self.note_attempt(in_tree, &own).await?;
        let node = self.node(&epoch, listeners, judgement.log_dir_missing);
        let registration = registration::Registration {
            id: self.broker_id,
            node: node.clone(),
            epoch: epoch.clone(),
            expected: last.as_ref().map(|last| last.version),
            earlier_incarnations: earlier_incarnations(self.log_dirs),
        };
        registration::register(tree, &registration).await?;
        self.note_success(&own).await?;
        // Another one may have come at the same time.
        agree_on_offsets(tree, self.broker_id, node.offsets_in_tree).await?;
        self.in_every_dir(|dir| dir.remove_clean_marker()).await?;
        Ok((epoch, node, own))
    }

    /// Epochs that earlier processes on these directories tried to register in.
    fn attempted(&self) -> Vec<i64> {
        let registrations =
            self.log_dirs.iter().filter_map(|dir| dir.found().registration.as_ref());
        let attempts = registrations.filter_map(|registration| registration.attempted.as_ref());
        attempts.map(|attempted| attempted.pair.broker_epoch).collect()
    }

    /// Names the new directories; answers the ids of all.
    async fn write_meta(&self, cluster_id: &str) -> Result<Vec<Uuid>, MembershipError> {
        let mut ids = Vec::new();
        for dir in self.log_dirs {
            if let Some(meta) = &dir.found().meta {
                ids.push(meta.directory_id);
                continue;
            }
            let meta = MetaProperties {
                cluster_id: cluster_id.to_owned(),
                broker_id: self.broker_id,
                directory_id: self.env.random.uuid(),
            };
            ids.push(meta.directory_id);
            self.in_dir(dir, move |dir| dir.write_meta(&meta)).await?;
        }
        Ok(ids)
    }

    /// A directory's registered pair only ever comes from its own earlier attempt (R2), and keeps
    /// the directories and the boot of that attempt.
    async fn note_attempt(
        &self,
        in_tree: Option<Pair>,
        own: &DirRegistration,
    ) -> Result<(), MembershipError> {
        for dir in self.log_dirs {
            let registered = in_tree.and_then(|pair| known(dir, pair)).cloned();
            let noted = Registration { registered, attempted: Some(own.clone()) };
            self.in_dir(dir, move |dir| dir.write_registration(&noted)).await?;
        }
        Ok(())
    }

    async fn note_success(&self, own: &DirRegistration) -> Result<(), MembershipError> {
        let noted = Registration { registered: Some(own.clone()), attempted: Some(own.clone()) };
        self.in_every_dir(move |dir| dir.write_registration(&noted)).await
    }

    async fn in_every_dir(
        &self,
        job: impl Fn(&LogDir) -> std::io::Result<()> + Send + Clone + 'static,
    ) -> Result<(), MembershipError> {
        for dir in self.log_dirs {
            self.in_dir(dir, job.clone()).await?;
        }
        Ok(())
    }

    async fn in_dir(
        &self,
        dir: &Arc<LogDir>,
        job: impl FnOnce(&LogDir) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), MembershipError> {
        let job_dir = Arc::clone(dir);
        let done = run_blocking(&*self.env.threads, move || job(&job_dir)).await;
        done.map_err(|error| MembershipError::Io { path: text(dir.path()), error })
    }

    fn node(
        &self,
        epoch: &EpochNode,
        listeners: &[ListenerInfo],
        log_dir_missing: bool,
    ) -> RegistrationNode {
        let endpoint = |info: &ListenerInfo| Endpoint {
            listener: info.name.clone(),
            host: info.advertised_host.clone(),
            port: info.advertised_port,
        };
        let inter_broker = self.config.inter_broker_listener_name.clone();
        RegistrationNode {
            endpoints: listeners.iter().map(endpoint).collect(),
            security_protocols: Default::default(),
            inter_broker_listener: inter_broker.unwrap_or_else(|| listeners[0].name.clone()),
            rack: self.config.broker_rack.clone(),
            incarnation: epoch.incarnation,
            broker_epoch: epoch.epoch,
            features: Default::default(),
            log_dir_missing,
            offsets_in_tree: self.config.keeps_offsets_in_tree(),
        }
    }

    fn controller_settings(&self) -> ControllerSettings {
        ControllerSettings {
            broker_id: self.broker_id,
            defaults: PartitionDefaults {
                min_insync_replicas: self.config.min_insync_replicas,
                unclean_election: self.config.unclean_leader_election_enable,
                flush: match self.config.flush {
                    config::FlushClass::Acked => FlushClass::Acked,
                    config::FlushClass::Os => FlushClass::Os,
                },
            },
            rules: Arc::new(TableRules),
            purge_delay: PURGE_DELAY,
            leader_rebalance: self.config.auto_leader_rebalance_enable.then(|| LeaderRebalance {
                interval: Duration::from_secs(
                    self.config.leader_imbalance_check_interval_seconds.unsigned_abs(),
                ),
                percentage: self.config.leader_imbalance_per_broker_percentage,
            }),
        }
    }
}

/// What the directory remembers of the registration that the tree shows.
fn known(dir: &LogDir, in_tree: Pair) -> Option<&DirRegistration> {
    registrations(dir).find(|known| pair_of(known.pair) == in_tree)
}

fn registrations(dir: &LogDir) -> impl Iterator<Item = &DirRegistration> {
    let found = dir.found().registration.as_ref();
    found.into_iter().flat_map(|found| [&found.registered, &found.attempted]).flatten()
}

fn earlier_incarnations(dirs: &[Arc<LogDir>]) -> Vec<Uuid> {
    dirs.iter().flat_map(|dir| registrations(dir)).map(|known| known.pair.incarnation).collect()
}

fn pair_of(pair: RegisteredPair) -> Pair {
    Pair { epoch: pair.broker_epoch, incarnation: pair.incarnation }
}

/// What restarts are judged by, from the files as they were found.
fn found(dir: &LogDir) -> FoundDir {
    let found = dir.found();
    let registration = found.registration.clone().unwrap_or_default();
    let of = |known: DirRegistration| restart::DirRegistration {
        pair: pair_of(known.pair),
        dirs: known.directories,
        boot_id: known.boot_id,
    };
    FoundDir {
        id: found.meta.as_ref().map(|meta| meta.directory_id),
        registered: registration.registered.map(of),
        attempted: registration.attempted.map(of),
        clean_marker: found.clean_marker.map(pair_of),
        missing_data: !found.missing.is_empty(),
        io_error: found.offline_boot_id.as_deref() == Some(dir.boot_id()),
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

fn text(path: &Path) -> String {
    path.display().to_string()
}
