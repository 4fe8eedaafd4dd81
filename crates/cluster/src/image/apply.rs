//! One node of the tree into the image.

use std::sync::Arc;

use uuid::Uuid;

use super::{Broker, Changes, Image, Topic};
use crate::nodes::topic::{AssignNode, NameNode, PartitionNode, TopicNode};
use crate::nodes::{DecodeError, NodeKey, NodeValue, Versioned, decode};
use crate::tree::{Node, Op, OpResult, Stat};

impl Image {
    /// Takes over a node as read; `None`: it is gone.
    ///
    /// # Errors
    /// When it is not readable; the image then keeps what it had.
    pub(crate) fn apply(
        &mut self,
        path: &str,
        node: Option<&Node>,
        changes: &mut Changes,
    ) -> Result<(), DecodeError> {
        let Some(key) = NodeKey::parse(path) else { return Ok(()) };
        match key {
            NodeKey::Cluster => self.cluster = value(path, node)?.map(|found| found.value),
            NodeKey::Controller => {
                self.controller = value(path, node)?;
                changes.controller = true;
            }
            NodeKey::ControllerEpoch => self.controller_epoch = value(path, node)?,
            NodeKey::Broker(id) => self.apply_broker(id, value(path, node)?, changes),
            NodeKey::BrokerEpoch(id) => {
                put(&mut self.epochs, id, value(path, node)?.map(Arc::new));
                changes.brokers = true;
            }
            NodeKey::Name(name) => self.apply_name(&name, value(path, node)?, changes),
            NodeKey::Topic(id) => self.apply_topic(id, value(path, node)?, changes),
            NodeKey::Assign(id) => self.apply_assign(id, value(path, node)?, changes),
            NodeKey::Partition(id, index) => {
                self.apply_partition(id, index, value(path, node)?, changes);
            }
            NodeKey::Config(resource) => {
                let found = value(path, node)?.map(Arc::new);
                put(&mut self.configs, resource.clone(), found);
                changes.configs.insert(resource);
            }
            NodeKey::Features => {
                self.features = value(path, node)?.map(Arc::new);
                changes.features = true;
            }
            NodeKey::ProducerIds => self.producer_ids = value(path, node)?,
        }
        Ok(())
    }

    /// The image after `ops` have succeeded with `results`.
    pub(crate) fn apply_written(
        &mut self,
        ops: &[Op],
        results: &[OpResult],
        changes: &mut Changes,
    ) -> Result<(), DecodeError> {
        for (op, result) in ops.iter().zip(results) {
            match (op, result) {
                (Op::Create { path, data, .. }, OpResult::Created(stat))
                | (Op::Set { path, data, .. }, OpResult::Set(stat)) => {
                    let node = Node { data: data.clone(), stat: *stat };
                    self.apply(path, Some(&node), changes)?;
                }
                (Op::Delete { path, .. }, OpResult::Deleted) => self.apply(path, None, changes)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The image as it will be if `ops` succeed: sets count the expected version up, creations begin
    /// at 0.
    pub(crate) fn preview(&mut self, ops: &[Op]) -> Result<(), DecodeError> {
        let stat = |version| Stat { version, owner: None };
        let expected: Vec<OpResult> = ops
            .iter()
            .map(|op| match op {
                Op::Check { .. } => OpResult::Checked,
                Op::Create { .. } => OpResult::Created(stat(0)),
                Op::Set { expected, .. } => {
                    OpResult::Set(stat(expected.expect("decisions name a version") + 1))
                }
                Op::Delete { .. } => OpResult::Deleted,
            })
            .collect();
        self.apply_written(ops, &expected, &mut Changes::default())
    }

    fn apply_broker(
        &mut self,
        id: i32,
        found: Option<Versioned<crate::nodes::broker::RegistrationNode>>,
        changes: &mut Changes,
    ) {
        let broker = found.map(|Versioned { value: registration, version }| {
            Arc::new(Broker { id, registration, version })
        });
        put(&mut self.brokers, id, broker);
        changes.brokers = true;
    }

    fn apply_name(
        &mut self,
        name: &str,
        found: Option<Versioned<NameNode>>,
        changes: &mut Changes,
    ) {
        if let Some(before) = self.names.get(name) {
            changes.topics.insert(before.value);
        }
        let found =
            found.map(|Versioned { value, version }| Versioned { value: value.topic_id, version });
        changes.topics.extend(found.map(|id| id.value));
        put(&mut self.names, Arc::from(name), found);
    }

    fn apply_topic(
        &mut self,
        id: Uuid,
        found: Option<Versioned<TopicNode>>,
        changes: &mut Changes,
    ) {
        changes.topics.insert(id);
        let Some(found) = found else {
            self.topics.remove_mut(&id);
            return;
        };
        self.change_topic(id, |topic| {
            topic.name = Arc::from(found.value.name.as_str());
            topic.node = Some(found);
        });
    }

    fn apply_assign(
        &mut self,
        id: Uuid,
        found: Option<Versioned<AssignNode>>,
        changes: &mut Changes,
    ) {
        changes.topics.insert(id);
        if found.is_some() || self.topics.contains_key(&id) {
            self.change_topic(id, |topic| topic.assign = found.map(Arc::new));
        }
    }

    fn apply_partition(
        &mut self,
        id: Uuid,
        index: i32,
        found: Option<Versioned<PartitionNode>>,
        changes: &mut Changes,
    ) {
        changes.partitions.insert((id, index));
        if found.is_some() || self.topics.contains_key(&id) {
            self.change_topic(id, |topic| put(&mut topic.states, index, found.map(Arc::new)));
        }
    }

    fn change_topic(&mut self, id: Uuid, change: impl FnOnce(&mut Topic)) {
        if !self.topics.contains_key(&id) {
            let empty = Topic {
                id,
                name: Arc::from(""),
                node: None,
                assign: None,
                states: Default::default(),
            };
            self.topics.insert_mut(id, Arc::new(empty));
        }
        let topic = self.topics.get_mut(&id).expect("just made sure of");
        change(Arc::make_mut(topic));
    }
}

fn value<T: NodeValue>(
    path: &str,
    node: Option<&Node>,
) -> Result<Option<Versioned<T>>, DecodeError> {
    node.map(|node| Ok(Versioned { value: decode(path, &node.data)?, version: node.stat.version }))
        .transpose()
}

fn put<K: Ord + Clone, V: Clone>(
    map: &mut rpds::RedBlackTreeMapSync<K, V>,
    key: K,
    found: Option<V>,
) {
    match found {
        Some(found) => map.insert_mut(key, found),
        None => {
            map.remove_mut(&key);
        }
    }
}
