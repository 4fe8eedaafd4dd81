//! With all rules on, every state within the small bounds keeps every invariant.

use klamm_model::{Invariants, Rules, Scenario, check};

macro_rules! holds {
    ($($test:ident: $scenario:literal, $states:literal;)*) => {$(
        #[test]
        fn $test() {
            holds($scenario, $states);
        }
    )*};
}

holds! {
    while_leaders_change: "elections", 91_431;
    while_logs_part: "divergence", 96_819;
    while_fenced_leaders_come_back: "fencing", 533_339;
    while_leaders_go_on_without_a_session: "sessions", 149_650;
    while_leaders_stop_without_a_session: "fenced", 128_555;
    while_processes_are_killed: "restarts", 58_850;
    while_all_brokers_lose_power: "blackout", 44_643;
    while_a_page_cache_is_lost: "power", 66_666;
    while_a_disk_is_wiped: "wiped", 43_337;
    while_registrations_are_cut_short: "registration", 476_472;
    while_registrations_arrive_late: "attempts", 17_280;
    while_too_few_are_in_sync: "elr", 73_114;
    while_min_isr_changes: "min-isr", 36_800;
    while_the_flush_class_changes: "flush", 306_461;
    while_elections_are_unclean: "unclean", 168_463;
    while_answers_are_lost: "unanswered", 76_587;
    while_a_leader_in_doubt_writes_again: "answers", 130_280;
    while_controllers_change: "controllers", 146_044;
    while_the_topic_is_made_again: "recreated", 354_821;
    while_syncs_take_time: "syncs", 64_033;
    while_fetches_take_time: "delayed", 150_748;
}

/// Exhausts a scenario. `states` is how many there are: a model that shrinks unnoticed, or a check
/// that ends early, fails.
fn holds(scenario: &str, states: usize) {
    let scenario = Scenario::named(scenario).expect(scenario);
    let report = check(scenario, scenario.small, Rules::ALL, Invariants::All);
    println!("{report}");
    assert!(report.counter_example.is_none(), "{report}");
    assert!(report.unseen.is_empty(), "{report}");
    assert_eq!(report.states, states, "{report}");
}
