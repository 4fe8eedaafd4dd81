//! The tree at hand, decoded: an immutable value that handlers read without waiting.
//!
//! An [`Image`] never changes; [`ImageWatch`] puts a new one in its place when the tree has changed,
//! by reading again what changed (R6, R13). Its maps share what two images have in common, so that a
//! change costs what changed, not what exists.

mod apply;
mod reader;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

use rpds::RedBlackTreeMapSync as Map;
use thiserror::Error;
use uuid::Uuid;

use crate::nodes::broker::{Endpoint, EpochNode, RegistrationNode};
use crate::nodes::cluster::ClusterNode;
use crate::nodes::config::{ConfigKind, ConfigNode, ConfigResource};
use crate::nodes::controller::{ControllerEpochNode, ControllerNode};
use crate::nodes::features::FeaturesNode;
use crate::nodes::producer_ids::ProducerIdsNode;
use crate::nodes::topic::{AssignNode, Assignment, PartitionNode, TopicNode};
use crate::nodes::{DecodeError, Versioned};
use crate::tree::TreeError;

pub(crate) use reader::ImageReader;
pub use watch::{ImageUpdate, ImageUpdates, ImageWatch};

/// What the tree says, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Image {
    cluster: Option<ClusterNode>,
    controller: Option<Versioned<ControllerNode>>,
    controller_epoch: Option<Versioned<ControllerEpochNode>>,
    brokers: Map<i32, Arc<Broker>>,
    epochs: Map<i32, Arc<Versioned<EpochNode>>>,
    names: Map<Arc<str>, Versioned<Uuid>>,
    topics: Map<Uuid, Arc<Topic>>,
    configs: Map<ConfigResource, Arc<Versioned<ConfigNode>>>,
    features: Option<Arc<Versioned<FeaturesNode>>>,
    producer_ids: Option<Versioned<ProducerIdsNode>>,
}

/// Why the tree cannot be read.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The home failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A node is not readable.
    #[error(transparent)]
    Node(#[from] DecodeError),
}

/// A registered broker; the fields of its registration are its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its number.
    pub id: i32,
    /// What it said of itself.
    pub registration: RegistrationNode,
    /// Version of the node.
    pub version: i32,
}

impl Broker {
    /// Where `listener` is reached.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.listener == listener)
    }
}

impl Deref for Broker {
    type Target = RegistrationNode;

    fn deref(&self) -> &RegistrationNode {
        &self.registration
    }
}

/// A topic with its partitions.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its id, never used for another topic.
    pub id: Uuid,
    /// Its name.
    pub name: Arc<str>,
    node: Option<Versioned<TopicNode>>,
    assign: Option<Arc<Versioned<AssignNode>>>,
    states: Map<i32, Arc<Versioned<PartitionNode>>>,
}

/// A partition: where it is to be and how it is. The fields of its state are its own.
#[derive(Clone, Copy, Debug)]
pub struct Partition<'a> {
    /// Number within the topic.
    pub index: i32,
    /// Replicas, those being added and removed among them.
    pub assignment: &'a Assignment,
    /// Leader, ISR, epochs.
    pub state: &'a PartitionNode,
    /// Version of the state's node.
    pub version: i32,
}

impl Partition<'_> {
    /// Brokers that hold it, the preferred leader first.
    pub fn replicas(&self) -> &[i32] {
        &self.assignment.replicas
    }

    /// The leader as clients of a listener can use it: registered, and with that listener.
    ///
    /// # Errors
    /// Why there is none for them.
    pub fn leader_on(&self, image: &Image, listener: &str) -> Result<i32, Leaderless> {
        let id = self.leader.ok_or(Leaderless::NotThere)?;
        let leader = image.broker(id).ok_or(Leaderless::NotThere)?;
        leader.endpoint(listener).map(|_| id).ok_or(Leaderless::NoListener)
    }

    /// Replicas that clients of a listener cannot reach: not registered, or without that listener.
    pub fn unreachable_replicas(&self, image: &Image, listener: &str) -> Vec<i32> {
        self.replicas_without(|id| image.is_reachable(id, listener))
    }

    /// The same and those whose log directory is offline.
    pub fn offline_replicas(&self, image: &Image, listener: &str) -> Vec<i32> {
        self.replicas_without(|id| {
            image.is_reachable(id, listener) && !self.lost_its_disk(image, id)
        })
    }

    fn replicas_without(&self, is_there: impl Fn(i32) -> bool) -> Vec<i32> {
        self.replicas().iter().copied().filter(|id| !is_there(*id)).collect()
    }

    /// Whether an I/O error took the log directory of broker `id` offline that its replica lies in,
    /// in the broker's current registration (R23).
    pub fn lost_its_disk(&self, image: &Image, id: i32) -> bool {
        image.lost_its_disk(self.state, id)
    }
}

/// Why a partition has no leader for the clients of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaderless {
    /// There is none, or it is not registered.
    NotThere,
    /// It has no listener of that name.
    NoListener,
}

impl Deref for Partition<'_> {
    type Target = PartitionNode;

    fn deref(&self) -> &PartitionNode {
        self.state
    }
}

impl Topic {
    /// Whether it is marked for deletion: data of this id is to be put aside (R28).
    pub fn is_deleting(&self) -> bool {
        self.node.as_ref().is_some_and(|node| node.deleting)
    }

    /// Number of partitions.
    pub fn partition_count(&self) -> i32 {
        let count = self.assign.as_ref().map_or(0, |assign| assign.partitions.len());
        i32::try_from(count).expect("bounded by PARTITIONS_MAX")
    }

    /// One partition.
    pub fn partition(&self, index: i32) -> Option<Partition<'_>> {
        let assign = self.assign.as_ref()?;
        let assignment = assign.partitions.get(usize::try_from(index).ok()?)?;
        let state = self.states.get(&index)?;
        Some(Partition { index, assignment, state: &state.value, version: state.version })
    }

    /// All partitions, by number.
    pub fn partitions(&self) -> impl Iterator<Item = Partition<'_>> {
        let assignments = self.assign.iter().flat_map(|assign| &assign.partitions).enumerate();
        assignments.filter_map(|(index, assignment)| {
            let index = i32::try_from(index).expect("bounded by PARTITIONS_MAX");
            let state = self.states.get(&index)?;
            Some(Partition { index, assignment, state: &state.value, version: state.version })
        })
    }

    /// The node's content and version.
    pub(crate) fn node(&self) -> Option<&Versioned<TopicNode>> {
        self.node.as_ref()
    }

    /// Where its partitions are to be.
    pub(crate) fn assign(&self) -> Option<&Versioned<AssignNode>> {
        self.assign.as_deref()
    }

    /// States by number, those beyond the assignment included.
    pub(crate) fn states(&self) -> impl Iterator<Item = (i32, &Versioned<PartitionNode>)> {
        self.states.iter().map(|(index, state)| (*index, &**state))
    }

    pub(crate) fn state(&self, index: i32) -> Option<&Versioned<PartitionNode>> {
        self.states.get(&index).map(|state| &**state)
    }
}

static NO_CONFIG: LazyLock<BTreeMap<String, String>> = LazyLock::new(BTreeMap::new);

impl Image {
    pub(crate) fn lost_its_disk(&self, state: &PartitionNode, id: i32) -> bool {
        let current = self.broker(id).map(|broker| broker.broker_epoch);
        state.offline.iter().any(|member| member.id == id && Some(member.epoch) == current)
    }

    /// The cluster's id; empty before the tree is set up.
    pub fn cluster_id(&self) -> &str {
        self.cluster.as_ref().map_or("", |cluster| &cluster.cluster_id)
    }

    /// The broker that is the controller.
    pub fn controller(&self) -> Option<i32> {
        self.controller.as_ref().map(|node| node.broker_id)
    }

    /// Epoch of the last controller that was elected; 0 before the first.
    pub fn controller_epoch(&self) -> i32 {
        self.controller_epoch.as_ref().map_or(0, |node| node.epoch)
    }

    /// The registered brokers, by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<Broker>> {
        self.brokers.values()
    }

    /// A registered broker.
    pub fn broker(&self, id: i32) -> Option<&Arc<Broker>> {
        self.brokers.get(&id)
    }

    /// Whether a broker is registered with a listener of that name.
    pub fn is_reachable(&self, id: i32, listener: &str) -> bool {
        self.broker(id).is_some_and(|broker| broker.endpoint(listener).is_some())
    }

    /// The registrations of a broker, there or not.
    pub fn broker_epoch(&self, id: i32) -> Option<&Versioned<EpochNode>> {
        self.epochs.get(&id).map(|node| &**node)
    }

    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.named(self.names.get(name)?)
    }

    /// The topic of that id, unless it is marked for deletion.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.topics
            .get(&id)
            .filter(|topic| self.names.get(&topic.name).is_some_and(|named| named.value == id))
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.names.values().filter_map(|id| self.named(id))
    }

    /// Number of topics.
    pub fn topic_count(&self) -> usize {
        self.names.size()
    }

    /// Topics that are marked for deletion and still in the tree.
    pub fn deleting_topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values().filter(|topic| topic.is_deleting())
    }

    /// A topic of that id in any state: named, half made or marked for deletion.
    pub fn any_topic(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    /// What was set for a topic.
    pub fn topic_config(&self, name: &str) -> &BTreeMap<String, String> {
        self.config(&ConfigResource::topic(name))
    }

    /// What was set for a broker; `None`: for all brokers.
    pub fn broker_config(&self, id: Option<i32>) -> &BTreeMap<String, String> {
        self.config(&ConfigResource::broker(id))
    }

    /// What was set for anything.
    pub fn config(&self, resource: &ConfigResource) -> &BTreeMap<String, String> {
        self.configs.get(resource).map_or(&NO_CONFIG, |node| &node.config)
    }

    /// All that has settings, of one kind.
    pub fn configs(
        &self,
        kind: ConfigKind,
    ) -> impl Iterator<Item = (&ConfigResource, &BTreeMap<String, String>)> {
        let first = ConfigResource { kind, name: None };
        let of_kind = self.configs.range(first..).take_while(move |(found, _)| found.kind == kind);
        of_kind.map(|(resource, node)| (resource, &node.value.config))
    }

    /// The finalised features and their epoch.
    pub fn features(&self) -> (&BTreeMap<String, i16>, i64) {
        static NONE: BTreeMap<String, i16> = BTreeMap::new();
        self.features.as_ref().map_or((&NONE, -1), |node| (&node.value.features, node.epoch))
    }

    fn named(&self, id: &Versioned<Uuid>) -> Option<&Arc<Topic>> {
        self.topics.get(&id.value).filter(|topic| topic.node.is_some() && topic.assign.is_some())
    }

    pub(crate) fn controller_node(&self) -> Option<&Versioned<ControllerNode>> {
        self.controller.as_ref()
    }

    pub(crate) fn controller_epoch_node(&self) -> Option<&Versioned<ControllerEpochNode>> {
        self.controller_epoch.as_ref()
    }

    pub(crate) fn name_node(&self, name: &str) -> Option<&Versioned<Uuid>> {
        self.names.get(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.keys()
    }

    pub(crate) fn config_node(&self, resource: &ConfigResource) -> Option<&Versioned<ConfigNode>> {
        self.configs.get(resource).map(|node| &**node)
    }

    pub(crate) fn producer_ids_node(&self) -> Option<&Versioned<ProducerIdsNode>> {
        self.producer_ids.as_ref()
    }

    /// Every topic in any state.
    pub(crate) fn all_topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }
}

/// What two images differ in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Anything may have changed: the image was read anew.
    pub everything: bool,
    /// Topics that were created, deleted, named or given other replicas.
    pub topics: BTreeSet<Uuid>,
    /// Partitions whose state changed, by topic; the topic need not be among `topics`.
    pub partitions: BTreeSet<(Uuid, i32)>,
    /// A broker came, went or registered anew.
    pub brokers: bool,
    /// Another controller, or none.
    pub controller: bool,
    /// Whose settings changed.
    pub configs: BTreeSet<ConfigResource>,
    /// The finalised features changed.
    pub features: bool,
}

impl Changes {
    /// Adds those of a later step.
    pub fn merge(&mut self, later: Changes) {
        self.everything |= later.everything;
        self.topics.extend(later.topics);
        self.partitions.extend(later.partitions);
        self.brokers |= later.brokers;
        self.controller |= later.controller;
        self.configs.extend(later.configs);
        self.features |= later.features;
    }
}

#[cfg(test)]
mod tests;
