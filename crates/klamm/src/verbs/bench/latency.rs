//! `klamm bench latency TOPIC`

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use klamm_client::{
    Cluster, Consumer, ConsumerConfig, OffsetSpec, Producer, ProducerRecord, StartAt, Topic,
    TopicPartition,
};
use klamm_env::Env;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::check::{Check, Once};
use super::figures::Latencies;
use super::payload::Payload;
use super::{PATIENCE, Sending, offsets, record_size};
use crate::cli::Connect;
use crate::failure::{Failure, Outcome};
use crate::output::{self, Progress, count};
use crate::signal::Stop;
use crate::verbs::produce::AcksArg;

/// How long one poll waits.
const POLL_TIMEOUT: Duration = Duration::from_millis(500);
/// Records that are sent and not counted yet.
const DELIVERIES_AHEAD_MAX: usize = 100_000;
/// Records handed out by one poll.
const POLL_RECORDS_MAX: usize = 10_000;

/// Publishes records and reads them at the same time, and tells how long each took to come
///
/// Without a rate, a record is sent when the one before it has come: what a broker takes that has
/// nothing else to do. With a rate the time counts from when the record was due. Sender and reader
/// share one thread and one clock. Every record must come once, or it is a failure.
#[derive(Args, Debug)]
pub(crate) struct LatencyBench {
    #[command(flatten)]
    pub(crate) sending: Sending,
    /// Bytes of a record's value, at least 24
    #[arg(long, value_name = "BYTES", default_value = "100", value_parser = record_size)]
    pub(crate) record_size: usize,
    /// How long a batch waits for more records
    #[arg(long, value_name = "MS", default_value = "0",
          value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub(crate) linger_ms: u64,
    /// Records a second [default: one when the one before it has come]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rate: Option<u64>,
    /// Records beyond the warm-up
    #[arg(long, value_name = "N", default_value = "10000",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) records: u64,
    /// Records at the beginning that the figures leave out
    #[arg(long, value_name = "N", default_value = "1000")]
    pub(crate) warm_up_records: u64,
    #[command(flatten)]
    pub(crate) connect: Connect,
}

/// What was measured.
struct Timed {
    to_reader: Latencies,
    to_acknowledgement: Latencies,
}

pub(crate) async fn run(env: &Env, verb: LatencyBench) -> Outcome {
    let mut stop = Stop::new()?;
    let cluster = verb.connect.cluster(env).await?;
    let topic = verb.sending.prepare(&cluster).await?;
    let timed = tokio::select! {
        timed = measure(env, &verb, &cluster, &topic) => timed?,
        () = stop.asked() => return Err(Failure::Refused("stopped before the end".to_owned())),
    };
    let json = || {
        let mut report = json!({
            "topic": verb.sending.topic,
            "record_bytes": verb.record_size,
            "records": verb.records,
            "read_after_ms": timed.to_reader.json(),
        });
        if verb.sending.acks != AcksArg::None {
            report["acknowledged_after_ms"] = timed.to_acknowledgement.json();
        }
        report
    };
    let text = || {
        let mut text = format!("read after: {}\n", timed.to_reader.text());
        if verb.sending.acks != AcksArg::None {
            text += &format!("acknowledged after: {}\n", timed.to_acknowledgement.text());
        }
        let all = count(verb.records + verb.warm_up_records, "record");
        text + &format!("checked: {all} with the warm-up came, each once\n")
    };
    output::print(verb.connect.json, json, text)?;
    Ok(())
}

async fn measure(
    env: &Env,
    verb: &LatencyBench,
    cluster: &Cluster,
    topic: &Topic,
) -> Result<Timed, Failure> {
    let first = offsets(cluster, topic, OffsetSpec::Latest).await?;
    let mut consumer = Consumer::new(cluster.clone(), ConsumerConfig::default());
    let start = |(index, offset): (&i32, &i64)| {
        (TopicPartition::new(&topic.name, *index), StartAt::Offset(*offset))
    };
    consumer.assign(first.iter().map(start));
    let producer = Producer::new(cluster.clone(), verb.sending.producer_config(verb.linger_ms))?;
    let payload = Payload::new(&*env.random, verb.sending.content, verb.record_size);
    let run = payload.run();
    // One record at a time: the reader lets the next go.
    let turns = Arc::new(Semaphore::new(1));
    let sending = send(env, verb, producer, payload, Arc::clone(&turns));
    let check = Check::new(first, true);
    let reading = read(env, verb, &mut consumer, check, run, &turns);
    let (to_acknowledgement, to_reader) = tokio::try_join!(sending, reading)?;
    Ok(Timed { to_reader, to_acknowledgement })
}

/// Sends all records; answers how long their acknowledgements took.
async fn send(
    env: &Env,
    verb: &LatencyBench,
    producer: Producer,
    payload: Payload,
    turns: Arc<Semaphore>,
) -> Result<Latencies, Failure> {
    let (deliveries, mut receiver) = mpsc::channel(DELIVERIES_AHEAD_MAX);
    let sending = async {
        let begun = env.clock.monotonic();
        for sequence in 0..verb.warm_up_records + verb.records {
            let sent_at = match verb.rate {
                Some(rate) => {
                    let due = begun + Duration::from_secs_f64(sequence as f64 / rate as f64);
                    tokio::time::sleep(due.saturating_sub(env.clock.monotonic())).await;
                    due
                }
                None => {
                    turns.acquire().await.expect("nobody closes it").forget();
                    env.clock.monotonic()
                }
            };
            let sent_us = u64::try_from(sent_at.as_micros()).unwrap_or(u64::MAX);
            let record = ProducerRecord {
                topic: verb.sending.topic.clone(),
                value: Some(payload.value(sequence, sent_us)),
                ..ProducerRecord::default()
            };
            let delivery = producer.send(record).await?;
            // The other end lives as long as this one.
            let _ = deliveries.send((sequence, delivery, sent_at)).await;
        }
        drop(deliveries);
        producer.close().await;
        Ok::<_, Failure>(())
    };
    let counting = async {
        let mut latencies = Latencies::new();
        while let Some((sequence, delivery, sent_at)) = receiver.recv().await {
            delivery.await?;
            if sequence >= verb.warm_up_records {
                latencies.add(env.clock.monotonic().saturating_sub(sent_at));
            }
        }
        Ok(latencies)
    };
    let ((), latencies) = tokio::try_join!(sending, counting)?;
    Ok(latencies)
}

/// Reads until every record has come; answers how long they took.
async fn read(
    env: &Env,
    verb: &LatencyBench,
    consumer: &mut Consumer,
    mut check: Check,
    run: u32,
    turns: &Semaphore,
) -> Result<Latencies, Failure> {
    let all = verb.warm_up_records + verb.records;
    let mut latencies = Latencies::new();
    let mut once = Once::default();
    let mut progress = Progress::new();
    let mut came = Instant::now();
    while once.count() < all {
        let records = consumer.poll_at_most(POLL_TIMEOUT, POLL_RECORDS_MAX).await?;
        let now_us = env.clock.monotonic().as_micros();
        for record in &records {
            let mark = check.take(record).map_err(Failure::Refused)?.expect("values are read");
            // Somebody else's may come between.
            if mark.run != run {
                continue;
            }
            if !once.comes(mark.sequence) {
                return Err(Failure::Refused(format!("record {} came twice", mark.sequence)));
            }
            came = Instant::now();
            if mark.sequence >= verb.warm_up_records {
                let took = now_us.saturating_sub(u128::from(mark.sent_us));
                latencies.add(Duration::from_micros(u64::try_from(took).unwrap_or(u64::MAX)));
            }
            turns.add_permits(1);
        }
        if came.elapsed() >= PATIENCE {
            let reason = format!("{} of {all} records came, and no more", once.count());
            return Err(Failure::Refused(reason));
        }
        progress.tell(|| match latencies.is_empty() {
            true => format!("{} of {all} read", once.count()),
            false => format!("{} of {all} read; {}", once.count(), latencies.text()),
        });
    }
    progress.finish();
    Ok(latencies)
}
