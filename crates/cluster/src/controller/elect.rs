//! The next state of one partition: exclusion (R3), election (R12), and what the settings ask for.

use klamm_env::rules::Rule;

use super::durability::{effective_min_isr, follow_settings, setting};
use crate::controller::{Context, Reason, UNCLEAN_CONFIG, Write};
use crate::image::{Image, Partition, Topic};
use crate::nodes::topic::{Assignment, FlushClass, Member, PartitionNode};
use crate::nodes::{NodeKey, encode};
use crate::tree::Op;

/// Who says whether a leader may be elected that may lack confirmed records.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unclean {
    /// The settings.
    AsSet,
    /// The operator, who has asked for it.
    Asked,
}

/// What a partition needs, or `None` when it is as it should be.
pub fn settle(
    image: &Image,
    topic: &Topic,
    now: Partition<'_>,
    context: &Context,
) -> Option<Write> {
    settle_from(image, topic, now, now.state.clone(), None, Unclean::AsSet, context)
}

/// The same with `next` in place of the state there is, which is changed for `reason`.
fn settle_from(
    image: &Image,
    topic: &Topic,
    now: Partition<'_>,
    mut next: PartitionNode,
    mut reason: Option<Reason>,
    unclean: Unclean,
    context: &Context,
) -> Option<Write> {
    if exclude_unsound(image, now.assignment, &mut next) {
        reason = Some(Reason::Exclusion);
    }
    if let Some(how) = elect(image, topic, now.assignment, &mut next, unclean, context) {
        reason = Some(how);
    }
    // After the election: lowering min_isr asks for a leader that knows all that was confirmed.
    if follow_settings(image, topic, now.assignment, &mut next, context) {
        reason = reason.or(Some(Reason::Settings));
    }
    let reason = reason?;
    next.offline = next.offline.iter().copied().filter(|m| is_current(image, *m)).collect();
    next.partition_epoch += 1;
    next.nonce = context.nonce;
    let is_new_epoch = next.leader_epoch != now.leader_epoch;
    if is_new_epoch {
        next.controller_epoch = context.controller_epoch;
    }
    let path = NodeKey::Partition(topic.id, now.index).path();
    let mut write = Write::new(reason, vec![Op::set(path, encode(&next), now.version)]);
    // Also where the leader stays: the epoch would go to a registration that is over.
    if let Some(leader) = next.leader_member().filter(|_| is_new_epoch) {
        check_registration(image, leader.id, &mut write);
    }
    if let Some(assign) = topic.assign() {
        write.checks.insert((NodeKey::Assign(topic.id).path(), assign.version));
    }
    Some(write)
}

/// What a partition becomes whose replica `member` is in an offline log directory (R23): the broker
/// leads it no more in this registration. `None` where that is known already.
pub(crate) fn take_offline(
    image: &Image,
    topic: &Topic,
    now: Partition<'_>,
    member: Member,
    context: &Context,
) -> Option<Write> {
    if now.offline.contains(&member) {
        return None;
    }
    let mut next = now.state.clone();
    next.offline.push(member);
    let reason = Some(Reason::Offline);
    let mut write = settle_from(image, topic, now, next, reason, Unclean::AsSet, context)?;
    check_registration(image, member.id, &mut write);
    Some(write)
}

/// The preferred replica as the leader in place of another: where it is in sync and sound,
/// registered, not about to stop, and has its disk.
pub(crate) fn prefer(
    image: &Image,
    topic: &Topic,
    now: Partition<'_>,
    context: &Context,
) -> Option<Write> {
    let preferred = *now.replicas().first()?;
    let listed = now.isr_member(preferred)?;
    if !is_sound(image, listed, now.flush) || !may_lead(image, preferred, now.state) {
        return None;
    }
    let mut next = now.state.clone();
    lead(image, &mut next, preferred);
    settle_from(image, topic, now, next, Some(Reason::Election), Unclean::AsSet, context)
}

/// A leader for a partition without one, on the operator's word even one that may lack confirmed
/// records. `None` where nobody is there.
pub(crate) fn elect_survivor(
    image: &Image,
    topic: &Topic,
    now: Partition<'_>,
    context: &Context,
) -> Option<Write> {
    let next = now.state.clone();
    let write = settle_from(image, topic, now, next, None, Unclean::Asked, context)?;
    matches!(write.reason, Reason::Election | Reason::UncleanElection).then_some(write)
}

/// What the state becomes when the partition lies on the replicas of `to` alone, if it changes.
/// Refused where that would take the last member in sync, or a leader that nobody can replace who
/// holds all that was confirmed.
pub(crate) fn settle_on(
    image: &Image,
    topic: &Topic,
    now: Partition<'_>,
    to: &Assignment,
    context: &Context,
) -> Result<Option<Write>, Stranded> {
    let mut next = now.state.clone();
    exclude_unsound(image, now.assignment, &mut next);
    let stays = |member: &Member| to.replicas.contains(&member.id);
    let in_sync = next.isr.len();
    next.isr.retain(stays);
    next.elr.retain(stays);
    next.offline.retain(stays);
    if next.isr.is_empty() {
        return Err(Stranded);
    }
    if next.leader_member().is_none() {
        next.leader = None;
    }
    let is_led = due(image, &next) != Some(Due::Needed) || candidate(image, to, &next).is_some();
    if next.isr.len() < in_sync && !is_led {
        return Err(Stranded);
    }
    let reason = (next != *now.state).then_some(Reason::Request);
    let moved = Partition { assignment: to, ..now };
    Ok(settle_from(image, topic, moved, next, reason, Unclean::AsSet, context))
}

/// A partition cannot lie where it is asked to.
pub(crate) struct Stranded;

/// Whether the broker's current registration is the member's.
fn is_current(image: &Image, member: Member) -> bool {
    image.broker(member.id).is_some_and(|broker| broker.broker_epoch == member.epoch)
}

/// The multi fails unless broker `id` is registered exactly as the image shows it.
pub(crate) fn check_registration(image: &Image, id: i32, write: &mut Write) {
    if let (Some(broker), Some(epoch)) = (image.broker(id), image.broker_epoch(id)) {
        write.checks.insert((NodeKey::Broker(id).path(), broker.version));
        write.checks.insert((NodeKey::BrokerEpoch(id).path(), epoch.version));
    }
}

/// Whether the broker still has all that it confirmed as this member.
pub(crate) fn is_sound(image: &Image, member: Member, flush: FlushClass) -> bool {
    image.broker_epoch(member.id).is_none_or(|epoch| member.epoch >= epoch.sound_since(flush))
}

/// Strikes off members whose restart was not sound; the last one in sync stays listed.
fn exclude_unsound(image: &Image, assignment: &Assignment, next: &mut PartitionNode) -> bool {
    let flush = next.flush;
    let sound = |member: &Member| is_sound(image, *member, flush);
    let before = (next.isr.len(), next.elr.len());
    next.elr.retain(sound);
    if next.isr.iter().any(sound) {
        next.isr.retain(sound);
    } else if next.isr.len() > 1 {
        let last = next.leader_member().unwrap_or_else(|| first_listed(assignment, &next.isr));
        next.isr = vec![last];
    }
    if next.leader.is_some_and(|leader| next.isr_member(leader).is_none()) {
        drop_leader(next);
    }
    before != (next.isr.len(), next.elr.len())
}

fn first_listed(assignment: &Assignment, members: &[Member]) -> Member {
    let position = |member: &&Member| {
        assignment.replicas.iter().position(|id| *id == member.id).unwrap_or(usize::MAX)
    };
    *members.iter().min_by_key(position).expect("an ISR is never empty")
}

/// Whoever follows an epoch without a leader is told that it is over.
fn drop_leader(next: &mut PartitionNode) {
    next.leader = None;
    next.leader_epoch += 1;
}

/// Elects where it is due. Returns how, or `None` when the leader stays.
fn elect(
    image: &Image,
    topic: &Topic,
    assignment: &Assignment,
    next: &mut PartitionNode,
    unclean: Unclean,
    context: &Context,
) -> Option<Reason> {
    let due = due(image, next)?;
    let winner = candidate(image, assignment, next);
    if let Some(winner) = winner {
        // With a leader at hand, the last unsound one need not stay listed.
        let flush = next.flush;
        next.isr.retain(|member| is_sound(image, *member, flush));
        lead(image, next, winner);
        return Some(Reason::Election);
    }
    if due == Due::Wished {
        return None;
    }
    if let Some(winner) = survivor(image, topic, assignment, next, unclean, context) {
        next.isr = vec![Member { id: winner, epoch: 0 }];
        next.elr.clear();
        lead(image, next, winner);
        next.unclean_epoch = next.leader_epoch;
        return Some(Reason::UncleanElection);
    }
    next.leader?;
    drop_leader(next);
    Some(Reason::Election)
}

#[derive(PartialEq, Eq)]
enum Due {
    /// The leader is gone, has lost its disk, or is another process than the one elected.
    Needed,
    /// The leader is about to stop: only if somebody else can lead.
    Wished,
}

fn due(image: &Image, state: &PartitionNode) -> Option<Due> {
    let elected = state.leader_member();
    let there = elected.filter(|leader| {
        image.broker(leader.id).is_some_and(|broker| broker.broker_epoch == leader.epoch)
    });
    let there = there.filter(|leader| !image.lost_its_disk(state, leader.id));
    let Some(leader) = there else { return Some(Due::Needed) };
    let epoch = image.broker_epoch(leader.id)?;
    epoch.shutting_down.then_some(Due::Wished)
}

/// Whether the broker takes up leadership at all. Its two nodes are read one after the other: where
/// they are of different registrations, an election would name one that is over, and the versions
/// that it checks would not tell.
fn is_available(image: &Image, id: i32) -> bool {
    let registered = image.broker(id).zip(image.broker_epoch(id));
    registered
        .is_some_and(|(broker, epoch)| broker.broker_epoch == epoch.epoch && !epoch.shutting_down)
}

/// Whether the broker may take up leadership of this partition.
fn may_lead(image: &Image, id: i32, state: &PartitionNode) -> bool {
    is_available(image, id) && !image.lost_its_disk(state, id)
}

/// The preferred one of those that hold all that was confirmed: in sync, else eligible.
fn candidate(image: &Image, assignment: &Assignment, state: &PartitionNode) -> Option<i32> {
    let fit = |members: &[Member]| {
        assignment.replicas.iter().copied().find(|id| {
            let listed = members.iter().find(|member| member.id == *id);
            let sound = |member: &Member| is_sound(image, *member, state.flush);
            listed.is_some_and(|member| sound(member) || !Rule::R12.holds())
                && may_lead(image, *id, state)
        })
    };
    fit(&state.isr).or_else(|| fit(&state.elr))
}

/// The best of those that are there, where it is allowed that confirmed records are lost. One that
/// misses a log directory of its last registration is elected only if the operator asks for it, and
/// then only if there is no other.
fn survivor(
    image: &Image,
    topic: &Topic,
    assignment: &Assignment,
    state: &PartitionNode,
    unclean: Unclean,
    context: &Context,
) -> Option<i32> {
    let allowed = setting(image, &topic.name, UNCLEAN_CONFIG)
        .map_or(context.defaults.unclean_election, |value| value.trim() == "true");
    if unclean == Unclean::AsSet && !allowed && assignment.replicas.len() > 1 {
        return None;
    }
    let listed = state.isr.iter().chain(&state.elr).map(|member| member.id);
    let in_order = listed.chain(assignment.replicas.iter().copied());
    let there: Vec<i32> = in_order.filter(|id| may_lead(image, *id, state)).collect();
    let whole = |id: &i32| image.broker(*id).is_some_and(|broker| !broker.log_dir_missing);
    let best = there.iter().copied().find(whole);
    best.or_else(|| there.first().copied().filter(|_| unclean == Unclean::Asked))
}

/// Makes `winner` the leader of the next epoch, in its current registration.
fn lead(image: &Image, next: &mut PartitionNode, winner: i32) {
    let epoch = image.broker(winner).expect("only registered brokers are elected").broker_epoch;
    next.elr.retain(|member| member.id != winner);
    match next.isr.iter_mut().find(|member| member.id == winner) {
        Some(member) => member.epoch = epoch,
        None => next.isr.push(Member { id: winner, epoch }),
    }
    next.leader = Some(winner);
    next.leader_epoch += 1;
}

/// The first state of a new partition: every replica that is there is in sync, the preferred one
/// leads. `None` while none of them is there.
pub(crate) fn first_state(
    image: &Image,
    topic: &str,
    assignment: &Assignment,
    flush: FlushClass,
    context: &Context,
) -> Option<PartitionNode> {
    let there = assignment.replicas.iter().copied().filter(|id| is_available(image, *id));
    let member = |id| Some(Member { id, epoch: image.broker(id)?.broker_epoch });
    let isr: Vec<Member> = there.filter_map(member).collect();
    Some(PartitionNode {
        leader: Some(isr.first()?.id),
        leader_epoch: 0,
        partition_epoch: 0,
        isr,
        elr: Vec::new(),
        offline: Vec::new(),
        min_isr: effective_min_isr(image, topic, assignment.factor(), context),
        flush,
        unclean_epoch: -1,
        controller_epoch: context.controller_epoch,
        nonce: context.nonce,
    })
}
