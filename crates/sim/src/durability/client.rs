//! The client of the scenario: it publishes until all power losses are over, then reads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use klamm_client::{
    Acks, Admin, AutoOffsetReset, ClientConfig, Cluster, Consumer, ConsumerConfig, NewTopic,
    OffsetSpec, Producer, ProducerConfig, ProducerRecord, StartAt, TopicPartition,
};
use klamm_env::Env;
use klamm_protocol::ErrorCode;

use super::left::Record;
use super::witness::{COMPACTED, KEPT};
use super::{Policy, Scenario, Shared};
use crate::trace::Trace;

const PARTITIONS: i32 = 2;
/// Each record is this long, so that the partitions roll.
const RECORD_BYTES: usize = 32 * 1024;
/// Keys of the compacted topic.
const KEYS: u64 = 12;
/// Longest pause between two records, in microseconds.
const PAUSE_US_MAX: u64 = 20_000;

pub(super) async fn publish_and_read(
    env: Env,
    scenario: Scenario,
    trace: Trace,
    shared: Arc<Mutex<Shared>>,
) -> turmoil::Result {
    let cluster = connect(&env).await;
    let kept = NewTopic { partitions: Some(PARTITIONS), ..NewTopic::new(KEPT) };
    let configs = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
    let compacted = NewTopic { partitions: Some(1), configs, ..NewTopic::new(COMPACTED) };
    for topic in [kept, compacted] {
        create(&cluster, &topic).await;
        trace.line(format_args!("topic {} created", topic.name));
    }
    publish(&env, scenario, &cluster, &trace, &shared).await?;
    read(&cluster, &trace, &shared).await
}

/// The broker may be down at any moment, the first one included.
async fn connect(env: &Env) -> Cluster {
    loop {
        let config = ClientConfig {
            connect_timeout: Duration::from_millis(500),
            request_timeout: Duration::from_secs(2),
            ..ClientConfig::new(["broker:9092"])
        };
        if let Ok(cluster) = Cluster::connect(env.clone(), config).await {
            return cluster;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Until it is there: the answer to the first request may be lost.
async fn create(cluster: &Cluster, topic: &NewTopic) {
    let admin = Admin::new(cluster.clone());
    loop {
        match admin.create_topic(topic).await {
            Ok(()) => return,
            Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => return,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn publish(
    env: &Env,
    scenario: Scenario,
    cluster: &Cluster,
    trace: &Trace,
    shared: &Arc<Mutex<Shared>>,
) -> turmoil::Result {
    // Under flush=os a power loss takes acknowledged batches, and an idempotent producer could not
    // go on behind them.
    let idempotent = scenario.policy == Policy::Acked;
    let config = ProducerConfig { acks: Acks::All, idempotent, ..ProducerConfig::default() };
    let producer = Producer::new(cluster.clone(), config)?;
    let mut waiting = Vec::new();
    for number in 0_u64.. {
        if Shared::lock(shared).power_losses >= scenario.power_losses {
            break;
        }
        let text = format!("record {number}");
        let key = number.is_multiple_of(2).then(|| env.random.u64() % KEYS);
        let topic = if key.is_some() { COMPACTED } else { KEPT };
        let key = key.map(|key| Bytes::from(format!("account {key}")));
        let value = Some(long(&text));
        let record = Record { key: key.clone(), text };
        Shared::lock(shared).witness.on_sent(&record);
        let sent =
            ProducerRecord { topic: topic.to_owned(), key, value, ..ProducerRecord::default() };
        let delivery = producer.send(sent).await?;
        let (trace, shared) = (trace.clone(), Arc::clone(shared));
        waiting.push(tokio::spawn(async move {
            let stored = delivery.await.map_err(|error| error.to_string())?;
            let at = (topic.to_owned(), stored.partition.partition);
            trace.line(format_args!("acknowledged {} at {at:?} {}", record.text, stored.offset));
            Shared::lock(&shared).witness.on_acknowledged(at, stored.offset, record);
            Ok::<(), String>(())
        }));
        tokio::time::sleep(Duration::from_micros(env.random.u64() % PAUSE_US_MAX)).await;
    }
    for delivery in waiting {
        delivery.await??;
    }
    Ok(())
}

async fn read(cluster: &Cluster, trace: &Trace, shared: &Mutex<Shared>) -> turmoil::Result {
    let kept = (0..PARTITIONS).map(|n| TopicPartition::new(KEPT, n));
    let partitions: Vec<_> = kept.chain([TopicPartition::new(COMPACTED, 0)]).collect();
    let latest: BTreeMap<_, _> =
        partitions.iter().map(|partition| (partition.clone(), OffsetSpec::Latest)).collect();
    let ends = Admin::new(cluster.clone()).list_offsets(&latest).await?;
    let mut missing: BTreeMap<(String, i32), i64> = ends
        .iter()
        .map(|(at, listed)| ((at.topic.to_string(), at.partition), listed.offset))
        .filter(|(_, end)| *end > 0)
        .collect();
    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::None,
        auto_commit_interval: None,
        ..ConsumerConfig::default()
    };
    let mut consumer = Consumer::new(cluster.clone(), config);
    consumer.assign(partitions.into_iter().map(|partition| (partition, StartAt::Earliest)));
    while !missing.is_empty() {
        for read in consumer.poll(Duration::from_secs(1)).await? {
            let at = (read.topic.to_string(), read.partition);
            let text = short(&read.value.unwrap_or_default())?;
            trace.line(format_args!("read {text} at {at:?} {}", read.offset));
            // The last record is never compacted away.
            if missing.get(&at).is_some_and(|end| read.offset + 1 >= *end) {
                missing.remove(&at);
            }
            let record = Record { key: read.key, text };
            Shared::lock(shared).witness.on_consumed(at, read.offset, record);
        }
    }
    Ok(())
}

/// A value that says `text`, and goes on for [`RECORD_BYTES`].
fn long(text: &str) -> Bytes {
    format!("{text:.<RECORD_BYTES$}").into()
}

/// What a value of [`long`] says.
pub(super) fn short(value: &Bytes) -> Result<String, String> {
    let text = String::from_utf8_lossy(value).trim_end_matches('.').to_owned();
    if *value == long(&text) { Ok(text) } else { Err(format!("{text} came back changed")) }
}
