//! Topics and producers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use klamm_client::{
    Acks, Admin, ClientConfig, Cluster, ConfigChange, Delivery, NewTopic, Producer, ProducerConfig,
    ProducerRecord, ResourceKind,
};
use klamm_env::Env;
use klamm_history::{self as history, Operation, Outcome, Send, Sent, TopicPartition};
use klamm_protocol::ErrorCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::shared::{Phase, Shared};
use super::{Scenario, bootstrap};
use crate::trace::Trace;

/// The topic of the load.
pub(super) const TOPIC: &str = "orders";
/// Records that a producer sends together, at most.
const TOGETHER_MAX: u64 = 4;
/// Records of one producer without an answer, at most.
const UNANSWERED_MAX: usize = 60;
/// Longest pause of a producer.
const PAUSE_US_MAX: u64 = 60_000;
const VALUE_BYTES_MAX: u64 = 1_500;
/// Pause between two looks at something that others do.
pub(super) const LOOK: Duration = Duration::from_millis(20);
/// Longer than any run: an idempotent producer never gives up.
const PATIENCE: Duration = Duration::from_secs(3600);
/// A plain producer gives up, so that there are records of unknown fate.
const IMPATIENCE: Duration = Duration::from_secs(4);

/// What every client of the scenario needs.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) name: String,
    pub(super) env: Env,
    pub(super) scenario: Arc<Scenario>,
    pub(super) shared: Shared,
    pub(super) trace: Trace,
}

impl Client {
    /// Any broker may be down at any moment, the first one included.
    pub(super) async fn connect(&self) -> Cluster {
        loop {
            let config = ClientConfig {
                client_id: self.name.clone(),
                connect_timeout: Duration::from_millis(500),
                request_timeout: Duration::from_secs(3),
                metadata_age_max: Duration::from_secs(5),
                allow_auto_topic_creation: false,
                ..ClientConfig::new(bootstrap(&self.scenario))
            };
            if let Ok(cluster) = Cluster::connect(self.env.clone(), config).await {
                return cluster;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the run has got to `phase`.
    pub(super) async fn reach(&self, phase: Phase) {
        while self.shared.phase() < phase {
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        self.env.random.u64() % bound
    }
}

/// Makes the topic, with all its replicas: brokers may still be on their way in.
pub(super) async fn create_topic(client: Client) -> turmoil::Result {
    let cluster = client.connect().await;
    let scenario = &client.scenario;
    let sides = ["leader", "follower"].into_iter().filter(|_| scenario.throttle.is_some());
    let listed = |side| (format!("{side}.replication.throttled.replicas"), "*".to_owned());
    let throttled = sides.map(listed).collect();
    let topic = NewTopic {
        partitions: Some(scenario.partitions),
        replication_factor: Some(scenario.replication),
        configs: throttled,
        ..NewTopic::new(TOPIC)
    };
    let admin = Admin::new(cluster);
    loop {
        match admin.create_topic(&topic).await {
            Ok(()) => break,
            Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => break,
            Err(error) => {
                client.trace.line(format_args!("the topic is not made yet: {error}"));
                tokio::time::sleep(LOOK).await;
            }
        }
    }
    client.trace.line("the topic is made");
    client.shared.lock().topics_made = true;
    Ok(())
}

/// Makes the topics `flush=acked` in the middle of the unrest, where the scenario says so.
pub(super) async fn turn_acked(client: Client) -> turmoil::Result {
    if !client.scenario.turns_acked {
        return Ok(());
    }
    client.reach(Phase::Unrest).await;
    let calm_us = u64::try_from(client.scenario.unrest.as_micros() / 2)?;
    tokio::time::sleep(Duration::from_micros(client.below(calm_us))).await;
    let admin = Admin::new(client.connect().await);
    let changes = [("flush".to_owned(), ConfigChange::Set("acked".to_owned()))];
    // That of the group is made when the first member comes.
    let internal = (client.scenario.members > 0).then_some("__consumer_offsets");
    for topic in internal.into_iter().chain([TOPIC]) {
        while let Err(error) = admin.alter_configs(ResourceKind::Topic, topic, &changes).await {
            client.trace.line(format_args!("{topic} is not turned yet: {error}"));
            tokio::time::sleep(LOOK).await;
        }
    }
    client.trace.line("the topics turn to flush=acked");
    Ok(())
}

/// Sends until the faults are over, then waits for all answers.
pub(super) async fn produce(client: Client, number: u32) -> turmoil::Result {
    client.reach(Phase::Unrest).await;
    // One of three does not know what became of some records, and may send twice.
    let idempotent = number % 3 != 2;
    let config = ProducerConfig {
        acks: Acks::All,
        idempotent,
        linger: Duration::ZERO,
        delivery_timeout: if idempotent { PATIENCE } else { IMPATIENCE },
        ..ProducerConfig::default()
    };
    let producer = Producer::new(client.connect().await, config)?;
    let room = Arc::new(Semaphore::new(UNANSWERED_MAX));
    while client.shared.phase() < Phase::Healed {
        let count = 1 + client.below(TOGETHER_MAX);
        let mut records = Vec::new();
        for _ in 0..count {
            let permit = Arc::clone(&room).acquire_owned().await?;
            records.push((draw(&client), permit));
        }
        let send = Send {
            producer: number,
            idempotent,
            acks: history::Acks::All,
            transaction: None,
            records: records.iter().map(|(sent, _)| sent.clone()).collect(),
        };
        let at = client.shared.note(&client.name, Operation::Send(send));
        for (index, (sent, permit)) in records.into_iter().enumerate() {
            let delivery = producer.send(record(&client, &sent)).await?;
            tokio::spawn(await_answer(client.clone(), (at, index), sent, delivery, permit));
        }
        tokio::time::sleep(Duration::from_micros(client.below(PAUSE_US_MAX))).await;
    }
    producer.flush().await;
    // Their tasks have noted the answers when they have given back their permits.
    let all = u32::try_from(UNANSWERED_MAX).expect("a small number");
    drop(room.acquire_many(all).await?);
    client.trace.line(format_args!("{} has all answers", client.name));
    client.shared.lock().producers_done += 1;
    Ok(())
}

/// A record to send; until its fate is known that is unknown.
fn draw(client: &Client) -> Sent {
    let partitions = u64::from(client.scenario.partitions.unsigned_abs());
    let partition = i32::try_from(client.below(partitions)).expect("below the count");
    let mut notes = client.shared.lock();
    notes.next_value += 1;
    Sent {
        partition: TopicPartition::new(TOPIC, partition),
        value: notes.next_value,
        key: None,
        tombstone: false,
        outcome: Outcome::Unknown,
    }
}

fn record(client: &Client, sent: &Sent) -> ProducerRecord {
    let mut value = sent.value.to_be_bytes().to_vec();
    let bytes = usize::try_from(client.below(VALUE_BYTES_MAX)).expect("a small number");
    value.resize(value.len() + bytes, b'.');
    ProducerRecord {
        topic: TOPIC.to_owned(),
        partition: Some(sent.partition.partition),
        value: Some(value.into()),
        ..ProducerRecord::default()
    }
}

/// The value that a record was sent with.
pub(super) fn value_of(value: Option<&Bytes>) -> Result<u64, String> {
    let head = value.and_then(|value| value.first_chunk());
    head.map(|head| u64::from_be_bytes(*head)).ok_or_else(|| format!("no value in {value:?}"))
}

async fn await_answer(
    client: Client,
    (at, index): (usize, usize),
    sent: Sent,
    delivery: Delivery,
    permit: OwnedSemaphorePermit,
) {
    let (partition, value) = (sent.partition.partition, sent.value);
    match delivery.await {
        Ok(stored) => {
            let offset = stored.offset;
            client.trace.line(format_args!("acknowledged {value} at {partition} {offset}"));
            let mut notes = client.shared.lock();
            // A duplicate of a batch that the broker has forgotten is acknowledged without offset.
            let known = (offset >= 0).then_some(offset);
            if let Some(Operation::Send(send)) =
                notes.operations.get_mut(&client.name).and_then(|all| all.get_mut(at))
            {
                send.records[index].outcome = Outcome::Acked(known);
            }
            if let Some(offset) = known {
                let twice = notes.acknowledged.entry(partition).or_default().insert(offset, value);
                if let Some(other) = twice {
                    let what =
                        format!("{other} and {value} both acknowledged at {partition} {offset}");
                    notes.faults_seen.insert(what);
                }
            }
        }
        Err(error) => {
            client.trace.line(format_args!("{value} at {partition} is given up: {error}"));
        }
    }
    drop(permit);
}
