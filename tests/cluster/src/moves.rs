//! Kafka's `kafka-reassign-partitions` moves a partition under a throttle, and takes a move back.

use std::path::Path;

use klamm_client::{
    Admin, Cluster, NewTopic, Producer, ProducerConfig, ProducerRecord, ResourceKind,
};

use crate::network::BROKERS;
use crate::stage::within;
use crate::tools::{Described, described, java};

/// The topic that moves: one partition, with two replicas.
const TOPIC: &str = "moving";
/// Records of the topic, and bytes of each: far more than a batch.
const RECORDS: usize = 200;
const RECORD_BYTES: usize = 10_000;
/// Bytes a second that let hardly more than a batch through, and those that hold nothing up.
const SLOW: &str = "1";
const FAST: &str = "100000000";

/// What of it goes otherwise than it should.
pub(crate) async fn faults(
    command: &[String],
    bootstrap: &str,
    cluster: &Cluster,
    dir: &Path,
) -> Vec<String> {
    let moves = Moves { command, bootstrap, cluster, plan: dir.join("plan.json") };
    moves.all().await.err().into_iter().collect()
}

struct Moves<'a> {
    command: &'a [String],
    bootstrap: &'a str,
    cluster: &'a Cluster,
    plan: std::path::PathBuf,
}

impl Moves<'_> {
    async fn all(&self) -> Result<(), String> {
        self.fill().await.map_err(|error| error.to_string())?;
        let before = self.seen().await?;
        let third = BROKERS.into_iter().find(|id| !before.replicas.contains(id));
        let target = [third.expect("one of three"), before.leader];

        self.start(&target, SLOW, false).await?;
        self.tool(&["--verify"], "is still in progress").await?;
        self.start(&target, FAST, true).await?;
        within("the move ends", async {
            while self.tool(&["--verify"], "is completed").await.is_err() {}
        })
        .await?;
        let after = self.seen().await?;
        if after.replicas != target || after.isr.len() != target.len() {
            return Err(format!("after a move to {target:?}: {after:?}"));
        }
        self.no_throttle_is_left().await?;

        self.start(&before.replicas, SLOW, false).await?;
        self.tool(&["--cancel"], "Successfully cancelled").await?;
        let after = self.seen().await?;
        if after.isr.len() != target.len() || !target.iter().all(|id| after.isr.contains(id)) {
            return Err(format!("after a move from {target:?} was taken back: {after:?}"));
        }
        self.no_throttle_is_left().await
    }

    async fn fill(&self) -> klamm_client::Result<()> {
        let topic =
            NewTopic { partitions: Some(1), replication_factor: Some(2), ..NewTopic::new(TOPIC) };
        Admin::new(self.cluster.clone()).create_topic(&topic).await?;
        let producer = Producer::new(self.cluster.clone(), ProducerConfig::default())?;
        for _ in 0..RECORDS {
            let value = Some(vec![b'x'; RECORD_BYTES].into());
            let record = ProducerRecord { topic: TOPIC.to_owned(), value, ..Default::default() };
            producer.send_and_wait(record).await?;
        }
        producer.close().await;
        Ok(())
    }

    /// Begins a move, or gives one that is under way another throttle.
    #[expect(clippy::disallowed_methods, reason = "writes a file for another program")]
    async fn start(&self, to: &[i32], throttle: &str, again: bool) -> Result<(), String> {
        let replicas: Vec<_> = to.iter().map(i32::to_string).collect();
        let partition =
            format!(r#"{{"topic":"{TOPIC}","partition":0,"replicas":[{}]}}"#, replicas.join(","));
        let plan = format!(r#"{{"version":1,"partitions":[{partition}]}}"#);
        std::fs::write(&self.plan, plan).map_err(|error| error.to_string())?;
        let additional: &[&str] = if again { &["--additional"] } else { &[] };
        let words = [&["--execute", "--throttle", throttle], additional].concat();
        self.tool(&words, "Successfully started partition reassignment").await
    }

    /// Runs the tool, which has to succeed and to say `expected`.
    async fn tool(&self, words: &[&str], expected: &str) -> Result<(), String> {
        let plan = self.plan.display().to_string();
        let file = ["--reassignment-json-file", plan.as_str()];
        let class = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
        let said = java(self.command, class, self.bootstrap, &[words, &file].concat()).await?;
        if said.contains(expected) {
            return Ok(());
        }
        Err(format!("kafka-reassign-partitions {words:?} does not say {expected:?} but {said}"))
    }

    async fn seen(&self) -> Result<Described, String> {
        let mut partitions = described(self.command, self.bootstrap, TOPIC).await?;
        partitions.remove(&0).ok_or_else(|| format!("kafka-topics does not know {TOPIC}"))
    }

    async fn no_throttle_is_left(&self) -> Result<(), String> {
        let admin = Admin::new(self.cluster.clone());
        let brokers = BROKERS.map(|id| (ResourceKind::Broker, id.to_string()));
        let all = brokers.into_iter().chain([(ResourceKind::Topic, TOPIC.to_owned())]);
        for (kind, name) in all {
            let entries = admin.describe_configs(kind, &name).await;
            let entries = entries.map_err(|error| error.to_string())?;
            // 5 is the default.
            let left = entries.iter().find(|it| it.name.contains("throttled") && it.source != 5);
            if let Some(entry) = left {
                return Err(format!("a throttle is left at {name}: {entry:?}"));
            }
        }
        Ok(())
    }
}
