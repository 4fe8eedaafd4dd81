//! `klamm produce TOPIC`

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use klamm_client::{
    Acks, ClientError, Delivery, Producer, ProducerConfig, ProducerRecord, RecordMetadata,
};
use klamm_env::{Env, Threads};
use klamm_protocol::compression::Compression;
use klamm_protocol::records::Header;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cli::Connect;
use crate::failure::{Failure, Outcome};
use crate::line;
use crate::output::{self, Progress, count};
use crate::signal::Stop;

/// Lines read ahead of what is sent.
const LINES_AHEAD_MAX: usize = 1024;
/// Records sent ahead of what is acknowledged, beyond which no more lines are read.
const DELIVERIES_AHEAD_MAX: usize = 100_000;
/// The longest line: more than this could not be sent as one record.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Args, Debug)]
pub(crate) struct Produce {
    /// Where to publish
    pub(crate) topic: String,
    /// What stands between key and value in a line; without it a line is a value
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) key_separator: Option<String>,
    /// The partition [default: by the key; without a key in turn]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) partition: Option<i32>,
    /// A header of every record; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = header)]
    pub(crate) header: Vec<Header>,
    /// How batches are compressed: none, gzip, snappy, lz4 or zstd
    #[arg(long, value_name = "CODEC", default_value = "none")]
    pub(crate) compression: Compression,
    /// When a record counts as published
    #[arg(long, value_enum, default_value = "all")]
    pub(crate) acks: AcksArg,
    #[command(flatten)]
    pub(crate) connect: Connect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AcksArg {
    /// When all replicas in sync have it
    All,
    /// When the leader has it
    #[value(name = "1")]
    Leader,
    /// When it is sent
    #[value(name = "0")]
    None,
}

fn header(text: &str) -> Result<Header, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            let (key, value) = (key.to_owned().into(), value.to_owned().into());
            Ok(Header { key, value: Some(value) })
        }
        _ => Err("not KEY=VALUE".to_owned()),
    }
}

impl Produce {
    fn producer_config(&self) -> ProducerConfig {
        let acks = match self.acks {
            AcksArg::All => Acks::All,
            AcksArg::Leader => Acks::Leader,
            AcksArg::None => Acks::None,
        };
        ProducerConfig {
            acks,
            idempotent: acks == Acks::All,
            compression: self.compression,
            ..ProducerConfig::default()
        }
    }

    fn record(&self, line: &Bytes) -> ProducerRecord {
        let (key, value) = line::parse(line, self.key_separator.as_deref());
        ProducerRecord {
            topic: self.topic.clone(),
            partition: self.partition,
            key,
            value: Some(value),
            headers: self.header.clone(),
            timestamp: None,
        }
    }
}

pub(crate) async fn run(env: &Env, verb: Produce) -> Outcome {
    let mut stop = Stop::new()?;
    let cluster = verb.connect.cluster_that_creates(env, true).await?;
    let producer = Producer::new(cluster, verb.producer_config())?;
    let (deliveries, counting) = count_deliveries();
    let mut lines = read_lines(&*env.threads);
    let sent = loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            () = stop.asked() => break Ok(()),
        };
        let line = match line {
            None => break Ok(()),
            Some(Err(error)) => break Err(Failure::from(error)),
            Some(Ok(line)) => line,
        };
        let delivery = match producer.send(verb.record(&line)).await {
            Ok(delivery) => delivery,
            Err(error) => break Err(error.into()),
        };
        // The counter stops at the first failure, which says why.
        if deliveries.send(delivery).await.is_err() {
            break Ok(());
        }
    };
    drop(deliveries);
    producer.close().await;
    let counted = counting.await.map_err(|error| Failure::Refused(error.to_string()))?;
    output::print(verb.connect.json, || counted.json(&verb.topic), || counted.text(&verb.topic))?;
    sent.and(counted.failed.map_or(Ok(()), |error| Err(error.into())))
}

/// Reads standard input on a thread that may wait for it.
fn read_lines(threads: &dyn Threads) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD_MAX);
    threads.queue_blocking(Box::new(move || {
        let mut input = io::stdin().lock();
        while let Some(line) = next_line(&mut input).transpose() {
            let is_last = line.is_err();
            if sender.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    }));
    receiver
}

/// The next line without its end; the last one need not have any.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<Bytes>> {
    let mut line = Vec::new();
    input.take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.len() > LINE_BYTES_MAX {
        let reason = format!("a line is longer than {LINE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(Some(line.into()))
}

/// What became of the records.
#[derive(Debug, Default)]
struct Counted {
    partitions: BTreeMap<i32, Published>,
    failed: Option<ClientError>,
}

#[derive(Debug, PartialEq, Eq)]
struct Published {
    records: u64,
    first_offset: i64,
    last_offset: i64,
}

fn count_deliveries() -> (mpsc::Sender<Delivery>, JoinHandle<Counted>) {
    let (sender, mut receiver) = mpsc::channel::<Delivery>(DELIVERIES_AHEAD_MAX);
    let counting = tokio::spawn(async move {
        let mut counted = Counted::default();
        let mut progress = Progress::new();
        while let Some(delivery) = receiver.recv().await {
            match delivery.await {
                Ok(metadata) => counted.add(&metadata),
                Err(error) => {
                    counted.failed = Some(error);
                    break;
                }
            }
            progress.tell(|| format!("{} published", count(counted.records(), "record")));
        }
        progress.finish();
        counted
    });
    (sender, counting)
}

impl Counted {
    fn add(&mut self, metadata: &RecordMetadata) {
        let offset = metadata.offset;
        let published = self.partitions.entry(metadata.partition.partition).or_insert(Published {
            records: 0,
            first_offset: offset,
            last_offset: offset,
        });
        published.records += 1;
        published.first_offset = published.first_offset.min(offset);
        published.last_offset = published.last_offset.max(offset);
    }

    fn records(&self) -> u64 {
        self.partitions.values().map(|published| published.records).sum()
    }

    fn json(&self, topic: &str) -> Value {
        let partitions = self.partitions.iter().map(|(partition, published)| {
            json!({
                "partition": partition,
                "records": published.records,
                "first_offset": published.first_offset,
                "last_offset": published.last_offset,
            })
        });
        json!({
            "topic": topic,
            "records": self.records(),
            "partitions": partitions.collect::<Value>(),
        })
    }

    fn text(&self, topic: &str) -> String {
        let by_partition = self.partitions.iter().map(|(partition, published)| {
            format!("{} to partition {partition}", published.records)
        });
        let by_partition: Vec<_> = by_partition.collect();
        let records = count(self.records(), "record");
        if by_partition.is_empty() {
            return format!("published {records} to {topic}\n");
        }
        format!("published {records} to {topic}: {}\n", by_partition.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use klamm_client::TopicPartition;

    use super::*;

    #[test]
    fn lines_end_with_a_newline_or_with_the_input() {
        let mut input = io::Cursor::new("one\n\nthree\r\nlast");
        let mut next = || next_line(&mut input).expect("reads");
        assert_eq!(next(), Some("one".into()));
        assert_eq!(next(), Some("".into()));
        assert_eq!(next(), Some("three\r".into()));
        assert_eq!(next(), Some("last".into()));
        assert_eq!(next(), None);
    }

    #[test]
    fn a_line_that_could_never_be_sent_is_refused() {
        let mut input = io::Cursor::new(vec![b'x'; LINE_BYTES_MAX + 1]);
        assert!(next_line(&mut input).is_err());
        let mut input = io::Cursor::new([vec![b'x'; LINE_BYTES_MAX], vec![b'\n']].concat());
        assert!(next_line(&mut input).is_ok());
    }

    #[test]
    fn what_was_published_is_told_by_partition() {
        let mut counted = Counted::default();
        for (partition, offset) in [(0, 7), (1, 3), (0, 8)] {
            let partition = TopicPartition::new("t", partition);
            counted.add(&RecordMetadata { partition, offset, timestamp: 0 });
        }
        assert_eq!(
            counted.text("t"),
            "published 3 records to t: 2 to partition 0, 1 to partition 1\n"
        );
        let json = counted.json("t");
        assert_eq!(json["records"], 3);
        assert_eq!(json["partitions"][0]["first_offset"], 7);
        assert_eq!(json["partitions"][0]["last_offset"], 8);
        assert_eq!(Counted::default().text("t"), "published 0 records to t\n");
    }
}
