//! What is to be done by itself: elections, exclusions, half-made and deleted topics.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::durability::flush_of_new;
use super::elect::{check_registration, first_state, settle};
use super::reassign::{end_moves, has_moves};
use super::{Context, Reason, Write};
use crate::image::{Image, Topic};
use crate::nodes::topic::Assignment;
use crate::nodes::{NodeKey, encode};
use crate::tree::Op;

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// At everything: after an election of the controller, or when brokers came or went.
    All,
    /// At these.
    Parts {
        /// Topics as a whole.
        topics: BTreeSet<Uuid>,
        /// Single partitions of other topics: in-sync replicas change all the time, and a topic may
        /// have thousands of partitions.
        partitions: BTreeSet<(Uuid, i32)>,
    },
}

impl Scope {
    /// Some topics as a whole.
    pub fn topics(topics: BTreeSet<Uuid>) -> Scope {
        Scope::Parts { topics, partitions: BTreeSet::new() }
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        match self {
            Scope::All => false,
            Scope::Parts { topics, partitions } => topics.is_empty() && partitions.is_empty(),
        }
    }
}

/// All that needs doing, in order. `purge` names the topics marked for deletion whose time has come.
pub fn reconcile(
    image: &Image,
    scope: &Scope,
    purge: &BTreeSet<Uuid>,
    context: &Context,
) -> Vec<Write> {
    let mut writes = Vec::new();
    match scope {
        Scope::All => {
            for topic in image.all_topics() {
                reconcile_topic(image, topic, purge, context, &mut writes);
            }
            drop_dangling_names(image, &mut writes);
        }
        Scope::Parts { topics, partitions } => {
            let (whole, single) = split(image, topics, partitions);
            for topic in whole.iter().filter_map(|id| image.any_topic(*id)) {
                reconcile_topic(image, topic, purge, context, &mut writes);
            }
            for (topic, index) in single {
                keep_one(image, topic, index, context, &mut writes);
            }
        }
    }
    writes
}

/// Topics to look at as a whole, and partitions to look at alone: those of topics in which nothing
/// else is under way.
fn split<'a>(
    image: &'a Image,
    topics: &BTreeSet<Uuid>,
    partitions: &BTreeSet<(Uuid, i32)>,
) -> (BTreeSet<Uuid>, Vec<(&'a Topic, i32)>) {
    let mut whole = topics.clone();
    let mut single = Vec::new();
    for (id, index) in partitions.iter().filter(|(id, _)| !topics.contains(id)) {
        match image.topic_by_id(*id).filter(|topic| !has_moves(topic)) {
            Some(topic) => single.push((&**topic, *index)),
            None => {
                whole.insert(*id);
            }
        }
    }
    (whole, single)
}

fn keep_one(image: &Image, topic: &Topic, index: i32, context: &Context, writes: &mut Vec<Write>) {
    let assigned = topic.assign().map_or(&[][..], |assign| &assign.partitions);
    let assignment = usize::try_from(index).ok().and_then(|index| assigned.get(index));
    match (topic.partition(index), assignment) {
        (Some(partition), _) => writes.extend(settle(image, topic, partition, context)),
        (None, Some(assignment)) => {
            writes.extend(complete(image, topic, index, assignment, context));
        }
        (None, None) => writes.extend(topic.state(index).map(|state| {
            let path = NodeKey::Partition(topic.id, index).path();
            Write::new(Reason::Repair, vec![Op::delete(path, state.version)])
        })),
    }
}

fn reconcile_topic(
    image: &Image,
    topic: &Topic,
    purge: &BTreeSet<Uuid>,
    context: &Context,
    writes: &mut Vec<Write>,
) {
    if image.topic_by_id(topic.id).is_some() {
        keep(image, topic, context, writes);
    } else if !topic.is_deleting() || purge.contains(&topic.id) {
        // A topic without a name and without a mark was never finished: its name is written last.
        remove(topic, writes);
    }
}

/// Every assigned partition has a state that fits the brokers that are there, and no other has one.
fn keep(image: &Image, topic: &Topic, context: &Context, writes: &mut Vec<Write>) {
    let (ends, ended) = end_moves(image, topic, context);
    let assigned = topic.assign().map_or(&[][..], |assign| &assign.partitions);
    for (index, assignment) in (0..).zip(assigned) {
        match topic.partition(index) {
            Some(_) if ended.contains(&index) => {}
            Some(partition) => writes.extend(settle(image, topic, partition, context)),
            None => writes.extend(complete(image, topic, index, assignment, context)),
        }
    }
    for (index, state) in topic.states() {
        if index >= topic.partition_count() {
            let path = NodeKey::Partition(topic.id, index).path();
            writes.push(Write::new(Reason::Repair, vec![Op::delete(path, state.version)]));
        }
    }
    // Last: what stands before goes by the assignment as it was.
    writes.extend(ends);
}

fn complete(
    image: &Image,
    topic: &Topic,
    index: i32,
    assignment: &Assignment,
    context: &Context,
) -> Option<Write> {
    let flush = flush_of_new(image, &topic.name, context);
    let state = first_state(image, &topic.name, assignment, flush, context)?;
    let path = NodeKey::Partition(topic.id, index).path();
    let mut write = Write::new(Reason::Repair, vec![Op::create(path, encode(&state))]);
    for member in &state.isr {
        check_registration(image, member.id, &mut write);
    }
    Some(write)
}

/// Takes a topic out of the tree, from the leaves up.
fn remove(topic: &Topic, writes: &mut Vec<Write>) {
    for (index, state) in topic.states() {
        let path = NodeKey::Partition(topic.id, index).path();
        writes.push(Write::new(Reason::Repair, vec![Op::delete(path, state.version)]));
    }
    let mut last = Vec::new();
    if topic.assign().is_some() {
        let folder = NodeKey::partitions_folder(topic.id);
        last.push(Op::Delete { path: folder, expected: None });
    }
    if let Some(assign) = topic.assign() {
        last.push(Op::delete(NodeKey::Assign(topic.id).path(), assign.version));
    }
    if let Some(node) = topic.node() {
        last.push(Op::delete(NodeKey::Topic(topic.id).path(), node.version));
    }
    writes.push(Write::new(Reason::Repair, last));
}

/// Names of topics that are not there; only a hand at work in the tree leaves one.
fn drop_dangling_names(image: &Image, writes: &mut Vec<Write>) {
    for name in image.names().filter(|name| image.topic(name).is_none()) {
        let node = image.name_node(name).expect("just listed");
        let path = NodeKey::Name(name.to_string()).path();
        writes.push(Write::new(Reason::Repair, vec![Op::delete(path, node.version)]));
    }
}
