//! `klamm bench`: how fast a cluster is, as our own client sees it.

mod check;
mod consume;
mod figures;
mod latency;
mod payload;
mod produce;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand};
use klamm_client::{
    Acks, Admin, ClientError, Cluster, NewTopic, OffsetSpec, ProducerConfig, Topic, TopicPartition,
};
use klamm_env::Env;
use klamm_protocol::ErrorCode;
use klamm_protocol::compression::Compression;

use super::produce::AcksArg;
use crate::failure::{Failure, Outcome};
use payload::{Content, MARK_BYTES};

/// Longest wait for records that have to come: reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest value that is offered; whether a broker takes it is another matter.
const RECORD_BYTES_MAX: i64 = 16 << 20;
/// The longest duration that is offered: a week.
const SECONDS_MAX: f64 = 604_800.0;

/// The verbs; each checks what came of what it did, and fails where records are missing.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Publish as fast as it goes, or at a rate
    Produce(produce::ProduceBench),
    /// Read a topic from the beginning to its end
    Consume(consume::ConsumeBench),
    /// Time records from being sent to being read
    Latency(latency::LatencyBench),
}

pub(crate) async fn run(env: &Env, verb: Bench) -> Outcome {
    match verb {
        Bench::Produce(verb) => produce::run(env, verb).await,
        Bench::Consume(verb) => consume::run(env, verb).await,
        Bench::Latency(verb) => latency::run(env, verb).await,
    }
}

/// What is sent, and how.
#[derive(Args, Debug)]
pub(crate) struct Sending {
    /// Where to publish; created if it is not there
    pub(crate) topic: String,
    /// Partitions of the topic [default: 1, or as many as it has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=100_000))]
    pub(crate) partitions: Option<i32>,
    /// What records are filled with
    #[arg(long, value_enum, default_value = "random")]
    pub(crate) content: Content,
    /// When a record counts as published
    #[arg(long, value_enum, default_value = "all")]
    pub(crate) acks: AcksArg,
    /// How batches are compressed: none, gzip, snappy, lz4 or zstd
    #[arg(long, value_name = "CODEC", default_value = "none")]
    pub(crate) compression: Compression,
    /// Bytes of a batch, before compression
    #[arg(long, value_name = "BYTES", default_value = "262144",
          value_parser = clap::value_parser!(u32).range(1..=16 << 20))]
    pub(crate) batch_size: u32,
}

impl Sending {
    fn producer_config(&self, linger_ms: u64) -> ProducerConfig {
        let acks = match self.acks {
            AcksArg::All => Acks::All,
            AcksArg::Leader => Acks::Leader,
            AcksArg::None => Acks::None,
        };
        ProducerConfig {
            acks,
            idempotent: acks == Acks::All,
            compression: self.compression,
            batch_bytes: self.batch_size as usize,
            linger: Duration::from_millis(linger_ms),
            ..ProducerConfig::default()
        }
    }

    /// The topic, created if it is not there.
    async fn prepare(&self, cluster: &Cluster) -> Result<Topic, Failure> {
        let admin = Admin::new(cluster.clone());
        let name = &self.topic;
        let found = match admin.describe_topic(name).await {
            Err(error) if is_unknown_topic(&error) => {
                let partitions = Some(self.partitions.unwrap_or(1));
                admin.create_topic(&NewTopic { partitions, ..NewTopic::new(name) }).await?;
                cluster.topic(name).await?
            }
            described => described?,
        };
        let (wanted, has) = (self.partitions, found.partitions.len());
        if wanted.is_some_and(|wanted| i64::from(wanted) != has as i64) {
            return Err(Failure::Refused(format!(
                "topic {name} is there and has {has} partitions"
            )));
        }
        Ok(found)
    }
}

fn is_unknown_topic(error: &ClientError) -> bool {
    error.code() == Some(ErrorCode::UnknownTopicOrPartition)
}

/// The offset of every partition, by its index.
async fn offsets(
    cluster: &Cluster,
    topic: &Topic,
    which: OffsetSpec,
) -> Result<BTreeMap<i32, i64>, Failure> {
    let partitions = topic.partitions.iter();
    let wanted = partitions.map(|part| (TopicPartition::new(&topic.name, part.index), which));
    let listed = Admin::new(cluster.clone()).list_offsets(&wanted.collect()).await?;
    Ok(listed.into_iter().map(|(partition, at)| (partition.partition, at.offset)).collect())
}

/// `1.5` as a duration.
fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=SECONDS_MAX).contains(&seconds) => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err(format!("not a number of seconds from 0 to {SECONDS_MAX}")),
    }
}

/// As [`seconds`], and not 0.
fn some_seconds(text: &str) -> Result<Duration, String> {
    seconds(text).and_then(|duration| match duration.is_zero() {
        true => Err("must be above 0".to_owned()),
        false => Ok(duration),
    })
}

fn record_size(text: &str) -> Result<usize, String> {
    let range = MARK_BYTES as i64..=RECORD_BYTES_MAX;
    match text.parse::<i64>() {
        Ok(bytes) if range.contains(&bytes) => Ok(bytes as usize),
        _ => Err(format!(
            "not a number from {MARK_BYTES} (a checksum and numbers) to {RECORD_BYTES_MAX}"
        )),
    }
}
