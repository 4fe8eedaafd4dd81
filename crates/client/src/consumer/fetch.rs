//! Fetch requests, one at a time to each leader, and their answers.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::FutureExt;
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::cluster::{Lane, Leader};
use crate::connection::PendingResponse;
use crate::error::{ClientError, check};
use crate::metadata::TopicPartition;
use crate::offsets::is_stale_metadata;

use super::fetched::Fetched;
use super::{Consumer, ConsumerConfig, Position};

/// Fetch names topics by id from this version on.
const FETCH_BY_ID_FROM: i16 = 13;
/// No session: every request names all its partitions.
const NO_SESSION_ID: i32 = 0;
const NO_SESSION_EPOCH: i32 = -1;
/// Who asks: a client, not a replica.
const CONSUMER: i32 = -1;

/// An answered fetch, and what had been asked.
pub(super) struct FetchDone {
    leader: i32,
    asked: Asked,
    response: Result<FetchResponse, ClientError>,
}

/// What one request asks.
#[derive(Default)]
struct Asked {
    offsets: BTreeMap<TopicPartition, i64>,
    names: BTreeMap<Uuid, String>,
}

/// What is to be asked of one leader.
struct Plan {
    leader: Leader,
    partitions: Vec<(TopicPartition, FetchPartition, Uuid)>,
}

impl Consumer {
    /// Asks every leader that has none of our requests for the partitions that have nothing
    /// waiting to be handed out.
    pub(super) async fn start_fetches(&mut self) {
        if Instant::now() < self.not_before {
            return;
        }
        if std::mem::take(&mut self.metadata_is_stale) {
            let topics: Vec<_> = self.assigned.keys().map(|p| p.topic.clone()).collect();
            if let Err(error) = self.cluster.refresh_existing(&topics).await {
                self.failed(&error, true);
                return;
            }
        }
        for (leader, plan) in self.plans().await {
            match send(plan, &self.config).await {
                Ok((pending, asked)) => {
                    self.busy.insert(leader);
                    let done = async move {
                        FetchDone { leader, asked, response: pending.response().await }
                    };
                    self.fetches.push(done.boxed());
                }
                Err(error) => self.failed(&error, true),
            }
        }
    }

    async fn plans(&mut self) -> BTreeMap<i32, Plan> {
        let mut plans: BTreeMap<i32, Plan> = BTreeMap::new();
        let mut failures = Vec::new();
        for (partition, assigned) in &self.assigned {
            let Position::At { offset, .. } = assigned.position else { continue };
            if self.fetched.holds(partition) {
                continue;
            }
            let leader = match self.cluster.leader(partition, Lane::Fetch(self.lane)).await {
                Ok(leader) => leader,
                Err(error) => {
                    failures.push(error);
                    continue;
                }
            };
            if self.busy.contains(&leader.broker) {
                continue;
            }
            let asked = FetchPartition {
                partition: partition.partition,
                current_leader_epoch: leader.epoch,
                fetch_offset: offset,
                partition_max_bytes: self.config.partition_fetch_bytes_max,
                ..FetchPartition::default()
            };
            let topic_id = leader.topic_id;
            let plan = plans
                .entry(leader.broker)
                .or_insert_with(|| Plan { leader, partitions: Vec::new() });
            plan.partitions.push((partition.clone(), asked, topic_id));
        }
        for error in failures {
            self.failed(&error, true);
        }
        plans
    }

    /// Notes a failure: what to do about it comes after a pause.
    fn failed(&mut self, error: &ClientError, metadata_is_stale: bool) {
        tracing::debug!(%error, "fetching");
        let config = self.cluster.config();
        let doublings = self.failures_in_a_row.min(10);
        let pause = (config.retry_backoff * 2_u32.pow(doublings)).min(config.retry_backoff_max);
        self.failures_in_a_row += 1;
        self.not_before = Instant::now() + pause;
        self.metadata_is_stale |= metadata_is_stale;
    }

    /// Takes the answer of a fetch in.
    pub(super) fn on_fetched(&mut self, done: FetchDone) -> Result<(), ClientError> {
        self.busy.remove(&done.leader);
        let response = match done.response.and_then(|response| {
            check(response.error_code, None, || "fetching".to_owned()).map(|()| response)
        }) {
            Ok(response) => response,
            Err(error) if error.is_retriable() => {
                self.failed(&error, true);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let throttle = u64::try_from(response.throttle_time_ms).unwrap_or(0);
        if throttle > 0 {
            self.not_before = Instant::now() + Duration::from_millis(throttle);
        }
        let mut has_failed = false;
        for topic in response.responses {
            let name = match done.asked.names.get(&topic.topic_id) {
                Some(name) if topic.topic.is_empty() => name.clone(),
                _ => topic.topic,
            };
            for data in topic.partitions {
                let partition = TopicPartition::new(&name, data.partition_index);
                let Some(&offset) = done.asked.offsets.get(&partition) else { continue };
                has_failed |= self.on_partition(partition, offset, data)?;
            }
        }
        if !has_failed {
            self.failures_in_a_row = 0;
        }
        Ok(())
    }

    /// Whether it has to be tried again after a pause.
    fn on_partition(
        &mut self,
        partition: TopicPartition,
        asked_offset: i64,
        data: PartitionData,
    ) -> Result<bool, ClientError> {
        let Some(assigned) = self.assigned.get_mut(&partition) else { return Ok(false) };
        // Somebody has moved the position since: the answer is to an old question.
        if !matches!(assigned.position, Position::At { offset, .. } if offset == asked_offset) {
            return Ok(false);
        }
        let code = ErrorCode::from_wire(data.error_code);
        match code {
            ErrorCode::None => {
                assigned.high_watermark = Some(data.high_watermark);
                let topic = assigned.topic.clone();
                let fetched = Fetched::new(partition, topic, asked_offset, data, &self.config);
                self.fetched.add(fetched);
                Ok(false)
            }
            ErrorCode::OffsetOutOfRange => {
                tracing::info!(%partition, offset = asked_offset, "the offset is out of range");
                self.reset(&partition)?;
                Ok(false)
            }
            code => {
                let error = ClientError::broker(code, format!("fetching {partition}"));
                if !code.is_retriable() {
                    return Err(error);
                }
                self.failed(&error, is_stale_metadata(code));
                Ok(true)
            }
        }
    }
}

async fn send(
    plan: Plan,
    config: &ConsumerConfig,
) -> Result<(PendingResponse<FetchRequest>, Asked), ClientError> {
    let by_name = plan.partitions.iter().any(|(_, _, topic_id)| topic_id.is_nil());
    let version_max = if by_name { FETCH_BY_ID_FROM - 1 } else { i16::MAX };
    let version = plan.leader.connection.version::<FetchRequest>(version_max)?;
    let mut asked = Asked::default();
    let mut topics: BTreeMap<String, FetchTopic> = BTreeMap::new();
    for (partition, question, topic_id) in plan.partitions {
        asked.offsets.insert(partition.clone(), question.fetch_offset);
        asked.names.insert(topic_id, partition.topic.clone());
        let topic = topics.entry(partition.topic.clone()).or_insert_with(|| FetchTopic {
            topic: partition.topic,
            topic_id,
            partitions: Vec::new(),
        });
        topic.partitions.push(question);
    }
    let request = FetchRequest {
        replica_id: CONSUMER,
        max_wait_ms: i32::try_from(config.fetch_wait_max.as_millis()).unwrap_or(i32::MAX),
        min_bytes: config.fetch_bytes_min,
        max_bytes: config.fetch_bytes_max,
        isolation_level: config.isolation.wire(),
        session_id: NO_SESSION_ID,
        session_epoch: NO_SESSION_EPOCH,
        topics: topics.into_values().collect(),
        ..FetchRequest::default()
    };
    let pending = plan.leader.connection.submit(&request, version, config.fetch_wait_max).await?;
    Ok((pending, asked))
}
