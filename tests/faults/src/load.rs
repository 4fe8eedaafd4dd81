//! Producers and consumers that go on over every kill, and note what they did and saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use klamm_client::{
    AutoOffsetReset, Cluster, Consumer, ConsumerConfig, ConsumerRecord, Producer, ProducerConfig,
    ProducerRecord, StartAt,
};
use klamm_history::{
    Acks, Fetched, Isolation, Operation, Outcome, Poll, Record, Send, Sent, TopicPartition,
};
use klamm_protocol::records::Header;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;

use crate::topics::{Kind, PARTITIONS};

/// Records that a producer sends together.
const TOGETHER: usize = 5;
/// Few, so that most records of a compacted topic are replaced soon.
const KEYS: u32 = 40;
/// One record in so many deletes its key.
const TOMBSTONE_IN: u32 = 8;
const VALUE_BYTES: usize = 600;
/// Between two sends of a producer: bounds what a run writes.
const PAUSE: Duration = Duration::from_millis(2);
/// An idempotent producer tries until the broker is back; a plain one gives up before, so that there
/// are records of unknown fate.
const PATIENCE: Duration = Duration::from_secs(30);
const IMPATIENCE: Duration = Duration::from_millis(60);
const ID: &[u8] = b"id";

/// What all clients of a run share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) next_value: Arc<AtomicU64>,
    /// Records that were sent and whose fate is not known.
    pub(crate) in_flight: watch::Sender<usize>,
    /// Records acknowledged so far.
    pub(crate) acked: watch::Sender<u64>,
    /// Whether it is over.
    pub(crate) over: watch::Receiver<bool>,
}

/// Sends until it is over; answers what it did.
pub(crate) async fn produce(
    shared: Shared,
    cluster: Cluster,
    kind: Kind,
    number: u32,
    idempotent: bool,
    seed: u64,
) -> Vec<Operation> {
    let config = ProducerConfig {
        idempotent,
        linger: Duration::ZERO,
        delivery_timeout: if idempotent { PATIENCE } else { IMPATIENCE },
        ..ProducerConfig::default()
    };
    let producer = Producer::new(cluster, config).expect("settings");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut operations = Vec::new();
    while !*shared.over.borrow() {
        let mut records: Vec<_> = (0..TOGETHER).map(|_| draw(&shared, kind, &mut random)).collect();
        send(&shared, &producer, &mut records).await;
        operations.push(Operation::Send(Send {
            producer: number,
            idempotent,
            acks: Acks::All,
            transaction: None,
            records,
        }));
        tokio::time::sleep(PAUSE).await;
    }
    operations
}

/// A record to send; until its fate is known that is unknown.
fn draw(shared: &Shared, kind: Kind, random: &mut SmallRng) -> Sent {
    let partition = TopicPartition::new(kind.name, random.random_range(0..PARTITIONS));
    let key = kind.compacts.then(|| format!("key {}", random.random_range(0..KEYS)));
    Sent {
        partition,
        value: shared.next_value.fetch_add(1, Ordering::Relaxed),
        tombstone: key.is_some() && random.random_range(0..TOMBSTONE_IN) == 0,
        key,
        outcome: Outcome::Unknown,
    }
}

async fn send(shared: &Shared, producer: &Producer, records: &mut [Sent]) {
    let mut deliveries = Vec::new();
    for sent in records.iter_mut() {
        let id = Bytes::copy_from_slice(&sent.value.to_be_bytes());
        let record = ProducerRecord {
            topic: sent.partition.topic.clone(),
            partition: Some(sent.partition.partition),
            key: sent.key.clone().map(Bytes::from),
            value: (!sent.tombstone).then(|| Bytes::from(vec![b'v'; VALUE_BYTES])),
            headers: vec![Header { key: Bytes::from_static(ID), value: Some(id) }],
            timestamp: None,
        };
        // What was not taken was never sent, but nothing is gained by being so sure.
        deliveries.push(producer.send(record).await.ok());
    }
    shared.in_flight.send_modify(|count| *count += records.len());
    for (sent, delivery) in records.iter_mut().zip(deliveries) {
        let Some(delivery) = delivery else { continue };
        if let Ok(delivered) = delivery.await {
            let offset = (delivered.offset >= 0).then_some(delivered.offset);
            sent.outcome = Outcome::Acked(offset);
            shared.acked.send_modify(|count| *count += 1);
        }
    }
    shared.in_flight.send_modify(|count| *count -= records.len());
}

/// A consumer of all partitions of a topic, from their start.
pub(crate) fn consumer(cluster: Cluster, kind: Kind) -> Consumer {
    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        fetch_wait_max: Duration::from_millis(100),
        ..ConsumerConfig::default()
    };
    let mut consumer = Consumer::new(cluster, config);
    consumer.assign((0..PARTITIONS).map(|partition| {
        (klamm_client::TopicPartition::new(kind.name, partition), StartAt::Earliest)
    }));
    consumer
}

/// Polls until it is over; answers what it saw.
pub(crate) async fn consume(
    shared: Shared,
    cluster: Cluster,
    kind: Kind,
    number: u32,
) -> Vec<Operation> {
    let mut consumer = consumer(cluster, kind);
    let mut operations = Vec::new();
    while !*shared.over.borrow() {
        // Errors are those of a broker that is away: the position stays.
        let Ok(records) = consumer.poll(Duration::from_millis(100)).await else { continue };
        if !records.is_empty() {
            operations.push(Operation::Poll(Poll {
                consumer: number,
                isolation: Isolation::ReadUncommitted,
                transaction: None,
                fetched: (0..PARTITIONS).map(|part| fetched(kind, part, &records)).collect(),
            }));
        }
    }
    operations
}

fn fetched(kind: Kind, partition: i32, records: &[ConsumerRecord]) -> Fetched {
    let records = records.iter().filter(|record| record.partition == partition);
    Fetched {
        partition: TopicPartition::new(kind.name, partition),
        records: records.map(read).collect(),
    }
}

/// The record with the id that it was sent with.
pub(crate) fn read(record: &ConsumerRecord) -> Record {
    let header = record.headers.iter().find(|header| &header.key[..] == ID);
    let id = header.and_then(|header| header.value.as_deref());
    let id = id.and_then(|id| id.try_into().ok()).expect("all records are sent with an id");
    Record { offset: record.offset, value: u64::from_be_bytes(id) }
}
