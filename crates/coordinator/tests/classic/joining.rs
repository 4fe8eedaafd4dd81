//! From an empty group to a stable one.

use klamm_coordinator::GroupConfig;
use klamm_protocol::ErrorCode;

use crate::script::{As, Script};

#[test]
fn a_new_member_is_given_an_id_and_must_come_back_with_it() {
    let mut script = Script::new();
    script.join(As { name: "a", ..As::default() });
    script.expect(
        "log g generation 0 []
         a <- join MEMBER_ID_REQUIRED a#1",
    );
    script.join(As { name: "a", member: "a#1", ..As::default() });
    script.expect("");
    assert_eq!(script.state(), "PreparingRebalance");
    script.pass(3_000);
    script.expect("a <- join a#1 generation 1 leader a#1 [a#1]");
    script.sync("a", "a#1", 1, &[("a#1", "0,1")]);
    script.expect(
        "log g generation 1 [a#1=0,1]
         a <- sync 0,1",
    );
    assert_eq!(script.state(), "Stable");
    script.heartbeat("a", "a#1", None, 1);
    script.expect("a <- heartbeat NONE");
}

#[test]
fn members_before_version_4_join_at_once() {
    let mut script = Script::new();
    script.join(As { name: "a", version: 3, ..As::default() });
    script.expect("log g generation 0 []");
    script.pass(3_000);
    script.expect("a <- join a#1 generation 1 leader a#1 [a#1]");
}

#[test]
fn the_initial_delay_is_extended_for_every_newcomer_up_to_the_rebalance_timeout() {
    let mut script = Script::new();
    let rebalance_ms = 7_000;
    script.join(As { name: "a", version: 3, rebalance_ms, ..As::default() });
    script.pass(2_900);
    script.join(As { name: "b", version: 3, rebalance_ms, ..As::default() });
    script.pass(2_900);
    script.join(As { name: "c", version: 3, rebalance_ms, ..As::default() });
    script.expect("log g generation 0 []");
    script.pass(7_000 - 5_800 - 1);
    script.expect("");
    script.pass(1);
    script.expect(
        "a <- join a#1 generation 1 leader a#1 [a#1, b#2, c#3]
         b <- join b#2 generation 1 leader a#1 []
         c <- join c#3 generation 1 leader a#1 []",
    );
}

#[test]
fn only_the_leader_is_told_the_members_and_followers_wait_for_its_assignment() {
    let mut script = Script::new();
    script.join(As { name: "a", version: 3, ..As::default() });
    script.join(As { name: "b", version: 3, ..As::default() });
    script.pass(6_000);
    script.expect(
        "log g generation 0 []
         a <- join a#1 generation 1 leader a#1 [a#1, b#2]
         b <- join b#2 generation 1 leader a#1 []",
    );
    script.sync("b", "b#2", 1, &[]);
    script.expect("");
    script.sync("a", "a#1", 1, &[("a#1", "0"), ("b#2", "1")]);
    script.expect(
        "log g generation 1 [a#1=0, b#2=1]
         a <- sync 0
         b <- sync 1",
    );
}

#[test]
fn a_member_the_leader_forgot_gets_an_empty_assignment() {
    let mut script = Script::new();
    script.join(As { name: "a", version: 3, ..As::default() });
    script.join(As { name: "b", version: 3, ..As::default() });
    script.pass(6_000);
    script.forget_trace();
    script.sync("a", "a#1", 1, &[("a#1", "0")]);
    script.sync("b", "b#2", 1, &[]);
    script.expect(
        "log g generation 1 [a#1=0, b#2=]
         a <- sync 0
         b <- sync",
    );
}

#[test]
fn a_third_member_makes_the_others_rejoin() {
    let mut script = Script::stable_pair();
    script.join(As { name: "c", version: 3, ..As::default() });
    script.heartbeat("a", "a#1", None, 1);
    script.heartbeat("b", "b#2", None, 1);
    script.join(As { name: "a", member: "a#1", ..As::default() });
    script.expect(
        "a <- heartbeat REBALANCE_IN_PROGRESS
         b <- heartbeat REBALANCE_IN_PROGRESS",
    );
    script.join(As { name: "b", member: "b#2", ..As::default() });
    script.expect(
        "a <- join a#1 generation 2 leader a#1 [a#1, b#2, c#3]
         b <- join b#2 generation 2 leader a#1 []
         c <- join c#3 generation 2 leader a#1 []",
    );
}

#[test]
fn a_member_that_misses_the_rebalance_is_out_and_the_leader_replaced() {
    let mut script = Script::stable_pair();
    script.join(As {
        name: "b",
        member: "b#2",
        protocols: &[("range", b"other")],
        ..As::default()
    });
    for _ in 0..11 {
        script.pass(5_000);
        script.heartbeat("a", "a#1", None, 1);
    }
    script.forget_trace();
    script.pass(5_000);
    script.expect("b <- join b#2 generation 2 leader b#2 [b#2]");
    script.heartbeat("a", "a#1", None, 1);
    script.expect("a <- heartbeat UNKNOWN_MEMBER_ID");
}

#[test]
fn refusals_carry_kafkas_codes() {
    let mut script = Script::new();
    script.join(As { name: "short", session_ms: 5_999, ..As::default() });
    script.join(As { name: "long", session_ms: 1_800_001, ..As::default() });
    script.join(As { name: "unknown", member: "x#9", ..As::default() });
    script.expect(
        "short <- join INVALID_SESSION_TIMEOUT
         long <- join INVALID_SESSION_TIMEOUT
         unknown <- join UNKNOWN_MEMBER_ID x#9",
    );
    let mut script = Script::stable_pair();
    script.join(As { name: "type", protocol_type: "connect", ..As::default() });
    script.join(As { name: "protocol", protocols: &[("sticky", b"")], ..As::default() });
    script.join(As { name: "stranger", member: "x#9", ..As::default() });
    script.sync("stranger", "x#9", 1, &[]);
    script.sync("late", "a#1", 0, &[]);
    script.heartbeat("stranger", "x#9", None, 1);
    script.heartbeat("late", "a#1", None, 0);
    script.expect(
        "type <- join INCONSISTENT_GROUP_PROTOCOL
         protocol <- join INCONSISTENT_GROUP_PROTOCOL
         stranger <- join UNKNOWN_MEMBER_ID x#9
         stranger <- sync UNKNOWN_MEMBER_ID
         late <- sync ILLEGAL_GENERATION
         stranger <- heartbeat UNKNOWN_MEMBER_ID
         late <- heartbeat ILLEGAL_GENERATION",
    );
}

#[test]
fn the_protocol_most_members_prefer_is_chosen_among_those_all_offer() {
    let mut script = Script::new();
    let first: &[(&str, &[u8])] = &[("sticky", b""), ("range", b""), ("robin", b"")];
    let second: &[(&str, &[u8])] = &[("robin", b""), ("range", b"")];
    let third: &[(&str, &[u8])] = &[("robin", b""), ("range", b"")];
    script.join(As { name: "a", version: 3, protocols: first, ..As::default() });
    script.join(As { name: "b", version: 3, protocols: second, ..As::default() });
    script.join(As { name: "c", version: 3, protocols: third, ..As::default() });
    script.pass(6_000);
    script.sync("a", "a#1", 1, &[]);
    assert_eq!(script.groups.describe("g").unwrap().protocol, "robin");
}

#[test]
fn a_full_group_takes_nobody_else() {
    let mut script = Script::with(GroupConfig { max_size: 1, ..GroupConfig::default() });
    script.join(As { name: "a", version: 3, ..As::default() });
    script.join(As { name: "b", version: 3, ..As::default() });
    script.pass(3_000);
    script.join(As { name: "c", version: 3, ..As::default() });
    script.expect(
        "log g generation 0 []
         b <- join GROUP_MAX_SIZE_REACHED
         a <- join a#1 generation 1 leader a#1 [a#1]
         c <- join GROUP_MAX_SIZE_REACHED",
    );
}

#[test]
fn a_follower_whose_join_answer_was_lost_is_told_again_and_the_leader_starts_a_rebalance() {
    let mut script = Script::stable_pair();
    script.join(As { name: "b", member: "b#2", ..As::default() });
    script.expect("b <- join b#2 generation 1 leader a#1 []");
    script.join(As { name: "a", member: "a#1", ..As::default() });
    script.expect("");
    assert_eq!(script.state(), "PreparingRebalance");
}

#[test]
fn joining_again_while_parked_answers_the_older_request() {
    let mut script = Script::stable_pair();
    script.join(As { name: "a", member: "a#1", ..As::default() });
    script.join(As { name: "a again", member: "a#1", ..As::default() });
    script.expect("a <- join REBALANCE_IN_PROGRESS a#1");
    assert_eq!(script.parked(), ["a again"]);
}

#[test]
fn a_group_that_could_not_be_recorded_does_not_exist() {
    let mut script = Script::new();
    script.append_error = Some(ErrorCode::NotEnoughReplicas);
    script.join(As { name: "a", ..As::default() });
    script.join(As { name: "b", version: 3, ..As::default() });
    script.expect(
        "log g generation 0 []
         append fails: NOT_ENOUGH_REPLICAS
         a <- join COORDINATOR_NOT_AVAILABLE
         log g generation 0 []
         append fails: NOT_ENOUGH_REPLICAS
         b <- join COORDINATOR_NOT_AVAILABLE b#2",
    );
    assert_eq!(script.state(), "Dead");
    assert!(script.parked().is_empty());
}

/// HAZARDS 74: a generation whose record could not be written is seen by no member.
#[test]
fn hazard_74_an_assignment_that_could_not_be_recorded_reaches_nobody() {
    let mut script = Script::new();
    script.join(As { name: "a", version: 3, ..As::default() });
    script.join(As { name: "b", version: 3, ..As::default() });
    script.pass(6_000);
    script.sync("b", "b#2", 1, &[]);
    script.forget_trace();
    script.append_error = Some(ErrorCode::NotEnoughReplicas);
    script.sync("a", "a#1", 1, &[("a#1", "0"), ("b#2", "1")]);
    script.expect(
        "log g generation 1 [a#1=0, b#2=1]
         append fails: NOT_ENOUGH_REPLICAS
         a <- sync COORDINATOR_NOT_AVAILABLE
         b <- sync COORDINATOR_NOT_AVAILABLE",
    );
    assert_eq!(script.state(), "PreparingRebalance");
    script.heartbeat("b", "b#2", None, 1);
    script.expect("b <- heartbeat REBALANCE_IN_PROGRESS");
}

/// HAZARDS 75: within a generation every member gets what the leader gave it and nothing else, also
/// when it asks late or twice; the assignment of an older generation is not given out.
#[test]
fn hazard_75_a_member_owns_what_its_generations_leader_gave_it() {
    let mut script = Script::stable_pair();
    script.sync("b", "b#2", 1, &[("b#2", "0")]);
    script.expect("b <- sync 1");
    script.join(As { name: "c", version: 3, ..As::default() });
    script.sync("b", "b#2", 1, &[]);
    script.expect("b <- sync REBALANCE_IN_PROGRESS");
    script.join(As { name: "a", member: "a#1", ..As::default() });
    script.join(As { name: "b", member: "b#2", ..As::default() });
    script.forget_trace();
    script.sync("b", "b#2", 1, &[]);
    script.expect("b <- sync ILLEGAL_GENERATION");
}
