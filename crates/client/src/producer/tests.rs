mod scripted;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use klamm_protocol::compression::Compression;
use klamm_protocol::records::{Batch, validate_header};
use tokio::sync::{Semaphore, oneshot};

use crate::error::ClientError;
use crate::metadata::TopicPartition;

use super::identity::Identity;
use super::queue::{Entry, Outstanding, Queue};
use super::*;

const VECTORS: &str = include_str!("../../testdata/murmur2.txt");

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

#[test]
fn keys_go_where_kafkas_java_client_sends_them() {
    let mut seen = 0;
    for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<_> = line.split(' ').collect();
        let key = hex(fields[0]);
        assert_eq!(murmur2(&key).to_string(), fields[1], "{line}");
        for (count, expected) in [3, 12, 1000].into_iter().zip(&fields[2..]) {
            assert_eq!(partition_for_key(&key, count).to_string(), *expected, "{line}");
        }
        seen += 1;
    }
    assert!(seen > 50, "{seen} vectors");
}

fn keyless(len: usize) -> ProducerRecord {
    ProducerRecord { value: Some(vec![b'x'; len].into()), ..ProducerRecord::default() }
}

fn partitions(choice: &mut Choice, config: &ProducerConfig, count: i32, n: usize) -> Vec<i32> {
    (0..n).map(|nth| choice.partition(config, &keyless(100), count, || nth as u64)).collect()
}

#[test]
fn keyless_records_go_round_the_partitions() {
    let (mut choice, config) = (Choice::default(), ProducerConfig::default());
    assert_eq!(partitions(&mut choice, &config, 2, 2), [0, 1]);
    assert_eq!(partitions(&mut choice, &config, 3, 5), [0, 1, 2, 0, 1]);
}

#[test]
fn sticky_records_stay_for_a_batch() {
    let partitioner = Partitioner::Sticky;
    let config = ProducerConfig { partitioner, batch_bytes: 400, ..ProducerConfig::default() };
    let chosen = partitions(&mut Choice::default(), &config, 8, 9);
    assert_eq!(chosen, [0, 0, 0, 3, 3, 3, 6, 6, 6]);
}

#[test]
fn settings_that_contradict_each_other_are_refused_or_bounded() {
    let config = ProducerConfig { acks: Acks::Leader, ..ProducerConfig::default() };
    assert!(matches!(config.checked(), Err(ClientError::Config(_))));
    let config = ProducerConfig { in_flight_max: 100, ..ProducerConfig::default() };
    assert_eq!(config.checked().expect("bounded").in_flight_max, 5);
    let config = ProducerConfig { idempotent: false, ..ProducerConfig::default() };
    assert_eq!(config.checked().expect("bounded").in_flight_max, 1);
}

struct Fixture {
    queue: Queue,
    buffer: Arc<Semaphore>,
    config: ProducerConfig,
}

type Receiver = oneshot::Receiver<Result<RecordMetadata, ClientError>>;

impl Fixture {
    fn new(config: ProducerConfig) -> Self {
        let buffer = Arc::new(Semaphore::new(config.buffer_bytes));
        let partition = TopicPartition::new("t", 3);
        let queue = Queue::new(partition, &config, Arc::new(Outstanding::default()));
        Self { queue, buffer, config }
    }

    fn append(&self, record: ProducerRecord) -> Receiver {
        let (sender, receiver) = oneshot::channel();
        let bytes = u32::try_from(record.bytes()).expect("small");
        let reserved = Arc::clone(&self.buffer).try_acquire_many_owned(bytes).expect("memory");
        self.queue.append(record, 1000, Entry { sender, _reserved: reserved });
        receiver
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_goes_at_once_and_an_open_one_after_the_linger() {
    let linger = Duration::from_millis(20);
    let fixture = Fixture::new(ProducerConfig { batch_bytes: 300, linger, ..Default::default() });
    let _waiting: Vec<_> = (0..5).map(|_| fixture.append(keyless(100))).collect();
    let start = tokio::time::Instant::now();
    assert_eq!(fixture.queue.next().await.records_count, 2);
    assert_eq!(fixture.queue.next().await.records_count, 2);
    assert!(start.elapsed() < linger);
    assert_eq!(fixture.queue.next().await.records_count, 1);
    assert!(start.elapsed() >= linger);
}

#[tokio::test(start_paused = true)]
async fn memory_is_free_again_when_the_fate_of_a_record_is_known() {
    let fixture = Fixture::new(ProducerConfig { linger: Duration::ZERO, ..Default::default() });
    let receivers = [fixture.append(keyless(100)), fixture.append(keyless(50))];
    assert!(fixture.buffer.available_permits() < fixture.config.buffer_bytes);
    fixture.queue.next().await.delivered(40, -1);
    assert_eq!(fixture.buffer.available_permits(), fixture.config.buffer_bytes);
    let mut offsets = Vec::new();
    for receiver in receivers {
        let metadata = receiver.await.expect("answered").expect("delivered");
        assert_eq!(metadata.partition, TopicPartition::new("t", 3));
        assert_eq!(metadata.timestamp, 1000);
        offsets.push(metadata.offset);
    }
    assert_eq!(offsets, [40, 41]);
}

#[tokio::test(start_paused = true)]
async fn a_stamped_batch_is_valid_and_halves_hold_all_records() {
    let compression = Compression::Lz4;
    let config = ProducerConfig { linger: Duration::ZERO, compression, ..Default::default() };
    let fixture = Fixture::new(config);
    let _waiting: Vec<_> = (0..5)
        .map(|nth| {
            let value = Some(Bytes::from(nth.to_string()));
            fixture.append(ProducerRecord { value, ..ProducerRecord::default() })
        })
        .collect();
    let mut batch = fixture.queue.next().await;
    batch.stamp(Identity { producer_id: 9, producer_epoch: 1 }.at(70));
    let header = validate_header(&batch.bytes).expect("valid");
    assert_eq!((header.producer_id, header.base_sequence, header.records_count), (9, 70, 5));

    let halves = batch.halves(&fixture.config).expect("splits");
    let values = halves.iter().map(|half| {
        let batch = Batch::parse_produced(&half.bytes).expect("valid");
        let records = batch.records(1000).expect("decompresses");
        records.map(|record| record.expect("sound").value.expect("a value")).collect::<Vec<_>>()
    });
    assert_eq!(values.collect::<Vec<_>>(), [vec!["0", "1"], vec!["2", "3", "4"]]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_given_up_tells_its_senders() {
    let fixture = Fixture::new(ProducerConfig { linger: Duration::ZERO, ..Default::default() });
    let receiver = fixture.append(keyless(1));
    drop(fixture.queue.next().await);
    assert!(receiver.await.is_err());
    let receiver = fixture.append(keyless(1));
    fixture.queue.next().await.failed(&ClientError::Closed);
    assert_eq!(receiver.await, Ok(Err(ClientError::Closed)));
}
