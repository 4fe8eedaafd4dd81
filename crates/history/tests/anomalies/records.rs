//! Lost, unseen, doubled, moved and invented records.

use klamm_history::{Acks, Anomaly, FinalRead, Outcome, Send};

use crate::script::{Script, acked, partition, send, sent, whole};

#[test]
fn what_was_acknowledged_and_is_there_is_good() {
    let script = Script::new().acked(&[(0, 10), (1, 11)]).polled(&[(0, 10)]);
    let script = script.last(2, &[(0, 10), (1, 11)]);
    script.is_good();
    assert_eq!(script.report().acked_found, 2);
}

#[test]
fn an_acknowledged_record_that_a_read_went_past_is_lost() {
    let lost = Anomaly::LostWrite { partition: partition(), offset: Some(1), value: 11 };
    let script = Script::new().acked(&[(0, 10), (1, 11), (2, 12)]);
    script.last(3, &[(0, 10), (2, 12)]).is_bad(std::slice::from_ref(&lost));
    let polls_only = Script::new().acked(&[(0, 10), (1, 11)]).acked(&[(2, 12)]);
    polls_only.polled(&[(0, 10)]).moved(None).polled(&[(2, 12)]).is_bad(&[lost]);
}

#[test]
fn a_record_that_was_polled_and_is_gone_is_lost() {
    let unknown = send(vec![sent(10, Outcome::Unknown)]);
    let script = Script::new().send(unknown).acked(&[(1, 11)]).polled(&[(0, 10)]);
    let lost = Anomaly::LostWrite { partition: partition(), offset: Some(0), value: 10 };
    script.last(2, &[(1, 11)]).is_bad(&[lost]);
}

#[test]
fn what_was_not_promised_may_be_gone() {
    let script = Script::new().send(send(vec![sent(10, Outcome::Unknown)]));
    let script = script.send(send(vec![sent(11, Outcome::Failed)]));
    let leader = Send { acks: Acks::Leader, ..send(vec![acked((0, 12))]) };
    let none = Send { acks: Acks::None, ..send(vec![sent(13, Outcome::Acked(None))]) };
    script.send(leader).send(none).acked(&[(0, 14)]).last(1, &[(0, 14)]).is_good();
}

#[test]
fn what_lies_below_the_log_start_is_deleted_and_not_lost() {
    let script = Script::new().acked(&[(0, 10), (1, 11)]);
    let script = script.last_with(FinalRead { log_start: 1, ..whole(&[(1, 11)]) });
    script.is_good();
    let report = script.report();
    assert_eq!((report.acked_found, report.acked_deleted), (1, 1));
}

#[test]
fn an_acknowledged_record_that_no_read_reached_is_unseen() {
    let unseen = Anomaly::Unseen { partition: partition(), offset: Some(1), value: 11 };
    let script = Script::new().acked(&[(0, 10), (1, 11)]);
    script.last(1, &[(0, 10)]).is_bad(std::slice::from_ref(&unseen));
    Script::new().acked(&[(0, 10), (1, 11)]).polled(&[(0, 10)]).is_bad(&[unseen]);
}

#[test]
fn an_idempotent_record_that_stands_twice_is_a_duplicate() {
    let script = Script::new().acked(&[(0, 10)]).last(2, &[(0, 10), (1, 10)]);
    script.is_bad(&[Anomaly::Duplicate { partition: partition(), offsets: vec![0, 1], value: 10 }]);
}

#[test]
fn a_plain_record_that_stands_twice_is_counted() {
    let plain = Send { idempotent: false, ..send(vec![acked((1, 10))]) };
    let script = Script::new().send(plain).last(2, &[(0, 10), (1, 10)]);
    script.is_good();
    assert_eq!(script.report().duplicates_allowed, 1);
    assert_eq!(Script::new().acked(&[(0, 10)]).last(1, &[(0, 10)]).report().duplicates_allowed, 0);
}

#[test]
fn two_values_at_one_offset_are_inconsistent() {
    let bad =
        Anomaly::InconsistentOffset { partition: partition(), offset: 0, values: vec![10, 11] };
    let unknown = send(vec![sent(10, Outcome::Unknown), sent(11, Outcome::Unknown)]);
    let script = Script::new().send(unknown).polled(&[(0, 10)]).moved(Some(0)).polled(&[(0, 11)]);
    script.is_bad(&[bad]);
}

#[test]
fn a_value_that_nobody_sent_is_invented() {
    let script = Script::new().acked(&[(0, 10)]).last(2, &[(0, 10), (1, 99)]);
    script.is_bad(&[Anomaly::Invented { partition: partition(), offset: 1, value: 99 }]);
}
