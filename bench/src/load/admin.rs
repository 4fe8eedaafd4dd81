//! What a load asks of a broker beside its measured work: topics and their ends.

use std::collections::BTreeMap;
use std::time::Duration;

use klamm_client::{Admin as Client, ClientConfig, Cluster, NewTopic, OffsetSpec, TopicPartition};
use klamm_env::Env;
use tokio::runtime::{Builder, Runtime};

use crate::Result;

/// Longest that one call may take: Kafka creates 10,000 partitions within it.
const PATIENCE: Duration = Duration::from_secs(300);

/// A connection for topics and offsets.
pub(crate) struct Admin {
    runtime: Runtime,
    client: Client,
}

impl Admin {
    pub(crate) fn connect(address: &str) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| e.to_string())?;
        let env = Env::real().map_err(|e| e.to_string())?;
        let config = ClientConfig {
            request_timeout: PATIENCE,
            call_timeout: PATIENCE,
            allow_auto_topic_creation: false,
            ..ClientConfig::new([address])
        };
        let cluster = runtime.block_on(Cluster::connect(env, config)).map_err(|e| e.to_string())?;
        Ok(Self { runtime, client: Client::new(cluster) })
    }

    /// Creates a topic with settings of its own, and waits until all its partitions have leaders.
    pub(crate) fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<()> {
        let mut topic = NewTopic::new(name);
        topic.partitions = Some(partitions);
        topic.replication_factor = Some(1);
        topic.configs = configs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        self.runtime.block_on(self.client.create_topic(&topic)).map_err(|e| e.to_string())?;
        // Retried by the client while a partition has no leader.
        self.end_offset(name, partitions).map(drop)
    }

    /// The sum of the ends of all partitions: how many records the topic has ever got.
    pub(crate) fn end_offset(&self, topic: &str, partitions: i32) -> Result<u64> {
        let wanted: BTreeMap<TopicPartition, OffsetSpec> = (0..partitions)
            .map(|index| (TopicPartition::new(topic, index), OffsetSpec::Latest))
            .collect();
        let found = self.runtime.block_on(self.client.list_offsets(&wanted));
        let found = found.map_err(|e| format!("ends of {topic}: {e}"))?;
        found.values().map(|listed| u64::try_from(listed.offset).map_err(|e| e.to_string())).sum()
    }
}
