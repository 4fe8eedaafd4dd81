//! The way to the right broker: metadata, and the connections that it leads to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use klamm_env::Env;
use klamm_protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use klamm_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use klamm_protocol::{ApiKey, ErrorCode};
use tokio::time::Instant;
use uuid::Uuid;

use crate::config::ClientConfig;
use crate::connection::Connection;
use crate::error::{ClientError, check};
use crate::metadata::{Broker, Metadata, Topic, TopicPartition};
use crate::retry::Retry;

const COORDINATOR_KEY_TYPE_GROUP: i8 = 0;

/// The first version of FindCoordinator that takes several keys.
const FIND_COORDINATOR_BATCHED_FROM: i16 = 4;

/// Answers come in the order of the questions, so that one which waits on purpose holds up those
/// behind it. Each kind of traffic has a connection of its own to each broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// What is answered at once.
    General,
    /// Produce.
    Produce,
    /// Fetch of one consumer, which waits for data.
    Fetch(u64),
    /// One member of a group with its coordinator, where JoinGroup waits for the others and
    /// heartbeats of another member must not wait with it.
    Member(u64),
}

/// A cluster as a client sees it; clones share metadata and connections.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    env: Env,
    config: ClientConfig,
    metadata: Mutex<Arc<Metadata>>,
    connections: Mutex<BTreeMap<(String, Lane), Arc<Slot>>>,
    /// Addresses by group.
    coordinators: Mutex<BTreeMap<String, String>>,
    refreshing: tokio::sync::Mutex<()>,
    next_lane: AtomicU64,
}

/// One connection at most per address and lane; whoever needs it waits for whoever makes it.
type Slot = tokio::sync::Mutex<Option<Connection>>;

/// A partition's leader, ready to be asked.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    pub(crate) broker: i32,
    pub(crate) epoch: i32,
    pub(crate) topic_id: Uuid,
    pub(crate) connection: Connection,
}

impl Cluster {
    /// Connects to any of the bootstrap brokers and learns of the others.
    pub async fn connect(env: Env, config: ClientConfig) -> Result<Self, ClientError> {
        if config.bootstrap.is_empty() {
            return Err(ClientError::Config("no bootstrap brokers are given".to_owned()));
        }
        let shared = Shared {
            env,
            config,
            metadata: Mutex::new(Arc::new(Metadata::empty())),
            connections: Mutex::default(),
            coordinators: Mutex::default(),
            next_lane: AtomicU64::new(0),
            refreshing: tokio::sync::Mutex::default(),
        };
        let cluster = Self { shared: Arc::new(shared) };
        cluster.refresh(&[]).await?;
        Ok(cluster)
    }

    /// Clocks and the rest of the outside world.
    pub fn env(&self) -> &Env {
        &self.shared.env
    }

    /// The settings it was made with.
    pub fn config(&self) -> &ClientConfig {
        &self.shared.config
    }

    /// What is known now.
    pub fn metadata(&self) -> Arc<Metadata> {
        Arc::clone(&self.shared.metadata.lock().expect("no holder of the lock panics"))
    }

    /// Asks for the brokers and these topics.
    pub async fn refresh(&self, topics: &[String]) -> Result<Arc<Metadata>, ClientError> {
        self.refresh_named(Some(topics), self.shared.config.allow_auto_topic_creation).await
    }

    /// Asks for the brokers and these topics; none of them is created by asking.
    pub async fn refresh_existing(&self, topics: &[String]) -> Result<Arc<Metadata>, ClientError> {
        self.refresh_named(Some(topics), false).await
    }

    /// Asks for the brokers and all topics there are.
    pub async fn refresh_all(&self) -> Result<Arc<Metadata>, ClientError> {
        self.refresh_named(None, false).await
    }

    async fn refresh_named(
        &self,
        topics: Option<&[String]>,
        create: bool,
    ) -> Result<Arc<Metadata>, ClientError> {
        let _one_at_a_time = self.shared.refreshing.lock().await;
        let named = |name: &String| MetadataRequestTopic {
            name: Some(name.clone()),
            ..MetadataRequestTopic::default()
        };
        let request = MetadataRequest {
            topics: topics.map(|topics| topics.iter().map(named).collect()),
            allow_auto_topic_creation: create,
            ..MetadataRequest::default()
        };
        let response = self.any().await?.request(&request).await?;
        check(response.error_code, None, || "metadata".to_owned())?;
        let mut metadata = self.shared.metadata.lock().expect("no holder of the lock panics");
        *metadata = Arc::new(metadata.updated(response, Instant::now()));
        Ok(Arc::clone(&metadata))
    }

    /// A connection to whichever broker can be reached: those known, then those of the bootstrap.
    pub async fn any(&self) -> Result<Connection, ClientError> {
        let metadata = self.metadata();
        let known = metadata.brokers.values().map(Broker::address);
        let addresses: Vec<_> = known.chain(self.shared.config.bootstrap.iter().cloned()).collect();
        if let Some(connection) = addresses.iter().find_map(|address| self.open(address)) {
            return Ok(connection);
        }
        let mut failed = None;
        for address in addresses {
            match self.connection(&address, Lane::General).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.expect("the bootstrap list is not empty"))
    }

    /// The connection to `address` for general traffic, if there is one.
    fn open(&self, address: &str) -> Option<Connection> {
        let slot = self.slot(address, Lane::General);
        let connection = slot.try_lock().ok()?.clone();
        connection.filter(|connection| !connection.is_closed())
    }

    fn slot(&self, address: &str, lane: Lane) -> Arc<Slot> {
        let mut connections = self.shared.connections.lock().expect("no holder panics");
        Arc::clone(connections.entry((address.to_owned(), lane)).or_default())
    }

    /// The connection to `address`, made if there is none.
    pub async fn connection(&self, address: &str, lane: Lane) -> Result<Connection, ClientError> {
        let slot = self.slot(address, lane);
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let Shared { env, config, .. } = &*self.shared;
        let connection = Connection::connect(env, config, address).await?;
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// The connection to broker `id`.
    pub async fn broker(&self, id: i32, lane: Lane) -> Result<Connection, ClientError> {
        let address = self.metadata().brokers.get(&id).map(Broker::address);
        match address {
            Some(address) => self.connection(&address, lane).await,
            None => Err(ClientError::broker(ErrorCode::BrokerNotAvailable, format!("broker {id}"))),
        }
    }

    /// The connection to the broker that takes changes.
    pub async fn controller(&self) -> Result<Connection, ClientError> {
        let controller = self.metadata().controller;
        match controller {
            Some(id) if self.metadata().brokers.contains_key(&id) => {
                self.broker(id, Lane::General).await
            }
            _ => self.any().await,
        }
    }

    /// The topic, asked for if it is not known or was not heard of for long.
    pub async fn topic(&self, name: &str) -> Result<Topic, ClientError> {
        if let Some(topic) = self.fresh_topic(name) {
            return Ok(topic);
        }
        let mut retry = Retry::new(&self.shared.config, format!("topic {name}"));
        loop {
            let tried = self.refresh(&[name.to_owned()]).await;
            match tried.and_then(|metadata| topic_of(&metadata, name)) {
                Ok(topic) => return Ok(topic),
                Err(error) => retry.pause(error).await?,
            }
        }
    }

    /// How many partitions the topic has, if that was heard of lately.
    pub(crate) fn fresh_partition_count(&self, name: &str) -> Option<usize> {
        let metadata = self.shared.metadata.lock().expect("no holder of the lock panics");
        let topic = metadata.topics.get(name)?;
        self.is_fresh(&metadata, name).then_some(topic.partitions.len())
    }

    fn fresh_topic(&self, name: &str) -> Option<Topic> {
        let metadata = self.metadata();
        metadata.topics.get(name).filter(|_| self.is_fresh(&metadata, name)).cloned()
    }

    fn is_fresh(&self, metadata: &Metadata, name: &str) -> bool {
        let heard = metadata.heard.get(name);
        heard.is_some_and(|heard| heard.elapsed() < self.shared.config.metadata_age_max)
    }

    /// The partition's leader by what is known now.
    pub(crate) async fn leader(
        &self,
        partition: &TopicPartition,
        lane: Lane,
    ) -> Result<Leader, ClientError> {
        if self.fresh_partition_count(&partition.topic).is_none() {
            self.topic(&partition.topic).await?;
        }
        let metadata = self.metadata();
        let topic_id = metadata.topics.get(&partition.topic).map_or(Uuid::nil(), |topic| topic.id);
        let Some(found) = metadata.partition(&partition.topic, partition.partition) else {
            return Err(ClientError::NoSuchPartition(partition.clone()));
        };
        // One that is not among the brokers has gone, or is not heard of yet.
        let leader = found.leader.and_then(|id| Some((id, metadata.brokers.get(&id)?.address())));
        let Some((broker, address)) = leader else {
            let what = partition.to_string();
            return Err(ClientError::broker(ErrorCode::LeaderNotAvailable, what));
        };
        let connection = self.connection(&address, lane).await?;
        Ok(Leader { broker, epoch: found.leader_epoch, topic_id, connection })
    }

    /// A number for lanes that nobody else uses.
    pub(crate) fn new_lane(&self) -> u64 {
        self.shared.next_lane.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets the connections of a lane go, once nobody uses them.
    pub(crate) fn drop_lane(&self, number: u64) {
        let mut connections = self.shared.connections.lock().expect("no holder panics");
        connections
            .retain(|(_, lane), _| ![Lane::Fetch(number), Lane::Member(number)].contains(lane));
    }

    /// The broker that coordinates `group`; who it is, is remembered.
    pub async fn coordinator(&self, group: &str, lane: Lane) -> Result<Connection, ClientError> {
        let mut retry = Retry::new(&self.shared.config, format!("coordinator of group {group}"));
        loop {
            let tried = match self.coordinator_address(group).await {
                Ok(address) => self.connection(&address, lane).await,
                Err(error) => Err(error),
            };
            match tried {
                Ok(connection) => return Ok(connection),
                Err(error) => retry.pause(error).await?,
            }
            self.forget_coordinator(group);
        }
    }

    /// Asks anew next time: the coordinator was of no use.
    pub fn forget_coordinator(&self, group: &str) {
        self.shared.coordinators.lock().expect("no holder of the lock panics").remove(group);
    }

    async fn coordinator_address(&self, group: &str) -> Result<String, ClientError> {
        let known = self.shared.coordinators.lock().expect("no holder panics").get(group).cloned();
        if let Some(address) = known {
            return Ok(address);
        }
        let address = self.find_coordinator(group).await?;
        let mut coordinators = self.shared.coordinators.lock().expect("no holder panics");
        coordinators.insert(group.to_owned(), address.clone());
        Ok(address)
    }

    async fn find_coordinator(&self, group: &str) -> Result<String, ClientError> {
        let connection = self.any().await?;
        let version = connection.version::<FindCoordinatorRequest>(i16::MAX)?;
        let batched = version >= FIND_COORDINATOR_BATCHED_FROM;
        let request = FindCoordinatorRequest {
            key: if batched { String::new() } else { group.to_owned() },
            key_type: COORDINATOR_KEY_TYPE_GROUP,
            coordinator_keys: if batched { vec![group.to_owned()] } else { Vec::new() },
        };
        let response = connection.request_at_most(&request, version).await?;
        let coordinator = if batched {
            let api = ApiKey::FindCoordinator;
            let missing = || ClientError::Incomplete { api, what: group.to_owned() };
            response.coordinators.into_iter().next().ok_or_else(missing)?
        } else {
            unbatched(response)
        };
        check(coordinator.error_code, coordinator.error_message.as_deref(), || {
            format!("coordinator of group {group}")
        })?;
        let Coordinator { node_id: id, host, port, .. } = coordinator;
        Ok(Broker { id, host, port, rack: None }.address())
    }
}

fn unbatched(response: FindCoordinatorResponse) -> Coordinator {
    Coordinator {
        node_id: response.node_id,
        host: response.host,
        port: response.port,
        error_code: response.error_code,
        error_message: response.error_message,
        ..Coordinator::default()
    }
}

fn topic_of(metadata: &Metadata, name: &str) -> Result<Topic, ClientError> {
    if let Some(topic) = metadata.topics.get(name) {
        return Ok(topic.clone());
    }
    let code = metadata.topic_errors.get(name).copied();
    let code = code.unwrap_or(ErrorCode::UnknownTopicOrPartition);
    Err(ClientError::broker(code, format!("topic {name}")))
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("config", &self.shared.config).finish_non_exhaustive()
    }
}
