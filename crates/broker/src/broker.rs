//! The process: what all connections share, and how it starts and stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use klamm_cluster::Image;
use klamm_cluster::image::{ImageUpdate, ImageUpdates};
use klamm_cluster::nodes::config::ConfigKind;
use klamm_env::network::SocketOptions;
use klamm_env::threads::run_blocking;
use klamm_env::{Env, Loop};
use klamm_log::Log;
use klamm_protocol::ErrorCode;
use thiserror::Error;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::config::{BrokerConfig, Listener, LostSession, TopicConfig};
use crate::connection::ConnectionLimits;
use crate::coordinators::{Coordinators, forget_deleted, run_upkeep};
use crate::data_dir::DataDir;
use crate::fence::Fence;
use crate::fetch_session::FetchSessions;
use crate::forwarding::ControllerClient;
use crate::membership::{HomeFactory, Membership, MembershipError};
use crate::memory::Memory;
use crate::offline_dirs::OfflineDirs;
use crate::partitions::{Identity, Partitions};
use crate::producer_ids::ProducerIds;
use crate::replication::{self, EndFetchers, Fetchers, IsrChanges, Quotas};
use crate::request::ListenerInfo;
use crate::server::{Bound, Server, ServerLimits};
use crate::{
    checkpointer, cleaner, deletion, flush_class, flusher, offline_dirs, retention, strays,
};

/// Time that connections have to end once the broker stops.
const CONNECTIONS_STOP_MAX: Duration = Duration::from_secs(5);
/// Time that answers have to leave once the broker stops.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// The process as its handlers see it: everything in it is safe to use from every loop.
pub struct Broker {
    /// The outside world.
    pub(crate) env: Env,
    /// This broker's id.
    pub(crate) id: i32,
    /// The cluster's id, as clients see it.
    pub(crate) cluster_id: String,
    /// Asks the controller, wherever it is: topics, configs, partitions, producer ids.
    pub(crate) controller: ControllerClient,
    /// The partitions that this broker hosts.
    pub(crate) partitions: Partitions,
    /// Group coordinators, by partition of `__consumer_offsets`.
    pub(crate) coordinators: Coordinators,
    /// Incremental fetch sessions of all connections.
    pub(crate) fetch_sessions: FetchSessions,
    /// Ids for idempotent producers.
    pub(crate) producer_ids: ProducerIds,
    /// What requests may occupy.
    pub(crate) memory: Memory,
    /// Tells when a log directory goes offline.
    pub(crate) offline_dirs: OfflineDirs,
    /// Whether the broker may believe its session.
    pub(crate) fence: Fence,
    /// The partitions whose in-sync replicas may have to change.
    pub(crate) isr_changes: IsrChanges,
    /// Follows the leaders of partitions that others lead.
    pub(crate) fetchers: Fetchers,
    /// How fast replicas that are out of sync may catch up.
    pub(crate) quotas: Quotas,
    config: Arc<ArcSwap<BrokerConfig>>,
    /// `zookeeper.lost.session=fence`.
    fences: bool,
    stopping: AtomicBool,
}

impl Broker {
    /// The broker's settings at this moment.
    pub(crate) fn config(&self) -> Arc<BrokerConfig> {
        self.config.load_full()
    }

    /// The effective settings of a topic: its own over the broker's.
    pub(crate) fn topic_config(&self, topic: &str) -> Arc<TopicConfig> {
        self.partitions.topic_config(topic)
    }

    /// The newest metadata that this broker has applied.
    pub(crate) fn image(&self) -> Arc<Image> {
        self.partitions.image()
    }

    /// The epoch of this broker's newest registration.
    pub(crate) fn epoch(&self) -> i64 {
        self.fence.broker_epoch()
    }

    /// # Errors
    /// NOT_LEADER_OR_FOLLOWER while `zookeeper.lost.session=fence` has the broker serve no data (R5).
    pub(crate) fn check_served(&self) -> Result<(), ErrorCode> {
        if self.fences && self.fence.is_lost() {
            Err(ErrorCode::NotLeaderOrFollower)
        } else {
            Ok(())
        }
    }

    /// Whether the broker is about to stop: nothing waits for data any more.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Takes over a newer image: settings first, then partitions. What has gone is deleted in the
    /// background.
    fn apply(self: &Arc<Self>, update: &ImageUpdate, background: &Loop) {
        let changes = &update.changes;
        if changes.everything || changes.configs.iter().any(|of| of.kind == ConfigKind::Broker) {
            let all = update.image.broker_config(None);
            let own = update.image.broker_config(Some(self.id));
            self.config.store(Arc::new(self.config.load().with_dynamic(all, own)));
        }
        let gone = self.partitions.apply(update);
        self.fetchers.follow(self, update, &gone);
        self.look_at_isr(update);
        for partition in gone {
            let delay_ms = self.config().log_segment_delete_delay_ms;
            let delay = Duration::from_millis(u64::try_from(delay_ms).unwrap_or(0));
            let (env, fence) = (self.env.clone(), self.fence.clone());
            background.spawn(deletion::run(env, fence, partition, delay));
        }
    }
}

impl Broker {
    /// Has the in-sync replicas looked at that an update may be about.
    fn look_at_isr(&self, update: &ImageUpdate) {
        let changes = &update.changes;
        if changes.everything || changes.brokers {
            replication::led_with_others(self).for_each(|led| self.isr_changes.look_at(&led));
            return;
        }
        let changed = changes.partitions.iter();
        let changed =
            changed.filter_map(|(id, index)| self.partitions.leader_of_id(*id, *index).ok());
        for partition in changed.filter(|partition| partition.is_led_with_others()) {
            self.isr_changes.look_at(&partition);
        }
    }
}

/// Why a broker did not start; one line for people.
#[derive(Debug, Error)]
pub enum StartError {
    /// A listener cannot be opened.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// As configured.
        address: String,
        /// Why.
        reason: String,
    },
    /// Data directory, tree or registration.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// Threads or other means of the machine.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// A broker that serves.
pub struct RunningBroker {
    broker: Arc<Broker>,
    address: String,
    server: Server,
    membership: Membership,
    tasks: Vec<JoinHandle<()>>,
    _end_fetchers: EndFetchers,
    // Dropped last: what runs on them ends with them.
    _loops: Vec<Loop>,
}

impl Broker {
    /// Starts a broker: it serves when this returns.
    ///
    /// # Errors
    /// [`StartError`], in one line.
    pub async fn start(env: Env, config: BrokerConfig) -> Result<RunningBroker, StartError> {
        Broker::start_with(env, config, None).await
    }

    /// As [`Broker::start`]; where `zookeeper.connect` is set, the ensemble is the one of `homes`.
    ///
    /// # Errors
    /// [`StartError`], in one line.
    pub async fn start_with(
        env: Env,
        config: BrokerConfig,
        homes: Option<Arc<dyn HomeFactory>>,
    ) -> Result<RunningBroker, StartError> {
        let cores = usize::try_from(config.event_loops).ok().filter(|count| *count > 0);
        let cores = cores.unwrap_or_else(|| env.threads.cores());
        let network = env.threads.start_loops("klamm-net", cores)?;
        let bound = bind(&env, &config, &network[0]).await?;
        let address = bound[0].address.clone();
        let background = first(env.threads.start_loops("klamm-work", 1)?);
        let listeners = bound.iter().map(|bound| (*bound.info).clone()).collect();
        let membership = Membership::join(&env, &config, listeners, homes.as_deref()).await?;
        let dirs: Vec<_> = membership
            .log_dirs()
            .iter()
            .map(|dir| Arc::new(DataDir::new(Arc::clone(dir))))
            .collect();
        let syncing = env.threads.start_loops("klamm-sync", dirs.len())?;
        let limits = limits(&config);
        let fetching = match config.zookeeper_connect {
            Some(_) => {
                let count = usize::try_from(config.num_replica_fetchers).unwrap_or(1);
                env.threads.start_loops("klamm-fetch", count)?
            }
            // There is nobody to follow.
            None => vec![background.clone()],
        };
        let fetchers = Fetchers::new(fetching.clone());
        let broker = build(env.clone(), config, &membership, dirs, fetchers);
        let mut updates = membership.images().subscribe();
        let first = updates.next().await;
        broker.apply(&first, &background);
        flush_class::follow(&broker, &first, &background);
        let strays = strays::find(&broker.env, &broker.partitions).await;
        let mut tasks = background_tasks(&broker, &background, &syncing);
        tasks.push(background.spawn(strays::remove(
            broker.env.clone(),
            broker.fence.clone(),
            strays,
        )));
        tasks.push(background.spawn(follow(Arc::clone(&broker), updates, background.clone())));
        let bound = bound.into_iter().map(|listening| listening.into_bound()).collect();
        let server = Server::start(Arc::clone(&broker), network.clone(), bound, limits);
        let mut loops = network;
        loops.extend(syncing);
        loops.extend(fetching);
        loops.push(background);
        let _end_fetchers = EndFetchers(Arc::clone(&broker));
        let _loops = loops;
        Ok(RunningBroker { broker, address, server, membership, tasks, _end_fetchers, _loops })
    }
}

impl RunningBroker {
    /// Where clients of the first listener connect: `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Waits until the last log directory is offline, after an I/O error in each; answers why, in
    /// one line. The broker serves nothing any more then, and an orderly stop would prove nothing.
    pub async fn all_disks_lost(&self) -> String {
        offline_dirs::all_lost(&self.broker).await
    }

    /// Waits until the broker cannot go on because it is not the one in the cluster any more; answers
    /// why, in one line. What it would write from now on counts nowhere.
    pub async fn replaced(&self) -> String {
        self.membership.replaced().await
    }

    /// Stops in order: no new requests, the answers of those begun, every log on stable storage,
    /// the checkpoints, the clean marker.
    pub async fn stop(self) {
        let RunningBroker { broker, server, membership, tasks, .. } = self;
        info!("stopping");
        if broker.config().controlled_shutdown_enable {
            membership.hand_over().await;
        }
        broker.stopping.store(true, Ordering::Release);
        for partition in broker.partitions.all() {
            partition.wake_all();
        }
        server.stop(CONNECTIONS_STOP_MAX).await;
        membership.resign().await;
        broker.fetchers.stop().await;
        for task in tasks {
            task.abort();
            // An aborted task ends with an error by intent.
            let _ = task.await;
        }
        let dirs = broker.partitions.dirs().to_vec();
        for dir in &dirs {
            dir.quiet().await;
        }
        let clean = run_blocking(&*broker.env.threads, move || close(&dirs)).await;
        membership.leave(clean).await;
        info!(clean, "stopped");
    }
}

/// Closes every log and stores the checkpoints; whether all of it is on stable storage.
fn close(dirs: &[Arc<DataDir>]) -> bool {
    let mut clean = true;
    for dir in dirs {
        checkpointer::store_high_watermarks(dir);
        let logs = dir.partitions().iter().filter_map(|partition| partition.close()).collect();
        for (partition, error) in Log::close_all(dir.log_dir(), logs) {
            warn!(%partition, "not closed in order: {error}");
            clean = false;
        }
        // Also what an earlier process left in the page cache of logs that this one never opened:
        // the clean marker speaks for all of the directory (R2).
        if let Err(error) = dir.log_dir().sync_volume() {
            warn!(dir = ?dir.log_dir(), "not all is known to be on stable storage: {error}");
            clean = false;
        }
        for stored in
            [dir.log_dir().write_recovery_points(), dir.log_dir().write_log_start_offsets()]
        {
            if let Err(error) = stored {
                warn!(dir = ?dir.log_dir(), "checkpoint: {error}");
                clean = false;
            }
        }
    }
    clean
}

fn build(
    env: Env,
    config: BrokerConfig,
    membership: &Membership,
    dirs: Vec<Arc<DataDir>>,
    fetchers: Fetchers,
) -> Arc<Broker> {
    let memory =
        Memory::new(usize::try_from(config.queued_max_request_bytes).unwrap_or(usize::MAX));
    let slots = usize::try_from(config.max_incremental_fetch_session_cache_slots).unwrap_or(0);
    let fences = config.zookeeper_lost_session == LostSession::Fence;
    let quotas = Quotas::new(&env.clock, &config);
    let config = Arc::new(ArcSwap::from_pointee(config));
    let identity =
        Identity { broker_id: membership.broker_id(), first_epoch: membership.broker_epoch() };
    let offline_dirs = OfflineDirs::of(&dirs);
    let partitions = Partitions::new(env.clone(), identity, dirs, Arc::clone(&config));
    Arc::new(Broker {
        controller: ControllerClient::new(env.clone(), membership),
        env,
        id: identity.broker_id,
        cluster_id: membership.cluster_id().to_owned(),
        partitions,
        coordinators: Coordinators::default(),
        fetch_sessions: FetchSessions::new(slots),
        producer_ids: ProducerIds::default(),
        memory,
        offline_dirs,
        fence: membership.fence(),
        isr_changes: IsrChanges::default(),
        fetchers,
        quotas,
        config,
        fences,
        stopping: AtomicBool::new(false),
    })
}

/// Takes over every newer image; ends only by being dropped.
async fn follow(broker: Arc<Broker>, mut updates: ImageUpdates, background: Loop) {
    loop {
        let update = updates.next().await;
        let before = broker.image();
        broker.apply(&update, &background);
        flush_class::follow(&broker, &update, &background);
        let broker = Arc::clone(&broker);
        background.spawn(async move { forget_deleted(&broker, &before, &update).await });
    }
}

fn background_tasks(
    broker: &Arc<Broker>,
    background: &Loop,
    syncing: &[Loop],
) -> Vec<JoinHandle<()>> {
    let config = broker.config();
    let interval_ms = config.replica_high_watermark_checkpoint_interval_ms;
    let interval = Duration::from_millis(u64::try_from(interval_ms).unwrap_or(0));
    let mut tasks = Vec::new();
    for (at, dir) in broker.partitions.dirs().iter().enumerate() {
        // The simulator has one loop for all.
        let sync_on = &syncing[at % syncing.len()];
        let env = &broker.env;
        tasks.push(sync_on.spawn(flusher::run(Arc::clone(dir))));
        tasks.push(background.spawn(flusher::run_later(Arc::clone(dir))));
        tasks.push(
            background.spawn(checkpointer::run_recovery_points(env.clone(), Arc::clone(dir))),
        );
        let job = checkpointer::run_high_watermarks(env.clone(), Arc::clone(dir), interval);
        tasks.push(background.spawn(job));
    }
    tasks.push(background.spawn(offline_dirs::run(Arc::clone(broker))));
    tasks.push(background.spawn(replication::change_isr(Arc::clone(broker))));
    tasks.push(background.spawn(retention::run(Arc::clone(broker))));
    tasks.push(background.spawn(cleaner::run(Arc::clone(broker))));
    tasks.push(background.spawn(run_upkeep(Arc::downgrade(broker))));
    tasks
}

fn limits(config: &BrokerConfig) -> ServerLimits {
    let size = |number: i32| usize::try_from(number).unwrap_or(0);
    let idle_ms = u64::try_from(config.connections_max_idle_ms).ok();
    ServerLimits {
        connections_max: size(config.max_connections),
        connection: ConnectionLimits {
            frame_bytes_max: size(config.socket_request_max_bytes),
            answers_max: size(config.max_inflight_requests_per_connection),
            idle_max: idle_ms.map_or(IDLE_NEVER, Duration::from_millis),
            drain_max: DRAIN_MAX,
        },
    }
}

/// Stands for no limit on idle connections: longer than any of them lives.
const IDLE_NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A listener and where it is reached.
struct Listening {
    listener: Box<dyn klamm_env::network::Listener>,
    info: Arc<ListenerInfo>,
    address: String,
}

impl Listening {
    fn into_bound(self) -> Bound {
        Bound { listener: self.listener, info: self.info }
    }
}

/// Opens the listeners, on the loop that is going to accept.
async fn bind(env: &Env, config: &BrokerConfig, on: &Loop) -> Result<Vec<Listening>, StartError> {
    let buffer = |bytes: i32| u32::try_from(bytes).ok();
    let options = SocketOptions {
        send_buffer: buffer(config.socket_send_buffer_bytes),
        receive_buffer: buffer(config.socket_receive_buffer_bytes),
        backlog: buffer(config.socket_listen_backlog_size),
    };
    let mut bound = Vec::new();
    for listener in &config.endpoints {
        let (env, listener) = (env.clone(), listener.clone());
        let binding = on.spawn(async move { bind_one(&env, &listener, options).await });
        bound.push(binding.await.expect("binding does not panic")?);
    }
    Ok(bound)
}

async fn bind_one(
    env: &Env,
    listener: &Listener,
    options: SocketOptions,
) -> Result<Listening, StartError> {
    let asked = listener.bind_address();
    let refused = |error: std::io::Error| {
        let reason = match error.kind() {
            std::io::ErrorKind::AddrInUse => "the port is in use".to_owned(),
            _ => error.to_string(),
        };
        StartError::Listen { address: asked.clone(), reason }
    };
    let bound = env.network.bind(&asked, options).await.map_err(refused)?;
    let local = bound.local_address().map_err(refused)?;
    let (host, port) = match &listener.advertised {
        Some(advertised) => (advertised.host.clone(), advertised.port),
        None if listener.host.is_empty() || local.ip().is_unspecified() => {
            ("localhost".to_owned(), local.port())
        }
        None => (listener.host.clone(), local.port()),
    };
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let address = format!("{bracketed}:{port}");
    let info =
        ListenerInfo { name: listener.name.clone(), advertised_host: host, advertised_port: port };
    Ok(Listening { listener: bound, info: Arc::new(info), address })
}

fn first(loops: Vec<Loop>) -> Loop {
    loops.into_iter().next().expect("one loop was asked for")
}
