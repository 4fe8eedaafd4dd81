//! Committed offsets.

use klamm_coordinator::{Commit, CommitOffset, GroupConfig, Ticket};
use klamm_protocol::ErrorCode;
use uuid::Uuid;

use crate::script::{As, GROUP, Script};

const DAY: u64 = 24 * 60 * 60 * 1_000;

/// A subscription to topic `t` in the consumer protocol.
const SUBSCRIBED_TO_T: &[u8] = b"\x00\x00\x00\x00\x00\x01\x00\x01t\xff\xff\xff\xff";

fn commit(offsets: Vec<CommitOffset>) -> Commit {
    Commit {
        ticket: Ticket(0),
        api_version: 8,
        group_id: GROUP.to_owned(),
        generation: -1,
        member_id: String::new(),
        group_instance_id: None,
        retention_ms: None,
        offsets,
    }
}

fn offset(topic: &str, topic_id: Uuid, metadata: Option<&str>) -> CommitOffset {
    CommitOffset {
        topic: topic.to_owned(),
        topic_id,
        partition: 0,
        offset: 5,
        leader_epoch: 3,
        metadata: metadata.map(str::to_owned),
    }
}

#[test]
fn a_consumer_without_a_group_commits_to_a_group_that_has_no_members() {
    let mut script = Script::new();
    script.commit("admin", "", -1, 5);
    script.expect(
        "log g t-0 at 5
         admin <- commit NONE",
    );
    assert_eq!(script.state(), "Empty");
    let committed = script.groups.committed(GROUP, "t", Uuid::nil(), 0).unwrap();
    assert_eq!(committed.leader_epoch, 7);
    assert_eq!(committed.metadata, "note");
}

#[test]
fn an_unknown_group_has_no_offsets_and_that_is_no_error() {
    let script = Script::new();
    assert_eq!(script.groups.committed("nobody", "t", Uuid::nil(), 0), None);
    assert_eq!(script.groups.all_committed("nobody").count(), 0);
}

#[test]
fn a_commit_with_a_generation_to_an_unknown_group() {
    let mut script = Script::new();
    script.commit("old client", "a#1", 1, 5);
    script.expect("old client <- commit ILLEGAL_GENERATION");
    let mut newer = commit(vec![offset("t", Uuid::nil(), None)]);
    newer.api_version = 9;
    newer.generation = 1;
    script.commit_request(newer);
    script.expect("admin <- commit GROUP_ID_NOT_FOUND");
}

/// HAZARDS 73: only the current generation commits; an older one never moves an offset back.
#[test]
fn hazard_73_a_commit_of_an_older_generation_is_refused() {
    let mut script = Script::stable_pair();
    script.commit("a", "a#1", 1, 10);
    script.join(As { name: "c", version: 3, ..As::default() });
    // The old generation still commits while the next one is being joined.
    script.commit("a", "a#1", 1, 20);
    script.join(As { name: "a", member: "a#1", ..As::default() });
    script.join(As { name: "b", member: "b#2", ..As::default() });
    script.forget_trace();
    script.commit("a", "a#1", 1, 15);
    script.commit("a", "a#1", 2, 15);
    script.commit("zombie", "x#9", 2, 15);
    script.commit("nobody", "", -1, 15);
    script.commit("a", "a#1", -1, 15);
    script.expect(
        "a <- commit ILLEGAL_GENERATION
         a <- commit REBALANCE_IN_PROGRESS
         zombie <- commit UNKNOWN_MEMBER_ID
         nobody <- commit UNKNOWN_MEMBER_ID
         a <- commit ILLEGAL_GENERATION",
    );
    assert_eq!(script.committed("t", 0), Some(20));
}

#[test]
fn metadata_that_is_too_long_fails_its_partition_alone() {
    let mut script = Script::new();
    let long = "x".repeat(4_097);
    let fits = "\u{1F600}".repeat(2_048);
    script.commit_request(commit(vec![
        offset("long", Uuid::nil(), Some(&long)),
        offset("fits", Uuid::nil(), Some(&fits)),
        offset("none", Uuid::nil(), None),
    ]));
    script.expect(
        "log g fits-0 at 5
         log g none-0 at 5
         admin <- commit OFFSET_METADATA_TOO_LARGE NONE NONE",
    );
}

#[test]
fn offsets_of_an_earlier_topic_of_that_name_do_not_show() {
    let mut script = Script::new();
    let (old, new) = (Uuid::from_u128(1), Uuid::from_u128(2));
    script.commit_request(commit(vec![offset("t", old, None)]));
    assert!(script.groups.committed(GROUP, "t", old, 0).is_some());
    assert!(script.groups.committed(GROUP, "t", Uuid::nil(), 0).is_some());
    assert!(script.groups.committed(GROUP, "t", new, 0).is_none());
}

/// HAZARDS 77: the offsets of a deleted topic go, those of its namesake and of others stay.
#[test]
fn hazard_77_a_deleted_topics_offsets_go_with_its_id() {
    let mut script =
        Script::with(GroupConfig { max_tombstone_batch_bytes: 1, ..GroupConfig::default() });
    let (old, new) = (Uuid::from_u128(1), Uuid::from_u128(2));
    script.commit_request(commit(vec![
        offset("t", new, None),
        CommitOffset { partition: 1, ..offset("t", old, None) },
        CommitOffset { partition: 2, ..offset("t", Uuid::nil(), None) },
        offset("u", old, None),
    ]));
    script.forget_trace();
    script.forget_topic("t", old);
    script.expect(
        "log g t-1 tombstone
         log g t-2 tombstone",
    );
    assert_eq!(script.committed("t", 0), Some(5));
    assert_eq!(script.committed("u", 0), Some(5));
}

#[test]
fn offsets_are_deleted_unless_the_group_reads_the_topic() {
    let mut script = Script::new();
    script.delete_offsets("admin", &[("t", 0)]);
    script.expect("admin <- offset delete failed GROUP_ID_NOT_FOUND");
    let protocols: &[(&str, &[u8])] = &[("range", SUBSCRIBED_TO_T)];
    script.join(As { name: "a", version: 3, protocols, ..As::default() });
    script.pass(3_000);
    script.sync("a", "a#1", 1, &[("a#1", "0")]);
    script.commit_at("a", "a#1", None, 1, &[("t", 0, 5), ("u", 0, 6)]);
    script.forget_trace();
    script.delete_offsets("admin", &[("t", 0), ("u", 0), ("u", 1)]);
    script.expect(
        "log g u-0 tombstone
         admin <- offset delete GROUP_SUBSCRIBED_TO_TOPIC NONE NONE",
    );
    assert_eq!(script.committed("t", 0), Some(5));
    assert_eq!(script.committed("u", 0), None);
}

#[test]
fn a_group_of_another_protocol_type_keeps_its_offsets_while_it_has_members() {
    let mut script = Script::new();
    script.join(As { name: "a", version: 3, protocol_type: "connect", ..As::default() });
    script.pass(3_000);
    script.forget_trace();
    script.delete_offsets("admin", &[("t", 0)]);
    script.expect("admin <- offset delete failed NON_EMPTY_GROUP");
}

#[test]
fn a_group_is_deleted_with_its_offsets_once_it_is_empty() {
    let mut script = Script::stable_pair();
    script.commit("a", "a#1", 1, 5);
    script.forget_trace();
    script.delete_group("admin");
    script.leave("admin", &[("a#1", None), ("b#2", None)]);
    script.delete_group("admin");
    script.delete_group("admin");
    script.expect(
        "admin <- delete NON_EMPTY_GROUP
         log g generation 2 []
         admin <- leave NONE [NONE, NONE]
         log g t-0 tombstone
         log g tombstone
         admin <- delete NONE
         admin <- delete GROUP_ID_NOT_FOUND",
    );
    assert_eq!(script.state(), "Dead");
}

/// HAZARDS 72: a group with members, rebalancing or not, and a group just loaded lose nothing.
#[test]
fn hazard_72_only_a_group_empty_for_all_of_the_retention_loses_offsets() {
    let mut script = Script::stable_pair();
    script.commit("a", "a#1", 1, 5);
    for _ in 0..(8 * DAY / 9_000) {
        script.pass(9_000);
        script.heartbeat("a", "a#1", None, 1);
        script.heartbeat("b", "b#2", None, 1);
    }
    assert_eq!(script.committed("t", 0), Some(5), "stable for longer than the retention");
    script.leave("admin", &[("a#1", None), ("b#2", None)]);
    script.pass(6 * DAY);
    script.failover(GroupConfig::default());
    script.pass(DAY - 10_000);
    assert_eq!(script.committed("t", 0), Some(5), "empty, but not for long enough");
    script.pass(700_000);
    assert_eq!(script.committed("t", 0), None);
    assert_eq!(script.state(), "Dead");
}

#[test]
fn an_offset_reset_of_an_idle_group_starts_its_retention_anew() {
    let mut script = Script::stable_pair();
    script.commit("a", "a#1", 1, 5);
    script.leave("admin", &[("a#1", None), ("b#2", None)]);
    script.pass(6 * DAY);
    script.commit("admin", "", -1, 0);
    script.pass(2 * DAY);
    assert_eq!(script.committed("t", 0), Some(0));
}

#[test]
fn nothing_expires_while_the_broker_may_have_been_replaced() {
    let mut script = Script::new();
    let named =
        Commit { retention_ms: Some(1_000), ..commit(vec![offset("u", Uuid::nil(), None)]) };
    script.commit_request(named);
    script.groups.keep_offsets(true);
    script.pass(2 * 600_000);
    assert_eq!(script.committed("u", 0), Some(5));
    script.groups.keep_offsets(false);
    script.pass(600_000);
    assert_eq!(script.committed("u", 0), None);
}

#[test]
fn a_commit_that_names_its_retention_expires_by_it() {
    let mut script = Script::new();
    script.commit("admin", "", -1, 5);
    let named =
        Commit { retention_ms: Some(1_000), ..commit(vec![offset("u", Uuid::nil(), None)]) };
    script.commit_request(named);
    script.pass(600_000);
    assert_eq!(script.committed("u", 0), None);
    assert_eq!(script.committed("t", 0), Some(5));
}

#[test]
fn a_log_that_refuses_tombstones_is_not_asked_again_at_once() {
    let mut script =
        Script::with(GroupConfig { max_tombstone_batch_bytes: 1, ..GroupConfig::default() });
    script.commit_at("admin", "", None, -1, &[("t", 0, 5), ("t", 1, 5)]);
    script.forget_trace();
    script.append_error = Some(ErrorCode::NotEnoughReplicas);
    script.pass(7 * DAY + 300_000);
    script.expect(
        "log g t-0 tombstone
         append fails: NOT_ENOUGH_REPLICAS",
    );
    script.append_error = None;
    script.pass(700_000);
    script.expect(
        "log g t-0 tombstone
         log g t-1 tombstone
         log g tombstone",
    );
}
