//! Committed offsets in the tree, where `offsets.storage=zookeeper` keeps them: reads and writes of one
//! coordinator.
//!
//! A coordinator is the leader of a partition of `__consumer_offsets` in one leader epoch. **Every
//! write is a multi that begins with a check of that partition's state node**: whoever takes the
//! office over has changed the node by then, so that a deposed coordinator writes nothing, however
//! late its request arrives. An in-sync set that changed moves the node's version as well: then the
//! node is read again, and the write repeated if the leader epoch is still the same. Besides, every
//! node is changed by compare-and-set: an earlier write of the same coordinator that was taken for
//! lost never overwrites a later one.
//!
//! What the coordinator knows of the nodes (versions, which folders exist) is kept for each group. A
//! write whose outcome is not known, or that met another version than the known one, puts the group in
//! doubt: it is read again before the next write, and what was found goes to the caller as news. So a
//! node that somebody makes or changes by hand is honoured and never breaks anything.

mod known;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use thiserror::Error;
use uuid::Uuid;

use crate::nodes::consumers::{
    DetailsNode, FOLDER, decode_offset, details_path, group_of, offset_path, offsets_folder,
    partition_of, topic_folder,
};
use crate::nodes::topic::PartitionNode;
use crate::nodes::{DecodeError, NodeKey, decode, name};
use crate::tree::{MULTI_BYTES_MAX, MultiLimits, Op, SessionId, Tree, TreeError};
use known::{GroupNodes, Known, Plan};

/// Times that one step is tried again after a conflict or an unclear answer.
const TRIES_MAX: usize = 8;
/// Reads of different nodes that are under way at a time.
const READS_AT_ONCE: usize = 8;
/// Operations in one multi at most, whatever the home would take.
const OPS_MAX: usize = 1000;

/// Whose offsets these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The topic `__consumer_offsets`.
    pub topic_id: Uuid,
    /// The partition that is led.
    pub partition: i32,
    /// The broker that leads it.
    pub broker: i32,
    /// The epoch that it leads in.
    pub leader_epoch: i32,
}

/// A committed offset as the tree has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The offset.
    pub offset: i64,
    /// What its commit said besides; `None` where the number was written by hand.
    pub details: Option<DetailsNode>,
}

/// What was found in the place of one committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The group.
    pub group: String,
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// `None`: nothing any more.
    pub stored: Option<Stored>,
}

/// One committed offset that is to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The group; [`crate::nodes::consumers::is_storable`].
    pub group: String,
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What becomes of it.
    pub to: To,
}

/// What becomes of a committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// It is this one now. Metadata no longer than [`crate::nodes::consumers::METADATA_BYTES_MAX`].
    Set(DetailsNode),
    /// It goes.
    Gone,
    /// It goes if it is still the one that was judged: nothing that was committed since is deleted.
    GoneIf {
        /// The offset that was judged.
        offset: i64,
        /// When it was committed.
        commit_ms: i64,
    },
}

/// What became of a [`Change`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The tree has it.
    Done,
    /// [`To::GoneIf`] met another offset, which stays.
    Kept,
    /// Not known to be in the tree; it may come to be.
    Open,
}

/// What [`OffsetStore::write`] did.
#[derive(Debug)]
pub struct Written {
    /// Of each change, in order.
    pub outcomes: Vec<Outcome>,
    /// Why some are [`Outcome::Open`].
    pub error: Option<OffsetsError>,
}

/// Which offsets of a group are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of them.
    All,
    /// Those of these partitions, by topic.
    Only(BTreeMap<String, BTreeSet<i32>>),
}

impl Wanted {
    /// Asks for these too.
    pub fn add(&mut self, other: &Wanted) {
        if let (Wanted::Only(topics), Wanted::Only(others)) = (&mut *self, other) {
            for (topic, partitions) in others {
                topics.entry(topic.clone()).or_default().extend(partitions);
            }
            return;
        }
        *self = Wanted::All;
    }
}

/// Why the tree does not have what was to be written, or was not read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OffsetsError {
    /// Somebody else coordinates by now.
    #[error("another broker, or a later epoch, coordinates these groups")]
    Deposed,
    /// The tree failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The state node of the partition cannot be read.
    #[error(transparent)]
    Node(#[from] DecodeError),
    /// Other writers, or broken connections, came in between again and again.
    #[error("the tree kept changing, or its connection kept breaking")]
    Unsettled,
}

/// The committed offsets of one coordinator. Its futures may be dropped at any point: what they leave
/// open is in doubt and read again.
#[derive(Debug)]
pub struct OffsetStore {
    owner: Owner,
    /// Version of the owner's state node.
    fence: i32,
    /// The session that the last proof of office was in: only behind such a proof is a session's
    /// reading as new as what earlier sessions have seen (R6).
    session: SessionId,
    has_root: bool,
    /// What is known of each group's nodes.
    groups: BTreeMap<String, GroupNodes>,
    /// Groups that have to be read before they are written.
    doubtful: BTreeSet<String>,
    news: Vec<Found>,
}

impl OffsetStore {
    /// Proves that `owner` is in office. Everything that earlier coordinators have written is seen by
    /// what is read after this.
    ///
    /// # Errors
    /// [`OffsetsError`].
    pub async fn open(tree: &dyn Tree, owner: Owner) -> Result<OffsetStore, OffsetsError> {
        let mut store = OffsetStore {
            owner,
            fence: 0,
            session: tree.session(),
            has_root: false,
            groups: BTreeMap::new(),
            doubtful: BTreeSet::new(),
            news: Vec::new(),
        };
        store.read_fence(tree).await?;
        store.prove(tree).await?;
        Ok(store)
    }

    /// Reads the groups that are the owner's.
    ///
    /// # Errors
    /// [`OffsetsError`].
    pub async fn load(
        &mut self,
        tree: &dyn Tree,
        is_owned: impl Fn(&str) -> bool + Send,
    ) -> Result<Vec<Found>, OffsetsError> {
        let mut groups = groups(tree).await?;
        groups.retain(|group| is_owned(group));
        drop(is_owned);
        let read = stream::iter(groups).map(|group| async move {
            let read = known::read_group(tree, &group).await?;
            Ok::<_, TreeError>((group, read))
        });
        let read: Vec<_> = read.buffered(READS_AT_ONCE).try_collect().await?;
        let mut found = Vec::new();
        for (group, (nodes, stored)) in read {
            self.has_root = true;
            found.extend(stored);
            self.groups.insert(group, nodes);
        }
        Ok(found)
    }

    /// What was found in the tree by the way, other than it was known: to be taken over before the
    /// changes of the last write.
    pub fn take_news(&mut self) -> Vec<Found> {
        std::mem::take(&mut self.news)
    }

    /// Proves again that the owner is in office, at this moment.
    ///
    /// # Errors
    /// [`OffsetsError`].
    pub async fn prove(&mut self, tree: &dyn Tree) -> Result<(), OffsetsError> {
        for _ in 0..TRIES_MAX {
            match tree.multi(vec![self.check()]).await {
                Ok(_) => {
                    self.session = tree.session();
                    return Ok(());
                }
                Err(failed) if failed.error.is_conflict() => self.read_fence(tree).await?,
                Err(failed) if failed.error.is_unclear() => {}
                Err(failed) => return Err(failed.error.into()),
            }
        }
        Err(OffsetsError::Unsettled)
    }

    fn check(&self) -> Op {
        Op::check(self.state_path(), self.fence)
    }

    fn state_path(&self) -> String {
        NodeKey::Partition(self.owner.topic_id, self.owner.partition).path()
    }

    /// Takes the version of the state node, if it still says that the owner is in office.
    async fn read_fence(&mut self, tree: &dyn Tree) -> Result<(), OffsetsError> {
        let path = self.state_path();
        for _ in 0..TRIES_MAX {
            let Some(node) = tree.find(&path).await? else { return Err(OffsetsError::Deposed) };
            let state: PartitionNode = decode(&path, &node.data)?;
            if state.leader_epoch < self.owner.leader_epoch {
                // This server lags.
                match tree.catch_up().await {
                    Err(error) if !error.is_unclear() => return Err(error.into()),
                    _ => continue,
                }
            }
            let Owner { broker, leader_epoch, .. } = self.owner;
            if state.leader_epoch != leader_epoch || state.leader != Some(broker) {
                return Err(OffsetsError::Deposed);
            }
            self.fence = node.stat.version;
            return Ok(());
        }
        Err(OffsetsError::Unsettled)
    }

    /// Reads what a group has committed, as it is in the tree at this moment; only what exists, or was
    /// known to, comes back.
    ///
    /// # Errors
    /// [`OffsetsError`].
    pub async fn read(
        &mut self,
        tree: &dyn Tree,
        group: &str,
        wanted: &Wanted,
    ) -> Result<Vec<Found>, OffsetsError> {
        let is_known = self.groups.contains_key(group) && !self.doubtful.contains(group);
        let topics = match wanted {
            Wanted::Only(topics) if is_known => topics,
            _ => {
                let found = self.read_whole(tree, group).await?;
                // Whoever asks for a group that is not there leaves nothing behind.
                if self.groups.get(group).is_some_and(|nodes| !nodes.has_group) {
                    self.groups.remove(group);
                }
                return Ok(found);
            }
        };
        let there = match tree.children(&offsets_folder(group)).await {
            Ok(names) => names.iter().filter_map(|name| name::unescape(name)).collect(),
            Err(TreeError::NoNode { .. }) => BTreeSet::new(),
            Err(error) => return Err(error.into()),
        };
        let known = &self.groups[group].topics;
        // However many names are asked for: what does not exist costs nothing.
        let exists = |topic: &String| there.contains(topic) || known.contains_key(topic);
        let topics: Vec<_> = topics.iter().filter(|(topic, _)| exists(topic)).collect();
        let mut found = Vec::new();
        for (topic, partitions) in topics {
            found.extend(self.read_topic(tree, group, topic, partitions).await?);
        }
        Ok(found)
    }

    async fn read_whole(&mut self, tree: &dyn Tree, group: &str) -> Result<Vec<Found>, TreeError> {
        let (nodes, mut found) = known::read_group(tree, group).await?;
        self.has_root |= nodes.has_group;
        if let Some(before) = self.groups.get(group) {
            found.extend(before.gone_in(group, &nodes));
        }
        self.doubtful.remove(group);
        self.groups.insert(group.to_owned(), nodes);
        Ok(found)
    }

    async fn read_topic(
        &mut self,
        tree: &dyn Tree,
        group: &str,
        topic: &str,
        partitions: &BTreeSet<i32>,
    ) -> Result<Vec<Found>, TreeError> {
        let names = match tree.children(&topic_folder(group, topic)).await {
            Ok(names) => Some(names),
            Err(TreeError::NoNode { .. }) => None,
            Err(error) => return Err(error),
        };
        let there = names.iter().flatten().filter_map(|name| partition_of(name));
        let asked: Vec<i32> = there.filter(|partition| partitions.contains(partition)).collect();
        let read = stream::iter(asked).map(|partition| async move {
            Ok::<_, TreeError>((partition, read_offset(tree, group, topic, partition).await?))
        });
        let read: Vec<_> = read.buffered(READS_AT_ONCE).try_collect().await?;
        let nodes = self.groups.get_mut(group).expect("the caller has looked");
        if names.is_none() {
            let before = nodes.topics.remove(topic).unwrap_or_default();
            return Ok(before.into_keys().map(|index| nothing(group, topic, index)).collect());
        }
        let known = nodes.topics.entry(topic.to_owned()).or_default();
        let mut found = Vec::new();
        let mut missing: BTreeSet<i32> =
            partitions.iter().copied().filter(|index| known.contains_key(index)).collect();
        for (partition, read) in read {
            let Some((now, stored)) = read else { continue };
            missing.remove(&partition);
            known.insert(partition, now);
            found.push(Found {
                group: group.to_owned(),
                topic: topic.to_owned(),
                partition,
                stored,
            });
        }
        for partition in missing {
            known.remove(&partition);
            found.push(nothing(group, topic, partition));
        }
        Ok(found)
    }

    /// Writes changes in their order, as many at once as fit. Of several that set one offset only the
    /// last is written, and answers for the others.
    pub async fn write(&mut self, tree: &dyn Tree, changes: &[Change]) -> Written {
        let answers_for = known::answers_for(changes);
        let due: Vec<usize> =
            (0..changes.len()).filter(|index| answers_for[*index] == *index).collect();
        let mut written = vec![Outcome::Open; changes.len()];
        let mut error = None;
        let mut at = 0;
        while at < due.len() {
            match self.write_some(tree, changes, &due[at..]).await {
                Ok(outcomes) => {
                    for (index, outcome) in due[at..].iter().zip(&outcomes) {
                        written[*index] = *outcome;
                    }
                    at += outcomes.len();
                }
                Err(failed) => {
                    error = Some(failed);
                    break;
                }
            }
        }
        let outcomes: Vec<Outcome> = answers_for.iter().map(|index| written[*index]).collect();
        if error.is_none() {
            self.tidy(tree, changes).await;
        }
        Written { outcomes, error }
    }

    /// Writes the first of `due`, one multi of them; answers what became of each of these.
    async fn write_some(
        &mut self,
        tree: &dyn Tree,
        changes: &[Change],
        due: &[usize],
    ) -> Result<Vec<Outcome>, OffsetsError> {
        if tree.session() != self.session {
            self.prove(tree).await?;
        }
        for _ in 0..TRIES_MAX {
            let plan = self.plan(tree, changes, due).await?;
            let groups: BTreeSet<&str> =
                plan.effects.iter().map(|effect| changes[effect.change].group.as_str()).collect();
            self.doubtful.extend(groups.iter().map(|group| (*group).to_owned()));
            match tree.multi(plan.ops.clone()).await {
                Ok(results) => {
                    groups.into_iter().for_each(|group| {
                        self.doubtful.remove(group);
                    });
                    return Ok(self.take_effect(changes, &plan, &results));
                }
                Err(failed) if failed.error.is_conflict() && failed.index == Some(0) => {
                    // Nothing was written: the nodes are as known.
                    groups.into_iter().for_each(|group| {
                        self.doubtful.remove(group);
                    });
                    self.read_fence(tree).await?;
                }
                Err(failed) if failed.error.is_conflict() || failed.error.is_unclear() => {}
                Err(failed) => return Err(failed.error.into()),
            }
        }
        Err(OffsetsError::Unsettled)
    }

    async fn plan(
        &mut self,
        tree: &dyn Tree,
        changes: &[Change],
        due: &[usize],
    ) -> Result<Plan, OffsetsError> {
        let limits = tree.max_multi();
        let limits =
            MultiLimits { ops: limits.ops.min(OPS_MAX), bytes: limits.bytes.min(MULTI_BYTES_MAX) };
        let mut plan = Plan::new(self.check(), limits);
        for index in due {
            let change = &changes[*index];
            let is_doubtful = self.doubtful.contains(&change.group);
            if is_doubtful || !self.groups.contains_key(&change.group) {
                self.has_root = tree.find(FOLDER).await?.is_some();
                let found = self.read_whole(tree, &change.group).await?;
                self.news.extend(found);
            }
            let nodes = self.groups.get(&change.group);
            if !plan.add(*index, change, nodes, self.has_root) {
                break;
            }
        }
        Ok(plan)
    }

    fn take_effect(
        &mut self,
        changes: &[Change],
        plan: &Plan,
        results: &[crate::tree::OpResult],
    ) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(plan.effects.len());
        for effect in &plan.effects {
            let change = &changes[effect.change];
            outcomes.push(effect.outcome);
            if effect.outcome == Outcome::Kept {
                // What it met is not known to the caller yet.
                self.doubtful.insert(change.group.clone());
                continue;
            }
            if let Some(nodes) = known::after(effect, change, results) {
                self.has_root = true;
                let group = self.groups.entry(change.group.clone()).or_default();
                group.set(&change.topic, change.partition, nodes);
            } else if let Some(group) = self.groups.get_mut(&change.group) {
                group.remove(&change.topic, change.partition);
            }
        }
        outcomes
    }

    /// Removes the folders that a deletion has emptied. Where that fails they stay, which does no harm.
    async fn tidy(&mut self, tree: &dyn Tree, changes: &[Change]) {
        let deleted = changes.iter().filter(|change| !matches!(change.to, To::Set(_)));
        let groups: BTreeSet<&str> = deleted.map(|change| change.group.as_str()).collect();
        let ops_max = tree.max_multi().ops.min(OPS_MAX);
        for group in groups {
            let Some(nodes) = self.groups.get(group) else { continue };
            let (folders, is_empty) = nodes.empty_folders(group, ops_max - 1);
            if folders.is_empty() || self.doubtful.contains(group) {
                continue;
            }
            let mut ops = vec![self.check()];
            ops.extend(
                folders.iter().map(|path| Op::Delete { path: path.clone(), expected: None }),
            );
            self.doubtful.insert(group.to_owned());
            if tree.multi(ops).await.is_err() {
                continue;
            }
            self.doubtful.remove(group);
            if is_empty {
                self.groups.remove(group);
            } else if let Some(nodes) = self.groups.get_mut(group) {
                nodes.topics.retain(|_, partitions| !partitions.is_empty());
            }
        }
    }
}

/// The groups that have anything in the tree, and a name that is written there.
///
/// # Errors
/// When the tree cannot be read.
pub async fn groups(tree: &dyn Tree) -> Result<Vec<String>, TreeError> {
    match tree.children(FOLDER).await {
        Ok(names) => Ok(names.iter().filter_map(|name| group_of(name)).collect()),
        Err(TreeError::NoNode { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A group that has committed offsets in the tree, if there is one.
///
/// # Errors
/// When the tree cannot be read.
pub async fn any_group(tree: &dyn Tree) -> Result<Option<String>, TreeError> {
    for group in groups(tree).await? {
        let (_, found) = known::read_group(tree, &group).await?;
        if found.iter().any(|found| found.stored.is_some()) {
            return Ok(Some(group));
        }
    }
    Ok(None)
}

async fn read_offset(
    tree: &dyn Tree,
    group: &str,
    topic: &str,
    partition: i32,
) -> Result<Option<(Known, Option<Stored>)>, TreeError> {
    let Some(node) = tree.find(&offset_path(group, topic, partition)).await? else {
        return Ok(None);
    };
    let path = details_path(group, topic, partition);
    let details = tree.find(&path).await?;
    Ok(Some(interpret(&node, details.as_ref().map(|details| (path.as_str(), details)))))
}

/// What the two nodes of an offset say.
fn interpret(
    node: &crate::tree::Node,
    details: Option<(&str, &crate::tree::Node)>,
) -> (Known, Option<Stored>) {
    let offset = decode_offset(&node.data);
    let said = details.and_then(|(path, node)| decode::<DetailsNode>(path, &node.data).ok());
    let said = said.filter(|said| Some(said.offset) == offset);
    let known = Known {
        version: node.stat.version,
        has_details: details.is_some(),
        offset,
        commit_ms: said.as_ref().map(|said| said.commit_ms),
    };
    (known, offset.map(|offset| Stored { offset, details: said }))
}

fn nothing(group: &str, topic: &str, partition: i32) -> Found {
    Found { group: group.to_owned(), topic: topic.to_owned(), partition, stored: None }
}

#[cfg(test)]
mod tests;
