//! `klamm bench consume TOPIC`

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, ValueEnum};
use klamm_client::{Admin, Consumer, ConsumerConfig, OffsetSpec, StartAt, TopicPartition};
use klamm_env::Env;
use serde_json::json;
use tokio::time::Instant;

use super::check::Check;
use super::figures::{Latencies, Throughput};
use super::{PATIENCE, offsets, seconds, some_seconds};
use crate::cli::Connect;
use crate::failure::{Failure, Outcome};
use crate::output::{self, Progress, count};
use crate::signal::Stop;

/// How long one poll waits; what ends the reading is looked at between polls.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);
/// Records handed out by one poll.
const POLL_RECORDS_MAX: u64 = 10_000;

/// Reads a topic from its first record to what is its end at the start, and tells how fast
///
/// Offsets must follow one another without a gap (a compacted topic's do not), and by default the
/// values must be whole and in the order in which `klamm bench produce` wrote them, or it is a
/// failure.
#[derive(Args, Debug)]
pub(crate) struct ConsumeBench {
    /// What to read
    pub(crate) topic: String,
    /// What records are held to
    #[arg(long, value_enum, default_value = "content")]
    pub(crate) check: Checked,
    /// Bytes of one answer of a broker, at most
    #[arg(long, value_name = "BYTES", default_value = "52428800",
          value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) fetch_size: i32,
    /// Bytes of one partition in an answer, at most
    #[arg(long, value_name = "BYTES", default_value = "1048576",
          value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) partition_fetch_size: i32,
    /// End after this many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) records: Option<u64>,
    /// End after this many seconds beyond the warm-up, reading on behind the end
    #[arg(long, value_name = "SECONDS", value_parser = some_seconds)]
    pub(crate) duration: Option<Duration>,
    /// Seconds at the beginning that the figures leave out
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub(crate) warm_up: Duration,
    #[command(flatten)]
    pub(crate) connect: Connect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Checked {
    /// Offsets, and values that klamm bench wrote
    Content,
    /// Offsets only: any topic will do
    Offsets,
}

/// What was read.
struct Read {
    /// Warm-up included.
    records: u64,
    throughput: Throughput,
    /// Of polls that had to wait.
    waits: Latencies,
}

pub(crate) async fn run(env: &Env, verb: ConsumeBench) -> Outcome {
    let mut stop = Stop::new()?;
    let cluster = verb.connect.cluster(env).await?;
    let topic = Admin::new(cluster.clone()).describe_topic(&verb.topic).await?;
    let first = offsets(&cluster, &topic, OffsetSpec::Earliest).await?;
    let end = offsets(&cluster, &topic, OffsetSpec::Latest).await?;
    let config = ConsumerConfig {
        fetch_bytes_max: verb.fetch_size,
        partition_fetch_bytes_max: verb.partition_fetch_size,
        ..ConsumerConfig::default()
    };
    let mut consumer = Consumer::new(cluster, config);
    let start = |(index, offset): (&i32, &i64)| {
        (TopicPartition::new(&topic.name, *index), StartAt::Offset(*offset))
    };
    consumer.assign(first.iter().map(start));
    let check = Check::new(first, verb.check == Checked::Content);
    let read = read(&verb, &mut consumer, check, &end, &mut stop).await?;
    let json = || {
        let mut report = json!({ "topic": verb.topic, "read": read.records });
        read.throughput.tell(&mut report);
        report["polls_that_waited_ms"] = read.waits.json();
        report
    };
    let text = || {
        let mut text = format!("read {}\n", read.throughput.text());
        if !read.waits.is_empty() {
            text += &format!("polls that waited: {}\n", read.waits.text());
        }
        let what = match verb.check {
            Checked::Content => "offset by offset, whole and in order",
            Checked::Offsets => "offset by offset",
        };
        text + &format!("checked: {} with the warm-up, {what}\n", count(read.records, "record"))
    };
    output::print(verb.connect.json, json, text)?;
    Ok(())
}

async fn read(
    verb: &ConsumeBench,
    consumer: &mut Consumer,
    mut check: Check,
    end: &BTreeMap<i32, i64>,
    stop: &mut Stop,
) -> Result<Read, Failure> {
    let mut read = Read { records: 0, throughput: Throughput::default(), waits: Latencies::new() };
    let counts_from = Instant::now() + verb.warm_up;
    let ends_at = verb.duration.map(|duration| counts_from + duration);
    let mut progress = Progress::new();
    let mut came = Instant::now();
    loop {
        let left = verb.records.map_or(u64::MAX, |records| records - read.records);
        let asked = Instant::now();
        let is_over = match ends_at {
            Some(ends_at) => asked >= ends_at,
            None => is_at_end(consumer, &verb.topic, end),
        };
        if left == 0 || is_over {
            break;
        }
        let timeout = ends_at.map_or(POLL_TIMEOUT, |ends_at| POLL_TIMEOUT.min(ends_at - asked));
        let records_max = usize::try_from(left.min(POLL_RECORDS_MAX)).expect("a small number");
        let records = tokio::select! {
            records = consumer.poll_at_most(timeout, records_max) => records?,
            () = stop.asked() => break,
        };
        let now = Instant::now();
        if records.is_empty() {
            if ends_at.is_none() && now - came >= PATIENCE {
                let reason = format!("nothing came within {PATIENCE:?}, and it is not the end");
                return Err(Failure::Refused(reason));
            }
            continue;
        }
        came = now;
        let mut bytes = 0;
        for record in &records {
            check.take(record).map_err(Failure::Refused)?;
            bytes += record.value.as_ref().map_or(0, |value| value.len() as u64);
        }
        read.records += records.len() as u64;
        if asked >= counts_from {
            read.throughput.records += records.len() as u64;
            read.throughput.bytes += bytes;
            read.throughput.took = Instant::now() - counts_from;
            read.waits.add(now - asked);
        }
        progress.tell(|| format!("{} read; {}", read.records, read.throughput.text()));
    }
    progress.finish();
    Ok(read)
}

/// Whether every partition has been read up to what was its end.
fn is_at_end(consumer: &Consumer, topic: &str, end: &BTreeMap<i32, i64>) -> bool {
    end.iter().all(|(index, end)| {
        let position = consumer.position(&TopicPartition::new(topic, *index));
        position.is_some_and(|position| position >= *end)
    })
}
