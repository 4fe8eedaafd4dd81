use super::*;

const LAG: Duration = Duration::from_secs(30);

fn at(seconds: u64) -> LagLimit {
    LagLimit { now: Duration::from_secs(seconds), max: LAG }
}

fn members(ids: &[i32]) -> Vec<Member> {
    ids.iter().map(|id| Member { id: *id, epoch: 10 }).collect()
}

fn leads(isr: &[i32], min_isr: usize) -> Progress {
    let committed =
        Committed { version: 5, partition_epoch: 5, isr: members(isr), elr: Vec::new(), min_isr };
    let mut progress = Progress::new(1, committed, Duration::ZERO);
    progress.set_epoch_start(0);
    progress
}

fn fetch(id: i32, offset: i64) -> ReplicaFetch {
    ReplicaFetch { id, broker_epoch: 10, sound_since: 0, stays: true, offset, log_start: 0 }
}

fn all_here(_: i32) -> Standing {
    Standing::Here(10)
}

const REPLICAS: [i32; 3] = [1, 2, 3];

#[test]
fn what_the_slowest_member_holds_is_committed() {
    let mut leader = leads(&[1, 2, 3], 2);
    assert_eq!(leader.high_watermark(0, 100, at(0)), 0, "nobody has fetched in this epoch");
    leader.fetched(fetch(2, 80), 100, Duration::ZERO);
    assert_eq!(leader.high_watermark(0, 100, at(0)), 0);
    leader.fetched(fetch(3, 60), 100, Duration::ZERO);
    assert_eq!(leader.high_watermark(0, 100, at(0)), 60);
    assert_eq!(leader.high_watermark(70, 100, at(0)), 70, "it never goes back");
    leader.fetched(fetch(3, 100), 100, Duration::ZERO);
    assert_eq!(leader.high_watermark(60, 75, at(0)), 75, "the leader's own disk counts too");
}

#[test]
fn what_all_hold_is_what_each_has_said_in_this_epoch_wherever_the_high_watermark_is() {
    let mut leader = leads(&[1, 2, 3], 2);
    assert!(!leader.is_held_by_all(0), "nobody has fetched in this epoch");
    leader.fetched(fetch(2, 100), 100, Duration::ZERO);
    assert!(!leader.is_held_by_all(100));
    leader.fetched(fetch(3, 99), 100, Duration::ZERO);
    assert_eq!(leader.high_watermark(100, 100, at(0)), 100, "since an earlier epoch");
    assert!(!leader.is_held_by_all(100));
    leader.fetched(fetch(3, 100), 100, Duration::ZERO);
    assert!(leader.is_held_by_all(100));
    leader.fetched(ReplicaFetch { sound_since: 11, ..fetch(3, 100) }, 100, Duration::ZERO);
    assert!(!leader.is_held_by_all(100), "its entry stands for what is lost");
    assert!(leads(&[1], 1).is_held_by_all(100), "alone");
}

#[test]
fn nothing_is_committed_below_min_insync_replicas() {
    let leader = leads(&[1], 2);
    assert_eq!(leader.high_watermark(7, 100, at(0)), 7);
    let alone = leads(&[1], 1);
    assert_eq!(alone.high_watermark(7, 100, at(0)), 100);
}

#[test]
fn a_follower_that_comes_no_more_leaves_after_its_time() {
    let mut leader = leads(&[1, 2, 3], 2);
    leader.fetched(fetch(2, 100), 100, Duration::from_secs(25));
    assert_eq!(leader.wanted(&REPLICAS, 0, all_here, at(30)), None);
    let change = leader.wanted(&REPLICAS, 0, all_here, at(31)).expect("3 never came");
    assert_eq!((change.isr.clone(), change.elr.len()), (members(&[1, 2]), 0));
    leader.begin(change);
    assert_eq!(leader.wanted(&REPLICAS, 0, all_here, at(31)), None, "one at a time");
    assert_eq!(leader.high_watermark(0, 100, at(31)), 0, "3 counts until that is known");
    leader.end(5, Outcome::Written(6));
    assert_eq!(leader.high_watermark(0, 100, at(31)), 100);
    assert_eq!((leader.committed().version, leader.committed().partition_epoch), (6, 6));
}

#[test]
fn a_follower_that_keeps_up_with_a_busy_leader_is_in_sync() {
    let mut leader = leads(&[1, 2], 1);
    for second in 0..100_u64 {
        let end = second as i64 * 10;
        // Always one round behind the end.
        leader.fetched(fetch(2, end - 10), end, Duration::from_secs(second));
    }
    assert_eq!(leader.wanted(&REPLICAS, 0, all_here, at(100)), None);
}

#[test]
fn who_is_gone_or_going_leaves_at_once() {
    for standing in [Standing::Gone, Standing::Leaving] {
        let mut leader = leads(&[1, 2, 3], 2);
        leader.fetched(fetch(2, 100), 100, Duration::ZERO);
        let of = |id| if id == 3 { standing } else { Standing::Here(10) };
        let change = leader.wanted(&REPLICAS, 0, of, at(0)).expect("a change");
        assert_eq!(change.isr, members(&[1, 2]));
    }
}

#[test]
fn nobody_waits_for_one_that_has_gone_to_join() {
    for standing in [Standing::Gone, Standing::Leaving, Standing::Here(11)] {
        let mut leader = leads(&[1, 2, 3], 2);
        leader.fetched(fetch(2, 100), 100, Duration::ZERO);
        leader.fetched(fetch(3, 90), 90, Duration::ZERO);
        leader.note_standing(all_here);
        // The controller has struck it off.
        let committed = Committed { partition_epoch: 6, isr: members(&[1, 2]), ..leader.committed };
        leader.committed = committed;
        assert_eq!(leader.high_watermark(0, 100, at(0)), 90, "it might join again");
        leader.note_standing(|id| if id == 3 { standing } else { Standing::Here(10) });
        assert_eq!(leader.high_watermark(0, 100, at(0)), 100);
    }
}

#[test]
fn the_high_watermark_waits_for_who_is_in_sync_or_about_to_be() {
    let mut leader = leads(&[1, 2], 1);
    assert!(leader.waits_for(2, at(0)) && !leader.waits_for(3, at(0)));
    leader.fetched(fetch(3, 50), 100, Duration::ZERO);
    assert!(!leader.waits_for(3, at(0)), "it is behind");
    leader.fetched(fetch(3, 100), 120, Duration::from_secs(1));
    assert!(leader.waits_for(3, at(1)), "it holds all that there was when it asked before");
    assert!(!leader.waits_for(3, at(40)), "it has been behind for too long");
    leader.begin(IsrChange { isr: members(&[1, 2, 3]), elr: Vec::new() });
    assert!(leader.waits_for(3, at(40)), "it may be in sync by now");
}

#[test]
fn who_leaves_below_min_insync_replicas_stays_eligible() {
    let leader = leads(&[1, 2, 3], 3);
    let of = |id| if id == 3 { Standing::Gone } else { Standing::Here(10) };
    let change = leader.wanted(&REPLICAS, 0, of, at(0)).expect("a change");
    assert_eq!(change, IsrChange { isr: members(&[1, 2]), elr: members(&[3]) });
}

#[test]
fn hazard_98_a_member_below_the_high_watermark_is_not_eligible() {
    let mut leader = leads(&[1, 2], 2);
    leader.fetched(fetch(2, 10), 100, Duration::ZERO);
    let change = leader.wanted(&REPLICAS, 11, all_here, at(0)).expect("it has lost records");
    assert_eq!(change, IsrChange { isr: members(&[1]), elr: Vec::new() });
}

#[test]
fn who_holds_what_is_committed_joins() {
    let mut leader = leads(&[1], 1);
    leader.epoch_start = Some(50);
    let mut wanted = |offset: i64, high_watermark: i64| {
        leader.fetched(fetch(2, offset), 100, Duration::ZERO);
        leader.wanted(&REPLICAS, high_watermark, all_here, at(0)).map(|change| change.isr)
    };
    assert_eq!(wanted(59, 60), None, "below the high watermark");
    assert_eq!(wanted(49, 40), None, "below the start of the epoch");
    assert_eq!(wanted(60, 60), Some(members(&[1, 2])));
    let strangers = leader.wanted(&[1, 3], 60, all_here, at(0));
    assert_eq!(strangers, None, "not a replica");
    let older = leader.wanted(&REPLICAS, 60, |_| Standing::Here(11), at(0));
    assert_eq!(older, None, "another registration than the one that fetched");
    let leaving = leader.wanted(&REPLICAS, 60, |_| Standing::Leaving, at(0));
    assert_eq!(leaving, None);
}

#[test]
fn hazard_90_who_may_be_in_the_tree_counts_until_the_tree_says_otherwise() {
    let mut leader = leads(&[1], 1);
    leader.fetched(fetch(2, 60), 60, Duration::ZERO);
    let change = leader.wanted(&REPLICAS, 60, all_here, at(0)).expect("it joins");
    leader.begin(change);
    assert_eq!(leader.high_watermark(60, 100, at(99)), 60, "on its way");
    leader.end(5, Outcome::Unclear);
    assert_eq!(leader.high_watermark(60, 100, at(99)), 60, "perhaps there");
    // It comes no more; the next attempt is answered: somebody has changed the node.
    let change = leader.wanted(&REPLICAS, 60, all_here, at(99)).expect("to be settled");
    assert_eq!(change.isr, members(&[1]));
    leader.begin(change);
    leader.end(5, Outcome::Overtaken);
    assert_eq!(leader.high_watermark(60, 100, at(99)), 60, "that may have been the first attempt");
    let there = Committed {
        version: 6,
        partition_epoch: 6,
        isr: members(&[1]),
        elr: Vec::new(),
        min_isr: 1,
    };
    assert!(leader.apply(there.clone()));
    assert!(!leader.apply(there), "the same again is not newer");
    assert_eq!(leader.high_watermark(60, 100, at(99)), 100);
}

#[test]
fn an_answered_attempt_settles_an_unclear_one_before_it() {
    let mut leader = leads(&[1], 1);
    leader.fetched(fetch(2, 60), 60, Duration::ZERO);
    let change = leader.wanted(&REPLICAS, 60, all_here, at(0)).expect("it joins");
    leader.begin(change);
    leader.end(5, Outcome::Unclear);
    let change = leader.wanted(&REPLICAS, 60, all_here, at(99)).expect("to be settled");
    leader.begin(change);
    leader.end(5, Outcome::Refused);
    assert_eq!(leader.high_watermark(60, 100, at(99)), 100);
}

#[test]
fn hazard_11_after_an_unsound_restart_an_old_entry_counts_for_nothing() {
    let mut leader = leads(&[1, 2], 1);
    let fetch = ReplicaFetch { broker_epoch: 11, sound_since: 11, ..fetch(2, 100) };
    leader.fetched(fetch, 100, Duration::ZERO);
    assert_eq!(leader.high_watermark(0, 100, at(0)), 0);
    let sound = ReplicaFetch { sound_since: 10, ..fetch };
    leader.fetched(sound, 100, Duration::ZERO);
    assert_eq!(leader.high_watermark(0, 100, at(0)), 100, "it has kept what it confirmed");
}

#[test]
fn who_has_just_caught_up_is_waited_for() {
    let mut leader = leads(&[1], 1);
    leader.fetched(fetch(2, 50), 50, Duration::ZERO);
    assert_eq!(leader.high_watermark(40, 100, at(1)), 50);
    assert_eq!(leader.high_watermark(40, 100, at(31)), 100, "not for ever");
}

#[test]
fn a_new_registration_has_not_caught_up_before_it_says_so() {
    let mut leader = leads(&[1], 1);
    leader.fetched(fetch(2, 50), 50, Duration::ZERO);
    let again = ReplicaFetch { broker_epoch: 11, ..fetch(2, 0) };
    leader.fetched(again, 50, Duration::ZERO);
    assert_eq!(leader.high_watermark(0, 60, at(0)), 60);
}

#[test]
fn nobody_waits_for_one_that_is_no_replica_any_more() {
    let mut leader = leads(&[1, 2, 3], 2);
    leader.fetched(fetch(2, 100), 100, Duration::ZERO);
    leader.fetched(fetch(3, 90), 90, Duration::ZERO);
    let without =
        Committed { partition_epoch: 6, isr: members(&[1, 2]), ..leader.committed().clone() };
    assert!(leader.apply(without));
    assert_eq!(leader.high_watermark(0, 100, at(0)), 90, "it might join again");
    leader.keep(&[1, 2]);
    assert_eq!(leader.high_watermark(0, 100, at(0)), 100);
}
