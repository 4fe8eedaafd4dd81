//! OffsetCommit, OffsetFetch, OffsetDelete.

use klamm_protocol::ApiKey;
use klamm_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use klamm_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use klamm_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use uuid::Uuid;

use super::groups::{ready, stable};
use super::{Behaviour, of};
use crate::case::{Case, Step};

pub(super) const ALL: &[Behaviour] = &[
    of(ApiKey::OffsetCommit, "without members", commit_simple),
    of(ApiKey::OffsetCommit, "by a member", commit_member),
    of(ApiKey::OffsetFetch, "found and not", fetch),
    of(ApiKey::OffsetFetch, "several groups", fetch_groups),
    of(ApiKey::OffsetDelete, "deleted and not", delete),
];

type Topic = (String, Uuid);

fn commit(
    version: i16,
    group: &str,
    (generation, member): (i32, &str),
    topic: &Topic,
    offsets: &[(i32, i64, i32, Option<&str>)],
) -> OffsetCommitRequest {
    let partitions =
        offsets.iter().map(|(partition, offset, epoch, metadata)| OffsetCommitRequestPartition {
            partition_index: *partition,
            committed_offset: *offset,
            committed_leader_epoch: *epoch,
            committed_metadata: metadata.map(str::to_owned),
        });
    OffsetCommitRequest {
        group_id: group.to_owned(),
        generation_id_or_member_epoch: generation,
        member_id: member.to_owned(),
        topics: vec![OffsetCommitRequestTopic {
            name: if version < 10 { topic.0.clone() } else { String::new() },
            topic_id: if version < 10 { Uuid::nil() } else { topic.1 },
            partitions: partitions.collect(),
        }],
        ..Default::default()
    }
}

const NOBODY: (i32, &str) = (-1, "");

/// Offsets in the form of each version; no topics means all.
fn fetched(version: i16, group: &str, topics: Option<&[(&Topic, &[i32])]>) -> OffsetFetchRequest {
    if version < 8 {
        return OffsetFetchRequest {
            group_id: group.to_owned(),
            topics: topics.map(|topics| {
                let each = topics.iter().map(|(topic, partitions)| OffsetFetchRequestTopic {
                    name: topic.0.clone(),
                    partition_indexes: partitions.to_vec(),
                });
                each.collect()
            }),
            ..Default::default()
        };
    }
    let each = |(topic, partitions): &(&Topic, &[i32])| OffsetFetchRequestTopics {
        name: if version < 10 { topic.0.clone() } else { String::new() },
        topic_id: if version < 10 { Uuid::nil() } else { topic.1 },
        partition_indexes: partitions.to_vec(),
    };
    OffsetFetchRequest {
        topics: None,
        groups: vec![OffsetFetchRequestGroup {
            group_id: group.to_owned(),
            topics: topics.map(|topics| topics.iter().map(each).collect()),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn commit_simple(case: &mut Case) -> Step {
    let version = case.version;
    let topic = case.topic("t", 3)?;
    let missing = (case.named("missing"), Uuid::from_u128(0xdef));
    let group = case.named("g");
    ready(case, &group)?;
    let plain = [(0, 5, -1, Some("note")), (1, 0, -1, None)];
    case.ask("plain", &commit(version, &group, NOBODY, &topic, &plain));
    case.ask("leader epoch", &commit(version, &group, NOBODY, &topic, &[(2, 9, 0, Some(""))]));
    case.ask_at(7, "seen", &fetched(7, &group, Some(&[(&topic, &[0, 1, 2])])));
    case.ask("unknown topic", &commit(version, &group, NOBODY, &missing, &plain));
    case.ask("unknown partition", &commit(version, &group, NOBODY, &topic, &[(9, 1, -1, None)]));
    case.ask("negative offset", &commit(version, &group, NOBODY, &topic, &[(0, -5, -1, None)]));
    let long = "m".repeat(4097);
    let too_long = [(0, 6, -1, Some(long.as_str())), (1, 6, -1, Some("ok"))];
    case.ask("long metadata", &commit(version, &group, NOBODY, &topic, &too_long));
    case.ask("empty group", &commit(version, "", NOBODY, &topic, &plain));
    case.ask("a member nobody knows", &commit(version, &group, (1, "m"), &topic, &plain));
    case.ask("a generation of nobody", &commit(version, &group, (3, ""), &topic, &plain));
    let fresh = case.named("fresh");
    ready(case, &fresh)?;
    case.ask("a generation of no group", &commit(version, &fresh, (3, "m"), &topic, &plain));
    let none =
        OffsetCommitRequest { topics: Vec::new(), ..commit(version, &group, NOBODY, &topic, &[]) };
    case.ask("nothing", &none);
    case.ask_at(7, "seen at last", &fetched(7, &group, Some(&[(&topic, &[0, 1, 2])])));
    Ok(())
}

fn commit_member(case: &mut Case) -> Step {
    let version = case.version;
    let topic = case.topic("t", 2)?;
    let group = case.named("g");
    let (member, generation) = stable(case, &group)?;
    let offsets = [(0, 7, -1, Some("mine"))];
    let good = commit(version, &group, (generation, &member), &topic, &offsets);
    case.ask("good", &good);
    case.ask(
        "old generation",
        &commit(version, &group, (generation - 1, &member), &topic, &offsets),
    );
    case.ask(
        "new generation",
        &commit(version, &group, (generation + 1, &member), &topic, &offsets),
    );
    case.ask("unknown member", &commit(version, &group, (generation, "x"), &topic, &offsets));
    case.ask("without a member", &commit(version, &group, NOBODY, &topic, &offsets));
    let mut named = good;
    named.group_instance_id = Some("nobody's".to_owned());
    case.ask("unknown instance", &named);
    case.ask_at(7, "seen", &fetched(7, &group, None));
    Ok(())
}

fn fetch(case: &mut Case) -> Step {
    let version = case.version;
    let topic = case.topic("t", 3)?;
    let missing = (case.named("missing"), Uuid::from_u128(0xdef));
    let group = case.named("g");
    ready(case, &group)?;
    let offsets = [(0, 5, 0, Some("note")), (1, 0, -1, None)];
    case.quietly(7, &commit(7, &group, NOBODY, &topic, &offsets))?;
    case.ask("committed", &fetched(version, &group, Some(&[(&topic, &[0, 1])])));
    case.ask("not committed", &fetched(version, &group, Some(&[(&topic, &[2])])));
    case.ask("all", &fetched(version, &group, None));
    case.ask("none", &fetched(version, &group, Some(&[])));
    case.ask("unknown partition", &fetched(version, &group, Some(&[(&topic, &[77])])));
    case.ask("unknown topic", &fetched(version, &group, Some(&[(&missing, &[0])])));
    let nobody = case.named("nobody");
    ready(case, &nobody)?;
    case.ask("unknown group", &fetched(version, &nobody, Some(&[(&topic, &[0])])));
    case.ask("all of an unknown group", &fetched(version, &nobody, None));
    case.ask("empty group", &fetched(version, "", Some(&[(&topic, &[0])])));
    let stable_only = OffsetFetchRequest {
        require_stable: true,
        ..fetched(version, &group, Some(&[(&topic, &[0])]))
    };
    case.ask("stable only", &stable_only);
    Ok(())
}

fn fetch_groups(case: &mut Case) -> Step {
    let version = case.version;
    if version < 8 {
        return Ok(());
    }
    let topic = case.topic("t", 1)?;
    let (a, b) = (case.named("a"), case.named("b"));
    ready(case, &a)?;
    ready(case, &b)?;
    case.quietly(7, &commit(7, &a, NOBODY, &topic, &[(0, 1, -1, None)]))?;
    case.quietly(7, &commit(7, &b, NOBODY, &topic, &[(0, 2, -1, None)]))?;
    let mut both = fetched(version, &a, Some(&[(&topic, &[0])]));
    both.groups.extend(fetched(version, &b, None).groups);
    both.groups.extend(fetched(version, "", None).groups);
    case.ask("three", &both);
    case.ask("none", &OffsetFetchRequest { topics: None, ..Default::default() });
    let mut strange = fetched(version, &a, Some(&[(&topic, &[0])]));
    strange.groups[0].member_id = Some("stranger".to_owned());
    strange.groups[0].member_epoch = 4;
    case.ask("by a member", &strange);
    Ok(())
}

fn delete(case: &mut Case) -> Step {
    let topic = case.topic("t", 3)?;
    let group = case.named("g");
    ready(case, &group)?;
    let offsets = [(0, 5, -1, None), (1, 6, -1, None)];
    case.quietly(7, &commit(7, &group, NOBODY, &topic, &offsets))?;
    let request = |group: &str, topic: &str, partitions: &[i32]| OffsetDeleteRequest {
        group_id: group.to_owned(),
        topics: vec![OffsetDeleteRequestTopic {
            name: topic.to_owned(),
            partitions: partitions
                .iter()
                .map(|partition| OffsetDeleteRequestPartition { partition_index: *partition })
                .collect(),
        }],
    };
    case.ask("one", &request(&group, &topic.0, &[0]));
    case.ask("again", &request(&group, &topic.0, &[0]));
    case.ask("unknown partition", &request(&group, &topic.0, &[44]));
    case.ask("unknown topic", &request(&group, &case.named("missing"), &[0]));
    case.ask_at(7, "seen", &fetched(7, &group, None));
    case.ask("unknown group", &request(&case.named("nobody"), &topic.0, &[0]));
    case.ask("empty group", &request("", &topic.0, &[0]));
    let busy = case.named("busy");
    stable(case, &busy)?;
    case.ask("group with members", &request(&busy, &topic.0, &[0]));
    Ok(())
}
