//! The first scenario: one broker whose machine loses power again and again, a producer that
//! counts what was acknowledged, and a reader that looks for it afterwards.
//!
//! What must hold (`flush=acked`, idempotent producer): every acknowledged record is at its
//! acknowledged offset, unchanged, and no record is there twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use klamm_broker::Broker;
use klamm_broker::config::load;
use klamm_client::{
    Acks, Admin, AutoOffsetReset, ClientConfig, Cluster, Consumer, ConsumerConfig, NewTopic,
    OffsetSpec, Producer, ProducerConfig, ProducerRecord, StartAt, TopicPartition,
};
use klamm_env::Env;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::disk::{Lie, SimulatedDisk};
use crate::trace::Trace;
use crate::world;

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 3;
/// Records of one run.
const RECORDS: usize = 300;
/// Each record is this long, so that every partition rolls.
const RECORD_BYTES: usize = 16 * 1024;
/// Times that the power fails in one run.
const POWER_LOSSES: u32 = 4;
/// A run that is not done by then hangs.
const SIMULATED_TIME_MAX: Duration = Duration::from_secs(600);
/// Simulated time per step.
const TICK: Duration = Duration::from_millis(1);

/// Acknowledged records: where each is, and what it says.
type Acknowledged = BTreeMap<(i32, i64), String>;
type Failure = Box<dyn std::error::Error>;

/// What a run has to show.
#[derive(Debug)]
pub struct Outcome {
    /// Everything observable, in order.
    pub trace: String,
    /// Records that were acknowledged.
    pub acknowledged: usize,
    /// Power losses that happened.
    pub power_losses: u32,
}

/// Runs the scenario. A disk with a `lie` confirms syncs that it does not do: the run is to fail,
/// which shows that a broker that does not sync would be found out.
///
/// # Errors
/// What was lost, doubled or changed; or that a chosen fault never fired, or nothing was done.
pub fn run(seed: u64, lie: Option<Lie>) -> Result<Outcome, Failure> {
    let trace = Trace::default();
    let acknowledged: Arc<Mutex<Acknowledged>> = Arc::default();
    let disk = SimulatedDisk::new(seed);
    disk.set_lie(lie);
    let mut random = SmallRng::seed_from_u64(seed);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(SIMULATED_TIME_MAX)
        .tick_duration(TICK)
        .max_message_latency(Duration::from_millis(random.random_range(1..20)))
        .build();

    let (broker_disk, starts) = (Arc::clone(&disk), Arc::new(Mutex::new(0_u64)));
    let broker_trace = trace.clone();
    sim.host("broker", move || {
        let start = {
            let mut starts = starts.lock().unwrap_or_else(PoisonError::into_inner);
            *starts += 1;
            *starts
        };
        let env = world::env(seed.wrapping_mul(31).wrapping_add(start), broker_disk.files());
        serve(env, start, broker_trace.clone())
    });
    let client_env = world::env(seed.wrapping_add(1), SimulatedDisk::new(seed).files());
    sim.client("client", publish_and_read(client_env, trace.clone(), Arc::clone(&acknowledged)));

    let mut power_losses = 0;
    let mut next_loss = loss_after(Duration::ZERO, &mut random);
    while !sim.step()? {
        if sim.elapsed() >= next_loss && power_losses < POWER_LOSSES {
            sim.crash("broker");
            disk.lose_power();
            trace.line(format_args!("power lost, disk is {:016x}", disk.fingerprint()));
            sim.bounce("broker");
            power_losses += 1;
            next_loss = loss_after(sim.elapsed(), &mut random);
        }
    }
    let acknowledged = acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len();
    if power_losses < POWER_LOSSES || acknowledged < RECORDS {
        let done = format!("{power_losses} power losses, {acknowledged} records acknowledged");
        return Err(format!("the run did too little: {done}").into());
    }
    Ok(Outcome { trace: trace.text(), acknowledged, power_losses })
}

fn loss_after(now: Duration, random: &mut SmallRng) -> Duration {
    now + Duration::from_millis(random.random_range(200..1000))
}

async fn serve(env: Env, start: u64, trace: Trace) -> turmoil::Result {
    let set = [
        ("listeners", "PLAINTEXT://0.0.0.0:9092"),
        ("advertised.listeners", "PLAINTEXT://broker:9092"),
        ("log.dirs", "/data"),
        ("log.segment.bytes", "1048576"),
    ];
    let set: Vec<_> = set.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let loaded = load(None, &set)?;
    let running = Broker::start(env, loaded.config).await?;
    trace.line(format_args!("broker start {start} serves on {}", running.address()));
    std::future::pending::<()>().await;
    running.stop().await;
    Ok(())
}

async fn publish_and_read(
    env: Env,
    trace: Trace,
    acknowledged: Arc<Mutex<Acknowledged>>,
) -> turmoil::Result {
    let cluster = connect(&env).await;
    let topic = NewTopic { partitions: Some(PARTITIONS), ..NewTopic::new(TOPIC) };
    Admin::new(cluster.clone()).create_topic(&topic).await?;
    trace.line("topic created");
    publish(&env, &cluster, &trace, &acknowledged).await?;
    let acknowledged = acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone();
    read_and_check(&cluster, &trace, &acknowledged).await
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

async fn publish(
    env: &Env,
    cluster: &Cluster,
    trace: &Trace,
    acknowledged: &Arc<Mutex<Acknowledged>>,
) -> turmoil::Result {
    let config = ProducerConfig { acks: Acks::All, idempotent: true, ..ProducerConfig::default() };
    let producer = Producer::new(cluster.clone(), config)?;
    let mut waiting = Vec::new();
    for number in 0..RECORDS {
        let text = format!("order {number}");
        let value = Some(long(&text));
        let record = ProducerRecord { topic: TOPIC.to_owned(), value, ..ProducerRecord::default() };
        let delivery = producer.send(record).await?;
        let (trace, acknowledged) = (trace.clone(), Arc::clone(acknowledged));
        waiting.push(tokio::spawn(async move {
            let stored = delivery.await.map_err(|error| error.to_string())?;
            let at = (stored.partition.partition, stored.offset);
            trace.line(format_args!("acknowledged {text} at {at:?}"));
            acknowledged.lock().unwrap_or_else(PoisonError::into_inner).insert(at, text);
            Ok::<(), String>(())
        }));
        tokio::time::sleep(Duration::from_micros(env.random.u64() % 30_000)).await;
    }
    for delivery in waiting {
        delivery.await??;
    }
    Ok(())
}

async fn read_and_check(
    cluster: &Cluster,
    trace: &Trace,
    acknowledged: &Acknowledged,
) -> turmoil::Result {
    let partitions: Vec<_> = (0..PARTITIONS).map(|n| TopicPartition::new(TOPIC, n)).collect();
    let admin = Admin::new(cluster.clone());
    let latest: BTreeMap<_, _> =
        partitions.iter().map(|partition| (partition.clone(), OffsetSpec::Latest)).collect();
    let ends = admin.list_offsets(&latest).await?;
    let mut missing: i64 = ends.values().map(|listed| listed.offset).sum();
    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::None,
        auto_commit_interval: None,
        ..ConsumerConfig::default()
    };
    let mut consumer = Consumer::new(cluster.clone(), config);
    consumer.assign(partitions.into_iter().map(|partition| (partition, StartAt::Earliest)));
    let mut found = Acknowledged::new();
    while missing > 0 {
        for record in consumer.poll(Duration::from_secs(1)).await? {
            let text = short(&record.value.unwrap_or_default())?;
            trace.line(format_args!("read {text} at {:?}", (record.partition, record.offset)));
            found.insert((record.partition, record.offset), text);
            missing -= 1;
        }
    }
    check(acknowledged, &found).map_err(Into::into)
}

/// A value that says `text`, and goes on for [`RECORD_BYTES`].
fn long(text: &str) -> Bytes {
    format!("{text:.<RECORD_BYTES$}").into()
}

/// What a value of [`long`] says.
fn short(value: &Bytes) -> Result<String, String> {
    let text = String::from_utf8_lossy(value).trim_end_matches('.').to_owned();
    if *value == long(&text) { Ok(text) } else { Err(format!("{text} came back changed")) }
}

/// Compares what was acknowledged with what is there.
fn check(acknowledged: &Acknowledged, found: &Acknowledged) -> Result<(), String> {
    for (at, text) in acknowledged {
        match found.get(at) {
            Some(there) if there == text => {}
            Some(there) => return Err(format!("{text} was acknowledged at {at:?}: {there}")),
            None => return Err(format!("{text} was acknowledged at {at:?} and is lost")),
        }
    }
    let mut texts = BTreeSet::new();
    match found.iter().find(|(_, text)| !texts.insert(*text)) {
        Some((at, text)) => Err(format!("{text} is there twice, again at {at:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(records: &[(i64, &str)]) -> Acknowledged {
        records.iter().map(|(offset, text)| ((0, *offset), (*text).to_owned())).collect()
    }

    #[test]
    fn a_good_history_passes() {
        let all = log(&[(0, "a"), (1, "b"), (2, "c")]);
        assert_eq!(check(&log(&[(0, "a"), (2, "c")]), &all), Ok(()));
    }

    #[test]
    fn a_lost_a_changed_and_a_doubled_record_are_each_found() {
        let acknowledged = log(&[(0, "a"), (1, "b")]);
        for bad in
            [log(&[(0, "a")]), log(&[(0, "a"), (1, "x")]), log(&[(0, "a"), (1, "b"), (2, "a")])]
        {
            check(&acknowledged, &bad).expect_err("a bad history");
        }
    }
}
