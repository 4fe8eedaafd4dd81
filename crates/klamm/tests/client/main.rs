//! The client against a broker: one that runs within the tests, or the one that
//! `KLAMM_TEST_BOOTSTRAP=HOST:PORT` names, which may as well be an Apache Kafka.

mod broker;
mod flaky;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use klamm_client::{
    Acks, Admin, AutoOffsetReset, ClientConfig, ClientError, Cluster, ConfigChange, Consumer,
    ConsumerConfig, ConsumerRecord, NewTopic, OffsetSpec, OffsetToCommit, Partitioner, Producer,
    ProducerConfig, ProducerRecord, RebalanceEvent, ResourceKind, StartAt, TopicPartition,
    partition_for_key,
};
use klamm_env::Env;
use klamm_protocol::ErrorCode;
use klamm_protocol::compression::Compression;
use klamm_protocol::records::Header;

const PATIENCE: Duration = Duration::from_secs(20);

fn config() -> ClientConfig {
    ClientConfig::new(broker::bootstrap().split(','))
}

async fn cluster() -> Cluster {
    let env = Env::real().expect("the machine's seams");
    Cluster::connect(env, config()).await.expect("the broker answers")
}

fn unique(name: &str) -> String {
    let env = Env::real().expect("the machine's seams");
    format!("{name}-{:016x}", env.random.u64())
}

async fn topic(admin: &Admin, name: &str, partitions: i32) -> String {
    let topic = NewTopic { partitions: Some(partitions), ..NewTopic::new(unique(name)) };
    admin.create_topic(&topic).await.expect("created");
    topic.name
}

fn record(topic: &str, value: impl Into<Bytes>) -> ProducerRecord {
    ProducerRecord { topic: topic.to_owned(), value: Some(value.into()), ..Default::default() }
}

fn from_beginning(topic: &str, partitions: i32) -> Vec<(TopicPartition, StartAt)> {
    let all = (0..partitions).map(|partition| TopicPartition::new(topic, partition));
    all.map(|partition| (partition, StartAt::Earliest)).collect()
}

async fn read(consumer: &mut Consumer, count: usize) -> Vec<ConsumerRecord> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut records = Vec::new();
    while records.len() < count && tokio::time::Instant::now() < deadline {
        records.extend(consumer.poll(Duration::from_millis(500)).await.expect("polls"));
    }
    assert_eq!(records.len(), count, "records read");
    records
}

#[tokio::test]
async fn every_codec_carries_keys_values_headers_and_timestamps() {
    let cluster = cluster().await;
    let topic = topic(&Admin::new(cluster.clone()), "codecs", 1).await;
    let headers = vec![
        Header { key: "h".into(), value: Some("1".into()) },
        Header { key: "h".into(), value: None },
    ];
    let mut expected = Vec::new();
    for (nth, compression) in Compression::ALL.into_iter().enumerate() {
        let config = ProducerConfig { compression, ..Default::default() };
        let producer = Producer::new(cluster.clone(), config).expect("a producer");
        for (key, value) in [(None, Some("v")), (Some("k"), None), (Some(""), Some(""))] {
            let record = ProducerRecord {
                topic: topic.clone(),
                partition: Some(0),
                key: key.map(Bytes::from),
                value: value.map(|value| Bytes::from(value.repeat(1000 * (nth + 1)))),
                headers: headers.clone(),
                timestamp: Some(1_700_000_000_000 + expected.len() as i64),
            };
            let metadata = producer.send_and_wait(record.clone()).await.expect("published");
            assert_eq!(metadata.offset, expected.len() as i64);
            expected.push(record);
        }
    }
    let mut consumer = Consumer::new(cluster, ConsumerConfig::default());
    consumer.assign(from_beginning(&topic, 1));
    let records = read(&mut consumer, expected.len()).await;
    for (nth, (read, sent)) in records.into_iter().zip(expected).enumerate() {
        assert_eq!(read.offset, nth as i64);
        assert_eq!((read.key, read.value), (sent.key, sent.value));
        assert_eq!((read.headers, Some(read.timestamp)), (sent.headers, sent.timestamp));
    }
}

#[tokio::test]
async fn two_keyless_records_over_two_partitions_give_one_each() {
    let cluster = cluster().await;
    let topic = topic(&Admin::new(cluster.clone()), "two", 2).await;
    let producer = Producer::new(cluster, ProducerConfig::default()).expect("a producer");
    let first = producer.send_and_wait(record(&topic, "a")).await.expect("published");
    let second = producer.send_and_wait(record(&topic, "b")).await.expect("published");
    let partitions = BTreeSet::from([first.partition.partition, second.partition.partition]);
    assert_eq!(partitions, BTreeSet::from([0, 1]));
}

#[tokio::test]
async fn keys_and_named_partitions_decide_where_records_go() {
    let cluster = cluster().await;
    let topic = topic(&Admin::new(cluster.clone()), "keys", 5).await;
    let config = ProducerConfig { partitioner: Partitioner::Sticky, ..Default::default() };
    let producer = Producer::new(cluster, config).expect("a producer");
    for nth in 0..20 {
        let key = Bytes::from(format!("key-{nth}"));
        let expected = partition_for_key(&key, 5);
        let keyed = ProducerRecord { key: Some(key), ..record(&topic, "v") };
        let metadata = producer.send_and_wait(keyed).await.expect("published");
        assert_eq!(metadata.partition.partition, expected);
    }
    let named = ProducerRecord { partition: Some(4), ..record(&topic, "v") };
    let metadata = producer.send_and_wait(named).await.expect("published");
    assert_eq!(metadata.partition.partition, 4);
    let beyond = ProducerRecord { partition: Some(5), ..record(&topic, "v") };
    let error = producer.send_and_wait(beyond).await.expect_err("no such partition");
    assert_eq!(error, ClientError::NoSuchPartition(TopicPartition::new(&topic, 5)));
}

#[tokio::test]
async fn many_records_arrive_once_and_in_order() {
    let cluster = cluster().await;
    many(cluster.clone(), cluster, ProducerConfig::default(), 50_000).await;
}

#[tokio::test]
async fn connections_that_break_lose_and_double_nothing() {
    let env = flaky::env(40_000..400_000);
    let flaky = Cluster::connect(env, config()).await.expect("the broker answers");
    let config =
        ProducerConfig { batch_bytes: 8_000, linger: Duration::ZERO, ..Default::default() };
    many(flaky, cluster().await, config, 20_000).await;
}

/// Publishes over `through`, reads over `cluster`.
async fn many(through: Cluster, cluster: Cluster, config: ProducerConfig, count: usize) {
    const PARTITIONS: i32 = 3;
    let topic = topic(&Admin::new(cluster.clone()), "many", PARTITIONS).await;
    let producer = Producer::new(through, config).expect("a producer");
    let mut deliveries = Vec::new();
    for nth in 0..count {
        let value = format!("{nth:08}-{}", "x".repeat(nth % 300));
        deliveries.push(producer.send(record(&topic, value)).await.expect("queued"));
    }
    producer.flush().await;
    let mut published = BTreeSet::new();
    for delivery in deliveries {
        let metadata = delivery.await.expect("published");
        assert!(published.insert((metadata.partition, metadata.offset)), "an offset given twice");
    }
    let mut consumer = Consumer::new(cluster, ConsumerConfig::default());
    consumer.assign(from_beginning(&topic, PARTITIONS));
    let records = read(&mut consumer, count).await;
    let mut last: BTreeMap<i32, (i64, Bytes)> = BTreeMap::new();
    for record in records {
        let value = record.value.expect("a value").slice(..8);
        let previous = last.insert(record.partition, (record.offset, value.clone()));
        let (offset, before) = previous.unwrap_or((-1, Bytes::new()));
        assert!(before < value, "{before:?} before {value:?}");
        assert_eq!(record.offset, offset + 1);
    }
    assert!(consumer.poll(Duration::from_millis(300)).await.expect("polls").is_empty());
}

#[tokio::test]
async fn all_acks_are_honoured() {
    let cluster = cluster().await;
    let topic = topic(&Admin::new(cluster.clone()), "acks", 1).await;
    for (acks, offset) in [(Acks::None, -1), (Acks::Leader, 1), (Acks::All, 2)] {
        let config = ProducerConfig { acks, idempotent: false, ..Default::default() };
        let producer = Producer::new(cluster.clone(), config).expect("a producer");
        let metadata = producer.send_and_wait(record(&topic, "v")).await.expect("published");
        assert_eq!(metadata.offset, offset, "{acks:?}");
        if acks == Acks::None {
            let mut consumer = Consumer::new(cluster.clone(), ConsumerConfig::default());
            consumer.assign(from_beginning(&topic, 1));
            read(&mut consumer, 1).await;
        }
    }
}

#[tokio::test]
async fn a_batch_too_large_for_the_topic_is_sent_in_parts() {
    let cluster = cluster().await;
    let admin = Admin::new(cluster.clone());
    let configs = BTreeMap::from([("max.message.bytes".to_owned(), "5000".to_owned())]);
    let new = NewTopic { partitions: Some(1), configs, ..NewTopic::new(unique("parts")) };
    admin.create_topic(&new).await.expect("created");
    let linger = Duration::from_millis(200);
    let config = ProducerConfig { linger, ..Default::default() };
    let producer = Producer::new(cluster, config).expect("a producer");
    let mut deliveries = Vec::new();
    for nth in 0..40 {
        let bytes = if nth == 20 { 9_000 } else { 1_000 };
        deliveries.push(producer.send(record(&new.name, vec![b'x'; bytes])).await.expect("queued"));
    }
    let mut offsets = Vec::new();
    for (nth, delivery) in deliveries.into_iter().enumerate() {
        match delivery.await {
            Ok(metadata) => offsets.push(metadata.offset),
            Err(error) => {
                assert_eq!((nth, error.code()), (20, Some(ErrorCode::MessageTooLarge)), "{error}");
            }
        }
    }
    assert_eq!(offsets, (0..39).collect::<Vec<_>>());
}

#[tokio::test]
async fn positions_by_offset_and_timestamp() {
    let cluster = cluster().await;
    let topic = topic(&Admin::new(cluster.clone()), "seek", 1).await;
    let producer = Producer::new(cluster.clone(), ProducerConfig::default()).expect("a producer");
    for nth in 0..10 {
        let timestamp = Some(1_700_000_000_000 + nth * 1000);
        let dated = ProducerRecord { timestamp, ..record(&topic, nth.to_string()) };
        producer.send_and_wait(dated).await.expect("published");
    }
    let partition = TopicPartition::new(&topic, 0);
    let mut consumer = Consumer::new(cluster, ConsumerConfig::default());
    consumer.assign([(partition.clone(), StartAt::Offset(7))]);
    assert_eq!(read(&mut consumer, 3).await[0].offset, 7);
    consumer.seek(&partition, StartAt::Timestamp(1_700_000_003_500)).expect("assigned");
    assert_eq!(read(&mut consumer, 6).await[0].offset, 4);
    assert_eq!(consumer.position(&partition), Some(10));
    consumer.seek(&partition, StartAt::Timestamp(1_800_000_000_000)).expect("assigned");
    assert!(consumer.poll(Duration::from_millis(300)).await.expect("polls").is_empty());
    producer.send_and_wait(record(&topic, "new")).await.expect("published");
    assert_eq!(read(&mut consumer, 1).await[0].offset, 10);
    // An offset beyond the end is out of range: by the configuration it goes on at the end.
    consumer.seek(&partition, StartAt::Offset(1_000)).expect("assigned");
    assert!(consumer.poll(Duration::from_millis(1500)).await.expect("polls").is_empty());
    assert_eq!(consumer.position(&partition), Some(11));
    let specs =
        [OffsetSpec::Earliest, OffsetSpec::Latest, OffsetSpec::Timestamp(1_700_000_001_001)];
    for (spec, offset) in specs.into_iter().zip([0, 11, 2]) {
        let wanted = BTreeMap::from([(partition.clone(), spec)]);
        let listed = consumer.list_offsets(&wanted).await.expect("listed");
        assert_eq!(listed[&partition].offset, offset, "{spec:?}");
    }
}

fn group_config(group: &str) -> ConsumerConfig {
    ConsumerConfig {
        group: Some(group.to_owned()),
        auto_offset_reset: AutoOffsetReset::Earliest,
        heartbeat_interval: Duration::from_millis(200),
        ..Default::default()
    }
}

/// Polls both until each has half of the partitions.
async fn share(one: &mut Consumer, two: &mut Consumer) -> Vec<ConsumerRecord> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut records = Vec::new();
    while one.assignment().count() != 2 || two.assignment().count() != 2 {
        assert!(tokio::time::Instant::now() < deadline, "no agreement");
        let (a, b) = tokio::join!(
            one.poll(Duration::from_millis(100)),
            two.poll(Duration::from_millis(100))
        );
        records.extend(a.expect("polls"));
        records.extend(b.expect("polls"));
    }
    records
}

#[tokio::test]
async fn a_group_shares_rebalances_commits_and_comes_back() {
    let cluster = cluster().await;
    let topic = topic(&Admin::new(cluster.clone()), "group", 4).await;
    let group = unique("g");
    let producer = Producer::new(cluster.clone(), ProducerConfig::default()).expect("a producer");
    for nth in 0..40 {
        producer.send(record(&topic, nth.to_string())).await.expect("queued");
    }
    producer.flush().await;

    let mut one = Consumer::new(cluster.clone(), group_config(&group));
    one.subscribe([topic.clone()]).expect("a group is set");
    let first = read(&mut one, 40).await;
    assert_eq!(one.assignment().count(), 4);

    let mut two = Consumer::new(cluster.clone(), group_config(&group));
    two.subscribe([topic.clone()]).expect("a group is set");
    let during = share(&mut one, &mut two).await;
    assert!(during.is_empty(), "what was handed out was committed before the rebalance");
    let events = one.take_events();
    assert!(matches!(events[0], RebalanceEvent::Assigned(_)), "{events:?}");
    assert!(matches!(events[1], RebalanceEvent::Revoked(_)), "{events:?}");
    let ours: BTreeSet<_> = one.assignment().cloned().collect();
    assert!(two.assignment().all(|partition| !ours.contains(partition)));

    for nth in 40..80 {
        producer.send(record(&topic, nth.to_string())).await.expect("queued");
    }
    producer.flush().await;
    let (a, b) = tokio::join!(read(&mut one, 20), read(&mut two, 20));
    two.close().await.expect("leaves");
    one.close().await.expect("leaves");

    producer.send_and_wait(record(&topic, "80")).await.expect("published");
    let mut back = Consumer::new(cluster, group_config(&group));
    back.subscribe([topic]).expect("a group is set");
    let rest = read(&mut back, 1).await;
    back.close().await.expect("leaves");
    let values: BTreeSet<_> =
        [first, a, b, rest].concat().into_iter().map(|record| record.value).collect();
    assert_eq!(values.len(), 81);
}

#[tokio::test]
async fn topics_partitions_and_settings_are_administered() {
    let cluster = cluster().await;
    let admin = Admin::new(cluster.clone());
    let name = topic(&admin, "admin", 1).await;
    let error = admin.create_topic(&NewTopic::new(&name)).await.expect_err("exists");
    assert_eq!(error.code(), Some(ErrorCode::TopicAlreadyExists));
    let illegal = admin.create_topic(&NewTopic::new("no spaces")).await.expect_err("illegal");
    assert_eq!(illegal.code(), Some(ErrorCode::InvalidTopicException));

    admin.create_partitions(&name, 3).await.expect("more partitions");
    let mut described = admin.describe_topic(&name).await.expect("described");
    for _ in 0..50 {
        if described.partitions.len() == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        described = admin.describe_topic(&name).await.expect("described");
    }
    assert_eq!(described.partitions.len(), 3);
    let topics = admin.list_topics().await.expect("listed");
    assert!(topics.iter().any(|topic| topic.name == name));

    let change = [("retention.ms".to_owned(), ConfigChange::Set("12345".to_owned()))];
    admin.alter_configs(ResourceKind::Topic, &name, &change).await.expect("altered");
    let configs = admin.describe_configs(ResourceKind::Topic, &name).await.expect("described");
    let retention = configs.iter().find(|config| config.name == "retention.ms").expect("listed");
    assert_eq!((retention.value.as_deref(), retention.source), (Some("12345"), 1));

    admin.delete_topic(&name).await.expect("deleted");
    let gone = admin.delete_topic(&name).await.expect_err("gone");
    assert_eq!(gone.code(), Some(ErrorCode::UnknownTopicOrPartition));
    let gone = admin.describe_topic(&name).await.expect_err("gone");
    assert_eq!(gone.code(), Some(ErrorCode::UnknownTopicOrPartition));
}

#[tokio::test]
async fn groups_and_their_offsets_are_administered() {
    let cluster = cluster().await;
    let admin = Admin::new(cluster.clone());
    let topic = topic(&admin, "offsets", 2).await;
    let group = unique("g");
    let mut consumer = Consumer::new(cluster, group_config(&group));
    consumer.subscribe([topic.clone()]).expect("a group is set");
    for _ in 0..100 {
        consumer.poll(Duration::from_millis(100)).await.expect("polls");
        if consumer.assignment().count() == 2 {
            break;
        }
    }
    let described = admin.describe_group(&group).await.expect("described");
    assert_eq!((described.state.as_str(), described.assignor.as_str()), ("Stable", "range"));
    assert_eq!(described.members.len(), 1);
    assert_eq!(described.members[0].partitions.len(), 2);
    let listed = admin.list_groups().await.expect("listed");
    let listed = listed.iter().find(|listed| listed.group == group).expect("in the list");
    assert_eq!(listed.protocol_type, "consumer");

    let partition = TopicPartition::new(&topic, 1);
    let offsets = BTreeMap::from([(partition.clone(), OffsetToCommit::from(7))]);
    let busy = admin.alter_group_offsets(&group, &offsets).await.expect_err("has members");
    assert_eq!(busy.code(), Some(ErrorCode::UnknownMemberId));
    let busy = admin.delete_group(&group).await.expect_err("has members");
    assert_eq!(busy.code(), Some(ErrorCode::NonEmptyGroup));
    consumer.close().await.expect("leaves");
    admin.alter_group_offsets(&group, &offsets).await.expect("altered");
    let committed = admin.group_offsets(&group).await.expect("listed");
    assert_eq!(committed[&partition].offset, 7);
    admin.delete_group_offsets(&group, std::slice::from_ref(&partition)).await.expect("deleted");
    assert!(!admin.group_offsets(&group).await.expect("listed").contains_key(&partition));
    admin.delete_group(&group).await.expect("deleted");
}

#[tokio::test]
async fn a_waiting_consumer_gets_a_new_record_at_once() {
    let cluster = cluster().await;
    let topic = topic(&Admin::new(cluster.clone()), "wait", 1).await;
    let producer = Producer::new(cluster.clone(), ProducerConfig::default()).expect("a producer");
    let mut consumer = Consumer::new(cluster, ConsumerConfig::default());
    consumer.assign(from_beginning(&topic, 1));
    assert!(consumer.poll(Duration::from_millis(100)).await.expect("polls").is_empty());
    let mut waits = Vec::new();
    for _ in 0..20 {
        let (published, polled) = tokio::join!(
            async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                producer.send_and_wait(record(&topic, "v")).await.expect("published");
                tokio::time::Instant::now()
            },
            async {
                let records = consumer.poll(PATIENCE).await.expect("polls");
                assert_eq!(records.len(), 1);
                tokio::time::Instant::now()
            }
        );
        waits.push(polled.saturating_duration_since(published));
    }
    waits.sort();
    println!("median wait after the acknowledgement: {:?}", waits[waits.len() / 2]);
}
