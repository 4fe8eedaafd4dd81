//! Aborted and intermediate reads, and cycles.

use klamm_history::{
    Anomaly, Dependency, End, Extent, FinalRead, Isolation, Outcome, Reader, TopicPartition,
};

use crate::script::{Script, acked, partition, records, send, sent, whole};

fn aborted_read(reader: Reader, (offset, value): (i64, u64)) -> Anomaly {
    Anomaly::AbortedRead { partition: partition(), reader, offset, value }
}

/// Transaction 1 with one record at offset 0.
fn transaction(end: End) -> Script {
    Script::new().begin(1).within(1, vec![acked((0, 10))]).end(1, end)
}

#[test]
fn an_aborted_record_that_is_read_is_told() {
    let script = transaction(End::Aborted).polled(&[(0, 10)]).last(1, &[]);
    script.is_bad(&[aborted_read(Reader::Consumer(0), (0, 10))]);
    let script = transaction(End::Aborted).last(1, &[(0, 10)]);
    script.is_bad(&[aborted_read(Reader::Final, (0, 10))]);
}

#[test]
fn a_refused_record_that_is_read_is_told() {
    let refused = Script::new().send(send(vec![sent(10, Outcome::Failed)]));
    refused.last(1, &[(0, 10)]).is_bad(&[aborted_read(Reader::Final, (0, 10))]);
}

#[test]
fn who_reads_uncommitted_may_see_what_is_aborted() {
    let script = transaction(End::Aborted);
    script.poll(None, Isolation::ReadUncommitted, partition(), &[(0, 10)]).last(1, &[]).is_good();
}

#[test]
fn an_aborted_record_is_left_out_and_not_lost_or_skipped() {
    let script = transaction(End::Aborted).acked(&[(2, 12)]).moved(Some(0));
    script.polled(&[(2, 12)]).last(3, &[(2, 12)]).is_good();
}

#[test]
fn a_committed_record_must_be_there_and_one_of_unknown_end_may() {
    let lost = Anomaly::LostWrite { partition: partition(), offset: Some(0), value: 10 };
    transaction(End::Committed).last(1, &[(0, 10)]).is_good();
    transaction(End::Committed).last(2, &[]).is_bad(&[lost]);
    transaction(End::Unknown).last(2, &[]).is_good();
    transaction(End::Unknown).last(1, &[(0, 10)]).is_good();
}

#[test]
fn a_record_that_is_read_before_its_transaction_ends_is_told() {
    let open = || Script::new().begin(1).within(1, vec![acked((0, 10))]);
    let script = open().polled(&[(0, 10)]).end(1, End::Committed).last(1, &[(0, 10)]);
    script.is_bad(&[Anomaly::IntermediateRead {
        partition: partition(),
        consumer: 0,
        offset: 0,
        value: 10,
    }]);
    let script = open().end(1, End::Committed).polled(&[(0, 10)]).last(1, &[(0, 10)]);
    script.is_good();
    let script = open().poll(None, Isolation::ReadUncommitted, partition(), &[(0, 10)]);
    script.end(1, End::Committed).last(1, &[(0, 10)]).is_good();
}

#[test]
fn sends_of_one_transaction_that_change_places_are_internal() {
    let script = Script::new().begin(1).within(1, vec![acked((1, 11))]);
    let script = script.within(1, vec![acked((0, 10))]).end(1, End::Committed);
    script.last(2, &[(0, 10), (1, 11)]).is_bad(&[Anomaly::NonMonotonicSend {
        partition: partition(),
        producer: 1,
        extent: Extent::Internal,
        earlier: 1,
        offset: 0,
        value: 10,
    }]);
}

fn elsewhere(offset: i64, value: u64) -> klamm_history::Sent {
    klamm_history::Sent { partition: TopicPartition::new("u", 0), ..acked((offset, value)) }
}

#[test]
fn transactions_that_each_write_before_the_other_are_a_cycle() {
    let script = Script::new().begin(1).begin(2);
    let script = script.within(1, vec![acked((0, 10)), elsewhere(1, 21)]);
    let script = script.within(2, vec![acked((1, 11)), elsewhere(0, 20)]);
    let script = script.end(1, End::Committed).end(2, End::Committed);
    let script = script.poll(
        None,
        Isolation::ReadCommitted,
        TopicPartition::new("u", 0),
        &[(0, 20), (1, 21)],
    );
    script.last(2, &[(0, 10), (1, 11)]).is_bad(&[Anomaly::WriteCycle {
        partition: partition(),
        offset: 0,
        value: 10,
        transactions: vec![1, 2],
        dependency: Dependency::WritesOnly,
    }]);
}

#[test]
fn transactions_that_read_each_other_are_a_cycle() {
    let crossed = |second_reads: bool| {
        let script = Script::new().begin(1).begin(2).within(1, vec![acked((0, 10))]);
        let script = script.within(2, vec![acked((1, 11))]);
        let uncommitted = Isolation::ReadUncommitted;
        let script = script.poll(Some(1), uncommitted, partition(), &[(1, 11)]);
        let script = if second_reads {
            script.poll(Some(2), uncommitted, partition(), &[(0, 10)])
        } else {
            script
        };
        let script = script.end(1, End::Committed).end(2, End::Committed);
        script.last_with(FinalRead { end: 2, records: records(&[(0, 10), (1, 11)]), ..whole(&[]) })
    };
    let cycle = Anomaly::WriteCycle {
        partition: partition(),
        offset: 0,
        value: 10,
        transactions: vec![1, 2],
        dependency: Dependency::WithReads,
    };
    crossed(true).is_bad(std::slice::from_ref(&cycle));
    // The first still writes before the second, and reads what it wrote.
    crossed(false).is_bad(&[cycle]);
}

#[test]
fn transactions_one_after_the_other_are_no_cycle() {
    let script = transaction(End::Committed).begin(2);
    let script = script.poll(Some(2), Isolation::ReadCommitted, partition(), &[(0, 10)]);
    let script = script.within(2, vec![acked((2, 11)), elsewhere(0, 20)]).end(2, End::Committed);
    let script =
        script.poll(None, Isolation::ReadCommitted, TopicPartition::new("u", 0), &[(0, 20)]);
    script.last(4, &[(0, 10), (2, 11)]).is_good();
}
