//! What a cluster consists of, as a broker told it.

use std::collections::BTreeMap;
use std::fmt;

use klamm_protocol::ErrorCode;
use klamm_protocol::messages::metadata::{
    MetadataResponse, MetadataResponsePartition, MetadataResponseTopic,
};
use tokio::time::Instant;
use uuid::Uuid;

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<String>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its number.
    pub id: i32,
    /// Where it listens.
    pub host: String,
    /// Where it listens.
    pub port: i32,
    /// Where it stands.
    pub rack: Option<String>,
}

impl Broker {
    /// `host:port`, with brackets round what has colons itself.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id; nil where the broker is too old to tell.
    pub id: Uuid,
    /// Whether it is one of the cluster's own.
    pub is_internal: bool,
    /// By number, without gaps.
    pub partitions: Vec<Partition>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub index: i32,
    /// Who leads it, if anybody does.
    pub leader: Option<i32>,
    /// The leader's epoch, or -1 where the broker is too old to tell.
    pub leader_epoch: i32,
    /// Who has it, preferred leader first.
    pub replicas: Vec<i32>,
    /// Who is in sync.
    pub isr: Vec<i32>,
    /// Whose disk or broker is down.
    pub offline: Vec<i32>,
}

/// All that is known of a cluster at one time.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// By id.
    pub brokers: BTreeMap<i32, Broker>,
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// The broker to send changes to.
    pub controller: Option<i32>,
    /// Those topics that were asked for and exist.
    pub topics: BTreeMap<String, Topic>,
    /// Why a topic that was asked for is not among `topics`.
    pub topic_errors: BTreeMap<String, ErrorCode>,
    /// When each topic was last heard of.
    pub(crate) heard: BTreeMap<String, Instant>,
}

impl Metadata {
    pub(crate) fn empty() -> Self {
        Self {
            brokers: BTreeMap::new(),
            cluster_id: None,
            controller: None,
            topics: BTreeMap::new(),
            topic_errors: BTreeMap::new(),
            heard: BTreeMap::new(),
        }
    }

    /// This, with what `response` says of the topics in it.
    pub(crate) fn updated(&self, response: MetadataResponse, now: Instant) -> Self {
        let mut next = self.clone();
        next.brokers = response
            .brokers
            .into_iter()
            .map(|broker| {
                let (id, rack) = (broker.node_id, broker.rack);
                (id, Broker { id, host: broker.host, port: broker.port, rack })
            })
            .collect();
        next.cluster_id = response.cluster_id;
        next.controller = (response.controller_id >= 0).then_some(response.controller_id);
        for topic in response.topics {
            next.update_topic(topic, now);
        }
        next
    }

    fn update_topic(&mut self, topic: MetadataResponseTopic, now: Instant) {
        let Some(name) = topic.name else { return };
        self.heard.insert(name.clone(), now);
        match ErrorCode::from_wire(topic.error_code) {
            ErrorCode::None => {}
            error => {
                self.topics.remove(&name);
                self.topic_errors.insert(name, error);
                return;
            }
        }
        let known = self.topics.get(&name).filter(|known| known.id == topic.topic_id);
        let mut partitions: Vec<_> = topic.partitions.into_iter().map(Partition::from).collect();
        partitions.sort_by_key(|partition| partition.index);
        if let Some(known) = known {
            keep_newer_epochs(&mut partitions, &known.partitions);
        }
        self.topic_errors.remove(&name);
        let topic = Topic {
            name: name.clone(),
            id: topic.topic_id,
            is_internal: topic.is_internal,
            partitions,
        };
        self.topics.insert(name, topic);
    }

    /// The partition, if it is known.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        let index = usize::try_from(partition).ok()?;
        self.topics.get(topic)?.partitions.get(index)
    }

    /// The name of the topic with this id.
    pub fn topic_name(&self, id: Uuid) -> Option<&str> {
        self.topics.values().find(|topic| topic.id == id).map(|topic| topic.name.as_str())
    }
}

/// A broker that lags behind may tell of leaders that have been replaced already.
fn keep_newer_epochs(partitions: &mut [Partition], known: &[Partition]) {
    for (new, old) in partitions.iter_mut().zip(known) {
        if new.leader_epoch < old.leader_epoch {
            *new = old.clone();
        }
    }
}

impl From<MetadataResponsePartition> for Partition {
    fn from(partition: MetadataResponsePartition) -> Self {
        Self {
            index: partition.partition_index,
            leader: (partition.leader_id >= 0).then_some(partition.leader_id),
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes,
            isr: partition.isr_nodes,
            offline: partition.offline_replicas,
        }
    }
}
