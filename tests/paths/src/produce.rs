//! The produce paths: what a request carries, and that it was appended.

use std::net::SocketAddr;

use bytes::Bytes;
use klamm_protocol::compression::Compression;
use klamm_protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use klamm_protocol::messages::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, InitProducerIdRequest,
    ProduceRequest, ProduceResponse,
};
use klamm_protocol::records::{BatchBuilder, NewRecord, ProducerFields};

use crate::Outcome;
use crate::client::{Client, encoded, is_ok};
use crate::paths::OneMore;

pub(crate) const TOPIC: &str = "paths";
/// What librdkafka 2 asks for.
const VERSION: i16 = 10;
const TIMEOUT_MS: i32 = 60_000;

/// What the requests of a path carry.
#[derive(Clone, Copy)]
pub(crate) struct Produce {
    /// Of the topic.
    pub(crate) partitions: i32,
    /// Partitions of one request; the requests take the topic's in turn.
    pub(crate) partitions_at_once: i32,
    /// Records of a batch; a partition of a request has one batch.
    pub(crate) records: usize,
    /// Bytes of a record's value.
    pub(crate) record_bytes: usize,
    pub(crate) acks: i16,
    /// The topic's `flush`.
    pub(crate) flush: &'static str,
    pub(crate) idempotent: bool,
    /// Requests that are sent before the first is answered.
    pub(crate) in_flight: usize,
}

/// One record of 1 KiB, one request at a time, acks=1.
pub(crate) const PLAIN: Produce = Produce {
    partitions: 1,
    partitions_at_once: 1,
    records: 1,
    record_bytes: 1024,
    acks: 1,
    flush: "os",
    idempotent: false,
    in_flight: 1,
};

impl Produce {
    /// Creates the topic; what comes back makes one round of requests each time it is called.
    pub(crate) fn begin(self, address: SocketAddr) -> Outcome<OneMore> {
        let mut client = Client::connect(address)?;
        create_topic(&mut client, self.partitions, self.flush)?;
        let mut producer = ProducerFields::NONE;
        if self.idempotent {
            let request = InitProducerIdRequest { transactional_id: None, ..Default::default() };
            let response = client.call(4, &request)?;
            is_ok(response.error_code)?;
            producer.producer_id = response.producer_id;
            producer.producer_epoch = response.producer_epoch;
            producer.base_sequence = 0;
        }
        let mut sent = 0;
        let mut next_offsets = vec![0; usize::try_from(self.partitions)?];
        Ok(Box::new(move || {
            let mut frames = Vec::new();
            let mut firsts = Vec::new();
            for _ in 0..self.in_flight {
                let first = sent * self.partitions_at_once % self.partitions;
                sent += 1;
                let request = self.request(first, producer);
                frames.extend_from_slice(&encoded(VERSION, &request)?);
                firsts.push(first);
                if self.idempotent {
                    producer.base_sequence += i32::try_from(self.records)?;
                }
            }
            client.send(&frames)?;
            for first in firsts {
                let response = client.receive::<ProduceRequest>(VERSION)?;
                self.check(&response, first, &mut next_offsets)?;
            }
            Ok(())
        }))
    }

    fn request(&self, first: i32, producer: ProducerFields) -> ProduceRequest {
        let batch = batch(self.records, self.record_bytes, producer);
        let part = |index| PartitionProduceData { index, records: Some(batch.clone()) };
        let topic = TopicProduceData {
            name: TOPIC.to_owned(),
            partition_data: (first..first + self.partitions_at_once).map(part).collect(),
            ..TopicProduceData::default()
        };
        ProduceRequest {
            acks: self.acks,
            timeout_ms: TIMEOUT_MS,
            topic_data: vec![topic],
            transactional_id: None,
        }
    }

    /// Every batch is where the one before it ended.
    fn check(
        &self,
        response: &ProduceResponse,
        first: i32,
        next_offsets: &mut [i64],
    ) -> Outcome<()> {
        let parts = &response.responses.first().ok_or("an answer without the topic")?;
        let parts = &parts.partition_responses;
        if parts.len() != usize::try_from(self.partitions_at_once)? {
            return Err(format!("{} partitions are answered", parts.len()).into());
        }
        for (index, part) in (first..).zip(parts) {
            is_ok(part.error_code)?;
            let next = &mut next_offsets[usize::try_from(index)?];
            if (part.index, part.base_offset) != (index, *next) {
                return Err(format!("not partition {index} at {next}: {part:?}").into());
            }
            *next += i64::try_from(self.records)?;
        }
        Ok(())
    }
}

/// Appends `batches` of `records` of 1 KiB to partition 0 of a new topic.
pub(crate) fn prefill(client: &mut Client, batches: usize, records: usize) -> Outcome<()> {
    create_topic(client, 1, PLAIN.flush)?;
    let fill = Produce { records, ..PLAIN };
    let mut next_offsets = [0];
    for _ in 0..batches {
        let response = client.call(VERSION, &fill.request(0, ProducerFields::NONE))?;
        fill.check(&response, 0, &mut next_offsets)?;
    }
    Ok(())
}

pub(crate) fn create_topic(client: &mut Client, partitions: i32, flush: &str) -> Outcome<()> {
    let flush = CreatableTopicConfig { name: "flush".to_owned(), value: Some(flush.to_owned()) };
    let topic = CreatableTopic {
        name: TOPIC.to_owned(),
        num_partitions: partitions,
        replication_factor: 1,
        configs: vec![flush],
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: TIMEOUT_MS,
        ..CreateTopicsRequest::default()
    };
    let response = client.call(4, &request)?;
    is_ok(response.topics.first().ok_or("an answer without the topic")?.error_code)
}

/// One batch, uncompressed.
fn batch(records: usize, record_bytes: usize, producer: ProducerFields) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None, usize::MAX);
    builder.set_producer(producer);
    let now_ms = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_millis();
    let timestamp = i64::try_from(now_ms).expect("not that late");
    let value = vec![b'v'; record_bytes];
    for _ in 0..records {
        let record = NewRecord { timestamp, value: Some(&value), ..NewRecord::default() };
        builder.append(&record).expect("no bound");
    }
    builder.build().expect("nothing is compressed")
}
