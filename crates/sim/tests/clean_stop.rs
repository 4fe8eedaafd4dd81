//! What a clean marker says must be true of every log, those that were never opened included.

use std::sync::Arc;
use std::time::Duration;

use klamm_broker::config::load;
use klamm_broker::{Broker, RunningBroker};
use klamm_client::{
    Admin, ClientConfig, Cluster, Consumer, ConsumerConfig, NewTopic, Producer, ProducerConfig,
    ProducerRecord, StartAt, TopicPartition,
};
use klamm_env::Env;
use klamm_sim::disk::SimulatedDisk;

const RECORDS: usize = 50;

async fn start(disk: &Arc<SimulatedDisk>) -> RunningBroker {
    let set = [("listeners", "PLAINTEXT://127.0.0.1:0"), ("log.dirs", "/data"), ("flush", "os")];
    let set: Vec<_> = set.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let env = Env { files: disk.files(), ..Env::real().expect("the machine's seams") };
    let config = load(None, &set).expect("settings").config;
    Broker::start(env, config).await.expect("starts")
}

async fn cluster(broker: &RunningBroker) -> Cluster {
    let env = Env::real().expect("the machine's seams");
    Cluster::connect(env, ClientConfig::new([broker.address()])).await.expect("the broker answers")
}

#[tokio::test]
async fn a_clean_stop_speaks_for_logs_that_were_not_opened() {
    let disk = SimulatedDisk::new(7);
    let first = start(&disk).await;
    let to = cluster(&first).await;
    let topic = NewTopic { partitions: Some(1), ..NewTopic::new("t") };
    Admin::new(to.clone()).create_topic(&topic).await.expect("created");
    let producer = Producer::new(to, ProducerConfig::default()).expect("a producer");
    for n in 0..RECORDS {
        let value = Some(format!("{n}").into());
        let record = ProducerRecord { topic: "t".to_owned(), value, ..Default::default() };
        producer.send_and_wait(record).await.expect("acknowledged");
    }
    disk.kill_process();
    drop(first);

    // Opens no log, and says at its end that all is on stable storage.
    start(&disk).await.stop().await;
    disk.lose_power();

    let third = start(&disk).await;
    let mut consumer = Consumer::new(cluster(&third).await, ConsumerConfig::default());
    consumer.assign([(TopicPartition::new("t", 0), StartAt::Earliest)]);
    let mut found = 0;
    while found < RECORDS {
        let read = consumer.poll(Duration::from_secs(10)).await.expect("reads");
        assert!(!read.is_empty(), "{found} of {RECORDS} records are left");
        found += read.len();
    }
}
