//! A producer against a broker whose answers are a script: what it sends again, and with which
//! sequence.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use klamm_env::Env;
use klamm_env::network::{Listener, Network, SocketOptions, Stream};
use klamm_protocol::frame::{decode_request, encode_response};
use klamm_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use klamm_protocol::messages::init_producer_id::InitProducerIdResponse;
use klamm_protocol::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use klamm_protocol::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use klamm_protocol::records::validate_header;
use klamm_protocol::{ApiKey, ErrorCode, Message};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, WriteHalf,
};
use tokio::sync::{Notify, mpsc};

use crate::ClientConfig;
use crate::cluster::Cluster;
use crate::producer::{Delivery, Producer, ProducerConfig, ProducerRecord};

const VERSIONS: [(ApiKey, i16); 4] = [
    (ApiKey::ApiVersions, 3),
    (ApiKey::Metadata, 9),
    (ApiKey::InitProducerId, 4),
    (ApiKey::Produce, 9),
];
/// Room of a connection in bytes.
const ROOM: usize = 1 << 20;

/// What happens to a batch that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is appended, and the answer says so.
    Acknowledged,
    /// It is appended, and the answer says that this took too long.
    AppendedLate,
    /// It is not appended, and that is final.
    Refused,
    /// The broker has lost count of the producer.
    OutOfOrder,
}

impl Fate {
    fn code(self) -> ErrorCode {
        match self {
            Fate::Acknowledged => ErrorCode::None,
            Fate::AppendedLate => ErrorCode::RequestTimedOut,
            Fate::Refused => ErrorCode::TopicAuthorizationFailed,
            Fate::OutOfOrder => ErrorCode::OutOfOrderSequenceNumber,
        }
    }

    fn is_appended(self) -> bool {
        matches!(self, Fate::Acknowledged | Fate::AppendedLate)
    }
}

/// A batch's producer and its first sequence.
type Sequence = (i64, i32);

#[derive(Default)]
struct Script {
    fates: VecDeque<Fate>,
    /// Who leads, by the answers to come; then broker 1.
    leaders: VecDeque<i32>,
    /// The next producer id to give out.
    next_producer: i64,
    /// Each batch, as they came.
    came: Vec<Sequence>,
    /// What is in the log; a batch has one record, so that the place is its offset.
    log: Vec<Sequence>,
}

/// The broker; with `held`, each answer to a batch waits until it may go.
struct Scripted {
    script: Mutex<Script>,
    may_answer: Notify,
    held: bool,
}

impl Scripted {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("not poisoned")
    }

    fn produced(&self, request: &ProduceRequest) -> PartitionProduceResponse {
        let records = request.topic_data[0].partition_data[0].records.as_ref().expect("records");
        let header = validate_header(records).expect("a batch");
        let sequence = (header.producer_id, header.base_sequence);
        let mut script = self.script();
        script.came.push(sequence);
        let fate = script.fates.pop_front().unwrap_or(Fate::Acknowledged);
        let code = fate.code();
        let mut offset = script.log.iter().position(|logged| *logged == sequence);
        if offset.is_none() && fate.is_appended() {
            offset = Some(script.log.len());
            script.log.push(sequence);
        }
        let offset = offset.filter(|_| code == ErrorCode::None);
        let base_offset = offset.map_or(-1, |offset| offset as i64);
        PartitionProduceResponse { error_code: code.as_i16(), base_offset, ..Default::default() }
    }

    /// Reads on while answers are held back, so that what was sent is seen.
    async fn serve(self: Arc<Self>, stream: DuplexStream) -> io::Result<()> {
        let (mut reader, writer) = tokio::io::split(stream);
        let (answers, queue) = mpsc::unbounded_channel();
        tokio::spawn(Arc::clone(&self).answer(writer, queue));
        loop {
            let len = reader.read_i32().await?;
            let mut frame = vec![0; usize::try_from(len).expect("a length")];
            reader.read_exact(&mut frame).await?;
            let (header, mut body) = decode_request(frame.into()).expect("a request");
            let (key, version, id) = (header.api_key, header.api_version, header.correlation_id);
            let encoded = match key {
                ApiKey::ApiVersions => encode_response(key, version, id, &versions()),
                ApiKey::Metadata => {
                    let leader = self.script().leaders.pop_front().unwrap_or(1);
                    encode_response(key, version, id, &metadata(leader))
                }
                ApiKey::InitProducerId => {
                    let mut script = self.script();
                    let producer_id = script.next_producer;
                    script.next_producer += 1;
                    let producer = InitProducerIdResponse { producer_id, ..Default::default() };
                    encode_response(key, version, id, &producer)
                }
                ApiKey::Produce => {
                    let request = ProduceRequest::decode_whole(&mut body, version).expect("sound");
                    let partition_responses = vec![self.produced(&request)];
                    let name = "t".to_owned();
                    let topic =
                        TopicProduceResponse { name, partition_responses, ..Default::default() };
                    let response = ProduceResponse { responses: vec![topic], ..Default::default() };
                    encode_response(key, version, id, &response)
                }
                other => panic!("nobody asks for {other}"),
            };
            let held = self.held && key == ApiKey::Produce;
            if answers.send((held, encoded.expect("encodes").bytes)).is_err() {
                return Ok(());
            }
        }
    }

    async fn answer(
        self: Arc<Self>,
        mut writer: WriteHalf<DuplexStream>,
        mut queue: mpsc::UnboundedReceiver<(bool, Bytes)>,
    ) -> io::Result<()> {
        while let Some((held, answer)) = queue.recv().await {
            if held {
                self.may_answer.notified().await;
            }
            writer.write_all(&answer).await?;
        }
        Ok(())
    }
}

fn versions() -> ApiVersionsResponse {
    let served = |(key, max_version): (ApiKey, i16)| ApiVersion {
        api_key: key.as_i16(),
        min_version: 0,
        max_version,
    };
    ApiVersionsResponse {
        api_keys: VERSIONS.into_iter().map(served).collect(),
        ..ApiVersionsResponse::default()
    }
}

fn metadata(leader_id: i32) -> MetadataResponse {
    let broker = MetadataResponseBroker { node_id: 1, host: "b".into(), port: 1, rack: None };
    let partition = MetadataResponsePartition {
        leader_id,
        replica_nodes: vec![1],
        isr_nodes: vec![1],
        ..MetadataResponsePartition::default()
    };
    let topic = MetadataResponseTopic {
        name: Some("t".into()),
        partitions: vec![partition],
        ..MetadataResponseTopic::default()
    };
    MetadataResponse {
        brokers: vec![broker],
        controller_id: 1,
        topics: vec![topic],
        ..MetadataResponse::default()
    }
}

struct OneBroker(Arc<Scripted>);

impl Network for OneBroker {
    fn bind<'a>(
        &'a self,
        _: &'a str,
        _: SocketOptions,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        async { Err(io::ErrorKind::Unsupported.into()) }.boxed()
    }

    fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        let (ours, theirs) = tokio::io::duplex(ROOM);
        tokio::spawn(Arc::clone(&self.0).serve(theirs));
        async { Ok(Box::new(Pipe(ours)) as Box<dyn Stream>) }.boxed()
    }
}

struct Pipe(DuplexStream);

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Stream for Pipe {}

/// A producer whose batches have one record each, and its broker.
async fn start(held: bool, script: Script) -> (Producer, Arc<Scripted>) {
    let script = Mutex::new(script);
    let broker = Arc::new(Scripted { script, may_answer: Notify::new(), held });
    let env = Env::real().expect("an environment");
    let env = Env { network: Arc::new(OneBroker(Arc::clone(&broker))), ..env };
    let cluster = Cluster::connect(env, ClientConfig::new(["b:1"])).await.expect("connects");
    let config =
        ProducerConfig { batch_bytes: 150, linger: Duration::ZERO, ..ProducerConfig::default() };
    (Producer::new(cluster, config).expect("a producer"), broker)
}

/// A sequence of the first producer id that was given out.
fn of_first(sequence: i32) -> Sequence {
    (0, sequence)
}

async fn send(producer: &Producer) -> Delivery {
    let value = Some(vec![b'x'; 100].into());
    let record = ProducerRecord { topic: "t".into(), value, ..ProducerRecord::default() };
    producer.send(record).await.expect("room")
}

#[tokio::test(start_paused = true)]
async fn what_failed_before_one_that_was_delivered_keeps_its_sequence_and_so_do_later_ones() {
    let (producer, broker) = start(false, Script::default()).await;
    assert_eq!(send(&producer).await.await.expect("delivered").offset, 0);
    broker.script().fates = [Fate::AppendedLate, Fate::Acknowledged].into();
    let (late, behind) = (send(&producer).await, send(&producer).await);
    assert_eq!(late.await.expect("delivered").offset, 1);
    assert_eq!(behind.await.expect("delivered").offset, 2);
    assert_eq!(send(&producer).await.await.expect("delivered").offset, 3);
    assert_eq!(broker.script().came, [0, 1, 2, 1, 3].map(of_first));
    assert_eq!(broker.script().log, [0, 1, 2, 3].map(of_first));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_log_of_a_broker_that_has_lost_count_is_given_up() {
    let (producer, broker) = start(false, Script::default()).await;
    send(&producer).await.await.expect("delivered");
    broker.script().fates = [Fate::AppendedLate, Fate::Acknowledged, Fate::OutOfOrder].into();
    let (late, behind) = (send(&producer).await, send(&producer).await);
    let error = late.await.expect_err("nobody knows where it lies");
    assert_eq!(error.code(), Some(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(behind.await.expect("delivered").offset, 2);
    assert_eq!(send(&producer).await.await.expect("delivered").offset, 3);
    assert_eq!(broker.script().came, [0, 1, 2, 1, 3].map(of_first));
}

/// Seed 2688285932026 of the cluster simulation: a batch with the sequence of one that was given up,
/// but is in the log, is a duplicate to the broker, and would be acknowledged unwritten.
#[tokio::test(start_paused = true)]
async fn the_sequence_of_what_may_be_in_the_log_is_not_used_again() {
    let (producer, broker) = start(false, Script::default()).await;
    send(&producer).await.await.expect("delivered");
    broker.script().fates = [Fate::AppendedLate, Fate::Refused].into();
    let error = send(&producer).await.await.expect_err("refused when it was sent again");
    assert_eq!(error.code(), Some(ErrorCode::TopicAuthorizationFailed));
    assert_eq!(send(&producer).await.await.expect("delivered").offset, 2);
    assert_eq!(broker.script().log, [(0, 0), (0, 1), (1, 0)]);
}

#[tokio::test(start_paused = true)]
async fn the_sequence_of_what_was_never_appended_is_used_again() {
    let (producer, broker) = start(false, Script::default()).await;
    send(&producer).await.await.expect("delivered");
    broker.script().fates = [Fate::Refused].into();
    send(&producer).await.await.expect_err("refused");
    assert_eq!(send(&producer).await.await.expect("delivered").offset, 1);
    assert_eq!(broker.script().log, [0, 1].map(of_first));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_not_among_the_brokers_is_waited_for() {
    let script = Script { leaders: [4, 4].into(), ..Script::default() };
    let (producer, broker) = start(false, script).await;
    assert_eq!(send(&producer).await.await.expect("delivered").offset, 0);
    assert!(broker.script().leaders.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_first_batch_of_an_identity_goes_alone() {
    let (producer, broker) = start(true, Script::default()).await;
    let deliveries = [send(&producer).await, send(&producer).await, send(&producer).await];
    let came = || broker.script().came.len();
    // Time stands still until nothing is left to do.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(came(), 1, "the broker has not confirmed the first");
    for delivery in deliveries {
        broker.may_answer.notify_one();
        delivery.await.expect("delivered");
    }
    assert_eq!(broker.script().log, [0, 1, 2].map(of_first));
}
