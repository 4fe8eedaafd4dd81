//! How members go: by leaving, by silence, by not syncing.

use klamm_coordinator::GroupConfig;

use crate::script::{As, Script};

#[test]
fn leaving_makes_the_others_rebalance_and_the_last_one_empties_the_group() {
    let mut script = Script::stable_pair();
    script.leave("a", &[("a#1", None)]);
    script.heartbeat("b", "b#2", None, 1);
    script.expect(
        "a <- leave NONE [NONE]
         b <- heartbeat REBALANCE_IN_PROGRESS",
    );
    script.join(As { name: "b", member: "b#2", ..As::default() });
    script.expect("b <- join b#2 generation 2 leader b#2 [b#2]");
    script.leave("b", &[("b#2", None)]);
    script.expect(
        "log g generation 3 []
         b <- leave NONE [NONE]",
    );
    assert_eq!(script.state(), "Empty");
}

#[test]
fn leaving_in_a_batch_answers_for_each_member() {
    let mut script = Script::stable_pair();
    script.leave("admin", &[("a#1", None), ("x#9", None), ("", Some("nobody")), ("b#2", None)]);
    script.expect(
        "log g generation 2 []
         admin <- leave NONE [NONE, UNKNOWN_MEMBER_ID, UNKNOWN_MEMBER_ID, NONE]",
    );
}

#[test]
fn leaving_a_group_that_is_not_there() {
    let mut script = Script::new();
    script.leave("a", &[("a#1", None)]);
    script.expect("a <- leave NONE [UNKNOWN_MEMBER_ID]");
}

#[test]
fn leaving_answers_the_leavers_parked_requests() {
    let mut script = Script::new();
    script.join(As { name: "a", version: 3, ..As::default() });
    script.join(As { name: "b", version: 3, ..As::default() });
    script.pass(6_000);
    script.sync("b", "b#2", 1, &[]);
    script.forget_trace();
    script.leave("b leaves", &[("b#2", None)]);
    script.expect(
        "b <- sync UNKNOWN_MEMBER_ID
         b leaves <- leave NONE [NONE]",
    );
}

#[test]
fn a_silent_member_is_removed_after_its_session() {
    let mut script = Script::stable_pair();
    script.pass(9_000);
    script.heartbeat("a", "a#1", None, 1);
    script.pass(2_000);
    script.heartbeat("a", "a#1", None, 1);
    script.heartbeat("b", "b#2", None, 1);
    script.expect(
        "a <- heartbeat NONE
         a <- heartbeat REBALANCE_IN_PROGRESS
         b <- heartbeat UNKNOWN_MEMBER_ID",
    );
    script.join(As { name: "a", member: "a#1", ..As::default() });
    script.expect("a <- join a#1 generation 2 leader a#1 [a#1]");
}

#[test]
fn when_all_are_silent_the_group_becomes_empty() {
    let mut script = Script::stable_pair();
    script.pass(100_000);
    script.expect("log g generation 2 []");
    assert_eq!(script.state(), "Empty");
}

#[test]
fn a_commit_is_a_sign_of_life() {
    let mut script = Script::stable_pair();
    for _ in 0..3 {
        script.pass(9_000);
        script.commit("a", "a#1", 1, 1);
        script.commit("b", "b#2", 1, 1);
    }
    assert_eq!(script.state(), "Stable");
}

#[test]
fn a_parked_join_stands_for_heartbeats() {
    let mut script = Script::stable_pair();
    script.join(As { name: "a", member: "a#1", ..As::default() });
    for _ in 0..5 {
        script.pass(9_000);
        script.heartbeat("b", "b#2", None, 1);
    }
    script.forget_trace();
    script.join(As { name: "b", member: "b#2", ..As::default() });
    script.expect(
        "a <- join a#1 generation 2 leader a#1 [a#1, b#2]
         b <- join b#2 generation 2 leader a#1 []",
    );
}

#[test]
fn members_that_do_not_sync_in_time_are_out() {
    let mut script = Script::new();
    let rebalance_ms = 8_000;
    script.join(As { name: "a", version: 3, rebalance_ms, ..As::default() });
    script.join(As { name: "b", version: 3, rebalance_ms, ..As::default() });
    script.pass(6_000);
    script.sync("a", "a#1", 1, &[("a#1", "0"), ("b#2", "1")]);
    script.forget_trace();
    script.pass(5_000);
    script.heartbeat("b", "b#2", None, 1);
    script.heartbeat("a", "a#1", None, 1);
    script.pass(3_000);
    script.heartbeat("a", "a#1", None, 1);
    script.heartbeat("b", "b#2", None, 1);
    script.expect(
        "b <- heartbeat NONE
         a <- heartbeat NONE
         a <- heartbeat REBALANCE_IN_PROGRESS
         b <- heartbeat UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn a_rebalance_during_assignment_sends_the_waiting_back_to_join() {
    let mut script = Script::new();
    script.join(As { name: "a", version: 3, ..As::default() });
    script.join(As { name: "b", version: 3, ..As::default() });
    script.pass(6_000);
    script.sync("b", "b#2", 1, &[]);
    script.forget_trace();
    script.join(As { name: "c", version: 3, ..As::default() });
    script.expect("b <- sync REBALANCE_IN_PROGRESS");
}

#[test]
fn a_pending_member_that_never_comes_back_does_not_hold_up_the_group() {
    let mut script = Script::stable_pair();
    script.join(As { name: "c", ..As::default() });
    script.expect("c <- join MEMBER_ID_REQUIRED c#3");
    script.join(As { name: "a", member: "a#1", ..As::default() });
    script.join(As { name: "b", member: "b#2", ..As::default() });
    script.expect("");
    script.pass(10_000);
    script.expect(
        "a <- join a#1 generation 2 leader a#1 [a#1, b#2]
         b <- join b#2 generation 2 leader a#1 []",
    );
    script.join(As { name: "c", member: "c#3", ..As::default() });
    script.expect("c <- join UNKNOWN_MEMBER_ID c#3");
}

#[test]
fn a_zero_rebalance_timeout_does_not_spin() {
    let mut script = Script::new();
    script.join(As { name: "a", version: 3, rebalance_ms: 0, ..As::default() });
    script.pass(3_001);
    script.join(As { name: "b", version: 3, rebalance_ms: 0, ..As::default() });
    script.pass(30_000);
    assert_eq!(script.parked(), Vec::<&str>::new());
}

#[test]
fn a_newcomer_whose_join_waits_too_long_is_given_up() {
    let mut script = Script::new();
    let rebalance_ms = 600_000;
    script.join(As { name: "a", version: 3, rebalance_ms, ..As::default() });
    script.pass(3_000);
    script.sync("a", "a#1", 1, &[("a#1", "0")]);
    script.join(As { name: "b", version: 3, rebalance_ms, ..As::default() });
    script.forget_trace();
    for _ in 0..40 {
        script.pass(7_500);
        script.heartbeat("a", "a#1", None, 1);
    }
    assert_eq!(script.parked(), Vec::<&str>::new());
    script.forget_trace();
    script.join(As { name: "a", member: "a#1", rebalance_ms, ..As::default() });
    script.expect("a <- join a#1 generation 2 leader a#1 [a#1]");
}

#[test]
fn an_initial_delay_that_ended_early_does_not_stretch_the_next_rebalance() {
    let config = GroupConfig { initial_rebalance_delay_ms: 20_000, ..GroupConfig::default() };
    let mut script = Script::with(config);
    let session_ms = 100_000;
    script.join(As { name: "a", version: 3, session_ms, ..As::default() });
    script.join(As { name: "b", version: 3, session_ms, ..As::default() });
    script.join(As { name: "c", ..As::default() });
    script.forget_trace();
    script.pass(10_000);
    script.expect(
        "a <- join a#1 generation 1 leader a#1 [a#1, b#2]
         b <- join b#2 generation 1 leader a#1 []",
    );
    script.sync("a", "a#1", 1, &[]);
    script.sync("b", "b#2", 1, &[]);
    script.join(As { name: "a", member: "a#1", session_ms, ..As::default() });
    script.forget_trace();
    script.pass(60_000);
    script.expect("a <- join a#1 generation 2 leader a#1 [a#1]");
}
