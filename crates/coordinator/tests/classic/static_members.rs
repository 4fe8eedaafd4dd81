//! KIP-345: members that keep their place over a restart.

use klamm_protocol::ErrorCode;

use crate::script::{As, Script};

fn restarted<'a>(name: &'a str, instance: &'a str) -> As<'a> {
    As { name, instance: Some(instance), ..As::default() }
}

#[test]
fn a_restarted_static_member_keeps_its_assignment_without_a_rebalance() {
    let mut script = Script::stable_static_pair();
    script.join(restarted("b again", "two"));
    script.expect(
        "log g generation 1 [one#1=0, two#3=1]
         b again <- join two#3 generation 1 leader one#1 []",
    );
    script.sync_as("b again", "two#3", Some("two"), 1, &[]);
    script.expect("b again <- sync 1");
    script.heartbeat("a", "one#1", Some("one"), 1);
    script.expect("a <- heartbeat NONE");
}

/// KIP-814: the leader is told that it leads, and not to assign.
#[test]
fn a_restarted_static_leader_skips_the_assignment() {
    let mut script = Script::stable_static_pair();
    script.join(restarted("a again", "one"));
    script.expect(
        "log g generation 1 [one#3=0, two#2=1]
         a again <- join one#3 generation 1 leader one#3 [one#3, two#2] skip",
    );
    script.sync_as("a again", "one#3", Some("one"), 1, &[]);
    script.expect("a again <- sync 0");
}

#[test]
fn a_restarted_static_leader_of_before_version_9_is_not_told_that_it_leads() {
    let mut script = Script::stable_static_pair();
    script.join(As { version: 8, ..restarted("a again", "one") });
    script.expect(
        "log g generation 1 [one#3=0, two#2=1]
         a again <- join one#3 generation 1 leader one#1 []",
    );
}

/// HAZARDS 76: the newer instance wins, the older one is fenced, in every request.
#[test]
fn hazard_76_the_older_instance_is_fenced() {
    let mut script = Script::stable_static_pair();
    script.join(restarted("b again", "two"));
    script.forget_trace();
    script.heartbeat("b", "two#2", Some("two"), 1);
    script.sync_as("b", "two#2", Some("two"), 1, &[]);
    script.commit_at("b", "two#2", Some("two"), 1, &[("t", 0, 5)]);
    script.join(As { member: "two#2", ..restarted("b", "two") });
    script.leave("b", &[("two#2", Some("two"))]);
    script.heartbeat("b again", "two#3", Some("two"), 1);
    script.expect(
        "b <- heartbeat FENCED_INSTANCE_ID
         b <- sync FENCED_INSTANCE_ID
         b <- commit FENCED_INSTANCE_ID
         b <- join FENCED_INSTANCE_ID two#2
         b <- leave NONE [FENCED_INSTANCE_ID]
         b again <- heartbeat NONE",
    );
}

#[test]
fn parked_requests_of_the_older_instance_are_fenced() {
    let mut script = Script::new();
    script.join(restarted("a", "one"));
    script.join(restarted("a again", "one"));
    script.expect(
        "log g generation 0 []
         a <- join FENCED_INSTANCE_ID one#1",
    );
    script.pass(3_000);
    script.expect("a again <- join one#2 generation 1 leader one#2 [one#2]");
}

#[test]
fn a_static_member_that_restarts_during_assignment_starts_a_rebalance() {
    let mut script = Script::new();
    script.join(restarted("a", "one"));
    script.join(restarted("b", "two"));
    script.pass(6_000);
    script.sync_as("b", "two#2", Some("two"), 1, &[]);
    script.forget_trace();
    script.join(restarted("b again", "two"));
    script.expect("b <- sync FENCED_INSTANCE_ID");
    assert_eq!(script.state(), "PreparingRebalance");
}

#[test]
fn only_the_session_removes_a_static_member_from_a_rebalance() {
    let mut script = Script::stable_static_pair();
    script.join(As { member: "one#1", ..restarted("a", "one") });
    for _ in 0..7 {
        script.pass(9_000);
        script.heartbeat("b", "two#2", Some("two"), 1);
    }
    script.forget_trace();
    // `b` heard of the rebalance but never joined it: it is still a member of generation 2.
    script.heartbeat("b", "two#2", Some("two"), 2);
    script.expect("b <- heartbeat NONE");
}

#[test]
fn an_administrator_removes_a_static_member_by_its_instance() {
    let mut script = Script::stable_static_pair();
    script.leave("admin", &[("", Some("two"))]);
    script.heartbeat("b", "two#2", Some("two"), 1);
    script.expect(
        "admin <- leave NONE [NONE]
         b <- heartbeat UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn a_replacement_that_could_not_be_recorded_leaves_the_old_member_in_place() {
    let mut script = Script::stable_static_pair();
    script.append_error = Some(ErrorCode::NotEnoughReplicas);
    script.join(restarted("a again", "one"));
    script.expect(
        "log g generation 1 [one#3=0, two#2=1]
         append fails: NOT_ENOUGH_REPLICAS
         a again <- join COORDINATOR_NOT_AVAILABLE",
    );
    script.append_error = None;
    script.heartbeat("a", "one#1", Some("one"), 1);
    script.expect("a <- heartbeat NONE");
    script.pass(9_000);
    script.heartbeat("b", "two#2", Some("two"), 1);
    script.pass(2_000);
    script.heartbeat("a", "one#1", Some("one"), 1);
    script.expect(
        "b <- heartbeat NONE
         a <- heartbeat UNKNOWN_MEMBER_ID",
    );
}
