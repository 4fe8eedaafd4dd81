//! A compacted partition gives every key its last value.

use klamm_history::{Anomaly, FinalRead, Outcome};

use crate::script::{Script, compacted, keyed, partition, send, tombstone};

fn at(offset: i64) -> Outcome {
    Outcome::Acked(Some(offset))
}

fn wrong(offset: i64, value: u64, found: Option<u64>) -> Anomaly {
    let key = "k".to_owned();
    Anomaly::WrongLastValue { partition: partition(), key, offset, value, found }
}

/// Two values of a key, the second last.
fn two() -> Script {
    Script::new().send(send(vec![keyed("k", 10, at(0)), keyed("k", 11, at(1))]))
}

/// A value, and the tombstone that deletes it.
fn deleted() -> Script {
    Script::new().send(send(vec![keyed("k", 10, at(0)), tombstone("k", 11, at(1))]))
}

#[test]
fn the_last_value_is_enough_and_earlier_ones_may_be_there() {
    let script = two().last_with(compacted(&[(1, 11)]));
    script.is_good();
    assert_eq!(script.report().acked_compacted, 1);
    two().last_with(compacted(&[(0, 10), (1, 11)])).is_good();
}

#[test]
fn an_earlier_value_in_place_of_the_last_is_told() {
    let read = FinalRead { end: 2, ..compacted(&[(0, 10)]) };
    two().last_with(read).is_bad(&[wrong(1, 11, Some(10))]);
}

#[test]
fn a_key_without_its_last_value_is_told() {
    let read = FinalRead { end: 2, ..compacted(&[]) };
    two().last_with(read).is_bad(&[wrong(1, 11, None)]);
}

#[test]
fn a_deleted_key_may_be_gone_or_have_its_tombstone() {
    deleted().last_with(FinalRead { end: 2, ..compacted(&[]) }).is_good();
    deleted().last_with(compacted(&[(1, 11)])).is_good();
}

#[test]
fn a_deleted_key_that_comes_back_is_told() {
    let read = FinalRead { end: 2, ..compacted(&[(0, 10)]) };
    deleted().last_with(read).is_bad(&[wrong(1, 11, Some(10))]);
}

#[test]
fn a_last_write_of_unknown_fate_may_be_there_or_not() {
    let unknown = || two().send(send(vec![keyed("k", 12, Outcome::Unknown)]));
    unknown().last_with(compacted(&[(1, 11)])).is_good();
    unknown().last_with(compacted(&[(2, 12)])).is_good();
    let none = || FinalRead { end: 3, ..compacted(&[]) };
    unknown().last_with(none()).is_bad(&[wrong(1, 11, None)]);
    let tombstone = two().send(send(vec![tombstone("k", 12, Outcome::Unknown)]));
    tombstone.last_with(none()).is_good();
}

#[test]
fn a_key_whose_last_value_was_deleted_with_its_segment_may_be_gone() {
    let read = FinalRead { log_start: 2, end: 2, ..compacted(&[]) };
    two().last_with(read).is_good();
}

#[test]
fn what_retention_took_during_the_read_may_be_seen_in_part() {
    // The read was at the first value when both were deleted, and went on behind them.
    let read = |log_start| FinalRead { log_start, end: 3, ..compacted(&[(0, 10)]) };
    two().last_with(read(2)).is_good();
    two().last_with(read(1)).is_bad(&[wrong(1, 11, Some(10))]);
}

#[test]
fn a_poll_may_leave_out_what_compaction_took_but_nothing_that_stayed() {
    let other = || two().send(send(vec![keyed("l", 12, at(2))])).moved(Some(0));
    other().polled(&[(1, 11), (2, 12)]).last_with(compacted(&[(1, 11), (2, 12)])).is_good();
    let script = other().polled(&[(2, 12)]).last_with(compacted(&[(1, 11), (2, 12)]));
    assert!(matches!(
        &script.report().anomalies[..],
        [Anomaly::SkippedPoll { offset: 1, value: 11, .. }]
    ));
}

#[test]
fn a_record_without_a_key_must_stay() {
    let script = Script::new().acked(&[(0, 10)]).send(send(vec![keyed("k", 11, at(1))]));
    let lost = Anomaly::LostWrite { partition: partition(), offset: Some(0), value: 10 };
    script.last_with(compacted(&[(1, 11)])).is_bad(&[lost]);
}

#[test]
fn a_record_that_moves_to_another_offset_is_told() {
    let script = two().last_with(compacted(&[(1, 11), (2, 10)]));
    assert!(matches!(&script.report().anomalies[..], [Anomaly::Duplicate { value: 10, .. }]));
}
