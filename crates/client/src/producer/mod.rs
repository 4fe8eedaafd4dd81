//! Publishing records.
//!
//! [`Producer::send`] picks the partition and adds the record to that partition's open batch;
//! one worker task per partition closes batches, sends them to the leader and answers the
//! [`Delivery`] of each record. What a worker has under way is in order and is sent again in order.

mod identity;
mod partitioner;
mod queue;
mod request;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use klamm_protocol::compression::Compression;
use klamm_protocol::records::Header;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use crate::cluster::Cluster;
use crate::error::ClientError;
use crate::metadata::TopicPartition;

use identity::Identities;
use partitioner::Choice;
pub use partitioner::{Partitioner, murmur2, partition_for_key};
use queue::{Outstanding, Queue};

/// When a broker answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Acks {
    /// Never: nothing is known of the records' fate.
    None,
    /// When the leader has the records.
    Leader,
    /// When all replicas in sync have the records.
    #[default]
    All,
}

impl Acks {
    const fn wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// How a producer works.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// When a broker answers.
    pub acks: Acks,
    /// Whether the broker recognises what it is sent twice; needs [`Acks::All`].
    pub idempotent: bool,
    /// How batches are compressed.
    pub compression: Compression,
    /// A level other than the codec's usual one.
    pub compression_level: Option<i32>,
    /// Batches are closed at this size, before compression.
    pub batch_bytes: usize,
    /// How long a batch waits for more records.
    pub linger: Duration,
    /// Batches of one partition under way at a time. Without idempotence it is one: two could
    /// change places when the first is sent again.
    pub in_flight_max: usize,
    /// Memory for records that are not acknowledged; above it, [`Producer::send`] waits.
    pub buffer_bytes: usize,
    /// How long after it was added a record is given up.
    pub delivery_timeout: Duration,
    /// Where records go that name no partition.
    pub partitioner: Partitioner,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotent: true,
            compression: Compression::None,
            compression_level: None,
            batch_bytes: 256 * 1024,
            linger: Duration::from_millis(5),
            in_flight_max: 5,
            buffer_bytes: 32 * 1024 * 1024,
            delivery_timeout: Duration::from_secs(120),
            partitioner: Partitioner::default(),
        }
    }
}

/// Kafka's brokers remember this many batches of a producer, so that no more may be under way.
const IDEMPOTENT_IN_FLIGHT_MAX: usize = 5;

impl ProducerConfig {
    fn checked(mut self) -> Result<Self, ClientError> {
        if self.idempotent && self.acks != Acks::All {
            let reason = "an idempotent producer needs the acknowledgement of all replicas";
            return Err(ClientError::Config(reason.to_owned()));
        }
        if self.in_flight_max == 0 || self.batch_bytes == 0 {
            let reason = "in_flight_max and batch_bytes must be above 0";
            return Err(ClientError::Config(reason.to_owned()));
        }
        if u32::try_from(self.buffer_bytes).is_err() {
            return Err(ClientError::Config("buffer_bytes must be below 4 GiB".to_owned()));
        }
        let in_flight_max = match (self.idempotent, self.acks) {
            (true, _) => IDEMPOTENT_IN_FLIGHT_MAX,
            (false, Acks::None) => usize::MAX,
            (false, _) => 1,
        };
        self.in_flight_max = self.in_flight_max.min(in_flight_max);
        Ok(self)
    }
}

/// A record to publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerRecord {
    /// Where to.
    pub topic: String,
    /// The partition, if the producer is not to choose.
    pub partition: Option<i32>,
    /// What the record is filed under: records of one key go to one partition.
    pub key: Option<Bytes>,
    /// What the record says.
    pub value: Option<Bytes>,
    /// In this order.
    pub headers: Vec<Header>,
    /// Milliseconds since 1970; now, unless given.
    pub timestamp: Option<i64>,
}

/// What a record costs beyond its key, value and headers.
const RECORD_OVERHEAD_BYTES: usize = 64;
/// What a header costs beyond its key and value.
const HEADER_OVERHEAD_BYTES: usize = 16;

impl ProducerRecord {
    fn bytes(&self) -> usize {
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let header =
            |header: &Header| HEADER_OVERHEAD_BYTES + header.key.len() + len(&header.value);
        let headers: usize = self.headers.iter().map(header).sum();
        RECORD_OVERHEAD_BYTES + len(&self.key) + len(&self.value) + headers
    }
}

/// Where a record ended up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset; -1 where the broker did not tell.
    pub offset: i64,
    /// The record's timestamp: its own, or the broker's where the topic says so.
    pub timestamp: i64,
}

/// The fate of one record, once it is known. May be dropped without harm to the record.
#[derive(Debug)]
pub struct Delivery(oneshot::Receiver<Result<RecordMetadata, ClientError>>);

impl Future for Delivery {
    type Output = Result<RecordMetadata, ClientError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let delivered = ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(delivered.unwrap_or(Err(ClientError::Closed)))
    }
}

/// Publishes records. Dropping it gives up what is not sent; [`close`](Self::close) does not.
pub struct Producer {
    shared: Arc<Shared>,
    topics: Mutex<BTreeMap<String, TopicState>>,
}

/// What producer and workers share.
struct Shared {
    cluster: Cluster,
    config: ProducerConfig,
    identities: Identities,
    buffer: Arc<Semaphore>,
    outstanding: Arc<Outstanding>,
}

#[derive(Default)]
struct TopicState {
    choice: Choice,
    partitions: BTreeMap<i32, Worker>,
}

struct Worker {
    queue: Arc<Queue>,
    task: JoinHandle<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Producer {
    /// A producer for topics of `cluster`.
    pub fn new(cluster: Cluster, config: ProducerConfig) -> Result<Self, ClientError> {
        let config = config.checked()?;
        let shared = Shared {
            identities: Identities::default(),
            buffer: Arc::new(Semaphore::new(config.buffer_bytes)),
            outstanding: Arc::default(),
            cluster,
            config,
        };
        Ok(Self { shared: Arc::new(shared), topics: Mutex::default() })
    }

    /// Adds a record to its partition's batch, once there is memory for it. Records that one task
    /// sends one after the other to one partition arrive in that order.
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery, ClientError> {
        let Shared { cluster, config, buffer, .. } = &*self.shared;
        let bytes = record.bytes();
        if bytes > config.buffer_bytes {
            let bytes_max = config.buffer_bytes;
            return Err(ClientError::RecordTooLarge { bytes, bytes_max });
        }
        let partitions = match cluster.fresh_partition_count(&record.topic) {
            Some(partitions) => partitions,
            None => cluster.topic(&record.topic).await?.partitions.len(),
        };
        let permits = u32::try_from(bytes).expect("below buffer_bytes, which fits");
        let reserved = Arc::clone(buffer).acquire_many_owned(permits).await;
        let reserved = reserved.map_err(|_| ClientError::Closed)?;
        let (sender, delivery) = oneshot::channel();
        let queue = self.queue(&record, partitions)?;
        let now_ms = cluster.env().clock.wall_ms();
        queue.append(record, now_ms, queue::Entry { sender, _reserved: reserved });
        Ok(Delivery(delivery))
    }

    /// As [`send`](Self::send), and waits for the record's fate.
    pub async fn send_and_wait(
        &self,
        record: ProducerRecord,
    ) -> Result<RecordMetadata, ClientError> {
        let delivery = self.send(record).await?;
        self.flush_open();
        delivery.await
    }

    fn queue(&self, record: &ProducerRecord, partitions: usize) -> Result<Arc<Queue>, ClientError> {
        let mut topics = self.topics.lock().expect("no holder of the lock panics");
        if !topics.contains_key(&record.topic) {
            topics.insert(record.topic.clone(), TopicState::default());
        }
        let topic = topics.get_mut(&record.topic).expect("it was just inserted");
        let count = i32::try_from(partitions).expect("partitions are numbered by i32");
        let partition = match record.partition {
            Some(partition) if (0..count).contains(&partition) => partition,
            Some(partition) => {
                let partition = TopicPartition::new(&record.topic, partition);
                return Err(ClientError::NoSuchPartition(partition));
            }
            None => {
                let Shared { config, cluster, .. } = &*self.shared;
                let random = || cluster.env().random.u64();
                topic.choice.partition(config, record, count, random)
            }
        };
        let worker = topic.partitions.entry(partition).or_insert_with(|| {
            let partition = TopicPartition::new(&record.topic, partition);
            let queue = Arc::new(Queue::new(
                partition,
                &self.shared.config,
                Arc::clone(&self.shared.outstanding),
            ));
            let worker = worker::Worker::new(Arc::clone(&self.shared), Arc::clone(&queue));
            Worker { queue, task: tokio::spawn(worker.run()) }
        });
        Ok(Arc::clone(&worker.queue))
    }

    fn flush_open(&self) {
        let topics = self.topics.lock().expect("no holder of the lock panics");
        for worker in topics.values().flat_map(|topic| topic.partitions.values()) {
            worker.queue.close_open();
        }
    }

    /// Sends what waits for company, and waits until the fate of every record is known.
    pub async fn flush(&self) {
        self.flush_open();
        self.shared.outstanding.none().await;
    }

    /// As [`flush`](Self::flush); then the producer is gone.
    pub async fn close(self) {
        self.flush().await;
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("config", &self.shared.config).finish_non_exhaustive()
    }
}
