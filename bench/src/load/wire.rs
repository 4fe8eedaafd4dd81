//! A bare connection that sends one request after the other, for what no client of others measures:
//! the first acknowledgement after a start, long polls, a storm of connections.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use klamm_protocol::Request;
use klamm_protocol::compression::Compression;
use klamm_protocol::frame::{RequestHeader, decode_response, encode_request, frame_len};
use klamm_protocol::messages::api_versions::ApiVersionsRequest;
use klamm_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use klamm_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use klamm_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use klamm_protocol::records::{BatchBuilder, NewRecord};

use crate::Result;

/// Longest answer that is taken.
const FRAME_LEN_MAX: usize = 64 << 20;
/// Pause between two attempts to reach a broker that starts: the resolution of start times.
const RETRY: Duration = Duration::from_micros(500);
/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// A connection.
pub(crate) struct Connection {
    stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    /// Connects, again and again while nobody listens, for at most `patience`.
    pub(crate) fn open(address: &str, patience: Duration) -> Result<Self> {
        let deadline = Instant::now() + patience;
        let stream = loop {
            match TcpStream::connect(address) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => {
                    return Err(format!("{address}: {error}"));
                }
                Err(_) => std::thread::sleep(RETRY),
            }
        };
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(ANSWER_MAX)).map_err(|e| e.to_string())?;
        Ok(Self { stream, correlation_id: 0 })
    }

    /// Sends a request without waiting for its answer.
    pub(crate) fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<()> {
        self.correlation_id += 1;
        let header = RequestHeader {
            api_key: R::KEY,
            api_version: version,
            correlation_id: self.correlation_id,
            client_id: "bench".to_owned(),
        };
        let frame = encode_request(&header, request).map_err(|e| e.to_string())?;
        self.stream.write_all(&frame.bytes).map_err(|e| e.to_string())
    }

    /// Waits for the next answer.
    pub(crate) fn receive<R: Request>(&mut self, version: i16) -> Result<R::Response> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).map_err(|e| e.to_string())?;
        let len = frame_len(prefix, FRAME_LEN_MAX).map_err(|e| e.to_string())?;
        let mut frame = vec![0; len];
        self.stream.read_exact(&mut frame).map_err(|e| e.to_string())?;
        let (_, response) =
            decode_response::<R>(version, Bytes::from(frame)).map_err(|e| e.to_string())?;
        Ok(response)
    }

    pub(crate) fn ask<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        self.send(request, version)?;
        self.receive::<R>(version)
    }

    /// What a client asks first.
    pub(crate) fn api_versions(&mut self) -> Result<()> {
        let answer = self.ask(&ApiVersionsRequest::default(), 2)?;
        if answer.error_code == 0 { Ok(()) } else { Err(format!("error {}", answer.error_code)) }
    }

    /// Metadata of one topic, which is created if it is not there and `creates` is set.
    pub(crate) fn metadata(&mut self, topic: &str, creates: bool) -> Result<()> {
        let asked = MetadataRequestTopic { name: Some(topic.to_owned()), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(vec![asked]),
            allow_auto_topic_creation: creates,
            ..Default::default()
        };
        self.ask(&request, 4).map(drop)
    }

    /// Produces one record to partition 0 with acks=all: its offset, or the error code.
    pub(crate) fn produce(&mut self, topic: &str) -> Result<Result<i64, i16>> {
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![TopicProduceData {
                name: topic.to_owned(),
                partition_data: vec![PartitionProduceData {
                    index: 0,
                    records: Some(one_record()?),
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = self.ask(&request, 7)?;
        let partition = answer.responses.first().and_then(|t| t.partition_responses.first());
        let partition = partition.ok_or("an answer without the partition")?;
        Ok(if partition.error_code == 0 {
            Ok(partition.base_offset)
        } else {
            Err(partition.error_code)
        })
    }

    /// Asks for records that are not there yet, with the longest that the broker shall wait.
    pub(crate) fn long_poll(&mut self, topic: &str, wait: Duration) -> Result<()> {
        let partition = FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() };
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: 50 << 20,
            topics: vec![FetchTopic {
                topic: topic.to_owned(),
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        };
        self.send(&request, 4)
    }

    /// Takes the answer to a long poll, which must be empty.
    pub(crate) fn polled_nothing(&mut self) -> Result<()> {
        let answer = self.receive::<FetchRequest>(4)?;
        let partition = answer.responses.first().and_then(|topic| topic.partitions.first());
        match partition {
            Some(found) if found.error_code != 0 => Err(format!("error {}", found.error_code)),
            Some(found) if !found.records.is_empty() => {
                Err("a long poll found records that nobody wrote".to_owned())
            }
            _ => Ok(()),
        }
    }
}

fn one_record() -> Result<Bytes> {
    let mut batch = BatchBuilder::new(Compression::None, 1 << 10);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let timestamp = now.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(0));
    let record = NewRecord { timestamp, value: Some(b"first"), ..NewRecord::default() };
    batch.append(&record).map_err(|e| e.to_string())?;
    batch.build().map_err(|e| e.to_string())
}

/// From now on until a record is acknowledged by a broker that is starting.
pub(crate) fn first_ack(address: &str, topic: &str, patience: Duration) -> Result<i64> {
    let deadline = Instant::now() + patience;
    let mut last = String::new();
    while Instant::now() < deadline {
        let attempt = Connection::open(address, patience).and_then(|mut connection| {
            connection.metadata(topic, true)?;
            loop {
                match connection.produce(topic)? {
                    Ok(offset) => return Ok(offset),
                    Err(code) if Instant::now() > deadline => return Err(format!("error {code}")),
                    // The topic has no leader yet.
                    Err(_) => std::thread::sleep(RETRY),
                }
            }
        });
        match attempt {
            Ok(offset) => return Ok(offset),
            // It listened, and did not serve yet.
            Err(error) => last = error,
        }
    }
    Err(format!("no acknowledgement within {} s: {last}", patience.as_secs()))
}
