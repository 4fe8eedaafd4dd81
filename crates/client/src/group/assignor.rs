//! Who gets which partitions: decided by one member for all.

use std::collections::BTreeMap;

use crate::metadata::TopicPartition;

/// A member and the topics that it wants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberTopics {
    /// The member's id, given by the coordinator.
    pub member_id: String,
    /// What the member calls itself across restarts.
    pub instance_id: Option<String>,
    /// Which topics it wants.
    pub topics: Vec<String>,
}

/// A rule for sharing partitions out. All members of a group must know the rule that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Topic by topic: consecutive partitions to each member, one more to the first ones where it
    /// does not come out even.
    Range,
    /// All partitions of all topics in turn.
    RoundRobin,
}

impl Assignor {
    /// The name by which members agree on it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Range, Self::RoundRobin].into_iter().find(|assignor| assignor.name() == name)
    }

    /// Shares out the partitions of `partitions` (their number by topic). Members without any are
    /// in the result with none.
    pub fn assign(
        self,
        members: &[MemberTopics],
        partitions: &BTreeMap<String, i32>,
    ) -> BTreeMap<String, Vec<TopicPartition>> {
        let mut members: Vec<_> = members.iter().collect();
        members.sort_by_key(|member| order(member));
        let mut assignment: BTreeMap<_, Vec<_>> =
            members.iter().map(|member| (member.member_id.clone(), Vec::new())).collect();
        let mut give = |member: &MemberTopics, partition: TopicPartition| {
            assignment.entry(member.member_id.clone()).or_default().push(partition);
        };
        match self {
            Self::Range => range(&members, partitions, &mut give),
            Self::RoundRobin => round_robin(&members, partitions, &mut give),
        }
        assignment
    }
}

/// Members that keep their name over restarts come first, by it, so that they keep their
/// partitions too; then the others by id. As in Kafka.
fn order(member: &MemberTopics) -> (bool, String) {
    match &member.instance_id {
        Some(instance_id) => (false, instance_id.clone()),
        None => (true, member.member_id.clone()),
    }
}

fn range(
    members: &[&MemberTopics],
    partitions: &BTreeMap<String, i32>,
    give: &mut impl FnMut(&MemberTopics, TopicPartition),
) {
    for (topic, count) in partitions {
        let takers: Vec<_> =
            members.iter().filter(|member| member.topics.contains(topic)).collect();
        let Ok(taker_count) = i32::try_from(takers.len()) else { continue };
        if taker_count == 0 {
            continue;
        }
        let (share, extra) = (count / taker_count, count % taker_count);
        let mut next = 0;
        for (nth, member) in (0..).zip(takers) {
            let end = next + share + i32::from(nth < extra);
            for partition in next..end {
                give(member, TopicPartition::new(topic, partition));
            }
            next = end;
        }
    }
}

fn round_robin(
    members: &[&MemberTopics],
    partitions: &BTreeMap<String, i32>,
    give: &mut impl FnMut(&MemberTopics, TopicPartition),
) {
    let mut turn = members.iter().cycle();
    for (topic, count) in partitions {
        if !members.iter().any(|member| member.topics.contains(topic)) {
            continue;
        }
        for partition in 0..*count {
            let member = turn
                .find(|member| member.topics.contains(topic))
                .expect("an endless cycle meets the member that wants the topic");
            give(member, TopicPartition::new(topic, partition));
        }
    }
}
