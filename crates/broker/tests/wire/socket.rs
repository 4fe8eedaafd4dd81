//! A connection as a client has it, and the requests that most tests send.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use klamm_protocol::compression::Compression;
use klamm_protocol::frame::{RequestHeader, decode_response, encode_request};
use klamm_protocol::messages::fetch::{FetchPartition, FetchTopic, PartitionData};
use klamm_protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, TopicProduceData,
};
use klamm_protocol::messages::{FetchRequest, FetchResponse, ProduceRequest};
use klamm_protocol::records::{Batch, BatchBuilder, NewRecord, ProducerFields, split_strict};
use klamm_protocol::{Records, Request};

/// Longest wait for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    correlation_id: i32,
}

impl Socket {
    pub(crate) fn connect(address: &str) -> Socket {
        let stream = TcpStream::connect(address).expect("the broker listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(ANSWER_WITHIN)).expect("a socket");
        Socket { stream, correlation_id: 0 }
    }

    /// Sends a request; answers its correlation id.
    pub(crate) fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.correlation_id += 1;
        let header = RequestHeader {
            api_key: R::KEY,
            api_version: version,
            correlation_id: self.correlation_id,
            client_id: "test".to_owned(),
        };
        let encoded = encode_request(&header, request).expect("encodes");
        assert_eq!(encoded.gaps, []);
        self.stream.write_all(&encoded.bytes).expect("sent");
        self.correlation_id
    }

    /// One frame without its length; none when the broker has closed the connection.
    pub(crate) fn frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                ) =>
            {
                return None;
            }
            Err(error) => panic!("no answer: {error}"),
        }
        let mut frame = vec![0; i32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).expect("a whole frame");
        Some(frame.into())
    }

    /// The answer to a request of type `R`.
    pub(crate) fn receive<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        let frame = self.frame().expect("an answer, not the end");
        decode_response::<R>(version, frame).expect("decodes")
    }

    pub(crate) fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let sent = self.send(version, request);
        let (answered, response) = self.receive::<R>(version);
        assert_eq!(sent, answered);
        response
    }

    /// Produces one batch and answers for its partition.
    pub(crate) fn produce(
        &mut self,
        topic: &str,
        index: i32,
        acks: i16,
        records: Bytes,
    ) -> PartitionProduceResponse {
        let response = self.call(9, &produce_request(topic, index, acks, records));
        response.responses[0].partition_responses[0].clone()
    }

    /// Fetches from one partition without a session, waiting up to `max_wait_ms` for a byte.
    pub(crate) fn fetch(
        &mut self,
        topic: &str,
        index: i32,
        offset: i64,
        max_wait_ms: i32,
    ) -> PartitionData {
        let request = fetch_request(topic, index, offset, max_wait_ms);
        let response: FetchResponse = self.call(12, &request);
        assert_eq!(response.error_code, 0);
        response.responses[0].partitions[0].clone()
    }

    /// Whether nothing has come yet.
    pub(crate) fn is_silent(&self) -> bool {
        self.stream.set_nonblocking(true).expect("a socket");
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).expect("a socket");
        peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Whether the broker closes the connection without a further answer.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.frame().is_none()
    }
}

pub(crate) fn produce_request(
    topic: &str,
    index: i32,
    acks: i16,
    records: Bytes,
) -> ProduceRequest {
    let data = PartitionProduceData { index, records: Some(records) };
    ProduceRequest {
        transactional_id: None,
        acks,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![data],
            ..Default::default()
        }],
    }
}

pub(crate) fn fetch_partition(index: i32, offset: i64) -> FetchPartition {
    FetchPartition {
        partition: index,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    }
}

pub(crate) fn fetch_request(
    topic: &str,
    index: i32,
    offset: i64,
    max_wait_ms: i32,
) -> FetchRequest {
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 10 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: topic.to_owned(),
            partitions: vec![fetch_partition(index, offset)],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// A batch of these values.
pub(crate) fn batch(values: &[&[u8]]) -> Bytes {
    builder(values).build().expect("builds")
}

pub(crate) fn builder(values: &[&[u8]]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(Compression::None, 32 << 20);
    for (at, value) in values.iter().enumerate() {
        let timestamp = 1_700_000_000_000 + at as i64;
        let record = NewRecord { timestamp, value: Some(value), ..Default::default() };
        builder.append(&record).expect("room");
    }
    builder
}

/// The same from an idempotent producer.
pub(crate) fn sequenced(producer_id: i64, base_sequence: i32, values: &[&[u8]]) -> Bytes {
    let mut builder = builder(values);
    builder.set_producer(ProducerFields { producer_id, producer_epoch: 0, base_sequence });
    builder.build().expect("builds")
}

/// Offsets and values of all fetched records.
pub(crate) fn records(data: &PartitionData) -> Vec<(i64, Bytes)> {
    let mut all = Vec::new();
    for batch in batches(data) {
        for record in batch.records(64 << 20).expect("readable") {
            let record = record.expect("readable");
            all.push((record.offset, record.value.unwrap_or_default()));
        }
    }
    all
}

/// All fetched batches.
pub(crate) fn batches(data: &PartitionData) -> Vec<Batch> {
    let Records::Inline(bytes) = &data.records else { panic!("a decoded answer is inline") };
    split_strict(bytes.clone()).map(|batch| batch.expect("a whole batch")).collect()
}
