//! The cluster with its ensemble, and what is waited for: progress, and that it has healed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use klamm_ensemble::Ensemble;
use klamm_history::TopicPartition;
use rand::rngs::SmallRng;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::client::Client;
use crate::eyes::{self, Eyes, Seen, View};
use crate::network::BROKERS;
use crate::recording::Recording;

/// The tree's place in the ensemble.
pub(crate) const CHROOT: &str = "/klamm";
/// The topic of the load. Two partitions for each broker to lead.
pub(crate) const TOPIC: &str = "load";
pub(crate) const PARTITIONS: i32 = 6;
/// Partitions of the topic of the groups' offsets.
const OFFSETS_PARTITIONS: usize = 3;
/// The longest wait for progress during a fault, and for a cluster to be whole after it (I20).
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks at what nobody tells by himself.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// What faults happen to.
pub(crate) struct Stage {
    pub(crate) ensemble: Ensemble,
    /// In the order of their ids.
    pub(crate) brokers: Vec<Broker>,
    pub(crate) clients: Vec<Client>,
    pub(crate) eyes: Eyes,
    pub(crate) recording: Rc<RefCell<Recording>>,
    /// A group whose coordinator is looked for; none without consumers.
    pub(crate) group: Option<String>,
    pub(crate) random: SmallRng,
}

impl Stage {
    pub(crate) fn broker_mut(&mut self, id: i32) -> &mut Broker {
        self.brokers.iter_mut().find(|broker| broker.id() == id).expect("one of the three")
    }

    /// Starts a broker and waits until it accepts connections.
    pub(crate) async fn start(&mut self, id: i32) -> Result<(), String> {
        self.broker_mut(id).spawn().map_err(|error| format!("broker {id}: {error}"))?;
        self.broker_mut(id).ready().await
    }

    /// Starts all of them at once: none is of any use alone.
    pub(crate) async fn start_all(&mut self) -> Result<(), String> {
        for broker in &mut self.brokers {
            broker.spawn().map_err(|error| format!("broker {}: {error}", broker.id()))?;
        }
        for broker in &mut self.brokers {
            broker.ready().await?;
        }
        Ok(())
    }

    /// Waits until a record that was sent after `since` is acknowledged in every partition.
    pub(crate) async fn progress(&mut self, since: Instant) -> Result<(), String> {
        let mut heard = self.recording.borrow().heard();
        let recording = Rc::clone(&self.recording);
        let count = usize::try_from(PARTITIONS).expect("few");
        let wait = async {
            while recording.borrow().next_acknowledged(since).len() < count {
                heard.changed().await.expect("the recording outlives this");
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_ok() {
            return Ok(());
        }
        let there = self.recording.borrow().next_acknowledged(since);
        let there: Vec<_> = there.keys().collect();
        self.trouble(&format!("nothing new is acknowledged but in partitions {there:?}")).await
    }

    /// Waits until every idempotent producer got on in every partition after `since`.
    pub(crate) async fn all_progress(&mut self, since: Instant) -> Result<(), String> {
        let mut heard = self.recording.borrow().heard();
        let recording = Rc::clone(&self.recording);
        let wait = async {
            while !recording.borrow().waiting(since, PARTITIONS).is_empty() {
                heard.changed().await.expect("the recording outlives this");
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_ok() {
            return Ok(());
        }
        let waiting = self.recording.borrow().waiting(since, PARTITIONS);
        self.trouble(&format!("producers do not get on: {waiting:?}")).await
    }

    /// Waits until every broker is in sync with every partition; answers how long it took.
    pub(crate) async fn heal(&mut self) -> Result<Duration, String> {
        let since = Instant::now();
        let offsets = if self.group.is_some() { OFFSETS_PARTITIONS } else { 0 };
        let partitions = usize::try_from(PARTITIONS).expect("few") + offsets;
        let is_healed = async {
            while !eyes::is_healed(&self.views().await, partitions) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        if tokio::time::timeout(PATIENCE, is_healed).await.is_err() {
            return self.trouble("the cluster is not whole").await;
        }
        for broker in &mut self.brokers {
            if let Some(status) = broker.ended() {
                let id = broker.id();
                return Err(format!("broker {id} ended by itself: {status}\n{}", broker.end()));
            }
        }
        if let Some(client) = self.clients.iter_mut().find_map(|c| c.has_ended().then_some(c)) {
            return Err(format!("client {} ended by itself", client.name()));
        }
        Ok(since.elapsed())
    }

    /// Waits until the ensemble lists a broker no more.
    pub(crate) async fn unregistered(&mut self, id: i32) -> Result<(), String> {
        self.listed(id, false).await
    }

    /// Waits until the ensemble lists a broker.
    pub(crate) async fn registered(&mut self, id: i32) -> Result<(), String> {
        self.listed(id, true).await
    }

    async fn listed(&mut self, id: i32, wanted: bool) -> Result<(), String> {
        let looks = async {
            while eyes::registered(&self.ensemble, CHROOT).await.contains(&id) != wanted {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        if tokio::time::timeout(PATIENCE, looks).await.is_ok() {
            return Ok(());
        }
        let is = if wanted { "is not" } else { "is still" };
        self.trouble(&format!("broker {id} {is} registered")).await
    }

    /// Who leads the topic's partitions, as the first broker that answers knows it.
    pub(crate) async fn leaders(&self) -> Result<BTreeMap<i32, i32>, String> {
        for id in BROKERS {
            let Ok(view) = self.eyes.view_of(id).await else { continue };
            let ours = view.into_iter().filter(|(partition, _)| partition.topic == TOPIC);
            return Ok(ours
                .filter_map(|(partition, seen)| Some((partition.partition, seen.leader?)))
                .collect());
        }
        Err("no broker answers".to_owned())
    }

    /// What brokers know that answer.
    async fn views(&self) -> Vec<View> {
        let mut views = Vec::new();
        for id in BROKERS {
            views.extend(self.eyes.view_of(id).await);
        }
        views
    }

    /// An error with all that can be seen from outside.
    async fn trouble<T>(&mut self, what: &str) -> Result<T, String> {
        let mut text = format!("{what}, after {PATIENCE:?}");
        let registered = eyes::registered(&self.ensemble, CHROOT).await;
        let controller = eyes::controller(&self.ensemble, CHROOT).await;
        let _ = write!(text, "\n  registered {registered:?}, controller {controller:?}");
        for id in BROKERS {
            let known = match self.eyes.view_of(id).await {
                Ok(view) => told(&view),
                Err(error) => error.to_string(),
            };
            let _ = write!(text, "\n  broker {id} knows {known}");
        }
        for broker in &self.brokers {
            let _ = write!(text, "\n--- broker {} says at last\n{}", broker.id(), broker.end());
        }
        Err(text)
    }
}

/// A view in one line: leader and in-sync replicas of each partition.
fn told(view: &View) -> String {
    let one = |(partition, seen): (&TopicPartition, &Seen)| {
        let leader = seen.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string());
        let isr: Vec<_> = seen.isr.iter().map(i32::to_string).collect();
        format!("{}-{}: {leader} of {}", partition.topic, partition.partition, isr.join("+"))
    };
    view.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Fails where a wait takes longer than any of these may.
pub(crate) async fn within<T>(what: &str, wait: impl Future<Output = T>) -> Result<T, String> {
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    waited.map_err(|_| format!("{what}: not within {PATIENCE:?}"))
}

/// The broker that leads the most partitions, or the fewest.
pub(crate) fn by_leads(leaders: &BTreeMap<i32, i32>, most: bool) -> i32 {
    let leads = |id: &i32| leaders.values().filter(|leader| *leader == id).count();
    let brokers = BROKERS.into_iter();
    let found = if most { brokers.max_by_key(leads) } else { brokers.min_by_key(leads) };
    found.expect("three brokers")
}

/// The partitions that a broker leads.
pub(crate) fn led_by(leaders: &BTreeMap<i32, i32>, broker: i32) -> BTreeSet<i32> {
    leaders
        .iter()
        .filter(|(_, leader)| **leader == broker)
        .map(|(partition, _)| *partition)
        .collect()
}
