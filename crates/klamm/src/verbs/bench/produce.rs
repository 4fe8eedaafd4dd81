//! `klamm bench produce TOPIC`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use klamm_client::{
    Cluster, Delivery, OffsetSpec, Producer, ProducerRecord, RecordMetadata, Topic,
};
use klamm_env::{Clock, Env};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::figures::{Latencies, Throughput};
use super::payload::Payload;
use super::{PATIENCE, Sending, offsets, record_size, seconds, some_seconds};
use crate::cli::Connect;
use crate::failure::{Failure, Outcome};
use crate::output::{self, Progress};
use crate::signal::Stop;
use crate::verbs::produce::AcksArg;

/// How long it goes on unless told.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);
/// Records that a producer has sent and not counted yet.
const DELIVERIES_AHEAD_MAX: usize = 100_000;
/// How often progress is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How often a topic's end is asked for that has to be reached.
const END_INTERVAL: Duration = Duration::from_millis(100);

/// Publishes records as fast as it goes, or at a rate, and tells how fast that was
///
/// Latencies are from sending a record to its acknowledgement. With a rate they count from when
/// the record was due, so that a broker that falls behind cannot hide it. The topic must grow by
/// what was acknowledged, or it is a failure: nobody else may publish to it meanwhile.
#[derive(Args, Debug)]
pub(crate) struct ProduceBench {
    #[command(flatten)]
    pub(crate) sending: Sending,
    /// Bytes of a record's value, at least 24
    #[arg(long, value_name = "BYTES", default_value = "1024", value_parser = record_size)]
    pub(crate) record_size: usize,
    /// How long a batch waits for more records
    #[arg(long, value_name = "MS", default_value = "5",
          value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub(crate) linger_ms: u64,
    /// Producers, each with a connection of its own
    #[arg(long, value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) producers: u16,
    /// Records a second of all producers together [default: as fast as it goes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rate: Option<u64>,
    /// End after this many records beyond the warm-up
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) records: Option<u64>,
    /// End after this many seconds beyond the warm-up [default: 10, without --records]
    #[arg(long, value_name = "SECONDS", value_parser = some_seconds)]
    pub(crate) duration: Option<Duration>,
    /// Seconds at the beginning that the figures leave out
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) warm_up: Duration,
    #[command(flatten)]
    pub(crate) connect: Connect,
}

/// What the producers share.
struct Shared {
    verb: ProduceBench,
    stop: AtomicBool,
    /// Acknowledged so far, for those who watch.
    acknowledged: AtomicU64,
    /// By the monotonic clock.
    begun: Duration,
}

impl Shared {
    /// When the figures begin.
    fn counts_from(&self) -> Duration {
        self.begun + self.verb.warm_up
    }

    fn ends_at(&self) -> Option<Duration> {
        let default = self.verb.records.is_none().then_some(DURATION_DEFAULT);
        self.verb.duration.or(default).map(|duration| self.counts_from() + duration)
    }

    /// What producer `index` has of `all`.
    fn share(&self, all: u64, index: u16) -> u64 {
        let producers = u64::from(self.verb.producers);
        all / producers + u64::from(u64::from(index) < all % producers)
    }

    /// When record `nth` of producer `index` is due. The producers take turns.
    fn due(&self, nth: u64, index: u16) -> Option<Duration> {
        let place = nth * u64::from(self.verb.producers) + u64::from(index);
        self.verb.rate.map(|rate| self.begun + Duration::from_secs_f64(place as f64 / rate as f64))
    }
}

/// What became of a producer's records.
struct Produced {
    sent: u64,
    /// Acknowledged, by partition, warm-up included.
    partitions: BTreeMap<i32, Acknowledged>,
    throughput: Throughput,
    /// Of the last acknowledgement that counts.
    last: Duration,
    latencies: Latencies,
}

struct Acknowledged {
    records: i64,
    first_offset: i64,
    last_offset: i64,
}

pub(crate) async fn run(env: &Env, verb: ProduceBench) -> Outcome {
    let mut stop = Stop::new()?;
    let cluster = verb.connect.cluster(env).await?;
    let topic = verb.sending.prepare(&cluster).await?;
    let before = offsets(&cluster, &topic, OffsetSpec::Latest).await?;
    let cores = env.threads.cores().min(usize::from(verb.producers));
    let loops = env.threads.start_loops("klamm-bench", cores)?;
    let shared = Arc::new(Shared {
        verb,
        stop: AtomicBool::new(false),
        acknowledged: AtomicU64::new(0),
        begun: env.clock.monotonic(),
    });
    let mut producers = JoinSet::new();
    for (index, run_on) in (0..shared.verb.producers).zip(loops.iter().cycle()) {
        let task = run_on.spawn(produce(env.clone(), Arc::clone(&shared), index));
        producers.spawn(task);
    }
    let all = watch(&shared, &mut stop, producers).await?;
    let grown = verify(&shared.verb, &cluster, &topic, &before, &all).await?;
    let json = || all.json(&shared.verb, grown);
    output::print(shared.verb.connect.json, json, || all.text(&shared.verb, grown))?;
    Ok(())
}

/// Waits for the producers, telling how far they are.
async fn watch(
    shared: &Shared,
    stop: &mut Stop,
    mut producers: JoinSet<Result<Result<Produced, Failure>, tokio::task::JoinError>>,
) -> Result<Produced, Failure> {
    let mut all = Produced::new();
    let mut progress = Progress::new();
    let mut told = (Instant::now(), 0);
    loop {
        let ended = tokio::select! {
            ended = producers.join_next() => ended,
            () = stop.asked(), if !shared.stop.load(Ordering::Relaxed) => {
                shared.stop.store(true, Ordering::Relaxed);
                continue;
            }
            () = tokio::time::sleep(LOOK_INTERVAL) => {
                let acknowledged = shared.acknowledged.load(Ordering::Relaxed);
                let throughput = shared.throughput_since(&mut told, acknowledged);
                progress.tell(|| format!("{acknowledged} acknowledged; {}", throughput.text()));
                continue;
            }
        };
        match ended {
            None => break,
            Some(Ok(Ok(Ok(produced)))) => all.merge(&produced),
            Some(Ok(Ok(Err(failure)))) => {
                progress.finish();
                return Err(failure);
            }
            Some(Ok(Err(error)) | Err(error)) => return Err(Failure::Refused(error.to_string())),
        }
    }
    progress.finish();
    all.throughput.took = all.last.saturating_sub(shared.counts_from());
    Ok(all)
}

impl Shared {
    fn throughput_since(&self, told: &mut (Instant, u64), acknowledged: u64) -> Throughput {
        let now = Instant::now();
        let records = acknowledged - told.1;
        let bytes = records * self.verb.record_size as u64;
        let throughput = Throughput { records, bytes, took: now - told.0 };
        *told = (now, acknowledged);
        throughput
    }
}

/// One producer, from its connection to its last acknowledgement.
async fn produce(env: Env, shared: Arc<Shared>, index: u16) -> Result<Produced, Failure> {
    let Shared { verb, .. } = &*shared;
    let cluster = verb.connect.cluster(&env).await?;
    let producer = Producer::new(cluster, verb.sending.producer_config(verb.linger_ms))?;
    let payload = Payload::new(&*env.random, verb.sending.content, verb.record_size);
    let (deliveries, receiver) = mpsc::channel(DELIVERIES_AHEAD_MAX);
    let counting = tokio::spawn(count(Arc::clone(&env.clock), Arc::clone(&shared), receiver));
    let records_max = verb.records.map_or(u64::MAX, |records| shared.share(records, index));
    let (mut sent, mut sent_in_time) = (0, 0);
    let failed = loop {
        let mut now = env.clock.monotonic();
        if shared.stop.load(Ordering::Relaxed)
            || sent_in_time == records_max
            || shared.ends_at().is_some_and(|end| now >= end)
        {
            break None;
        }
        if let Some(due) = shared.due(sent, index) {
            if due > now {
                tokio::time::sleep(due - now).await;
                // It may have been long: the end is looked at before anything is sent.
                if shared.ends_at().is_some_and(|end| due >= end) {
                    break None;
                }
            }
            now = due;
        }
        let record = ProducerRecord {
            topic: verb.sending.topic.clone(),
            value: Some(payload.value(sent, micros(now))),
            ..ProducerRecord::default()
        };
        let delivery = match producer.send(record).await {
            Ok(delivery) => delivery,
            Err(error) => break Some(error),
        };
        // The counter stops at the first failure, which says why.
        if deliveries.send((delivery, now)).await.is_err() {
            break None;
        }
        sent += 1;
        sent_in_time += u64::from(now >= shared.counts_from());
    };
    drop(deliveries);
    producer.close().await;
    let counted = counting.await.map_err(|error| Failure::Refused(error.to_string()))?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(Produced { sent, ..counted? }),
    }
}

async fn count(
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
    mut deliveries: mpsc::Receiver<(Delivery, Duration)>,
) -> Result<Produced, Failure> {
    let counts_from = shared.counts_from();
    let mut produced = Produced::new();
    while let Some((delivery, sent_at)) = deliveries.recv().await {
        let metadata = delivery.await?;
        produced.acknowledged(&metadata);
        shared.acknowledged.fetch_add(1, Ordering::Relaxed);
        if sent_at >= counts_from {
            produced.last = clock.monotonic();
            produced.throughput.records += 1;
            produced.throughput.bytes += shared.verb.record_size as u64;
            produced.latencies.add(produced.last - sent_at);
        }
    }
    Ok(produced)
}

/// The topic has grown by what was acknowledged, offset by offset; answers by how much.
async fn verify(
    verb: &ProduceBench,
    cluster: &Cluster,
    topic: &Topic,
    before: &BTreeMap<i32, i64>,
    all: &Produced,
) -> Result<i64, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let (after, grown) = loop {
        let after = offsets(cluster, topic, OffsetSpec::Latest).await?;
        let grown = after.values().sum::<i64>() - before.values().sum::<i64>();
        // Readers see a record when all replicas in sync have it: with acks=all before it is
        // acknowledged, else a little later.
        if grown >= all.sent as i64 || Instant::now() >= deadline {
            break (after, grown);
        }
        tokio::time::sleep(END_INTERVAL).await;
    };
    if verb.sending.acks == AcksArg::None {
        return Ok(grown);
    }
    all.fits(before, &after).map_err(|why| Failure::Refused(format!("{}-{why}", topic.name)))?;
    Ok(grown)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Produced {
    fn new() -> Produced {
        Produced {
            sent: 0,
            partitions: BTreeMap::new(),
            throughput: Throughput::default(),
            last: Duration::ZERO,
            latencies: Latencies::new(),
        }
    }

    fn acknowledged(&mut self, metadata: &RecordMetadata) {
        let (partition, offset) = (metadata.partition.partition, metadata.offset);
        let new = || Acknowledged { records: 0, first_offset: offset, last_offset: offset };
        let acknowledged = self.partitions.entry(partition).or_insert_with(new);
        acknowledged.records += 1;
        acknowledged.first_offset = acknowledged.first_offset.min(offset);
        acknowledged.last_offset = acknowledged.last_offset.max(offset);
    }

    /// Whether every partition has grown by what was acknowledged there, and by nothing else.
    fn fits(&self, before: &BTreeMap<i32, i64>, after: &BTreeMap<i32, i64>) -> Result<(), String> {
        for (partition, end) in after {
            let begin = before.get(partition).copied().unwrap_or(0);
            let acknowledged = self.partitions.get(partition);
            let fits = acknowledged.map_or(begin == *end, |acknowledged| {
                acknowledged.records == end - begin
                    && acknowledged.first_offset == begin
                    && acknowledged.last_offset == end - 1
            });
            if !fits {
                let records = acknowledged.map_or(0, |acknowledged| acknowledged.records);
                return Err(format!(
                    "{partition} has grown from {begin} to {end}, and {records} records were \
                     acknowledged there: lost, doubled, or somebody else publishes too"
                ));
            }
        }
        Ok(())
    }

    fn merge(&mut self, other: &Produced) {
        self.sent += other.sent;
        self.throughput.records += other.throughput.records;
        self.throughput.bytes += other.throughput.bytes;
        self.last = self.last.max(other.last);
        self.latencies.merge(&other.latencies);
        for (partition, other) in &other.partitions {
            let new = || Acknowledged {
                records: 0,
                first_offset: other.first_offset,
                last_offset: other.last_offset,
            };
            let acknowledged = self.partitions.entry(*partition).or_insert_with(new);
            acknowledged.records += other.records;
            acknowledged.first_offset = acknowledged.first_offset.min(other.first_offset);
            acknowledged.last_offset = acknowledged.last_offset.max(other.last_offset);
        }
    }

    fn json(&self, verb: &ProduceBench, grown: i64) -> Value {
        let mut report = json!({
            "topic": verb.sending.topic,
            "record_bytes": verb.record_size,
            "producers": verb.producers,
            "sent": self.sent,
            "arrived": grown,
        });
        self.throughput.tell(&mut report);
        if verb.sending.acks != AcksArg::None {
            report["acknowledged_after_ms"] = self.latencies.json();
        }
        report
    }

    fn text(&self, verb: &ProduceBench, grown: i64) -> String {
        let mut text = format!("published {}\n", self.throughput.text());
        if verb.sending.acks == AcksArg::None {
            text += &format!("sent {}, of which {grown} arrived\n", self.sent);
        } else {
            if !self.latencies.is_empty() {
                text += &format!("acknowledged after: {}\n", self.latencies.text());
            }
            text += &format!("checked: all {grown} with the warm-up are there, each once\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use klamm_client::TopicPartition;

    use super::*;

    #[test]
    fn a_topic_must_grow_by_what_was_acknowledged() {
        let mut one = Produced::new();
        let mut other = Produced::new();
        for (is_one, offset) in [(true, 5), (false, 6), (true, 7)] {
            let partition = TopicPartition::new("t", 1);
            let produced = if is_one { &mut one } else { &mut other };
            produced.acknowledged(&RecordMetadata { partition, offset, timestamp: 0 });
        }
        one.merge(&other);
        let grown = |from, to| one.fits(&BTreeMap::from([(1, from)]), &BTreeMap::from([(1, to)]));
        assert_eq!(grown(5, 8), Ok(()));
        for (from, to) in [(5, 7), (5, 9), (4, 8), (4, 7), (6, 9)] {
            assert!(grown(from, to).is_err(), "from {from} to {to}");
        }
        let elsewhere = BTreeMap::from([(0, 0), (1, 8)]);
        assert_eq!(one.fits(&BTreeMap::from([(0, 0), (1, 5)]), &elsewhere), Ok(()));
        let told = one.fits(&BTreeMap::from([(0, 0), (1, 5)]), &BTreeMap::from([(0, 1), (1, 8)]));
        let told = told.expect_err("nothing was acknowledged there");
        assert!(told.starts_with("0 has grown from 0 to 1, and 0 records"), "{told}");
    }
}
