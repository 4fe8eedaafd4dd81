//! The order of polls and sends.

use klamm_history::{Acks, Anomaly, Extent, FinalRead, Outcome, Reader, Send};

use crate::script::{Script, acked, partition, send, sent, whole};

const ALL: [(i64, u64); 3] = [(0, 10), (1, 11), (2, 12)];

fn back(reader: Reader, extent: Extent, expected: i64, (offset, value): (i64, u64)) -> Anomaly {
    Anomaly::NonMonotonicPoll { partition: partition(), reader, extent, expected, offset, value }
}

fn skipped(extent: Extent, (offset, value): (i64, u64)) -> Anomaly {
    let reader = Reader::Consumer(0);
    Anomaly::SkippedPoll { partition: partition(), reader, extent, offset, value }
}

fn out_of_order(extent: Extent, earlier: i64, (offset, value): (i64, u64)) -> Anomaly {
    Anomaly::NonMonotonicSend {
        partition: partition(),
        producer: 0,
        extent,
        earlier,
        offset,
        value,
    }
}

#[test]
fn a_poll_that_goes_back_within_itself_is_told() {
    let script = Script::new().acked(&ALL).polled(&[(0, 10), (1, 11), (0, 10)]).last(3, &ALL);
    script.is_bad(&[back(Reader::Consumer(0), Extent::Internal, 2, (0, 10))]);
}

#[test]
fn a_poll_that_goes_back_behind_the_one_before_is_told() {
    let script = Script::new().acked(&ALL).polled(&[(0, 10), (1, 11)]).polled(&[(1, 11)]);
    let fault = back(Reader::Consumer(0), Extent::External, 2, (1, 11));
    script.last(3, &ALL).is_bad(&[fault]);
}

#[test]
fn a_whole_read_that_goes_back_is_told() {
    let read = [(0, 10), (1, 11), (1, 11), (2, 12)];
    let fault = back(Reader::Final, Extent::Internal, 2, (1, 11));
    Script::new().acked(&ALL).last(3, &read).is_bad(&[fault]);
}

#[test]
fn a_consumer_that_was_moved_may_go_back_and_forth() {
    let script = Script::new().acked(&ALL).polled(&[(0, 10), (1, 11)]).moved(Some(0));
    let script = script.polled(&[(0, 10)]).moved(Some(2)).polled(&[(2, 12)]).moved(None);
    script.polled(&[(1, 11), (2, 12)]).last(3, &ALL).is_good();
}

#[test]
fn a_poll_that_leaves_a_record_out_is_told() {
    let script = Script::new().acked(&ALL).polled(&[(0, 10), (2, 12)]).last(3, &ALL);
    script.is_bad(&[skipped(Extent::Internal, (1, 11))]);
    let script = Script::new().acked(&ALL).polled(&[(0, 10)]).polled(&[(2, 12)]).last(3, &ALL);
    script.is_bad(&[skipped(Extent::External, (1, 11))]);
    let script = Script::new().acked(&ALL).moved(Some(0)).polled(&[(1, 11), (2, 12)]);
    script.last(3, &ALL).is_bad(&[skipped(Extent::External, (0, 10))]);
}

#[test]
fn a_poll_may_leave_out_offsets_without_a_record_and_what_was_deleted() {
    let all = [(0, 10), (2, 12)];
    Script::new().acked(&all).polled(&all).last(3, &all).is_good();
    let script = Script::new().acked(&ALL).polled(&[(0, 10)]).polled(&[(2, 12)]);
    script.last_with(FinalRead { log_start: 2, ..whole(&[(2, 12)]) }).is_good();
}

#[test]
fn a_send_whose_records_change_places_is_told() {
    let script = Script::new().acked(&[(1, 11), (0, 10)]).last(2, &[(0, 10), (1, 11)]);
    script.is_bad(&[out_of_order(Extent::Internal, 1, (0, 10))]);
}

#[test]
fn sends_that_change_places_are_told() {
    let script = Script::new().acked(&[(1, 11)]).acked(&[(0, 10)]).last(2, &[(0, 10), (1, 11)]);
    script.is_bad(&[out_of_order(Extent::External, 1, (0, 10))]);
}

#[test]
fn two_producers_owe_each_other_no_order() {
    let other = Send { producer: 1, ..send(vec![acked((0, 10))]) };
    let script = Script::new().acked(&[(1, 11)]).send(other);
    script.last(2, &[(0, 10), (1, 11)]).is_good();
}

#[test]
fn an_order_that_nobody_was_promised_is_not_judged() {
    let leader = Send { acks: Acks::Leader, ..send(vec![acked((5, 9))]) };
    let unknown = send(vec![sent(8, Outcome::Unknown)]);
    Script::new().send(leader).send(unknown).acked(&ALL).last(3, &ALL).is_good();
}
