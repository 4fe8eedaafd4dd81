use std::sync::Arc;

use bytes::Bytes;
use klamm_protocol::Records as WireRecords;
use klamm_protocol::compression::Compression;
use klamm_protocol::messages::fetch::{AbortedTransaction, PartitionData};
use klamm_protocol::records::{
    BatchBuilder, ControlType, EndTxnMarker, NewRecord, ProducerFields, set_base_offset,
};

use crate::error::ClientError;
use crate::metadata::TopicPartition;

use super::fetched::{Fetched, Waiting};
use super::{ConsumerConfig, Isolation, Position};

fn batch(base_offset: i64, producer_id: i64, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None, usize::MAX);
    builder.set_base_offset(base_offset);
    builder.set_transactional(producer_id >= 0);
    let producer_epoch = if producer_id >= 0 { 0 } else { -1 };
    let base_sequence = producer_epoch.into();
    builder.set_producer(ProducerFields { producer_id, producer_epoch, base_sequence });
    for value in values {
        let record = NewRecord { value: Some(value.as_bytes()), ..NewRecord::default() };
        builder.append(&record).expect("no limit");
    }
    builder.build().expect("plain")
}

fn marker(base_offset: i64, producer_id: i64, control_type: ControlType) -> Bytes {
    let marker = EndTxnMarker { control_type, coordinator_epoch: 0 };
    let mut batch = BatchBuilder::end_txn(producer_id, 0, 0, marker).to_vec();
    set_base_offset(&mut batch, base_offset);
    batch.into()
}

fn fetched(from: i64, batches: &[Bytes], isolation: Isolation, aborted: &[(i64, i64)]) -> Fetched {
    let aborted = aborted
        .iter()
        .map(|&(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset })
        .collect();
    let data = PartitionData {
        records: WireRecords::Inline(batches.concat().into()),
        aborted_transactions: Some(aborted),
        ..PartitionData::default()
    };
    let config = ConsumerConfig { isolation, ..ConsumerConfig::default() };
    Fetched::new(TopicPartition::new("t", 0), Arc::from("t"), from, data, &config)
}

fn values(fetched: &mut Fetched) -> Result<Vec<(i64, Bytes)>, ClientError> {
    let mut values = Vec::new();
    while let Some(record) = fetched.next()? {
        values.push((record.offset, record.value.expect("a value")));
    }
    Ok(values)
}

fn expect(mut fetched: Fetched, expected: &[(i64, &'static str)], next_offset: i64) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(offset, value)| (*offset, Bytes::from_static(value.as_bytes())))
        .collect();
    assert_eq!(values(&mut fetched), Ok(expected));
    assert!(matches!(fetched.position(), Position::At { offset, .. } if offset == next_offset));
}

#[test]
fn records_before_the_position_are_left_out() {
    let batches = [batch(10, -1, &["a", "b", "c"]), batch(13, -1, &["d"])];
    expect(fetched(12, &batches, Isolation::ReadUncommitted, &[]), &[(12, "c"), (13, "d")], 14);
}

#[test]
fn a_batch_cut_off_at_the_end_is_left_for_the_next_fetch() {
    let cut = batch(11, -1, &["b"]);
    let batches = [batch(10, -1, &["a"]), cut.slice(..cut.len() - 1)];
    expect(fetched(10, &batches, Isolation::ReadUncommitted, &[]), &[(10, "a")], 11);
}

#[test]
fn aborted_records_and_markers_are_passed_over() {
    let batches = [
        batch(0, 1, &["void"]),
        batch(1, 2, &["good"]),
        marker(2, 1, ControlType::Abort),
        batch(3, 1, &["again"]),
        marker(4, 1, ControlType::Commit),
        marker(5, 2, ControlType::Commit),
    ];
    let committed = fetched(0, &batches, Isolation::ReadCommitted, &[(1, 0)]);
    expect(committed, &[(1, "good"), (3, "again")], 6);
    let all = fetched(0, &batches, Isolation::ReadUncommitted, &[(1, 0)]);
    expect(all, &[(0, "void"), (1, "good"), (3, "again")], 6);
}

#[test]
fn a_damaged_batch_is_an_error_at_its_offset() {
    let mut damaged = batch(1, -1, &["b"]).to_vec();
    *damaged.last_mut().expect("not empty") ^= 1;
    let mut fetched =
        fetched(0, &[batch(0, -1, &["a"]), damaged.into()], Isolation::ReadUncommitted, &[]);
    assert!(fetched.next().is_ok_and(|record| record.is_some()));
    let error = fetched.next().expect_err("the CRC is wrong");
    assert!(matches!(error, ClientError::Records { offset: 1, .. }), "{error}");
}

#[test]
fn what_two_leaders_answer_is_handed_out_once() {
    let mut waiting = Waiting::default();
    for _ in 0..2 {
        let batches = [batch(3, -1, &["a", "b"])];
        waiting.add(fetched(3, &batches, Isolation::ReadUncommitted, &[]));
    }
    let mut found = Vec::new();
    while let Some(first) = waiting.first() {
        found.extend(values(first).unwrap().into_iter().map(|(offset, _)| offset));
        waiting.drop_first();
    }
    assert_eq!(found, [3, 4]);
}
