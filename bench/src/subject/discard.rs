//! A broker that speaks just enough of Kafka's protocol for a producer, and throws the records away:
//! what one client can produce at most.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use klamm_protocol::frame::{RequestHeader, decode_request, encode_response, frame_len};
use klamm_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use klamm_protocol::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use klamm_protocol::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use klamm_protocol::records::BatchHeader;
use klamm_protocol::{ApiKey, Encode, Message};

use crate::Result;

/// Longest request that is taken.
const FRAME_LEN_MAX: usize = 64 << 20;
/// What is served, and in which versions. Fetch is not, but librdkafka writes batches of the newest
/// form only to brokers that could be asked for them.
const SERVED: [(ApiKey, i16, i16); 4] = [
    (ApiKey::Produce, 3, 7),
    (ApiKey::Fetch, 4, 11),
    (ApiKey::Metadata, 4, 9),
    (ApiKey::ApiVersions, 0, 3),
];

/// What every connection sees.
struct Broker {
    port: i32,
    partitions: i32,
    /// Next offset by topic and partition.
    next: Mutex<BTreeMap<(String, i32), i64>>,
}

/// Serves until it is killed, a thread for each connection.
pub(super) fn run(listener: &TcpListener, partitions: usize) -> Result<()> {
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    let partitions = i32::try_from(partitions).map_err(|e| e.to_string())?;
    let broker = Arc::new(Broker { port: port.into(), partitions, next: Mutex::default() });
    for stream in listener.incoming() {
        let stream = stream.map_err(|e| e.to_string())?;
        let broker = Arc::clone(&broker);
        std::thread::spawn(move || {
            if let Err(error) = serve(&broker, stream) {
                eprintln!("discard: {error}");
            }
        });
    }
    Ok(())
}

fn serve(broker: &Broker, stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let mut answers = stream.try_clone().map_err(|e| e.to_string())?;
    let mut requests = BufReader::with_capacity(1 << 20, stream);
    let mut prefix = [0; 4];
    while requests.read_exact(&mut prefix).is_ok() {
        let len = frame_len(prefix, FRAME_LEN_MAX).map_err(|e| e.to_string())?;
        let mut frame = vec![0; len];
        requests.read_exact(&mut frame).map_err(|e| e.to_string())?;
        if let Some(answer) = answer(broker, Bytes::from(frame))? {
            answers.write_all(&answer).map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

fn answer(broker: &Broker, frame: Bytes) -> Result<Option<Bytes>> {
    let (header, mut body) = decode_request(frame).map_err(|e| e.to_string())?;
    let version = header.api_version;
    match header.api_key {
        ApiKey::ApiVersions => {
            let asked_for_too_much = version > 3;
            let error_code = if asked_for_too_much { 35 } else { 0 };
            let answered = if asked_for_too_much { 0 } else { version };
            encoded(&header, answered, &api_versions(error_code)).map(Some)
        }
        ApiKey::Metadata => {
            let request = MetadataRequest::decode_whole(&mut body, version);
            let request = request.map_err(|e| e.to_string())?;
            encoded(&header, version, &broker.metadata(request)).map(Some)
        }
        ApiKey::Produce => {
            let request = ProduceRequest::decode_whole(&mut body, version);
            let request = request.map_err(|e| e.to_string())?;
            let acks = request.acks;
            let response = broker.produce(request)?;
            if acks == 0 { Ok(None) } else { encoded(&header, version, &response).map(Some) }
        }
        other => Err(format!("{other} is not served")),
    }
}

fn encoded(header: &RequestHeader, version: i16, body: &impl Encode) -> Result<Bytes> {
    let encoded = encode_response(header.api_key, version, header.correlation_id, body);
    Ok(encoded.map_err(|e| e.to_string())?.bytes)
}

fn api_versions(error_code: i16) -> ApiVersionsResponse {
    let api_keys = SERVED.map(|(key, min_version, max_version)| ApiVersion {
        api_key: key.as_i16(),
        min_version,
        max_version,
    });
    ApiVersionsResponse { error_code, api_keys: api_keys.to_vec(), ..Default::default() }
}

impl Broker {
    fn metadata(&self, request: MetadataRequest) -> MetadataResponse {
        let topics = request.topics.unwrap_or_default().into_iter().map(|topic| {
            let partitions =
                (0..self.partitions).map(|partition_index| MetadataResponsePartition {
                    partition_index,
                    replica_nodes: vec![0],
                    isr_nodes: vec![0],
                    ..Default::default()
                });
            MetadataResponseTopic {
                name: topic.name,
                partitions: partitions.collect(),
                ..Default::default()
            }
        });
        let broker = MetadataResponseBroker {
            host: "127.0.0.1".into(),
            port: self.port,
            ..Default::default()
        };
        MetadataResponse { brokers: vec![broker], topics: topics.collect(), ..Default::default() }
    }

    fn produce(&self, request: ProduceRequest) -> Result<ProduceResponse> {
        let mut next = self.next.lock().map_err(|_| "another connection failed")?;
        let mut responses = Vec::new();
        for topic in request.topic_data {
            let mut partition_responses = Vec::new();
            for partition in topic.partition_data {
                let batch = partition.records.unwrap_or_default();
                let batch = BatchHeader::parse(&batch).map_err(|e| e.to_string())?;
                let offset = next.entry((topic.name.clone(), partition.index)).or_default();
                partition_responses.push(PartitionProduceResponse {
                    index: partition.index,
                    base_offset: *offset,
                    ..Default::default()
                });
                *offset += i64::from(batch.records_count);
            }
            responses.push(TopicProduceResponse {
                name: topic.name,
                partition_responses,
                ..Default::default()
            });
        }
        Ok(ProduceResponse { responses, ..Default::default() })
    }
}
