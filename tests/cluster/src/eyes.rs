//! Looking at the cluster from outside: what each broker answers, and what the ensemble lists.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use klamm_client::{ClientConfig, ClientError, Connection};
use klamm_ensemble::Ensemble;
use klamm_env::Env;
use klamm_history::TopicPartition;
use klamm_protocol::messages::find_coordinator::FindCoordinatorRequest;
use klamm_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use tokio::time::Instant;

use crate::network::BROKERS;

/// The topic of the groups' offsets.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The longest that an answer may take: a broker that is stopped never gives one.
const ANSWER_MAX: Duration = Duration::from_secs(2);
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A partition as one broker knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) leader: Option<i32>,
    pub(crate) isr: BTreeSet<i32>,
}

/// What one broker knows.
pub(crate) type View = BTreeMap<TopicPartition, Seen>;

/// Asks brokers.
pub(crate) struct Eyes {
    env: Env,
    topics: Vec<String>,
    addresses: BTreeMap<i32, String>,
}

impl Eyes {
    pub(crate) fn on(topic: &str, addresses: BTreeMap<i32, String>) -> std::io::Result<Eyes> {
        let topics = vec![topic.to_owned(), OFFSETS_TOPIC.to_owned()];
        Ok(Eyes { env: Env::real()?, topics, addresses })
    }

    /// When a moment was, as brokers write it into their logs.
    pub(crate) fn time_of_day(&self, moment: Instant) -> String {
        let ago = i64::try_from(moment.elapsed().as_millis()).unwrap_or(0);
        let ms = (self.env.clock.wall_ms() - ago).rem_euclid(DAY_MS);
        let (seconds, ms) = (ms / 1000, ms % 1000);
        let (minutes, seconds) = (seconds / 60, seconds % 60);
        format!("{:02}:{:02}:{seconds:02}.{ms:03}", minutes / 60, minutes % 60)
    }

    /// A connection that nobody else uses: one that is there already may be dead without knowing.
    async fn connect(&self, broker: i32) -> Result<Connection, ClientError> {
        let config = ClientConfig {
            connect_timeout: ANSWER_MAX,
            request_timeout: ANSWER_MAX,
            ..ClientConfig::new(self.addresses.values())
        };
        Connection::connect(&self.env, &config, &self.addresses[&broker]).await
    }

    /// What a broker knows of the partitions.
    pub(crate) async fn view_of(&self, broker: i32) -> Result<View, ClientError> {
        let named = |name: &String| MetadataRequestTopic {
            name: Some(name.clone()),
            ..MetadataRequestTopic::default()
        };
        let request = MetadataRequest {
            topics: Some(self.topics.iter().map(named).collect()),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        let answer = self.connect(broker).await?.request(&request).await?;
        let mut view = View::new();
        for topic in answer.topics.into_iter().filter(|topic| topic.error_code == 0) {
            let name = topic.name.unwrap_or_default();
            for partition in topic.partitions {
                let seen = Seen {
                    leader: (partition.leader_id >= 0).then_some(partition.leader_id),
                    isr: partition.isr_nodes.into_iter().collect(),
                };
                view.insert(TopicPartition::new(&name, partition.partition_index), seen);
            }
        }
        Ok(view)
    }

    /// Who coordinates a group, as any broker answers.
    pub(crate) async fn coordinator(&self, group: &str) -> Option<i32> {
        for broker in BROKERS {
            let request = FindCoordinatorRequest {
                coordinator_keys: vec![group.to_owned()],
                ..FindCoordinatorRequest::default()
            };
            let Ok(connection) = self.connect(broker).await else { continue };
            let Ok(answer) = connection.request(&request).await else { continue };
            let found = answer.coordinators.first().filter(|found| found.error_code == 0);
            if let Some(found) = found {
                return Some(found.node_id);
            }
        }
        None
    }
}

/// Whether every broker is in sync with every partition, and all brokers agree on the leaders.
pub(crate) fn is_healed(views: &[View], partitions: usize) -> bool {
    let all = BTreeSet::from(BROKERS);
    let [first, rest @ ..] = views else { return false };
    views.len() == BROKERS.len()
        && first.len() == partitions
        && first.values().all(|seen| seen.leader.is_some() && seen.isr == all)
        && rest.iter().all(|view| view == first)
}

/// Who the ensemble lists as registered.
pub(crate) async fn registered(ensemble: &Ensemble, chroot: &str) -> BTreeSet<i32> {
    let prefix = format!("{chroot}/brokers/ids/");
    let nodes = ensemble.ephemerals().await;
    nodes.keys().filter_map(|path| path.strip_prefix(&prefix)?.parse().ok()).collect()
}

/// Whose session holds the controller's node.
pub(crate) async fn controller(ensemble: &Ensemble, chroot: &str) -> Option<i32> {
    let nodes = ensemble.ephemerals().await;
    let session = nodes.get(&format!("{chroot}/controller"))?;
    let holds = |id: &i32| nodes.get(&format!("{chroot}/brokers/ids/{id}")) == Some(session);
    BROKERS.into_iter().find(holds)
}
