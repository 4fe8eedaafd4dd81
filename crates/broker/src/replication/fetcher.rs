//! Fetching from one leader: everything that this broker follows there, in one request after the
//! other.
//!
//! ```text
//! take over what is followed -> open, forget epochs without records -> Fetch
//!    -> where the logs differ: cut, ask again        (R16)
//!    -> append, sync what counts synced, ask again   (R17)
//! ```
//! What a follower asks for is its word that it holds all below. So nothing is asked for while it is
//! on its way to the disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use klamm_protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, PartitionData, ReplicaState,
};
use klamm_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use klamm_protocol::{ErrorCode, Records};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::quota::Allowance;
use super::session::{FetchSession, Key};
use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::partition::{FetchPosition, Fetched, FollowError, Partition};
use crate::peer::{Peer, PeerError, PeerSettings, inter_broker_endpoint};
use crate::waiters::Signal;

/// Logs that are opened at a time.
const OPEN_MAX: usize = 16;
/// Logs that are opened before others are fetched again: they must not wait for a topic of thousands.
const OPEN_ROUND: usize = 128;
/// Pause until a leader is asked again that has not heard of its epoch yet.
const NOT_YET_PAUSE: Duration = Duration::from_millis(50);
/// Pause after which what the follower's quota has left out is looked at again: it may be in sync by
/// then, or the quota another one.
const HELD_BACK_MAX: Duration = Duration::from_secs(1);
/// `timestamp` of ListOffsets that stands for the first offset.
const EARLIEST: i64 = -2;

/// A partition that is followed.
#[derive(Clone)]
pub(super) struct Followed {
    partition: Arc<Partition>,
    epoch: i32,
    /// Its log is open, and fit to be compared with the leader's.
    ready: bool,
    /// After a failure it is left alone until then.
    not_before: Option<Instant>,
    /// The leader's high watermark, as it was told last in this epoch.
    high_watermark: Option<i64>,
    /// When records came last: others are asked for first.
    served: Option<Instant>,
}

impl Followed {
    pub(super) fn new(partition: Arc<Partition>, epoch: i32) -> Followed {
        Followed {
            partition,
            epoch,
            ready: false,
            not_before: None,
            high_watermark: None,
            served: None,
        }
    }

    fn is_to_open(&self, now: Instant) -> bool {
        !self.ready && self.not_before.is_none_or(|at| at <= now)
    }
}

/// What was told since the last look: partitions that are followed now, or not any more.
#[derive(Default)]
struct News(BTreeMap<Key, Option<Followed>>);

/// Fetches from one leader.
pub(super) struct Fetcher {
    leader: i32,
    news: Mutex<News>,
    told: Notify,
}

/// Why a round with the leader came to nothing.
#[derive(Debug, Error)]
enum RoundError {
    #[error("broker {0} is not registered, or has no listener for brokers")]
    Unreachable(i32),
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("broker {0} refuses the fetch: {1}")]
    Refused(i32, ErrorCode),
    /// The session is not what the leader thinks it is: begin a new one at once.
    #[error("the fetch session is over")]
    Session,
}

impl Fetcher {
    pub(super) fn new(leader: i32) -> Fetcher {
        Fetcher { leader, news: Mutex::default(), told: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, News> {
        self.news.lock().expect("no panic while locked")
    }

    /// Follows a partition from now on.
    pub(super) fn add(&self, key: Key, followed: Followed) {
        self.lock().0.insert(key, Some(followed));
        self.told.notify_one();
    }

    /// Follows it no more.
    pub(super) fn remove(&self, key: Key) {
        self.lock().0.insert(key, None);
        self.told.notify_one();
    }

    /// Fetches for ever; ends by being dropped, or with the broker.
    pub(super) async fn run(self: Arc<Self>, broker: Weak<Broker>) {
        let mut followed: BTreeMap<Key, Followed> = BTreeMap::new();
        let mut link = Link::default();
        loop {
            self.take_over(&mut followed);
            if followed.is_empty() {
                link = Link::default();
                self.told.notified().await;
                continue;
            }
            let Some(broker) = broker.upgrade() else { return };
            let config = broker.config();
            let leader = self.leader;
            let mut round =
                Round { broker, leader, followed: &mut followed, unsynced: false, opens: None };
            let failed = match round.run(&mut link).await {
                Ok(Progressed::Yes) => continue,
                Ok(Progressed::Waits(until)) => {
                    tokio::select! {
                        biased;
                        () = self.told.notified() => {}
                        () = tokio::time::sleep_until(until) => {}
                    }
                    continue;
                }
                Err(RoundError::Session) => {
                    link.session.reset();
                    continue;
                }
                Err(error) => error,
            };
            match &failed {
                RoundError::Peer(error) if error.is_nonsense() => {
                    warn!(leader = self.leader, "nothing of its answer is taken over: {failed}");
                }
                _ => debug!(leader = self.leader, "{failed}"),
            }
            link = Link::default();
            tokio::select! {
                biased;
                () = self.told.notified() => {}
                () = tokio::time::sleep(backoff(&config)) => {}
            }
        }
    }

    fn take_over(&self, followed: &mut BTreeMap<Key, Followed>) {
        for (key, news) in std::mem::take(&mut self.lock().0) {
            match news {
                Some(new) => {
                    followed.insert(key, new);
                }
                None => {
                    followed.remove(&key);
                }
            }
        }
    }
}

/// A connection to the leader and what was agreed on it.
#[derive(Default)]
struct Link {
    peer: Option<Peer>,
    session: FetchSession,
}

enum Progressed {
    Yes,
    /// Nothing can be asked for until then.
    Waits(Instant),
}

/// One request and what follows from its answer.
struct Round<'a> {
    broker: Arc<Broker>,
    leader: i32,
    followed: &'a mut BTreeMap<Key, Followed>,
    /// What is on its way to the disk could not be asked for.
    unsynced: bool,
    /// When what the follower's quota has left out may be asked for, where it has.
    opens: Option<Instant>,
}

impl Round<'_> {
    async fn run(&mut self, link: &mut Link) -> Result<Progressed, RoundError> {
        let config = self.broker.config();
        self.make_ready().await;
        let mut wanted = self.positions(&config);
        self.hold_back(&mut wanted, &config);
        if wanted.is_empty() {
            // An unfinished sync ends soon; what failed is left alone for a while.
            self.synced().await;
            if self.unsynced {
                return Ok(Progressed::Yes);
            }
            let now = Instant::now();
            let pauses = self.followed.values().filter_map(|followed| followed.not_before);
            let until = pauses.filter(|at| *at > now).chain(self.opens).min();
            let until = until.filter(|_| !self.followed.values().any(|it| it.is_to_open(now)));
            return Ok(until.map_or(Progressed::Yes, Progressed::Waits));
        }
        self.connect(link, &config).await?;
        let Link { peer: Some(peer), session } = link else {
            return Err(RoundError::Unreachable(self.leader));
        };
        let request = self.request(session, wanted, &config);
        let patience = wait_max(&config) + peer_settings(&config, &self.broker).timeout;
        let response = peer.call(&request, patience).await?;
        match error_code(response.error_code) {
            ErrorCode::None => session.answered(response.session_id),
            ErrorCode::FetchSessionIdNotFound
            | ErrorCode::InvalidFetchSessionEpoch
            | ErrorCode::FetchSessionTopicIdError => return Err(RoundError::Session),
            other => return Err(RoundError::Refused(self.leader, other)),
        }
        self.take(response, peer, &config).await?;
        self.synced().await;
        Ok(Progressed::Yes)
    }

    async fn connect(&self, link: &mut Link, config: &BrokerConfig) -> Result<(), RoundError> {
        if link.peer.is_some() {
            return Ok(());
        }
        let image = self.broker.image();
        let endpoint = inter_broker_endpoint(&image, self.leader)
            .ok_or(RoundError::Unreachable(self.leader))?;
        let settings = peer_settings(config, &self.broker);
        link.session.reset();
        link.peer = Some(Peer::connect(&self.broker.env, self.leader, endpoint, &settings).await?);
        Ok(())
    }

    /// Opens the logs of what is new here, and makes them forget epochs in which this broker led and
    /// wrote nothing: they say nothing about the leader's log.
    async fn make_ready(&mut self) {
        let now = Instant::now();
        let due = self.followed.values_mut().filter(|followed| followed.is_to_open(now));
        let due = due.take(OPEN_ROUND);
        let pause = backoff(&self.broker.config());
        stream::iter(due)
            .for_each_concurrent(OPEN_MAX, |followed| async move {
                let Followed { partition, epoch, .. } = &*followed;
                let opened = partition.open().await.map(|reader| reader.log_end_offset());
                let opened = opened.map_err(|code| FollowError::Later(code.message().to_owned()));
                let done = match opened {
                    Ok(end) => partition.truncate(*epoch, end).await,
                    Err(error) => Err(error),
                };
                followed.ready = done.is_ok();
                if let Err(error) = done {
                    failed(followed, &error, pause);
                }
            })
            .await;
    }

    fn positions(&mut self, config: &BrokerConfig) -> BTreeMap<Key, FetchPartition> {
        let now = Instant::now();
        let pause = backoff(config);
        let mut wanted = BTreeMap::new();
        for (key, followed) in self.followed.iter_mut() {
            if !followed.ready || followed.not_before.is_some_and(|at| at > now) {
                continue;
            }
            let position = match followed.partition.fetch_position(followed.epoch) {
                Ok(Some(position)) => position,
                Ok(None) => {
                    self.unsynced = true;
                    continue;
                }
                Err(error) => {
                    failed(followed, &error, pause);
                    continue;
                }
            };
            let FetchPosition { offset, last_epoch, log_start } = position;
            let asked = FetchPartition {
                partition: key.1,
                current_leader_epoch: followed.epoch,
                fetch_offset: offset,
                last_fetched_epoch: last_epoch,
                log_start_offset: log_start,
                partition_max_bytes: config.replica_fetch_max_bytes,
                ..FetchPartition::default()
            };
            wanted.insert(*key, asked);
        }
        wanted
    }

    /// Leaves out what the follower's quota is for while it is used up, and asks for no more than it
    /// allows (KIP-73). What is in sync is never held back.
    fn hold_back(&mut self, wanted: &mut BTreeMap<Key, FetchPartition>, config: &BrokerConfig) {
        let held: Vec<Key> = wanted
            .iter()
            .filter(|(key, asked)| self.is_held(**key, asked.fetch_offset))
            .map(|(key, _)| *key)
            .collect();
        if held.is_empty() {
            return;
        }
        match self.broker.quotas.follower.allowance(config) {
            Allowance::Bytes(bytes) => {
                let share = bytes / u64::try_from(held.len()).unwrap_or(u64::MAX);
                let share = i32::try_from(share).unwrap_or(i32::MAX);
                for key in held {
                    let asked = wanted.get_mut(&key).expect("it is among them");
                    asked.partition_max_bytes = asked.partition_max_bytes.min(share);
                }
            }
            Allowance::NothingFor(pause) => {
                self.opens = Some(Instant::now() + pause.min(HELD_BACK_MAX));
                wanted.retain(|key, _| held.binary_search(key).is_err());
            }
        }
    }

    /// Whether the follower's quota is for this partition, whose log ends at `end`.
    fn is_held(&self, key: Key, end: i64) -> bool {
        let Some(followed) = self.followed.get(&key) else { return false };
        if !followed.partition.throttled().follower {
            return false;
        }
        let holds_all = followed.high_watermark.is_some_and(|committed| end >= committed);
        let image = self.broker.image();
        let state = image.topic_by_id(key.0).and_then(|topic| topic.partition(key.1));
        let is_member = |state: klamm_cluster::Partition<'_>| {
            state.isr.iter().any(|member| member.id == self.broker.id)
        };
        !holds_all && !state.is_some_and(is_member)
    }

    fn request(
        &self,
        session: &mut FetchSession,
        wanted: BTreeMap<Key, FetchPartition>,
        config: &BrokerConfig,
    ) -> FetchRequest {
        let asked = session.ask(wanted, |key| self.followed.get(key).and_then(|it| it.served));
        FetchRequest {
            replica_state: ReplicaState {
                replica_id: self.broker.id,
                replica_epoch: self.broker.epoch(),
            },
            max_wait_ms: self.wait_max_ms(config),
            min_bytes: config.replica_fetch_min_bytes,
            max_bytes: config.replica_fetch_response_max_bytes,
            session_id: asked.session_id,
            session_epoch: asked.session_epoch,
            topics: asked.topics,
            forgotten_topics_data: asked.forgotten,
            ..FetchRequest::default()
        }
    }

    /// The leader is to answer before a partition that is left alone now has its turn.
    fn wait_max_ms(&self, config: &BrokerConfig) -> i32 {
        let now = Instant::now();
        if self.followed.values().any(|followed| followed.is_to_open(now)) {
            return 0;
        }
        let turns = self.followed.values().filter_map(|followed| followed.not_before);
        let next = turns.filter(|at| *at > now).chain(self.opens).min();
        // In whole milliseconds, and not before.
        let next = next.map(|at| at.saturating_duration_since(now) + Duration::from_millis(1));
        let wait = next.map_or(wait_max(config), |next| next.min(wait_max(config)));
        i32::try_from(wait.as_millis()).unwrap_or(i32::MAX)
    }

    async fn take(
        &mut self,
        response: FetchResponse,
        peer: &mut Peer,
        config: &BrokerConfig,
    ) -> Result<(), RoundError> {
        for topic in response.responses {
            for data in topic.partitions {
                let key = (topic.topic_id, data.partition_index);
                // What was not asked for is none of our business.
                let Some(followed) = self.followed.get_mut(&key) else { continue };
                if let Some(bytes) = records_in(&data) {
                    followed.served = Some(Instant::now());
                    if followed.partition.throttled().follower {
                        self.broker.quotas.follower.record(bytes);
                    }
                }
                let taken = take_one(followed, key, data, peer, self.broker.id, config).await;
                match taken {
                    Ok(()) => {}
                    Err(Taking::Round(error)) => return Err(error),
                    Err(Taking::Follow(error)) => failed(followed, &error, backoff(config)),
                }
            }
        }
        Ok(())
    }

    /// Waits until all that was appended is as durable as a fetch offset says.
    async fn synced(&self) {
        for followed in self.followed.values().filter(|followed| followed.ready) {
            let partition = &followed.partition;
            while let Ok(None) = partition.fetch_position(followed.epoch) {
                let Some(end) = partition.unsynced_end() else { break };
                let signal = Arc::new(Signal::default());
                let key = partition.end_waiters().add(end, &signal);
                // Between the look and the registration it may have been synced.
                if partition.unsynced_end().is_some() {
                    signal.fired().await;
                }
                partition.end_waiters().remove(key);
            }
        }
    }
}

/// The bytes of a partition's records, if there are any.
fn records_in(data: &PartitionData) -> Option<u64> {
    match &data.records {
        Records::Inline(bytes) if !bytes.is_empty() => u64::try_from(bytes.len()).ok(),
        _ => None,
    }
}

/// Why one partition's part of an answer was not taken over.
enum Taking {
    Round(RoundError),
    Follow(FollowError),
}

impl From<FollowError> for Taking {
    fn from(error: FollowError) -> Taking {
        Taking::Follow(error)
    }
}

async fn take_one(
    followed: &mut Followed,
    key: Key,
    data: PartitionData,
    peer: &mut Peer,
    me: i32,
    config: &BrokerConfig,
) -> Result<(), Taking> {
    let Followed { partition, epoch, .. } = &*followed;
    match error_code(data.error_code) {
        ErrorCode::None => {}
        ErrorCode::OffsetOutOfRange => {
            let patience = peer_timeout(config);
            let start = leader_start(followed, key, peer, me, patience).await?;
            let end = partition.reader().map_or(0, |reader| reader.log_end_offset());
            info!(partition = %partition.id(), end, start, "the leader does not hold what is next");
            if end <= start {
                return Ok(partition.start_at(*epoch, start).await?);
            }
            // Its epochs are younger than our last record: from where it begins, the logs differ.
            return Ok(cut(partition, *epoch, start.max(partition.high_watermark())).await?);
        }
        // Either of the two has not heard of the epoch yet.
        ErrorCode::UnknownLeaderEpoch
        | ErrorCode::NotLeaderOrFollower
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::UnknownTopicId => return Err(FollowError::NotYet.into()),
        code => return Err(FollowError::Later(code.message().to_owned()).into()),
    }
    followed.high_watermark = Some(data.high_watermark);
    let Followed { partition, epoch, .. } = &*followed;
    let diverging = &data.diverging_epoch;
    if diverging.end_offset >= 0 {
        let own = partition.end_offset_for_epoch(diverging.epoch).ok_or(FollowError::Over)?;
        // Where this log knows no epoch as old, only what is committed is common to both.
        let own_end = if own.0 < 0 { partition.high_watermark() } else { own.1 };
        let offset = own_end.min(diverging.end_offset);
        info!(partition = %partition.id(), offset, ?diverging, "cut to where the leader agrees");
        return Ok(cut(partition, *epoch, offset).await?);
    }
    let records = match data.records {
        Records::Inline(bytes) => bytes,
        // Only what is to be sent has gaps.
        Records::External { .. } => return Err(FollowError::Over.into()),
    };
    let fetched =
        Fetched { records, high_watermark: data.high_watermark, log_start: data.log_start_offset };
    Ok(partition.append_fetched(*epoch, &fetched)?)
}

/// Cuts the log at `offset`, which is below its end: otherwise the next answer would be the same.
async fn cut(partition: &Arc<Partition>, epoch: i32, offset: i64) -> Result<(), FollowError> {
    let end = partition.reader().map_or(0, |reader| reader.log_end_offset());
    if offset >= end {
        let reason = format!("the leader's log differs below {end}, where everything is committed");
        return Err(FollowError::Contradiction(reason));
    }
    partition.truncate(epoch, offset).await
}

/// The first offset that the leader holds.
async fn leader_start(
    followed: &Followed,
    (_, index): Key,
    peer: &mut Peer,
    me: i32,
    patience: Duration,
) -> Result<i64, Taking> {
    let request = ListOffsetsRequest {
        replica_id: me,
        topics: vec![ListOffsetsTopic {
            name: followed.partition.id().topic.to_string(),
            partitions: vec![ListOffsetsPartition {
                partition_index: index,
                current_leader_epoch: followed.epoch,
                timestamp: EARLIEST,
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    let response = peer.call(&request, patience).await;
    let response = response.map_err(|error| Taking::Round(error.into()))?;
    let found = response.topics.first().and_then(|topic| topic.partitions.first());
    match found {
        Some(found) if found.error_code == 0 => Ok(found.offset),
        Some(found) => {
            Err(FollowError::Later(error_code(found.error_code).message().to_owned()).into())
        }
        None => Err(FollowError::Later("the leader does not say where it begins".into()).into()),
    }
}

/// A partition that cannot go on is left alone for a while; the others go on.
fn failed(followed: &mut Followed, error: &FollowError, pause: Duration) {
    let partition = followed.partition.id();
    match error {
        FollowError::Over | FollowError::NotYet => {}
        FollowError::Later(_) | FollowError::Offline => {
            debug!(%partition, epoch = followed.epoch, "not followed for now: {error}");
        }
        FollowError::Contradiction(_) => {
            warn!(%partition, epoch = followed.epoch, "cannot follow its leader: {error}");
        }
    }
    let pause = if matches!(error, FollowError::NotYet) { pause.min(NOT_YET_PAUSE) } else { pause };
    followed.not_before = Some(Instant::now() + pause);
}

fn error_code(code: i16) -> ErrorCode {
    ErrorCode::from_i16(code).unwrap_or(ErrorCode::UnknownServerError)
}

fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn backoff(config: &BrokerConfig) -> Duration {
    millis(config.replica_fetch_backoff_ms)
}

fn wait_max(config: &BrokerConfig) -> Duration {
    millis(config.replica_fetch_wait_max_ms)
}

fn peer_timeout(config: &BrokerConfig) -> Duration {
    millis(config.replica_socket_timeout_ms)
}

/// Room of an answer beyond its records.
const ANSWER_FRAME_BYTES: usize = 16 * 1024 * 1024;

fn peer_settings(config: &BrokerConfig, broker: &Broker) -> PeerSettings {
    // The first batch of an answer may be larger than every limit.
    let records = config.replica_fetch_response_max_bytes.max(config.socket_request_max_bytes);
    PeerSettings {
        client_id: format!("broker-{}", broker.id),
        timeout: peer_timeout(config),
        answer_bytes_max: usize::try_from(records).unwrap_or(0) + ANSWER_FRAME_BYTES,
    }
}
