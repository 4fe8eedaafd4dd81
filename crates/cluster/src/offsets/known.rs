//! What a coordinator knows of a group's nodes, and what it would write: without any tree at hand.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Found, Outcome, To, interpret, nothing};
use crate::nodes::consumers::{
    DETAILS, FOLDER, details_path, encode_offset, group_folder, offset_path, offsets_folder,
    partition_of, topic_folder,
};
use crate::nodes::{encode, name};
use crate::tree::{MultiLimits, Node, Op, OpResult, Tree, TreeError};

/// The two nodes of one offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Of the offset's own node.
    pub(super) version: i32,
    pub(super) has_details: bool,
    /// `None`: the node holds something else.
    pub(super) offset: Option<i64>,
    /// `None`: written by hand.
    pub(super) commit_ms: Option<i64>,
}

impl Known {
    /// Whether it is the offset that somebody has judged.
    fn is(self, offset: i64, commit_ms: i64) -> bool {
        self.offset == Some(offset) && self.commit_ms.is_none_or(|ms| ms == commit_ms)
    }
}

/// The nodes of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GroupNodes {
    pub(super) has_group: bool,
    pub(super) has_offsets: bool,
    /// A topic that is here has its folder.
    pub(super) topics: BTreeMap<String, BTreeMap<i32, Known>>,
}

impl GroupNodes {
    pub(super) fn set(&mut self, topic: &str, partition: i32, known: Known) {
        self.has_group = true;
        self.has_offsets = true;
        match self.topics.get_mut(topic) {
            Some(partitions) => partitions.insert(partition, known),
            None => self.topics.entry(topic.to_owned()).or_default().insert(partition, known),
        };
    }

    /// The topic's folder stays.
    pub(super) fn remove(&mut self, topic: &str, partition: i32) {
        if let Some(partitions) = self.topics.get_mut(topic) {
            partitions.remove(&partition);
        }
    }

    fn get(&self, topic: &str, partition: i32) -> Option<Known> {
        self.topics.get(topic)?.get(&partition).copied()
    }

    /// What is here and not in `now`.
    pub(super) fn gone_in(&self, group: &str, now: &GroupNodes) -> Vec<Found> {
        let all = self.topics.iter().flat_map(|(topic, partitions)| {
            partitions.keys().map(move |partition| (topic, *partition))
        });
        let gone = all.filter(|(topic, partition)| now.get(topic, *partition).is_none());
        gone.map(|(topic, partition)| nothing(group, topic, partition)).collect()
    }

    /// Folders without anything in them, lowest first, no more than `max`; and whether that is all
    /// there is.
    pub(super) fn empty_folders(&self, group: &str, max: usize) -> (Vec<String>, bool) {
        let empty = self.topics.iter().filter(|(_, partitions)| partitions.is_empty());
        let mut folders: Vec<String> =
            empty.map(|(topic, _)| topic_folder(group, topic)).take(max).collect();
        let is_all = folders.len() == self.topics.len() && folders.len() + 2 <= max;
        if is_all && self.has_offsets {
            folders.push(offsets_folder(group));
            folders.push(group_folder(group));
        }
        (folders, is_all)
    }
}

/// Reads all nodes of a group.
pub(super) async fn read_group(
    tree: &dyn Tree,
    group: &str,
) -> Result<(GroupNodes, Vec<Found>), TreeError> {
    let folder = offsets_folder(group);
    let found: BTreeMap<String, Node> = tree.subtree(&folder).await?.into_iter().collect();
    let mut nodes = GroupNodes { has_offsets: !found.is_empty(), ..GroupNodes::default() };
    nodes.has_group = nodes.has_offsets || tree.find(&group_folder(group)).await?.is_some();
    let mut stored = Vec::new();
    for (path, node) in &found {
        let Some(below) = path.strip_prefix(&folder).and_then(|rest| rest.strip_prefix('/')) else {
            continue;
        };
        let (topic, partition) = match below.split_once('/') {
            None => (below, None),
            Some((topic, partition)) => (topic, Some(partition)),
        };
        // What no Klamm writes is nobody's offset.
        let Some(topic) = name::unescape(topic) else { continue };
        let Some(partition) = partition else {
            nodes.topics.entry(topic).or_default();
            continue;
        };
        let Some(partition) = partition_of(partition) else { continue };
        let details = format!("{path}/{DETAILS}");
        let said = found.get(&details).map(|said| (details.as_str(), said));
        let (known, offset) = interpret(node, said);
        nodes.set(&topic, partition, known);
        stored.push(Found { group: group.to_owned(), topic, partition, stored: offset });
    }
    Ok((nodes, stored))
}

/// For each change the one that is written for it: of those that set or delete the same offset without
/// a condition, the last.
pub(super) fn answers_for(changes: &[Change]) -> Vec<usize> {
    let mut last: BTreeMap<(&str, &str, i32), usize> = BTreeMap::new();
    let mut answers: Vec<usize> = (0..changes.len()).collect();
    for (index, change) in changes.iter().enumerate().rev() {
        if !matches!(change.to, To::GoneIf { .. }) {
            answers[index] = *last.entry(key(change)).or_insert(index);
        }
    }
    answers
}

fn key(change: &Change) -> (&str, &str, i32) {
    (&change.group, &change.topic, change.partition)
}

/// One multi in the making.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) ops: Vec<Op>,
    pub(super) effects: Vec<Effect>,
    bytes: usize,
    limits: MultiLimits,
    /// Folders that it makes.
    made: BTreeSet<String>,
    /// Offsets that it changes.
    keys: BTreeSet<(String, String, i32)>,
}

/// What one change comes to when the multi succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effect {
    /// Index of the change.
    pub(super) change: usize,
    pub(super) outcome: Outcome,
    /// Index of the operation that sets or makes the offset's own node, if it is to be there.
    op: Option<usize>,
}

impl Plan {
    pub(super) fn new(check: Op, limits: MultiLimits) -> Plan {
        Plan {
            bytes: check.bytes(),
            ops: vec![check],
            effects: Vec::new(),
            limits,
            made: BTreeSet::new(),
            keys: BTreeSet::new(),
        }
    }

    /// Adds a change; false where it has to wait for the next multi, which the first never has to.
    pub(super) fn add(
        &mut self,
        index: usize,
        change: &Change,
        nodes: Option<&GroupNodes>,
        has_root: bool,
    ) -> bool {
        let own_key = (change.group.clone(), change.topic.clone(), change.partition);
        if self.keys.contains(&own_key) {
            return false;
        }
        let known = nodes.and_then(|nodes| nodes.get(&change.topic, change.partition));
        let (mut ops, mut outcome) = (Vec::new(), Outcome::Done);
        let mut made = Vec::new();
        let mut op = None;
        match &change.to {
            To::Set(details) => {
                made = self.folders_to_make(change, nodes, has_root);
                ops.extend(made.iter().map(|path| Op::create(path.as_str(), "")));
                op = Some(self.ops.len() + ops.len());
                let path = offset_path(&change.group, &change.topic, change.partition);
                let data = encode_offset(details.offset);
                ops.push(match known {
                    Some(known) => Op::set(path, data, known.version),
                    None => Op::create(path, data),
                });
                let path = details_path(&change.group, &change.topic, change.partition);
                let data = encode(details);
                ops.push(match known {
                    Some(Known { has_details: true, .. }) => Op::Set { path, data, expected: None },
                    _ => Op::create(path, data),
                });
            }
            To::Gone => ops = deletion(change, known),
            To::GoneIf { offset, commit_ms } => match known {
                Some(known) if !known.is(*offset, *commit_ms) => outcome = Outcome::Kept,
                known => ops = deletion(change, known),
            },
        }
        let bytes: usize = ops.iter().map(Op::bytes).sum();
        let fits = self.ops.len() + ops.len() <= self.limits.ops
            && self.bytes + bytes <= self.limits.bytes;
        if !fits && !self.effects.is_empty() {
            return false;
        }
        self.ops.extend(ops);
        self.bytes += bytes;
        self.made.extend(made);
        self.keys.insert(own_key);
        self.effects.push(Effect { change: index, outcome, op });
        true
    }

    fn folders_to_make(
        &self,
        change: &Change,
        nodes: Option<&GroupNodes>,
        has_root: bool,
    ) -> Vec<String> {
        let has_group = nodes.is_some_and(|nodes| nodes.has_group);
        let has_offsets = nodes.is_some_and(|nodes| nodes.has_offsets);
        let has_topic = nodes.is_some_and(|nodes| nodes.topics.contains_key(&change.topic));
        let folders = [
            (has_root, FOLDER.to_owned()),
            (has_group, group_folder(&change.group)),
            (has_offsets, offsets_folder(&change.group)),
            (has_topic, topic_folder(&change.group, &change.topic)),
        ];
        let missing = folders.into_iter().filter(|(is_there, _)| !is_there);
        missing.map(|(_, path)| path).filter(|path| !self.made.contains(path)).collect()
    }
}

fn deletion(change: &Change, known: Option<Known>) -> Vec<Op> {
    let Some(known) = known else { return Vec::new() };
    let Change { group, topic, partition, .. } = change;
    let mut ops = Vec::new();
    if known.has_details {
        ops.push(Op::Delete { path: details_path(group, topic, *partition), expected: None });
    }
    ops.push(Op::delete(offset_path(group, topic, *partition), known.version));
    ops
}

/// The nodes of an offset after its change; `None`: they are gone, or the answer is not one to this
/// write. Then the next write meets a conflict, and the group is read again.
pub(super) fn after(effect: &Effect, change: &Change, results: &[OpResult]) -> Option<Known> {
    let To::Set(details) = &change.to else { return None };
    let version = match effect.op.and_then(|op| results.get(op)) {
        Some(OpResult::Set(stat) | OpResult::Created(stat)) => stat.version,
        _ => return None,
    };
    let (offset, commit_ms) = (Some(details.offset), Some(details.commit_ms));
    Some(Known { version, has_details: true, offset, commit_ms })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::nodes::consumers::DetailsNode;

    #[test]
    fn an_answer_that_is_none_to_a_write_leaves_nothing_known() {
        let details = DetailsNode {
            offset: 7,
            leader_epoch: -1,
            metadata: String::new(),
            commit_ms: 1,
            expire_ms: None,
            topic_id: Uuid::nil(),
        };
        let (group, topic) = ("g".to_owned(), "t".to_owned());
        let change = Change { group, topic, partition: 0, to: To::Set(details) };
        let effect = Effect { change: 0, outcome: Outcome::Done, op: Some(0) };
        assert_eq!(after(&effect, &change, &[]), None);
    }
}
