//! Offsets by time, and a partition's ends.

use std::collections::BTreeMap;

use klamm_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use klamm_protocol::{ApiKey, ErrorCode};

use crate::cluster::{Cluster, Lane};
use crate::connection::Connection;
use crate::error::{ClientError, check};
use crate::metadata::TopicPartition;
use crate::retry::Retry;

/// Who asks: a client, not a replica.
const CONSUMER: i32 = -1;

/// Which offset of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first there is.
    Earliest,
    /// The one that the next record will get.
    Latest,
    /// That of the record with the greatest timestamp.
    MaxTimestamp,
    /// That of the first record whose timestamp is this, in milliseconds, or later.
    Timestamp(i64),
}

/// An offset, and the timestamp of its record where one was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset; -1 if no record fits.
    pub offset: i64,
    /// Milliseconds since 1970; -1 if not asked for or no record fits.
    pub timestamp: i64,
    /// The epoch of the leader that wrote the record; -1 if unknown.
    pub leader_epoch: i32,
}

impl OffsetSpec {
    const fn timestamp(self) -> i64 {
        match self {
            Self::Earliest => -2,
            Self::Latest => -1,
            Self::MaxTimestamp => -3,
            Self::Timestamp(ms) => ms,
        }
    }
}

/// The offset of each partition, asked of its leader.
pub(crate) async fn list_offsets(
    cluster: &Cluster,
    wanted: &BTreeMap<TopicPartition, OffsetSpec>,
    isolation_level: i8,
) -> Result<BTreeMap<TopicPartition, ListedOffset>, ClientError> {
    let mut retry = Retry::new(cluster.config(), "offsets");
    let mut left = wanted.clone();
    let mut found = BTreeMap::new();
    while !left.is_empty() {
        if let Err(error) = list_once(cluster, &mut left, &mut found, isolation_level).await {
            retry.pause(error).await?;
            let topics: Vec<_> = left.keys().map(|partition| partition.topic.clone()).collect();
            if let Err(error) = cluster.refresh_existing(&topics).await {
                retry.pause(error).await?;
            }
        }
    }
    Ok(found)
}

/// Moves what can be had now from `left` to `found`; the first failure is told.
async fn list_once(
    cluster: &Cluster,
    left: &mut BTreeMap<TopicPartition, OffsetSpec>,
    found: &mut BTreeMap<TopicPartition, ListedOffset>,
    isolation_level: i8,
) -> Result<(), ClientError> {
    let mut by_leader: BTreeMap<i32, (Connection, Vec<(TopicPartition, i32)>)> = BTreeMap::new();
    for partition in left.keys() {
        let leader = cluster.leader(partition, Lane::General).await?;
        let entry = by_leader.entry(leader.broker);
        let (_, partitions) = entry.or_insert_with(|| (leader.connection, Vec::new()));
        partitions.push((partition.clone(), leader.epoch));
    }
    let mut failed = Ok(());
    for (connection, partitions) in by_leader.into_values() {
        let request = request(&partitions, left, isolation_level);
        let response = connection.request(&request).await?;
        let topics = response.topics.into_iter();
        let mut answers: BTreeMap<_, _> = topics
            .flat_map(|topic| {
                let name = topic.name;
                topic.partitions.into_iter().map(move |partition| {
                    (TopicPartition::new(name.clone(), partition.partition_index), partition)
                })
            })
            .collect();
        for (partition, _) in partitions {
            let Some(answer) = answers.remove(&partition) else {
                let (api, what) = (ApiKey::ListOffsets, partition.to_string());
                return Err(ClientError::Incomplete { api, what });
            };
            match check(answer.error_code, None, || format!("offsets of {partition}")) {
                Ok(()) => {
                    left.remove(&partition);
                    let listed = ListedOffset {
                        offset: answer.offset,
                        timestamp: answer.timestamp,
                        leader_epoch: answer.leader_epoch,
                    };
                    found.insert(partition, listed);
                }
                Err(error) => failed = Err(error),
            }
        }
    }
    failed
}

fn request(
    partitions: &[(TopicPartition, i32)],
    wanted: &BTreeMap<TopicPartition, OffsetSpec>,
    isolation_level: i8,
) -> ListOffsetsRequest {
    let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for (partition, epoch) in partitions {
        topics.entry(&partition.topic).or_default().push(ListOffsetsPartition {
            partition_index: partition.partition,
            current_leader_epoch: *epoch,
            timestamp: wanted[partition].timestamp(),
        });
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| ListOffsetsTopic { name: name.to_owned(), partitions })
        .collect();
    ListOffsetsRequest { replica_id: CONSUMER, isolation_level, topics, ..Default::default() }
}

/// Whether an error says that the client's view of the cluster is out of date.
pub(crate) fn is_stale_metadata(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotLeaderOrFollower
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::ReplicaNotAvailable
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::InconsistentTopicId
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::KafkaStorageError
            | ErrorCode::OffsetNotAvailable
            | ErrorCode::BrokerNotAvailable
    )
}
