//! Reading records: partitions given by hand, or shared out in a group.
//!
//! [`Consumer::poll`] drives everything but heartbeats: group membership, positions, one fetch at a
//! time to each leader. Records are handed out partition by partition; while a partition has
//! records waiting it is not fetched again, so that memory is bounded by one answer per leader.

mod fetch;
mod fetched;
mod positions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use klamm_protocol::records::Header;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::error::ClientError;
use crate::group::assignor::Assignor;
use crate::group::committed::{self, CommittedOffset, OffsetToCommit};
use crate::group::{GroupConfig, GroupEvent, Membership};
use crate::metadata::TopicPartition;
use crate::offsets::{ListedOffset, OffsetSpec, list_offsets};

use fetch::FetchDone;
use fetched::Waiting;

/// Where reading starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// With the first record there is.
    Earliest,
    /// With the next record to be published.
    Latest,
    /// With the record at this offset.
    Offset(i64),
    /// With the first record whose timestamp, in milliseconds, is this or later.
    Timestamp(i64),
    /// Where the group has got to; by `auto_offset_reset` where it has nothing committed.
    Committed,
}

/// Where to start where there is no committed offset, or one whose record is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AutoOffsetReset {
    /// With the first record there is.
    Earliest,
    /// With the next record to be published.
    #[default]
    Latest,
    /// Nowhere: it is an error.
    None,
}

/// Which records are seen of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Isolation {
    /// All.
    #[default]
    ReadUncommitted,
    /// Those of committed ones, and only up to the first that is open.
    ReadCommitted,
}

impl Isolation {
    const fn wire(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// How a consumer works.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// The group, for shared partitions and for committed offsets.
    pub group: Option<String>,
    /// A name that stays over restarts, under which the group keeps the member's place.
    pub instance_id: Option<String>,
    /// Rules for sharing partitions out, the preferred one first.
    pub assignors: Vec<Assignor>,
    /// Where to start without a committed offset.
    pub auto_offset_reset: AutoOffsetReset,
    /// Commit what was handed out, every so often; `None` leaves it to the application.
    pub auto_commit_interval: Option<Duration>,
    /// Which records are seen of transactions.
    pub isolation: Isolation,
    /// The broker answers when it has this much.
    pub fetch_bytes_min: i32,
    /// The most one answer holds, save for a single larger batch.
    pub fetch_bytes_max: i32,
    /// The most one answer holds of one partition, save for a single larger batch.
    pub partition_fetch_bytes_max: i32,
    /// The broker answers after this time in any case.
    pub fetch_wait_max: Duration,
    /// The most that one poll hands out.
    pub poll_records_max: usize,
    /// The most one batch may decompress to.
    pub batch_decompressed_bytes_max: usize,
    /// The coordinator misses a member after this time.
    pub session_timeout: Duration,
    /// How long members have to come to a rebalance.
    pub rebalance_timeout: Duration,
    /// How often the coordinator hears of a member.
    pub heartbeat_interval: Duration,
    /// Without a poll for this long, the member leaves the group.
    pub poll_interval_max: Duration,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            group: None,
            instance_id: None,
            assignors: vec![Assignor::Range, Assignor::RoundRobin],
            auto_offset_reset: AutoOffsetReset::default(),
            auto_commit_interval: Some(Duration::from_secs(5)),
            isolation: Isolation::default(),
            fetch_bytes_min: 1,
            fetch_bytes_max: 50 * 1024 * 1024,
            partition_fetch_bytes_max: 1024 * 1024,
            fetch_wait_max: Duration::from_millis(500),
            poll_records_max: 500,
            batch_decompressed_bytes_max: klamm_protocol::compression::BATCH_DECOMPRESSED_BYTES_MAX,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(300),
            heartbeat_interval: Duration::from_secs(3),
            poll_interval_max: Duration::from_secs(300),
        }
    }
}

/// A record as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// Where from.
    pub topic: Arc<str>,
    /// Where from.
    pub partition: i32,
    /// Its position there.
    pub offset: i64,
    /// Milliseconds since 1970, or -1.
    pub timestamp: i64,
    /// What it is filed under.
    pub key: Option<Bytes>,
    /// What it says.
    pub value: Option<Bytes>,
    /// In the order published.
    pub headers: Vec<Header>,
    /// The epoch of the leader that took it.
    pub leader_epoch: i32,
}

/// A change of what a member of a group reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RebalanceEvent {
    /// These are the member's from now on.
    Assigned(Vec<TopicPartition>),
    /// These are no longer the member's. With automatic commits, what was handed out of them has
    /// been committed.
    Revoked(Vec<TopicPartition>),
    /// These were taken away without notice; another may have read on from an older commit.
    Lost(Vec<TopicPartition>),
}

/// A partition's position: where the next record to be handed out stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    Wanted(StartAt),
    At { offset: i64, leader_epoch: i32 },
}

#[derive(Clone, Debug)]
struct Assigned {
    position: Position,
    topic: Arc<str>,
    high_watermark: Option<i64>,
}

/// Reads records. Dropping it leaves the group only when the session runs out;
/// [`close`](Self::close) leaves at once.
pub struct Consumer {
    cluster: Cluster,
    config: ConsumerConfig,
    lane: u64,
    assigned: BTreeMap<TopicPartition, Assigned>,
    fetches: FuturesUnordered<BoxFuture<'static, FetchDone>>,
    /// Leaders with a fetch under way.
    busy: BTreeSet<i32>,
    fetched: Waiting,
    membership: Option<Membership>,
    events: Vec<RebalanceEvent>,
    last_commit: Instant,
    /// Nothing is asked before, after something failed.
    not_before: Instant,
    failures_in_a_row: u32,
    metadata_is_stale: bool,
}

impl Consumer {
    /// A consumer that reads nothing yet.
    pub fn new(cluster: Cluster, config: ConsumerConfig) -> Self {
        let now = Instant::now();
        Self {
            lane: cluster.new_lane(),
            cluster,
            config,
            assigned: BTreeMap::new(),
            fetches: FuturesUnordered::new(),
            busy: BTreeSet::new(),
            fetched: Waiting::default(),
            membership: None,
            events: Vec::new(),
            last_commit: now,
            not_before: now,
            failures_in_a_row: 0,
            metadata_is_stale: false,
        }
    }

    /// Reads these partitions, and no others, from these positions.
    pub fn assign(&mut self, partitions: impl IntoIterator<Item = (TopicPartition, StartAt)>) {
        self.membership = None;
        self.set_assigned(partitions);
    }

    fn set_assigned(&mut self, partitions: impl IntoIterator<Item = (TopicPartition, StartAt)>) {
        self.fetched.clear();
        self.assigned = partitions
            .into_iter()
            .map(|(partition, start)| {
                let topic = Arc::from(partition.topic.as_str());
                let position = Position::Wanted(start);
                (partition, Assigned { position, topic, high_watermark: None })
            })
            .collect();
    }

    /// Reads a share of these topics, as a member of the configured group.
    pub fn subscribe(
        &mut self,
        topics: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<(), ClientError> {
        let Some(group) = self.config.group.clone() else {
            let reason = "a subscription needs a group".to_owned();
            return Err(ClientError::Config(reason));
        };
        let config = GroupConfig {
            group,
            instance_id: self.config.instance_id.clone(),
            assignors: self.config.assignors.clone(),
            session_timeout: self.config.session_timeout,
            rebalance_timeout: self.config.rebalance_timeout,
            heartbeat_interval: self.config.heartbeat_interval,
            poll_interval_max: self.config.poll_interval_max,
        };
        let topics = topics.into_iter().map(Into::into).collect();
        self.set_assigned([]);
        self.membership = Some(Membership::new(self.cluster.clone(), config, topics));
        Ok(())
    }

    /// Goes on elsewhere with one of the partitions that it reads.
    pub fn seek(&mut self, partition: &TopicPartition, start: StartAt) -> Result<(), ClientError> {
        let Some(assigned) = self.assigned.get_mut(partition) else {
            return Err(ClientError::NoSuchPartition(partition.clone()));
        };
        assigned.position = Position::Wanted(start);
        self.fetched.forget(partition);
        Ok(())
    }

    /// What it reads.
    pub fn assignment(&self) -> impl Iterator<Item = &TopicPartition> {
        self.assigned.keys()
    }

    /// The offset of the next record that it will hand out, once that is settled.
    pub fn position(&self, partition: &TopicPartition) -> Option<i64> {
        match self.assigned.get(partition)?.position {
            Position::At { offset, .. } => Some(offset),
            Position::Wanted(_) => None,
        }
    }

    /// The partition's end for readers, as of the last answer.
    pub fn high_watermark(&self, partition: &TopicPartition) -> Option<i64> {
        self.assigned.get(partition)?.high_watermark
    }

    /// What has changed about its partitions since the last call.
    pub fn take_events(&mut self) -> Vec<RebalanceEvent> {
        std::mem::take(&mut self.events)
    }

    /// The next records, or none if `timeout` passes first.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Vec<ConsumerRecord>, ClientError> {
        self.poll_at_most(timeout, self.config.poll_records_max).await
    }

    /// As [`poll`](Self::poll), with a bound of its own on how many records are handed out.
    pub async fn poll_at_most(
        &mut self,
        timeout: Duration,
        records_max: usize,
    ) -> Result<Vec<ConsumerRecord>, ClientError> {
        let deadline = Instant::now() + timeout;
        if let Some(membership) = &self.membership {
            membership.polled();
        }
        self.commit_if_due().await;
        loop {
            while let Some(event) = self.group_event().now_or_never() {
                self.on_group_event(event?).await;
            }
            while let Some(Some(done)) = self.fetches.next().now_or_never() {
                self.on_fetched(done)?;
            }
            self.settle_positions().await?;
            let records = self.take_records(records_max)?;
            self.start_fetches().await;
            if !records.is_empty() {
                return Ok(records);
            }
            if Instant::now() >= deadline {
                return Ok(Vec::new());
            }
            self.wait(deadline).await?;
        }
    }

    /// Waits until something has happened or may be tried again.
    async fn wait(&mut self, deadline: Instant) -> Result<(), ClientError> {
        let now = Instant::now();
        let wake = if self.not_before > now { deadline.min(self.not_before) } else { deadline };
        let Self { fetches, membership, .. } = self;
        let group_event = async {
            match membership {
                Some(membership) => membership.next_event().await,
                None => std::future::pending().await,
            }
        };
        enum Woken {
            Fetched(FetchDone),
            Group(Result<GroupEvent, ClientError>),
            Timer,
        }
        let woken = tokio::select! {
            biased;
            event = group_event => Woken::Group(event),
            Some(done) = fetches.next() => Woken::Fetched(done),
            () = tokio::time::sleep_until(wake) => Woken::Timer,
        };
        match woken {
            Woken::Fetched(done) => self.on_fetched(done),
            Woken::Group(event) => {
                self.on_group_event(event?).await;
                Ok(())
            }
            Woken::Timer => Ok(()),
        }
    }

    async fn group_event(&mut self) -> Result<GroupEvent, ClientError> {
        match &mut self.membership {
            Some(membership) => membership.next_event().await,
            None => std::future::pending().await,
        }
    }

    async fn on_group_event(&mut self, event: GroupEvent) {
        match event {
            GroupEvent::Assigned(partitions) => {
                let starts =
                    partitions.iter().map(|partition| (partition.clone(), StartAt::Committed));
                self.set_assigned(starts);
                self.events.push(RebalanceEvent::Assigned(partitions));
            }
            GroupEvent::Rebalancing => {
                if self.config.auto_commit_interval.is_some() {
                    self.try_commit().await;
                }
                let revoked = self.give_up_all();
                self.events.push(RebalanceEvent::Revoked(revoked));
            }
            GroupEvent::Lost => {
                let lost = self.give_up_all();
                self.events.push(RebalanceEvent::Lost(lost));
            }
        }
    }

    fn give_up_all(&mut self) -> Vec<TopicPartition> {
        self.fetched.clear();
        std::mem::take(&mut self.assigned).into_keys().collect()
    }

    async fn commit_if_due(&mut self) {
        let due = self.config.auto_commit_interval;
        if self.config.group.is_some()
            && due.is_some_and(|interval| self.last_commit.elapsed() >= interval)
        {
            self.try_commit().await;
        }
    }

    async fn try_commit(&mut self) {
        if let Err(error) = self.commit().await {
            tracing::warn!(%error, "automatic commit");
        }
    }

    /// Commits the position of every partition: what has been handed out counts as done with.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        let position = |assigned: &Assigned| match assigned.position {
            Position::At { offset, leader_epoch } => {
                Some(OffsetToCommit { offset, leader_epoch, metadata: String::new() })
            }
            Position::Wanted(_) => None,
        };
        let offsets: BTreeMap<_, _> = self
            .assigned
            .iter()
            .filter_map(|(partition, assigned)| Some((partition.clone(), position(assigned)?)))
            .collect();
        self.last_commit = Instant::now();
        self.commit_offsets(&offsets).await
    }

    /// Commits these offsets for the configured group.
    pub async fn commit_offsets(
        &self,
        offsets: &BTreeMap<TopicPartition, OffsetToCommit>,
    ) -> Result<(), ClientError> {
        let identity = self
            .membership
            .as_ref()
            .map(|membership| (membership.member().identity(), self.config.instance_id.clone()));
        committed::commit(&self.cluster, self.group()?, identity, offsets).await
    }

    /// What the configured group has committed for these partitions.
    pub async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
        committed::fetch_committed(&self.cluster, self.group()?, Some(partitions)).await
    }

    fn group(&self) -> Result<&str, ClientError> {
        let missing = || ClientError::Config("committing needs a group".to_owned());
        self.config.group.as_deref().ok_or_else(missing)
    }

    /// The offset of each partition that is asked for, under the consumer's isolation.
    pub async fn list_offsets(
        &self,
        wanted: &BTreeMap<TopicPartition, OffsetSpec>,
    ) -> Result<BTreeMap<TopicPartition, ListedOffset>, ClientError> {
        list_offsets(&self.cluster, wanted, self.config.isolation.wire()).await
    }

    /// Commits what was handed out, if commits are automatic, and leaves the group.
    pub async fn close(mut self) -> Result<(), ClientError> {
        let commits = self.config.group.is_some() && self.config.auto_commit_interval.is_some();
        let committed = if commits { self.commit().await } else { Ok(()) };
        committed.and(self.abandon().await)
    }

    /// Leaves the group without a commit: what was handed out last was not dealt with.
    pub async fn abandon(mut self) -> Result<(), ClientError> {
        match self.membership.take() {
            Some(membership) => membership.leave().await,
            None => Ok(()),
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.cluster.drop_lane(self.lane);
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("config", &self.config).finish_non_exhaustive()
    }
}
