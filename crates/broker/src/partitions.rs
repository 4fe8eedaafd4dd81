//! The partitions of this broker: which there are, by name and by id, and what the metadata says of
//! them.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use klamm_cluster::image::ImageUpdate;
use klamm_cluster::nodes::config::{ConfigKind, ConfigResource};
use klamm_cluster::{Image, Topic};
use klamm_env::Env;
use klamm_log::TopicPartition;
use klamm_protocol::ErrorCode;
use tokio::sync::watch;
use uuid::Uuid;

use crate::config::{BrokerConfig, TopicConfig};
use crate::data_dir::DataDir;
use crate::log_config::{flush_policy, log_config};
use crate::partition::{Following, Leadership, Partition, Replication, Role};
use crate::replication::{Committed, ThrottledReplicas};

/// A topic of which this broker hosts partitions.
pub(crate) struct HostedTopic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub id: Uuid,
    partitions: Vec<Option<Arc<Partition>>>,
}

impl HostedTopic {
    /// The partition of that number, if it is here.
    pub(crate) fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?)?.as_ref()
    }

    /// The partitions that are here.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.partitions.iter().flatten()
    }
}

#[derive(Default)]
struct Hosted {
    by_name: HashMap<Arc<str>, Arc<HostedTopic>>,
    by_id: HashMap<Uuid, Arc<HostedTopic>>,
}

/// Who this broker is, for what it may lead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    /// Its id.
    pub broker_id: i32,
    /// The first broker epoch of this process: an entry of an older one is another incarnation's
    /// (R12).
    pub first_epoch: i64,
}

/// What is to be done with partitions that have gone.
pub(crate) type Gone = Vec<Arc<Partition>>;

/// All partitions of this broker.
pub(crate) struct Partitions {
    env: Env,
    identity: Identity,
    dirs: Vec<Arc<DataDir>>,
    config: Arc<ArcSwap<BrokerConfig>>,
    hosted: RwLock<Hosted>,
    configs: RwLock<HashMap<String, Arc<TopicConfig>>>,
    lag_max: Duration,
    image: watch::Sender<Arc<Image>>,
}

impl Partitions {
    /// None yet.
    pub(crate) fn new(
        env: Env,
        identity: Identity,
        dirs: Vec<Arc<DataDir>>,
        config: Arc<ArcSwap<BrokerConfig>>,
    ) -> Partitions {
        let lag_max_ms = u64::try_from(config.load().replica_lag_time_max_ms).unwrap_or(0);
        Partitions {
            env,
            identity,
            dirs,
            config,
            lag_max: Duration::from_millis(lag_max_ms),
            hosted: RwLock::default(),
            configs: RwLock::default(),
            image: watch::Sender::new(Arc::default()),
        }
    }

    /// The newest metadata whose partitions are served here.
    pub(crate) fn image(&self) -> Arc<Image> {
        Arc::clone(&self.image.borrow())
    }

    /// Waits until an applied image is as it should be.
    pub(crate) async fn wait_for(&self, mut holds: impl FnMut(&Image) -> bool) -> Arc<Image> {
        let mut images = self.image.subscribe();
        let found = images.wait_for(|image| holds(image)).await;
        Arc::clone(&found.expect("the sender is here"))
    }

    /// The log directories.
    pub(crate) fn dirs(&self) -> &[Arc<DataDir>] {
        &self.dirs
    }

    /// A topic of which partitions are here.
    pub(crate) fn topic(&self, name: &str) -> Option<Arc<HostedTopic>> {
        self.hosted.read().expect("no panic while locked").by_name.get(name).cloned()
    }

    /// The same by id.
    pub(crate) fn topic_of_id(&self, id: Uuid) -> Option<Arc<HostedTopic>> {
        self.hosted.read().expect("no panic while locked").by_id.get(&id).cloned()
    }

    /// The partition of a topic by name.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC_OR_PARTITION where there is none, NOT_LEADER_OR_FOLLOWER where it is elsewhere.
    pub(crate) fn leader(&self, topic: &str, index: i32) -> Result<Arc<Partition>, ErrorCode> {
        let hosted = self.hosted.read().expect("no panic while locked");
        if let Some(found) = hosted.by_name.get(topic).and_then(|topic| topic.partition(index)) {
            return Ok(Arc::clone(found));
        }
        drop(hosted);
        let known = self.image().topic(topic).is_some_and(|topic| topic.partition(index).is_some());
        Err(elsewhere(known))
    }

    /// The partition of a topic by id.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC_ID for an unknown id, otherwise as [`Partitions::leader`].
    pub(crate) fn leader_of_id(&self, id: Uuid, index: i32) -> Result<Arc<Partition>, ErrorCode> {
        let hosted = self.hosted.read().expect("no panic while locked");
        if let Some(found) = hosted.by_id.get(&id).and_then(|topic| topic.partition(index)) {
            return Ok(Arc::clone(found));
        }
        drop(hosted);
        let image = self.image();
        let topic = image.topic_by_id(id).ok_or(ErrorCode::UnknownTopicId)?;
        Err(elsewhere(topic.partition(index).is_some()))
    }

    /// All partitions that are here.
    pub(crate) fn all(&self) -> Vec<Arc<Partition>> {
        self.dirs.iter().flat_map(|dir| dir.partitions()).collect()
    }

    /// The effective settings of a topic: its own over the broker's.
    pub(crate) fn topic_config(&self, name: &str) -> Arc<TopicConfig> {
        if let Some(known) = self.configs.read().expect("no panic while locked").get(name) {
            return Arc::clone(known);
        }
        Arc::new(self.config.load().topic(self.image().topic_config(name)))
    }

    /// Takes over a newer image: partitions come, go, get leaders and settings. Answers those that are
    /// not to be here any more; their data is the caller's to put aside.
    pub(crate) fn apply(&self, update: &ImageUpdate) -> Gone {
        let ImageUpdate { image, changes } = update;
        let defaults_changed = changes.configs.iter().any(|of| of.kind == ConfigKind::Broker);
        let mut gone = Vec::new();
        if changes.everything || defaults_changed {
            gone.extend(self.remove_unknown(image));
            for topic in image.topics() {
                gone.extend(self.apply_topic(image, topic));
            }
        } else {
            for id in &changes.topics {
                match image.topic_by_id(*id) {
                    Some(topic) => gone.extend(self.apply_topic(image, topic)),
                    None => gone.extend(self.remove(*id)),
                }
            }
            for (id, index) in &changes.partitions {
                if !changes.topics.contains(id)
                    && let Some(topic) = image.topic_by_id(*id)
                {
                    self.apply_partition(image, topic, *index);
                }
            }
            for name in changes.configs.iter().filter_map(topic_name) {
                if let Some(topic) = image.topic(name) {
                    gone.extend(self.apply_topic(image, topic));
                }
            }
        }
        self.image.send_replace(Arc::clone(image));
        gone
    }

    fn remove_unknown(&self, image: &Image) -> Gone {
        let hosted = self.hosted.read().expect("no panic while locked");
        let unknown = |id: &&Uuid| image.topic_by_id(**id).is_none();
        let unknown: Vec<Uuid> = hosted.by_id.keys().filter(unknown).copied().collect();
        drop(hosted);
        unknown.into_iter().flat_map(|id| self.remove(id)).collect()
    }

    fn remove(&self, id: Uuid) -> Gone {
        let mut hosted = self.hosted.write().expect("no panic while locked");
        let Some(topic) = hosted.by_id.remove(&id) else { return Vec::new() };
        if hosted.by_name.get(&topic.name).is_some_and(|named| named.id == id) {
            hosted.by_name.remove(&topic.name);
            self.configs.write().expect("no panic while locked").remove(&*topic.name);
        }
        drop(hosted);
        topic.partitions().inspect(|partition| partition.dir().unhost(partition)).cloned().collect()
    }

    /// Creates and updates the partitions of one topic. Answers those that have moved to other brokers,
    /// and those of an older topic of the same name.
    fn apply_topic(&self, image: &Image, topic: &Topic) -> Gone {
        let older = self.topic(&topic.name).filter(|known| known.id != topic.id);
        let mut gone = older.map_or(Vec::new(), |older| self.remove(older.id));
        let settings = self.config.load().topic(image.topic_config(&topic.name));
        let throttled = ThrottledReplicas::of(&settings, self.identity.broker_id);
        let known = self.topic_of_id(topic.id);
        let count = usize::try_from(topic.partition_count()).unwrap_or(0);
        let mut partitions = vec![None; count];
        for state in topic.partitions() {
            let known = known.as_ref().and_then(|known| known.partition(state.index));
            let is_here = state.replicas().contains(&self.identity.broker_id);
            if !is_here && known.is_none_or(|known| known.leave(state.partition_epoch)) {
                gone.extend(known.inspect(|moved| moved.dir().unhost(moved)).cloned());
                continue;
            }
            let config = log_config(&settings, &self.config.load(), &*self.env.random);
            let partition = match known {
                Some(known) => Arc::clone(known),
                None => self.create(topic, state.index, config.clone()),
            };
            partition.apply_state(state.partition_epoch, self.role(image, &state), Some(&config));
            partition.set_flush_policy(flush_policy(&settings));
            partition.set_throttled(throttled.replica(state.index));
            if let Some(place) =
                usize::try_from(state.index).ok().and_then(|at| partitions.get_mut(at))
            {
                *place = Some(partition);
            }
        }
        let hosted_topic =
            Arc::new(HostedTopic { name: Arc::clone(&topic.name), id: topic.id, partitions });
        let mut hosted = self.hosted.write().expect("no panic while locked");
        hosted.by_name.insert(Arc::clone(&topic.name), Arc::clone(&hosted_topic));
        hosted.by_id.insert(topic.id, hosted_topic);
        drop(hosted);
        let mut configs = self.configs.write().expect("no panic while locked");
        configs.insert(topic.name.to_string(), Arc::new(settings));
        gone
    }

    /// Takes over the state of one partition of a topic that is otherwise as it was. One that is not
    /// here comes with its topic's assignment.
    fn apply_partition(&self, image: &Image, topic: &Topic, index: i32) {
        let hosted = self.topic_of_id(topic.id);
        let partition = hosted.as_ref().and_then(|hosted| hosted.partition(index));
        if let (Some(partition), Some(state)) = (partition, topic.partition(index)) {
            partition.apply_state(state.partition_epoch, self.role(image, &state), None);
        }
    }

    fn create(&self, topic: &Topic, index: i32, config: klamm_log::LogConfig) -> Arc<Partition> {
        let id = TopicPartition::new(Arc::clone(&topic.name), index);
        let dir = self.place(&id);
        let env = self.env.clone();
        let partition = Arc::new(Partition::new(env, id, topic.id, Arc::clone(dir), config));
        dir.host(&partition);
        partition
    }

    /// Where a partition lies, or is to lie: with the fewest others.
    fn place(&self, id: &TopicPartition) -> &Arc<DataDir> {
        let holds = |dir: &&Arc<DataDir>| dir.has_found(id);
        let found = self.dirs.iter().find(holds);
        // One that comes back before it has gone: two directories must never have its name.
        let doomed = || self.dirs.iter().find(|dir| dir.dooms_name(id));
        let online = self.dirs.iter().filter(|dir| dir.log_dir().offline().is_none());
        let emptiest = || online.min_by_key(|dir| dir.partition_count());
        found.or_else(doomed).or_else(emptiest).unwrap_or(&self.dirs[0])
    }

    /// What this broker is to a partition. It leads only what its own incarnation was elected for
    /// (R12), and takes no part while the state still counts on what an unsound restart may have cost
    /// it (R3).
    fn role(&self, image: &Image, state: &klamm_cluster::Partition<'_>) -> Role {
        let me = self.identity.broker_id;
        let entry = state.isr.iter().chain(&state.elr).find(|member| member.id == me);
        let Some(leader) = state.leader else { return Role::Idle };
        if leader == me {
            let elected = entry.is_some_and(|entry| entry.epoch >= self.identity.first_epoch);
            return if elected { self.leads(state) } else { Role::Idle };
        }
        let sound_since =
            image.broker_epoch(me).map_or(i64::MAX, |own| own.sound_since(state.flush));
        if entry.is_some_and(|entry| entry.epoch < sound_since) {
            return Role::Idle;
        }
        Role::Follows(Following {
            leader,
            epoch: state.leader_epoch,
            flush: state.flush,
            unclean_epoch: state.unclean_epoch,
        })
    }

    fn leads(&self, state: &klamm_cluster::Partition<'_>) -> Role {
        let min_isr = usize::try_from(state.min_isr).unwrap_or(1);
        let leadership = Leadership {
            epoch: state.leader_epoch,
            flush: state.flush,
            min_isr,
            isr: state.isr.len(),
        };
        let others = state.replicas().iter().any(|id| *id != self.identity.broker_id);
        // Also one that is no replica any more, and still in sync.
        let alone = !others && state.isr.len() == 1;
        let replication = (!alone).then(|| Replication {
            me: self.identity.broker_id,
            committed: Committed {
                version: state.version,
                partition_epoch: state.partition_epoch,
                isr: state.isr.clone(),
                elr: state.elr.clone(),
                min_isr,
            },
            replicas: state.replicas().to_vec(),
            lag_max: self.lag_max,
        });
        Role::Leads(leadership, replication)
    }
}

fn elsewhere(known: bool) -> ErrorCode {
    if known { ErrorCode::NotLeaderOrFollower } else { ErrorCode::UnknownTopicOrPartition }
}

fn topic_name(resource: &ConfigResource) -> Option<&str> {
    if resource.kind == ConfigKind::Topic { resource.name.as_deref() } else { None }
}

#[cfg(test)]
mod tests;
