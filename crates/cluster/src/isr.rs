//! The leader's own change of a partition's state: its ISR and ELR, and nothing else (R18). Changes of
//! several partitions may go as one multi, each with all of its conditions (docs/decisions/0014).

use std::collections::BTreeSet;

use klamm_env::rules::Rule;
use uuid::Uuid;

use crate::image::Image;
use crate::nodes::topic::Member;
use crate::nodes::{NodeKey, encode};
use crate::tree::{MultiLimits, Op};

/// What a leader must know to be right for its change to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The leader, in its current registration.
    pub leader: Member,
    /// The epoch that it leads in.
    pub leader_epoch: i32,
    /// The version of the partition's node.
    pub version: i32,
}

/// A change of one partition that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrWrite {
    set: Op,
    /// Nodes that must be as they were when it was decided, with their versions.
    checks: BTreeSet<(String, i32)>,
}

/// The write that makes `isr` and `elr` those of the partition; `None` while the image does not show
/// what is expected, as it is behind or ahead. It checks that the leader and everybody whom it adds are
/// registered as the image shows them, and that the replicas are the same.
pub fn isr_change(
    image: &Image,
    (topic, index): (Uuid, i32),
    expected: Expected,
    isr: &[Member],
    elr: &[Member],
    nonce: u64,
) -> Option<IsrWrite> {
    let topic = image.topic_by_id(topic)?;
    let now = topic.partition(index)?;
    let Expected { leader, leader_epoch, version } = expected;
    let own = image.broker_epoch(leader.id)?;
    let as_expected = now.version == version
        && now.leader_epoch == leader_epoch
        && now.leader == Some(leader.id)
        && own.epoch == leader.epoch;
    if !as_expected {
        return None;
    }
    let mut next = now.state.clone();
    next.isr = isr.iter().map(|member| listed(image, *member)).collect();
    next.elr = elr.to_vec();
    next.partition_epoch += 1;
    next.nonce = nonce;
    let mut checks = BTreeSet::from([
        (NodeKey::BrokerEpoch(leader.id).path(), own.version),
        (NodeKey::Assign(topic.id).path(), topic.assign()?.version),
    ]);
    for added in isr.iter().filter(|member| !now.isr.contains(member)) {
        let (broker, epoch) = (image.broker(added.id)?, image.broker_epoch(added.id)?);
        let is_current = broker.broker_epoch == added.epoch && epoch.epoch == added.epoch;
        if !is_current && Rule::R18.holds() {
            return None;
        }
        checks.insert((NodeKey::Broker(added.id).path(), broker.version));
        checks.insert((NodeKey::BrokerEpoch(added.id).path(), epoch.version));
    }
    if !Rule::R18.holds() {
        checks.clear();
    }
    let set = Op::set(NodeKey::Partition(topic.id, index).path(), encode(&next), version);
    Some(IsrWrite { set, checks })
}

/// The operations that do all of `writes`, which were decided on one image, or nothing: first the
/// changes, in their order, then what they check, once.
///
/// Of one alone, a conflict at the first operation says that the node has another version, and a
/// conflict elsewhere that it still had this one. Of several, a conflict says nothing about the others.
pub fn together(writes: &[IsrWrite]) -> Vec<Op> {
    let checks: BTreeSet<&(String, i32)> = writes.iter().flat_map(|write| &write.checks).collect();
    let sets = writes.iter().map(|write| write.set.clone());
    sets.chain(checks.into_iter().map(|(path, version)| Op::check(path, *version))).collect()
}

/// How many of `writes`, from the first on, go as one multi within `limits`: at least one, where there
/// is any.
pub fn fitting(writes: &[IsrWrite], limits: MultiLimits) -> usize {
    let mut checks: BTreeSet<&(String, i32)> = BTreeSet::new();
    let (mut ops, mut bytes) = (0, 0);
    for (count, write) in writes.iter().enumerate() {
        let new: Vec<_> = write.checks.iter().filter(|check| !checks.contains(check)).collect();
        ops += 1 + new.len();
        bytes += write.set.bytes();
        bytes += new.iter().map(|(path, version)| Op::check(path, *version).bytes()).sum::<usize>();
        if count > 0 && (ops > limits.ops || bytes > limits.bytes) {
            return count;
        }
        checks.extend(new);
    }
    writes.len()
}

/// How a member is listed: as it was when it joined. Written anew with every change, one that has
/// nothing to do with it would vouch for what an unsound restart has cost it.
fn listed(image: &Image, member: Member) -> Member {
    match image.broker_epoch(member.id) {
        Some(now) if !Rule::R18.holds() => Member { epoch: now.epoch, ..member },
        _ => member,
    }
}
