//! Committed offsets that are kept elsewhere than in the log.

use klamm_coordinator::{
    Answer, Commit, CommitOffset, DurableGroup, GroupConfig, Groups, Now, Proposal, Record, Ticket,
    Time,
};
use klamm_protocol::ErrorCode;
use uuid::Uuid;

const GROUP: &str = "g";

fn at(ms: u64) -> Now {
    Now { at: Time(ms), wall_ms: i64::try_from(ms).expect("small") }
}

fn commit(groups: &mut Groups, partition: i32) -> Proposal {
    let offset = CommitOffset {
        topic: "t".into(),
        topic_id: Uuid::nil(),
        partition,
        offset: 5,
        leader_epoch: -1,
        metadata: None,
    };
    let commit = Commit {
        ticket: Ticket(1),
        api_version: 8,
        group_id: GROUP.into(),
        generation: -1,
        member_id: String::new(),
        group_instance_id: None,
        retention_ms: None,
        offsets: vec![offset],
    };
    groups.commit(at(0), commit)
}

/// As a shell does once the offsets are where they belong.
fn take_effect(groups: &mut Groups, offsets: Vec<Record>, rest: Proposal) -> Vec<Answer> {
    offsets.into_iter().for_each(|record| groups.apply(record));
    groups.accept(at(0), rest).into_iter().map(|reply| reply.answer).collect()
}

fn committed(groups: &Groups) -> usize {
    let offsets = |group: &DurableGroup| group.offsets.values().map(|topic| topic.len()).sum();
    groups.durable().get(GROUP).map_or(0, offsets)
}

#[test]
fn an_offset_takes_effect_when_it_is_where_it_belongs() {
    let mut groups = Groups::new(GroupConfig::default());
    let mut first = commit(&mut groups, 0);
    let offsets = first.take_offsets();
    assert_eq!((offsets.len(), first.records().len()), (1, 0));
    // Others come in between.
    let mut second = commit(&mut groups, 1);
    let others = second.take_offsets();
    assert_eq!(committed(&groups), 0);
    let done = [Answer::Commit(vec![ErrorCode::None])];
    assert_eq!(take_effect(&mut groups, offsets, first), done);
    assert_eq!(committed(&groups), 1);
    assert_eq!(take_effect(&mut groups, others, second), done);
    assert_eq!(committed(&groups), 2);
}

#[test]
fn a_group_goes_after_its_offsets() {
    let mut groups = Groups::new(GroupConfig::default());
    let mut made = commit(&mut groups, 0);
    let offsets = made.take_offsets();
    take_effect(&mut groups, offsets, made);
    let mut deletion = groups.delete_group(Ticket(2), GROUP);
    let offsets = deletion.take_offsets();
    assert_eq!((offsets.len(), deletion.records()), (1, [].as_slice()));
    take_effect(&mut groups, offsets, deletion);
    assert_eq!(committed(&groups), 0);
    let mut deletion = groups.delete_group(Ticket(3), GROUP);
    assert_eq!(deletion.take_offsets(), []);
    assert_eq!(deletion.records(), [Record::Group { group: GROUP.into(), image: None }]);
    take_effect(&mut groups, Vec::new(), deletion);
    assert_eq!(groups.durable().len(), 0);
}
