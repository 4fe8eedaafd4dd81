//! With one rule off, the checker finds how something breaks.
//!
//! `loses` demands more than a broken invariant: a leader without confirmed records, a read that
//! changes, a false acknowledgement.

use klamm_model::{Invariants, Rule, Rules, Scenario, check};

macro_rules! matters {
    ($($test:ident: $rule:ident, $scenario:literal, $verdict:ident $invariant:literal, $length:literal;)*) => {$(
        #[test]
        fn $test() {
            $verdict(Rule::$rule, $scenario, $invariant, $length);
        }
    )*

    /// The rules that a test above switches off.
    const TESTED: &[Rule] = &[$(Rule::$rule),*];
    };
}

matters! {
    a_reboot_is_not_a_restart: R2Boot, "power", loses "I6", 7;
    a_boot_id_belongs_to_its_pair: R2BootOfPair, "registration", loses "I6", 12;
    an_attempt_that_landed_is_noted: R2Promoted, "attempts", breaks "intact", 12;
    an_attempt_is_settled_before_the_next: R2Settled, "attempts", breaks "intact", 12;
    a_pair_names_its_incarnation: R2Incarnation, "attempts", loses "I6", 15;
    an_unsound_restart_ends_a_listing: R3, "power", loses "I6", 7;
    a_lost_broker_writes_nothing: R5aNoTreeWrite, "sessions", breaks "I18", 5;
    a_lost_broker_gives_no_weak_ack: R5bNoWeakAcks, "sessions", breaks "I18", 5;
    a_session_registers_before_it_reads: R6RegisterThenRead, "restarts", loses "I6", 15;
    an_old_controller_is_fenced: R8, "controllers", breaks "I1", 5;
    candidates_are_in_isr_or_elr: R12Candidates, "elections", loses "I6", 7;
    candidates_are_sound: R12Sound, "power", loses "I6", 7;
    an_election_checks_registrations: R12Checked, "controllers", breaks "I8", 4;
    an_incarnation_leads_its_own_epochs: R12OwnIncarnation, "blackout", loses "I9", 12;
    only_newer_states_are_applied: R13, "elections", loses "I6", 11;
    fetches_carry_the_leader_epoch: R14, "fencing", loses "I9", 12;
    an_epoch_start_is_recorded: R15, "elections", breaks "followers", 13;
    followers_truncate_first: R16Handshake, "divergence", loses "I9", 8;
    an_unclean_election_lets_followers_follow: R16Unclean, "unclean", breaks "followers", 10;
    progress_belongs_to_a_broker_epoch: R17BrokerEpoch, "power", loses "I6", 11;
    progress_belongs_to_a_leader_epoch: R17LeaderEpoch, "elections", breaks "I4", 11;
    a_fetch_offset_is_synced: R17Synced, "blackout", loses "I6", 8;
    broker_epochs_are_copied: R18Copied, "power", loses "I6", 11;
    additions_check_registrations: R18Checked, "power", breaks "I8", 7;
    a_sync_over_a_truncation_does_not_count: R18bOverlap, "syncs", loses "I6", 16;
    a_flush_class_has_its_own_epoch: R18cEpoch, "flush", loses "I6", 10;
    acked_waits_for_everybody: R18cToAcked, "flush", loses "I6", 9;
    os_waits_for_lost_caches: R18cToOs, "flush", breaks "intact", 8;
    the_maximal_isr_counts: R19Maximal, "elections", loses "I6", 6;
    an_unknown_outcome_stays_unknown: R19Unknown, "unanswered", loses "I6", 12;
    a_refusal_for_other_reasons_settles_nothing: R19Answer, "answers", breaks "I7", 12;
    additions_reach_the_high_watermark: R20Watermark, "elections", loses "I6", 10;
    additions_reach_the_epoch_start: R20EpochStart, "divergence", breaks "I4", 14;
    too_few_confirm_nothing: R21Frozen, "elr", loses "I6", 9;
    a_waiter_belongs_to_its_epoch: R21Waiter, "divergence", loses "I10", 10;
    a_full_isr_empties_the_elr: R22Emptied, "elr", breaks "I7", 7;
    a_lower_min_isr_clears_the_elr: R22Lowering, "min-isr", loses "I6", 9;
    another_topic_id_is_another_log: R26, "recreated", loses "I9", 8;
}

/// R5(c): what a leader confirmed while it had no session is lost without these.
mod without_a_session {
    use super::{Invariants, Rule, finds};

    #[test]
    fn the_maximal_isr_counts() {
        let invariants = Invariants::WithoutSession;
        finds(Rule::R19Maximal, "sessions", invariants, "R5(c)", 7);
    }

    #[test]
    fn candidates_are_in_isr_or_elr() {
        let invariants = Invariants::WithoutSession;
        finds(Rule::R12Candidates, "sessions", invariants, "R5(c)", 8);
    }
}

#[test]
fn every_rule_has_its_test() {
    for rule in Rule::EACH {
        assert!(TESTED.contains(rule), "{rule} is never switched off");
    }
    assert_eq!(TESTED.len(), Rule::EACH.len());
}

fn breaks(rule: Rule, scenario: &str, invariant: &str, length: usize) {
    finds(rule, scenario, Invariants::All, invariant, length);
}

fn loses(rule: Rule, scenario: &str, invariant: &str, length: usize) {
    finds(rule, scenario, Invariants::Promises, invariant, length);
}

/// Breadth first and on one thread, so the counter-example is a shortest one, and the same always.
fn finds(rule: Rule, scenario: &str, invariants: Invariants, invariant: &str, length: usize) {
    let scenario = Scenario::named(scenario).expect(scenario);
    let report = check(scenario, scenario.small, Rules::without(rule), invariants);
    println!("without {rule}, {report}");
    let Some((broken, actions)) = &report.counter_example else {
        panic!("nothing breaks without {rule}: {report}");
    };
    assert!(broken.starts_with(invariant), "without {rule}, {report}");
    assert_eq!(actions.len(), length, "without {rule}, {report}");
}
