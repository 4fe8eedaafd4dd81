//! How long it takes with thousands of partitions: to create them, to lose the controller's broker
//! (kill -9), to have it back in sync. A cluster of its own for each size.
//!
//! ```text
//! create -> led | fail over -> ... | write -> acknowledged | fail over -> ... | every record is there
//! fail over: kill -9 -> session over | led again -> ISRs shrunk | write | start -> ISRs whole
//! ```
//!
//! It fails over twice: at once, while most logs have never been opened, and when all are in use.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use klamm_client::{
    Admin, Cluster, NewTopic, OffsetSpec, Producer, ProducerConfig, ProducerRecord, TopicPartition,
};
use klamm_ensemble::Ensemble;
use tokio::time::Instant;

use crate::broker::{Broker, Limits};
use crate::eyes::{self, Eyes, Seen, View};
use crate::network::{self, BROKERS};
use crate::stage::CHROOT;

/// The topic that all partitions belong to.
const TOPIC: &str = "scale";
/// Longest wait for one step.
const PATIENCE: Duration = Duration::from_secs(180);
/// Pause between two looks at all partitions.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// A step may take so many times as long as if it grew linearly from the size before.
const MARGIN: f64 = 1.5;
/// A step that is shorter counts as this long: what it takes is not spent on partitions.
const LEAST: Duration = Duration::from_millis(500);
/// Records that each partition gets: one in each fail-over, and one between them.
const WRITES: i64 = 3;

/// What is measured, in the order in which it happens.
const STEPS: [&str; 8] =
    ["created", "new: led", "new: shrunk", "new: whole", "written", "led", "shrunk", "whole"];

/// Told and not judged: what it takes is the test's own client as well.
const TOLD: &str = "written";

/// A size and what it took, step by step.
struct Row {
    partitions: i32,
    times: [Duration; STEPS.len()],
}

/// Measures one cluster of each size, prints a table; answers whether all held.
pub(crate) async fn run(sizes: &[i32], dir: &Path) -> Result<bool, String> {
    network::make().map_err(|error| error.to_string())?;
    let mut rows = Vec::new();
    for partitions in sizes {
        let mut trial = Trial::start(*partitions, &dir.join(partitions.to_string())).await?;
        let measured = trial.measure().await;
        rows.push(measured.map_err(|error| format!("{error}\n{}", trial.last_words()))?);
        trial.stop().await?;
    }
    print(&rows);
    let faults = too_slow(&rows);
    faults.iter().for_each(|fault| println!("{fault}"));
    Ok(faults.is_empty())
}

/// A cluster with one topic of so many partitions.
struct Trial {
    partitions: i32,
    ensemble: Ensemble,
    brokers: Vec<Broker>,
    eyes: Eyes,
    cluster: Cluster,
}

impl Trial {
    async fn start(partitions: i32, dir: &Path) -> Result<Trial, String> {
        let told = |error: std::io::Error| error.to_string();
        let ensemble = Ensemble::start_at(&network::server_hosts()).await.map_err(told)?;
        let connect = format!("{}{CHROOT}", ensemble.addresses().join(","));
        let new = |id| Broker::new(id, &crate::binary(), dir, &connect, Limits::KAFKA);
        let mut brokers: Vec<Broker> = BROKERS.into_iter().map(new).collect();
        for broker in &mut brokers {
            broker.spawn().map_err(told)?;
        }
        for broker in &mut brokers {
            broker.ready().await?;
        }
        let addresses = brokers.iter().map(|broker| (broker.id(), broker.address())).collect();
        let eyes = Eyes::on(TOPIC, addresses).map_err(told)?;
        let cluster = crate::connect(&brokers, PATIENCE).await?;
        let trial = Trial { partitions, ensemble, brokers, eyes, cluster };
        let registered = async || {
            let there = eyes::registered(&trial.ensemble, CHROOT).await;
            there.len() == BROKERS.len()
        };
        until("every broker registered", registered).await?;
        Ok(trial)
    }

    async fn measure(&mut self) -> Result<Row, String> {
        let begun = Instant::now();
        self.create().await?;
        self.seen("every partition led", &BTreeSet::from(BROKERS), |seen| seen.leader.is_some())
            .await?;
        let created = begun.elapsed();
        let [new_led, new_shrunk, new_whole] = self.fail_over().await?;
        let written = self.write().await?;
        let [led, shrunk, whole] = self.fail_over().await?;
        self.check_ends().await?;
        let times = [created, new_led, new_shrunk, new_whole, written, led, shrunk, whole];
        Ok(Row { partitions: self.partitions, times })
    }

    /// Kills the controller's broker and starts it again. Answers how long it took until every
    /// partition was led again and until no ISR had the dead broker, both from the end of its session,
    /// and from its start until every ISR was whole.
    async fn fail_over(&mut self) -> Result<[Duration; 3], String> {
        let all = BTreeSet::from(BROKERS);
        let victim = eyes::controller(&self.ensemble, CHROOT).await.ok_or("no controller")?;
        let left: BTreeSet<i32> = all.iter().copied().filter(|id| *id != victim).collect();
        self.broker_mut(victim).kill().await;
        let over = async || !eyes::registered(&self.ensemble, CHROOT).await.contains(&victim);
        until("the dead broker's session over", over).await?;
        let begun = Instant::now();
        let is_led = |seen: &Seen| seen.leader.is_some_and(|leader| leader != victim);
        self.seen("every partition led again", &left, is_led).await?;
        let led = begun.elapsed();
        let is_shrunk = |seen: &Seen| is_led(seen) && seen.isr == left;
        self.seen("every ISR without the dead broker", &left, is_shrunk).await?;
        let shrunk = begun.elapsed();
        self.write().await?;
        let begun = Instant::now();
        self.broker_mut(victim).spawn().map_err(|error| error.to_string())?;
        self.broker_mut(victim).ready().await?;
        let is_whole = |seen: &Seen| seen.leader.is_some() && seen.isr == all;
        self.seen("every ISR whole", &all, is_whole).await?;
        Ok([led, shrunk, begun.elapsed()])
    }

    async fn create(&self) -> Result<(), String> {
        let topic = NewTopic {
            partitions: Some(self.partitions),
            replication_factor: Some(3),
            ..NewTopic::new(TOPIC)
        };
        let created = Admin::new(self.cluster.clone()).create_topic(&topic).await;
        created.map_err(|error| error.to_string())
    }

    /// Waits until each of `brokers` knows every partition to be as it should.
    async fn seen(
        &self,
        what: &str,
        brokers: &BTreeSet<i32>,
        is_so: impl Fn(&Seen) -> bool,
    ) -> Result<(), String> {
        let count = usize::try_from(self.partitions).expect("checked with the options");
        let is_whole = |view: &View| view.len() == count && view.values().all(&is_so);
        for broker in brokers {
            let look = async || self.eyes.view_of(*broker).await.is_ok_and(|view| is_whole(&view));
            until(what, look).await?;
        }
        Ok(())
    }

    /// Has a record acknowledged by all replicas in sync of every partition; answers how long it took.
    async fn write(&self) -> Result<Duration, String> {
        let told = |error: klamm_client::ClientError| format!("a record: {error}");
        let begun = Instant::now();
        let producer = Producer::new(self.cluster.clone(), ProducerConfig::default());
        let producer = producer.map_err(told)?;
        let mut deliveries = Vec::new();
        for partition in 0..self.partitions {
            let record = ProducerRecord {
                topic: TOPIC.to_owned(),
                partition: Some(partition),
                value: Some("one of few".into()),
                ..ProducerRecord::default()
            };
            deliveries.push(producer.send(record).await.map_err(told)?);
        }
        for delivery in deliveries {
            delivery.await.map_err(told)?;
        }
        Ok(begun.elapsed())
    }

    /// Every partition holds what it has acknowledged, and nothing twice.
    async fn check_ends(&self) -> Result<(), String> {
        let named = |partition| (TopicPartition::new(TOPIC, partition), OffsetSpec::Latest);
        let wanted: BTreeMap<_, _> = (0..self.partitions).map(named).collect();
        let ends = Admin::new(self.cluster.clone()).list_offsets(&wanted).await;
        let ends = ends.map_err(|error| format!("the ends of partitions: {error}"))?;
        let wrong: Vec<_> = ends.iter().filter(|(_, end)| end.offset != WRITES).collect();
        match wrong.first() {
            _ if ends.len() != wanted.len() => Err("not every partition has an end".to_owned()),
            Some((name, end)) => Err(format!(
                "{} partitions do not end at {WRITES}, {name:?} ends at {}",
                wrong.len(),
                end.offset
            )),
            None => Ok(()),
        }
    }

    fn broker_mut(&mut self, id: i32) -> &mut Broker {
        self.brokers.iter_mut().find(|broker| broker.id() == id).expect("one of the three")
    }

    async fn stop(mut self) -> Result<(), String> {
        for broker in &mut self.brokers {
            broker.stop().await?;
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let said = |broker: &Broker| format!("--- broker {}\n{}", broker.id(), broker.end());
        self.brokers.iter().map(said).collect::<Vec<_>>().join("\n")
    }
}

async fn until(what: &str, look: impl AsyncFn() -> bool) -> Result<(), String> {
    let looks = async {
        while !look().await {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, looks).await;
    waited.map_err(|_| format!("{what}: not within {PATIENCE:?}"))
}

fn print(rows: &[Row]) {
    println!("\nSeconds, with 3 replicas each:");
    let heads = STEPS.map(|step| format!("{step:>13}"));
    println!("{:>10}{}", "partitions", heads.concat());
    for row in rows {
        let times = row.times.map(|time| format!("{:>13.2}", time.as_secs_f64()));
        println!("{:>10}{}", row.partitions, times.concat());
    }
}

/// What grew faster than linearly, with [`MARGIN`].
fn too_slow(rows: &[Row]) -> Vec<String> {
    let mut faults = Vec::new();
    for pair in rows.windows(2) {
        let [small, large] = pair else { continue };
        let growth = f64::from(large.partitions) / f64::from(small.partitions);
        for (at, step) in STEPS.iter().enumerate().filter(|(_, step)| **step != TOLD) {
            let (before, now) = (small.times[at].max(LEAST), large.times[at]);
            let allowed = before.mul_f64(growth * MARGIN);
            if now > allowed {
                faults.push(format!(
                    "{step}: {:.2} s at {} partitions, {:.2} s allowed",
                    now.as_secs_f64(),
                    large.partitions,
                    allowed.as_secs_f64()
                ));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(partitions: i32, ms: [u64; STEPS.len()]) -> Row {
        Row { partitions, times: ms.map(Duration::from_millis) }
    }

    #[test]
    fn what_grows_faster_than_linearly_is_named() {
        let small = || row(1000, [1000, 10, 500, 2000, 900, 200, 500, 2000]);
        let linear = row(5000, [5000, 3700, 2500, 15_000, 9000, 1000, 2500, 10_000]);
        assert!(too_slow(&[small(), linear]).is_empty());
        let faults = too_slow(&[small(), row(5000, [5000, 3800, 14_000, 15_000, 0, 0, 0, 0])]);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].starts_with("new: led: 3.80 s at 5000"), "{faults:?}");
        assert!(faults[1].starts_with("new: shrunk: 14.00 s at 5000"), "{faults:?}");
    }
}
