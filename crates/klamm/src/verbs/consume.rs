//! `klamm consume TOPIC`

use std::time::Duration;

use clap::Args;
use klamm_client::{
    AutoOffsetReset, Consumer, ConsumerConfig, ConsumerRecord, StartAt, TopicPartition,
};
use klamm_env::Env;

use crate::cli::Connect;
use crate::failure::{Failure, Outcome};
use crate::line;
use crate::output;
use crate::signal::Stop;

/// How long one poll waits; what ends the reading is looked at between polls.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);
/// Records handed out by one poll.
const POLL_RECORDS_MAX: u64 = 5_000;

#[derive(Args, Debug)]
pub(crate) struct Consume {
    /// What to read
    pub(crate) topic: String,
    /// Begin with the first record there is; in a group, only where it has committed nothing
    #[arg(long)]
    pub(crate) from_beginning: bool,
    /// Begin at this offset
    #[arg(long, value_name = "N", conflicts_with_all = ["from_beginning", "group"],
          value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) offset: Option<i64>,
    /// Read this partition only
    #[arg(long, value_name = "N", conflicts_with = "group",
          value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) partition: Option<i32>,
    /// Share the topic with the others of this group, which remembers how far it has read
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) group: Option<String>,
    /// End after this many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_messages: Option<u64>,
    /// Show the key, too, with this between it and the value
    #[arg(long, value_name = "TEXT", conflicts_with = "json")]
    pub(crate) key_separator: Option<String>,
    #[command(flatten)]
    pub(crate) connect: Connect,
}

impl Consume {
    fn consumer_config(&self) -> ConsumerConfig {
        let auto_offset_reset =
            if self.from_beginning { AutoOffsetReset::Earliest } else { AutoOffsetReset::Latest };
        ConsumerConfig { group: self.group.clone(), auto_offset_reset, ..ConsumerConfig::default() }
    }

    fn start(&self) -> StartAt {
        match self.offset {
            Some(offset) => StartAt::Offset(offset),
            None if self.from_beginning => StartAt::Earliest,
            None => StartAt::Latest,
        }
    }

    fn format(&self, record: &ConsumerRecord) -> Vec<u8> {
        if self.connect.json {
            line::format_json(record)
        } else {
            line::format(record, self.key_separator.as_deref())
        }
    }
}

pub(crate) async fn run(env: &Env, verb: Consume) -> Outcome {
    let mut stop = Stop::new()?;
    let cluster = verb.connect.cluster(env).await?;
    // Asked for in a group as well, so that a topic that is not there is told at once.
    let topic = klamm_client::Admin::new(cluster.clone()).describe_topic(&verb.topic).await?;
    let mut consumer = Consumer::new(cluster, verb.consumer_config());
    if verb.group.is_some() {
        consumer.subscribe([verb.topic.clone()])?;
    } else {
        consumer.assign(assignment(&verb, &topic)?);
    }
    match read(&verb, &mut consumer, &mut stop).await {
        Ok(()) => Ok(consumer.close().await?),
        Err(failure) => {
            // What could not be written is not to be committed; the failure says more than a
            // second one.
            let _ = consumer.abandon().await;
            Err(failure)
        }
    }
}

fn assignment(
    verb: &Consume,
    topic: &klamm_client::Topic,
) -> Result<Vec<(TopicPartition, StartAt)>, Failure> {
    let wanted = |index: &i32| verb.partition.is_none_or(|partition| partition == *index);
    let indexes = topic.partitions.iter().map(|partition| partition.index).filter(wanted);
    let partitions: Vec<_> =
        indexes.map(|index| (TopicPartition::new(&topic.name, index), verb.start())).collect();
    if partitions.is_empty() {
        let (name, count) = (&topic.name, topic.partitions.len());
        return Err(Failure::Refused(format!("topic {name} has partitions 0 to {}", count - 1)));
    }
    Ok(partitions)
}

async fn read(verb: &Consume, consumer: &mut Consumer, stop: &mut Stop) -> Outcome {
    let mut left = verb.max_messages.unwrap_or(u64::MAX);
    while left > 0 {
        let records_max = usize::try_from(left.min(POLL_RECORDS_MAX)).expect("a small number");
        let records = tokio::select! {
            records = consumer.poll_at_most(POLL_TIMEOUT, records_max) => records?,
            () = stop.asked() => return Ok(()),
        };
        left -= records.len() as u64;
        if !records.is_empty() {
            let lines: Vec<_> = records.iter().flat_map(|record| verb.format(record)).collect();
            output::write(&lines)?;
        }
    }
    Ok(())
}
