//! Topics and their partitions.

use std::collections::BTreeMap;

use klamm_protocol::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use klamm_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use klamm_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use klamm_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use klamm_protocol::{ApiKey, ErrorCode};

use crate::cluster::Lane;
use crate::error::{ClientError, check};
use crate::metadata::{Topic, TopicPartition};
use crate::retry::Retry;

use super::{Admin, To};

/// DeleteTopics takes topics one by one from this version on, and a list of names before.
const DELETE_TOPICS_STRUCTURED_FROM: i16 = 6;

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; as the broker is configured, unless given.
    pub partitions: Option<i32>,
    /// How many replicas of each; as the broker is configured, unless given.
    pub replication_factor: Option<i16>,
    /// Settings of its own.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic as the broker is configured.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partitions: None,
            replication_factor: None,
            configs: BTreeMap::new(),
        }
    }
}

impl Admin {
    /// Creates a topic.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<(), ClientError> {
        let configs = topic
            .configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig {
                name: name.clone(),
                value: Some(value.clone()),
            })
            .collect();
        let creatable = CreatableTopic {
            name: topic.name.clone(),
            num_partitions: topic.partitions.unwrap_or(-1),
            replication_factor: topic.replication_factor.unwrap_or(-1),
            configs,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![creatable],
            timeout_ms: self.timeout_ms(),
            validate_only: false,
        };
        self.ask(To::Controller, &request, |response| {
            let result = response.topics.into_iter().next();
            let result = result.ok_or_else(|| incomplete(ApiKey::CreateTopics, &topic.name))?;
            check(result.error_code, result.error_message.as_deref(), || {
                format!("creating topic {}", topic.name)
            })
        })
        .await
    }

    /// Deletes a topic with all its records.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let mut retry = Retry::new(self.cluster.config(), format!("deleting topic {name}"));
        loop {
            match self.delete_topic_once(name).await {
                // Unknown is retriable for those who wait for a topic; here it is an answer.
                Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {
                    return Err(error);
                }
                Err(error) => retry.pause(error).await?,
                Ok(()) => return Ok(()),
            }
        }
    }

    async fn delete_topic_once(&self, name: &str) -> Result<(), ClientError> {
        let connection = self.cluster.controller().await?;
        let version = connection.version::<DeleteTopicsRequest>(i16::MAX)?;
        let mut request =
            DeleteTopicsRequest { timeout_ms: self.timeout_ms(), ..Default::default() };
        if version >= DELETE_TOPICS_STRUCTURED_FROM {
            let name = Some(name.to_owned());
            request.topics = vec![DeleteTopicState { name, ..Default::default() }];
        } else {
            request.topic_names = vec![name.to_owned()];
        }
        let response = connection.request_at_most(&request, version).await?;
        let result = response.responses.into_iter().next();
        let result = result.ok_or_else(|| incomplete(ApiKey::DeleteTopics, name))?;
        check(result.error_code, result.error_message.as_deref(), || {
            format!("deleting topic {name}")
        })
    }

    /// Gives a topic `count` partitions in all.
    pub async fn create_partitions(&self, topic: &str, count: i32) -> Result<(), ClientError> {
        let more = CreatePartitionsTopic { name: topic.to_owned(), count, assignments: None };
        let request = CreatePartitionsRequest {
            topics: vec![more],
            timeout_ms: self.timeout_ms(),
            validate_only: false,
        };
        self.ask(To::Controller, &request, |response| {
            let result = response.results.into_iter().next();
            let result = result.ok_or_else(|| incomplete(ApiKey::CreatePartitions, topic))?;
            check(result.error_code, result.error_message.as_deref(), || {
                format!("{count} partitions for topic {topic}")
            })
        })
        .await
    }

    /// All topics there are, by name.
    pub async fn list_topics(&self) -> Result<Vec<Topic>, ClientError> {
        let mut retry = Retry::new(self.cluster.config(), "topics");
        loop {
            match self.cluster.refresh_all().await {
                Ok(metadata) => return Ok(metadata.topics.values().cloned().collect()),
                Err(error) => retry.pause(error).await?,
            }
        }
    }

    /// A topic as it is now; asking creates nothing.
    pub async fn describe_topic(&self, name: &str) -> Result<Topic, ClientError> {
        let mut retry = Retry::new(self.cluster.config(), format!("topic {name}"));
        loop {
            let error = match self.cluster.refresh_existing(&[name.to_owned()]).await {
                Ok(metadata) => {
                    match (metadata.topics.get(name), metadata.topic_errors.get(name)) {
                        (Some(topic), _) => return Ok(topic.clone()),
                        (None, Some(ErrorCode::LeaderNotAvailable)) => ClientError::broker(
                            ErrorCode::LeaderNotAvailable,
                            format!("topic {name}"),
                        ),
                        (None, code) => {
                            let code = code.copied().unwrap_or(ErrorCode::UnknownTopicOrPartition);
                            return Err(ClientError::broker(code, format!("topic {name}")));
                        }
                    }
                }
                Err(error) => error,
            };
            retry.pause(error).await?;
        }
    }

    /// Deletes the records of a partition below `offset`; -1 stands for all that are committed.
    /// Gives the offset of the first record left.
    pub async fn delete_records(
        &self,
        partition: &TopicPartition,
        offset: i64,
    ) -> Result<i64, ClientError> {
        let what = || format!("deleting records of {partition} below {offset}");
        let mut retry = Retry::new(self.cluster.config(), what());
        let topic = DeleteRecordsTopic {
            name: partition.topic.clone(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: partition.partition,
                offset,
            }],
        };
        let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: self.timeout_ms() };
        loop {
            let tried = match self.cluster.leader(partition, Lane::General).await {
                Ok(leader) => leader.connection.request(&request).await,
                Err(error) => Err(error),
            };
            let deleted = tried.and_then(|response| {
                let mut partitions = response.topics.into_iter().flat_map(|topic| topic.partitions);
                let missing = || incomplete(ApiKey::DeleteRecords, &partition.to_string());
                let result = partitions.next().ok_or_else(missing)?;
                check(result.error_code, None, what).map(|()| result.low_watermark)
            });
            match deleted {
                Ok(low_watermark) => return Ok(low_watermark),
                Err(error) => retry.pause(error).await?,
            }
            if let Err(error) =
                self.cluster.refresh_existing(std::slice::from_ref(&partition.topic)).await
            {
                retry.pause(error).await?;
            }
        }
    }
}

fn incomplete(api: ApiKey, what: &str) -> ClientError {
    ClientError::Incomplete { api, what: what.to_owned() }
}
