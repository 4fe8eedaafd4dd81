//! The leader's own change of a partition's state: its ISR and ELR, and nothing else (R18).

use std::collections::BTreeSet;

use klamm_env::rules::Rule;
use uuid::Uuid;

use crate::image::Image;
use crate::nodes::topic::Member;
use crate::nodes::{NodeKey, encode};
use crate::tree::Op;

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

/// The operations that make `isr` and `elr` those of the partition; `None` while the image does not
/// show what is expected, as it is behind or ahead.
///
/// The first operation changes the node: a conflict there says that the node has another version, and
/// a conflict elsewhere that it still had this one. The others check that the leader and everybody
/// whom it adds are registered as the image shows them, and that the replicas are the same.
pub fn isr_change(
    image: &Image,
    (topic, index): (Uuid, i32),
    expected: Expected,
    isr: &[Member],
    elr: &[Member],
    nonce: u64,
) -> Option<Vec<Op>> {
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
    let mut ops = vec![Op::set(NodeKey::Partition(topic.id, index).path(), encode(&next), version)];
    let checks = checks.into_iter().filter(|_| Rule::R18.holds());
    ops.extend(checks.map(|(path, version)| Op::check(path, version)));
    Some(ops)
}

/// How a member is listed: as it was when it joined. Written anew with every change, one that has
/// nothing to do with it would vouch for what an unsound restart has cost it.
fn listed(image: &Image, member: Member) -> Member {
    match image.broker_epoch(member.id) {
        Some(now) if !Rule::R18.holds() => Member { epoch: now.epoch, ..member },
        _ => member,
    }
}
