use std::collections::BTreeMap;

use bytes::Bytes;

use super::assignor::{Assignor, MemberTopics};
use super::protocol::{decode_assignment, decode_topics, encode_assignment, encode_subscription};
use crate::metadata::TopicPartition;

fn member(id: &str, topics: &[&str]) -> MemberTopics {
    MemberTopics {
        member_id: id.to_owned(),
        instance_id: None,
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
    }
}

fn counts(counts: &[(&str, i32)]) -> BTreeMap<String, i32> {
    counts.iter().map(|(topic, count)| ((*topic).to_owned(), *count)).collect()
}

fn assigned(
    assignor: Assignor,
    members: &[MemberTopics],
    partitions: &[(&str, i32)],
) -> BTreeMap<String, String> {
    let assignment = assignor.assign(members, &counts(partitions));
    let show = |partitions: Vec<TopicPartition>| {
        partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assignment.into_iter().map(|(member, partitions)| (member, show(partitions))).collect()
}

fn expected(expected: &[(&str, &str)]) -> BTreeMap<String, String> {
    expected.iter().map(|(id, partitions)| ((*id).to_owned(), (*partitions).to_owned())).collect()
}

#[test]
fn range_gives_consecutive_partitions_topic_by_topic() {
    let members = [member("b", &["x", "y"]), member("a", &["x", "y"])];
    assert_eq!(
        assigned(Assignor::Range, &members, &[("x", 3), ("y", 3)]),
        expected(&[("a", "x-0 x-1 y-0 y-1"), ("b", "x-2 y-2")]),
    );
}

#[test]
fn round_robin_gives_in_turn_to_those_who_want_the_topic() {
    let members = [member("a", &["x"]), member("b", &["x", "y"]), member("c", &["y"])];
    assert_eq!(
        assigned(Assignor::RoundRobin, &members, &[("x", 3), ("y", 2), ("z", 9)]),
        expected(&[("a", "x-0 x-2"), ("b", "x-1 y-0"), ("c", "y-1")]),
    );
}

#[test]
fn members_beyond_the_partitions_get_none() {
    let members = [member("a", &["x"]), member("b", &["x"])];
    for assignor in [Assignor::Range, Assignor::RoundRobin] {
        assert_eq!(assigned(assignor, &members, &[("x", 1)]), expected(&[("a", "x-0"), ("b", "")]),);
    }
}

#[test]
fn named_members_come_first_by_their_names() {
    let mut named = member("z", &["x"]);
    named.instance_id = Some("one".to_owned());
    let members = [member("a", &["x"]), named];
    assert_eq!(
        assigned(Assignor::Range, &members, &[("x", 1)]),
        expected(&[("a", ""), ("z", "x-0")]),
    );
}

#[test]
fn subscriptions_and_assignments_come_back() {
    let topics = ["x".to_owned(), "y".to_owned()];
    assert_eq!(decode_topics(encode_subscription(&topics)), Ok(topics.to_vec()));
    let partitions = [TopicPartition::new("x", 0), TopicPartition::new("y", 7)];
    assert_eq!(decode_assignment(encode_assignment(&partitions)), Ok(partitions.to_vec()));
    assert_eq!(decode_assignment(Bytes::new()), Ok(Vec::new()));
    assert!(decode_assignment(Bytes::from_static(&[0, 0, 0x7f, 0xff, 0xff, 0xff])).is_err());
}

#[test]
fn a_subscription_of_a_later_version_is_read_as_far_as_it_is_known() {
    let mut later = encode_subscription(&["x".to_owned()]).to_vec();
    later[1] = 9;
    // Owned partitions, generation and rack as in version 3, then something unknown.
    later.extend([0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 42]);
    assert_eq!(decode_topics(later.into()), Ok(vec!["x".to_owned()]));
}
