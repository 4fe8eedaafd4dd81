//! Topics that come into being because somebody asks for them: those of clients, where
//! `auto.create.topics.enable` allows it, and the brokers' own.

use std::sync::Arc;
use std::time::Duration;

use klamm_cluster::controller::{NewTopic, Refusal, TopicDefaults};
use klamm_cluster::{Image, Topic};
use klamm_protocol::ErrorCode;
use uuid::Uuid;

use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::forwarding::CreateTopics;
use crate::topic_name;

/// Longest wait for the controller: whoever asks is told to come back then.
const PATIENCE: Duration = Duration::from_secs(5);

/// Creates the topics that do not exist yet, each with the broker's defaults or, for the brokers'
/// own, with theirs. Answers one code for each name; after [`ErrorCode::None`] the broker's image has
/// the topic.
pub(crate) async fn create(broker: &Arc<Broker>, names: &[&str]) -> Vec<ErrorCode> {
    let config = broker.config();
    let registered = broker.image().brokers().count();
    let mut codes: Vec<ErrorCode> = names
        .iter()
        .map(|name| {
            let legal = topic_name::check(name).is_ok() && *name != topic_name::CLUSTER_METADATA;
            if legal { ErrorCode::None } else { ErrorCode::InvalidTopicException }
        })
        .collect();
    let legal: Vec<usize> = (0..names.len()).filter(|at| codes[*at].is_none()).collect();
    if legal.is_empty() {
        return codes;
    }
    let topics = legal.iter().map(|at| new_topic(names[*at], &config, registered)).collect();
    let question = CreateTopics::new(topics, defaults(&config), false);
    let results = broker.controller.ask(question, PATIENCE).await;
    let mut there = Vec::new();
    for (at, result) in legal.into_iter().zip(results) {
        codes[at] = result.map_or_else(|refusal| code_for_reader(&refusal), |_| ErrorCode::None);
        if codes[at].is_none() {
            there.push(names[at]);
        }
    }
    shown(broker, |image| there.iter().all(|name| image.topic(name).is_some_and(is_whole))).await;
    codes
}

/// What -1 means in the creation of a topic.
pub(crate) fn defaults(config: &BrokerConfig) -> TopicDefaults {
    TopicDefaults {
        partitions: config.num_partitions,
        replication_factor: config.default_replication_factor,
    }
}

/// Longest wait until this broker shows what the tree has: it applies changes as they come.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);

/// Waits until what was just changed shows in this broker's image; whether it does. Late is no error:
/// the change is in the tree.
pub(crate) async fn shown(broker: &Broker, holds: impl FnMut(&Image) -> bool) -> bool {
    tokio::time::timeout(SHOWN_WITHIN, broker.partitions.wait_for(holds)).await.is_ok()
}

/// Waits until the broker's image has topics that were just made; whether it does.
pub(crate) async fn await_topics(broker: &Broker, ids: &[Uuid]) -> bool {
    shown(broker, |image| ids.iter().all(|id| image.topic_by_id(*id).is_some_and(is_whole))).await
}

fn is_whole(topic: &Arc<Topic>) -> bool {
    topic.partitions().count() == topic.partition_count() as usize
}

/// A topic that another client has made in the meantime is no error for who only wants to read it.
fn code_for_reader(refusal: &Refusal) -> ErrorCode {
    match refusal.code {
        ErrorCode::TopicAlreadyExists => ErrorCode::None,
        ErrorCode::NotController | ErrorCode::RequestTimedOut => ErrorCode::LeaderNotAvailable,
        code => {
            tracing::warn!(%code, "automatic creation of a topic refused: {refusal}");
            code
        }
    }
}

fn new_topic(name: &str, config: &BrokerConfig, registered: usize) -> NewTopic {
    if name != topic_name::CONSUMER_OFFSETS {
        let (partitions, replication_factor) = (-1, -1);
        return NewTopic {
            name: name.to_owned(),
            partitions,
            replication_factor,
            ..Default::default()
        };
    }
    let segment_bytes = config.offsets_topic_segment_bytes.max(SEGMENT_BYTES_MIN);
    let configs = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("segment.bytes", segment_bytes.to_string()),
    ];
    NewTopic {
        name: name.to_owned(),
        partitions: config.offsets_topic_num_partitions,
        replication_factor: config.offsets_topic_replicas(registered).into(),
        configs: configs.map(|(key, value)| (key.to_owned(), value)).into(),
        ..NewTopic::default()
    }
}

/// The smallest `segment.bytes` that a topic takes.
const SEGMENT_BYTES_MIN: i32 = 1 << 20;
