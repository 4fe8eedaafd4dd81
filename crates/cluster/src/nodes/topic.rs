//! `/names` and `/topics`: what exists, where it lies and who leads it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::NodeValue;
use super::name::{id_or_none, uuid_text};

/// Partitions of one topic at most.
pub const PARTITIONS_MAX: usize = 100_000;
/// Replicas of one partition at most.
pub const REPLICAS_MAX: usize = 64;

/// `/names/<topic>`: the topic of that name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameNode {
    /// Where the topic lies in `/topics`.
    #[serde(with = "uuid_text")]
    pub topic_id: Uuid,
}

impl NodeValue for NameNode {
    const VERSION: u32 = 1;
}

/// `/topics/<uuid>`: one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicNode {
    /// The name it has or had.
    pub name: String,
    /// Marked for deletion (R28): it has no name any more, brokers put its data aside, then the node
    /// goes.
    #[serde(default)]
    pub deleting: bool,
}

impl NodeValue for TopicNode {
    const VERSION: u32 = 1;
}

/// Where one partition is to be, and on its way to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Brokers, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Those of `replicas` that a reassignment adds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adding: Vec<i32>,
    /// Those of `replicas` that a reassignment removes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removing: Vec<i32>,
}

impl Assignment {
    /// Whether a reassignment is under way.
    pub fn is_moving(&self) -> bool {
        !(self.adding.is_empty() && self.removing.is_empty())
    }

    /// The replicas before the reassignment.
    pub fn origin(&self) -> Vec<i32> {
        self.replicas_without(&self.adding)
    }

    /// The replicas once it is done.
    pub fn target(&self) -> Vec<i32> {
        self.replicas_without(&self.removing)
    }

    /// The replication factor: while a reassignment changes it, the smaller one.
    pub fn factor(&self) -> usize {
        self.origin().len().min(self.target().len())
    }

    fn replicas_without(&self, others: &[i32]) -> Vec<i32> {
        self.replicas.iter().copied().filter(|id| !others.contains(id)).collect()
    }
}

/// `/topics/<uuid>/assign`: replicas of all partitions, by partition. Written by the controller only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignNode {
    /// By partition; a topic has as many partitions as there are entries.
    pub partitions: Vec<Assignment>,
}

impl NodeValue for AssignNode {
    const VERSION: u32 = 1;

    fn check(&self) -> Result<(), String> {
        if self.partitions.len() > PARTITIONS_MAX {
            return Err(format!("{} partitions are too many", self.partitions.len()));
        }
        for (index, Assignment { replicas, .. }) in self.partitions.iter().enumerate() {
            if replicas.is_empty() || replicas.len() > REPLICAS_MAX {
                return Err(format!("partition {index} has {} replicas", replicas.len()));
            }
        }
        Ok(())
    }
}

/// A replica in sync, with the registration that it was in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(i32, i64)", into = "(i32, i64)")]
pub struct Member {
    /// Broker.
    pub id: i32,
    /// Its broker epoch when it was added.
    pub epoch: i64,
}

impl From<(i32, i64)> for Member {
    fn from((id, epoch): (i32, i64)) -> Member {
        Member { id, epoch }
    }
}

impl From<Member> for (i32, i64) {
    fn from(member: Member) -> (i32, i64) {
        (member.id, member.epoch)
    }
}

/// What an acknowledgement of a partition means on each replica (R18c).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlushClass {
    /// In the page cache, as in Kafka.
    Os,
    /// Synced, but not yet everything that was confirmed before: counts as acked, judged as os.
    Syncing,
    /// On stable storage.
    Acked,
}

impl FlushClass {
    /// Whether only synced records count.
    pub fn counts_synced(self) -> bool {
        self != FlushClass::Os
    }
}

/// `/topics/<uuid>/p/<n>`: the state of one partition, changed by compare-and-set only (R18).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionNode {
    /// Who leads, if anybody does.
    #[serde(with = "id_or_none")]
    pub leader: Option<i32>,
    /// Grows with every change of the leader or its incarnation.
    pub leader_epoch: i32,
    /// Grows with every change of this node.
    pub partition_epoch: i32,
    /// Replicas in sync; never empty.
    pub isr: Vec<Member>,
    /// Replicas out of sync that hold everything committed all the same (KIP-966).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elr: Vec<Member>,
    /// Replicas whose log directory an I/O error took offline, each with the registration that it
    /// happened in (R23): they do not lead while that registration lasts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offline: Vec<Member>,
    /// The effective `min.insync.replicas` (R22).
    pub min_isr: i32,
    /// What an acknowledgement means.
    pub flush: FlushClass,
    /// Leader epoch of the last unclean election; -1: there was none.
    #[serde(default = "no_epoch")]
    pub unclean_epoch: i32,
    /// The controller that wrote the leader.
    pub controller_epoch: i32,
    /// Tells this write from every other (R27).
    #[serde(default)]
    pub nonce: u64,
}

fn no_epoch() -> i32 {
    -1
}

impl PartitionNode {
    /// The broker's entry in the ISR.
    pub fn isr_member(&self, id: i32) -> Option<Member> {
        self.isr.iter().copied().find(|member| member.id == id)
    }

    /// The leader with the registration that it was elected in.
    pub fn leader_member(&self) -> Option<Member> {
        self.isr_member(self.leader?)
    }

    /// Whether a broker that has applied a state with partition epoch `applied` of the same topic id
    /// applies this one (R13).
    pub fn supersedes(&self, applied: i32) -> bool {
        self.partition_epoch > applied
    }
}

impl NodeValue for PartitionNode {
    const VERSION: u32 = 1;

    fn check(&self) -> Result<(), String> {
        if self.isr.is_empty() || self.isr.len() + self.elr.len() > REPLICAS_MAX {
            let (isr, elr) = (self.isr.len(), self.elr.len());
            return Err(format!("{isr} replicas in sync and {elr} eligible ones cannot be"));
        }
        if self.offline.len() > REPLICAS_MAX {
            return Err(format!("{} offline replicas are too many", self.offline.len()));
        }
        let ids: BTreeSet<i32> = self.isr.iter().chain(&self.elr).map(|m| m.id).collect();
        if ids.len() != self.isr.len() + self.elr.len() {
            return Err("a replica is listed twice".to_owned());
        }
        if self.leader.is_some() && self.leader_member().is_none() {
            return Err("the leader is not in sync".to_owned());
        }
        if self.leader_epoch < 0 || self.partition_epoch < 0 || self.min_isr < 1 {
            return Err("an epoch or min_isr is negative".to_owned());
        }
        Ok(())
    }
}
