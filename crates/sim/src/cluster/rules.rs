//! What must hold of the tree at each of its changes.

use std::collections::{BTreeMap, BTreeSet};

use klamm_cluster::nodes::broker::EpochNode;
use klamm_cluster::nodes::controller::ControllerEpochNode;
use klamm_cluster::nodes::topic::{AssignNode, NameNode, PartitionNode};
use klamm_cluster::nodes::{NodeKey, NodeValue, decode};
use klamm_cluster::tree::state::TreeState;
use klamm_cluster::{FlushClass, Member};
use uuid::Uuid;

use crate::stored::told;
use crate::trace::Trace;

type PartitionKey = (Uuid, i32);

/// Follows the tree.
#[derive(Default)]
pub(super) struct Rules {
    /// The tree as it was last.
    pub(super) tree: TreeState,
    partitions: BTreeMap<PartitionKey, Seen>,
    broker_epochs: BTreeMap<i32, EpochNode>,
    controller_epoch: i32,
    /// Who led in each leader epoch (I2).
    leaders: BTreeMap<(PartitionKey, i32), Member>,
    pub(super) elections: usize,
}

#[derive(Clone)]
struct Seen {
    version: i32,
    node: PartitionNode,
}

/// A partition as the tree has it.
pub(super) struct Listed {
    pub(super) topic: String,
    pub(super) topic_id: Uuid,
    pub(super) partition: i32,
    pub(super) replicas: Vec<i32>,
    pub(super) node: PartitionNode,
}

impl Rules {
    /// Whether the leader was elected in its current registration, and no member's entry is from before
    /// a restart that has cost it what it confirmed: the controller has still to see to those.
    pub(super) fn is_up_to_date(&self, node: &PartitionNode) -> bool {
        let of = |member: Member| self.broker_epochs.get(&member.id);
        let leads = |leader| of(leader).is_some_and(|known| known.epoch == leader.epoch);
        let sound = |member: &Member| {
            of(*member).is_some_and(|known| member.epoch >= known.sound_since(node.flush))
        };
        node.leader_member().is_some_and(leads) && node.isr.iter().all(sound)
    }

    /// Looks at the tree after a change.
    ///
    /// # Errors
    /// The invariant that does not hold, and by what values.
    pub(super) fn on_change(&mut self, tree: &TreeState, trace: &Trace) -> Result<(), String> {
        self.tree = tree.clone();
        self.check_controller(tree)?;
        self.check_brokers(tree, trace)?;
        for (path, node) in tree.subtree("/topics") {
            let Some(NodeKey::Partition(topic, index)) = NodeKey::parse(&path) else { continue };
            let key = (topic, index);
            let version = node.stat.version;
            let before = self.partitions.get(&key).cloned();
            if before.as_ref().is_some_and(|before| before.version == version) {
                continue;
            }
            let now: PartitionNode = decode(&path, &node.data).map_err(told)?;
            trace.line(format_args!("{path} {}", line_of(&now)));
            let before = before.map(|before| before.node);
            self.check_partition(tree, key, before.as_ref(), &now)
                .map_err(|why| format!("{why}: {path} is {now:?} after {before:?}"))?;
            self.partitions.insert(key, Seen { version, node: now });
        }
        Ok(())
    }

    /// I1: the epoch only grows.
    fn check_controller(&mut self, tree: &TreeState) -> Result<(), String> {
        let Some(node) = find::<ControllerEpochNode>(tree, &NodeKey::ControllerEpoch)? else {
            return Ok(());
        };
        if node.epoch < self.controller_epoch {
            let (now, before) = (node.epoch, self.controller_epoch);
            return Err(format!("I1: the controller epoch is {now} after {before}"));
        }
        self.controller_epoch = node.epoch;
        Ok(())
    }

    fn check_brokers(&mut self, tree: &TreeState, trace: &Trace) -> Result<(), String> {
        for name in tree.children("/brokers/epochs").unwrap_or_default() {
            let Ok(id) = name.parse() else { continue };
            let Some(now) = find::<EpochNode>(tree, &NodeKey::BrokerEpoch(id))? else { continue };
            let before = self.broker_epochs.get(&id);
            if before == Some(&now) {
                continue;
            }
            trace.line(format_args!("broker {id} {now:?}"));
            if let Some(before) = before
                && (now.epoch < before.epoch
                    || now.epoch == before.epoch && now.incarnation != before.incarnation)
            {
                return Err(format!("I2: broker {id} is {now:?} after {before:?}"));
            }
            self.broker_epochs.insert(id, now);
        }
        Ok(())
    }

    fn check_partition(
        &mut self,
        tree: &TreeState,
        key: PartitionKey,
        before: Option<&PartitionNode>,
        now: &PartitionNode,
    ) -> Result<(), String> {
        if now.controller_epoch > self.controller_epoch {
            return Err("I1: of a controller to come".to_owned());
        }
        if let Some(before) = before {
            if now.leader_epoch < before.leader_epoch {
                return Err("I2: the leader epoch shrinks".to_owned());
            }
            if now.partition_epoch <= before.partition_epoch {
                return Err("R13: the partition epoch does not grow".to_owned());
            }
            if now.controller_epoch < before.controller_epoch {
                return Err("I1: of an earlier controller".to_owned());
            }
        }
        self.check_replicas(tree, key, now)?;
        self.check_added(before, now)?;
        let Some(leader) = now.leader_member() else { return Ok(()) };
        let known = *self.leaders.entry((key, now.leader_epoch)).or_insert(leader);
        if known != leader {
            return Err(format!("I2: {known:?} and {leader:?} lead in one epoch"));
        }
        if before.is_none_or(|before| before.leader_epoch < now.leader_epoch) {
            self.elections += 1;
            self.check_election(before, now, leader)?;
        }
        Ok(())
    }

    /// I17; that ISR and ELR are disjoint and the leader in the ISR is looked at when it is decoded.
    fn check_replicas(
        &self,
        tree: &TreeState,
        (topic, index): PartitionKey,
        now: &PartitionNode,
    ) -> Result<(), String> {
        let assigned = replicas(tree, topic, index)?;
        for member in now.isr.iter().chain(&now.elr) {
            if !assigned.contains(&member.id) {
                return Err(format!("I17: {member:?} is none of {assigned:?}"));
            }
            let newest = self.broker_epochs.get(&member.id).map_or(0, |known| known.epoch);
            if member.epoch > newest {
                return Err(format!("I17: {member:?} was never registered, {newest} was"));
            }
        }
        Ok(())
    }

    /// I8: whoever is listed anew is listed as it is registered, or was an earlier entry lost.
    fn check_added(
        &self,
        before: Option<&PartitionNode>,
        now: &PartitionNode,
    ) -> Result<(), String> {
        let Some(before) = before else { return Ok(()) };
        for member in &now.isr {
            let newest = self.broker_epoch(member.id);
            let stays = before.isr.contains(member) || before.elr.contains(member);
            // An unclean election lists somebody whose past says nothing.
            if !stays && member.epoch != newest {
                return Err(format!("I8: {member:?} is added, registered as {newest}"));
            }
        }
        Ok(())
    }

    /// I8, R12: who is elected was listed with a registration since which its past is whole.
    fn check_election(
        &self,
        before: Option<&PartitionNode>,
        now: &PartitionNode,
        leader: Member,
    ) -> Result<(), String> {
        let Some(of_broker) = self.broker_epochs.get(&leader.id) else {
            return Err(format!("R12: {leader:?} is not registered"));
        };
        if leader.epoch != of_broker.epoch {
            return Err(format!("R12: elected as {leader:?}, registered as {of_broker:?}"));
        }
        // The replication factor decides: with one replica there is nobody else to elect.
        let Some(before) = before.filter(|_| now.unclean_epoch != now.leader_epoch) else {
            return Ok(());
        };
        let mut listed = before.isr.iter().chain(&before.elr);
        let Some(listed) = listed.find(|member| member.id == leader.id) else {
            return Err(format!("I6: {leader:?} was neither in the ISR nor eligible"));
        };
        let since = of_broker.sound_since(before.flush);
        if listed.epoch < since {
            return Err(format!("I8: {listed:?} is not sound since {since}"));
        }
        Ok(())
    }

    /// Every partition of every topic that has a name.
    pub(super) fn listed(&self) -> Result<Vec<Listed>, String> {
        let mut all = Vec::new();
        for name in self.tree.children("/names").unwrap_or_default() {
            let path = format!("/names/{name}");
            let Some(node) = self.tree.get(&path) else { continue };
            let topic_id = decode::<NameNode>(&path, &node.data).map_err(told)?.topic_id;
            for ((topic, partition), seen) in &self.partitions {
                if *topic == topic_id {
                    all.push(Listed {
                        topic: name.clone(),
                        topic_id,
                        partition: *partition,
                        replicas: replicas(&self.tree, topic_id, *partition)?,
                        node: seen.node.clone(),
                    });
                }
            }
        }
        Ok(all)
    }

    /// The newest registration of a broker.
    pub(super) fn broker_epoch(&self, id: i32) -> i64 {
        self.broker_epochs.get(&id).map_or(0, |known| known.epoch)
    }

    /// The controller's epoch.
    pub(super) fn controller_epoch(&self) -> i32 {
        self.controller_epoch
    }
}

impl Listed {
    pub(super) fn in_sync(&self) -> BTreeSet<i32> {
        self.node.isr.iter().map(|member| member.id).collect()
    }

    /// Whether a member of the partition survives a power loss with all that it confirmed.
    pub(super) fn is_durable(&self) -> bool {
        self.node.flush == FlushClass::Acked
    }

    /// Whether every replica is in sync.
    pub(super) fn is_whole(&self) -> bool {
        self.in_sync() == self.replicas.iter().copied().collect()
    }
}

fn find<T: NodeValue>(tree: &TreeState, key: &NodeKey) -> Result<Option<T>, String> {
    let path = key.path();
    tree.get(&path).map(|node| decode(&path, &node.data).map_err(told)).transpose()
}

fn replicas(tree: &TreeState, topic: Uuid, index: i32) -> Result<Vec<i32>, String> {
    let assign: Option<AssignNode> = find(tree, &NodeKey::Assign(topic))?;
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    let assigned = assign.and_then(|assign| assign.partitions.get(index).cloned());
    Ok(assigned.map(|assigned| assigned.replicas).unwrap_or_default())
}

fn line_of(node: &PartitionNode) -> String {
    let members = |members: &[Member]| {
        let texts: Vec<_> = members.iter().map(|m| format!("{}@{}", m.id, m.epoch)).collect();
        texts.join(" ")
    };
    let PartitionNode { leader, leader_epoch, partition_epoch, .. } = node;
    format!(
        "{partition_epoch}: leader {leader:?} epoch {leader_epoch}, isr {}, elr {}",
        members(&node.isr),
        members(&node.elr)
    )
}
