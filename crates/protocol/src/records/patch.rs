//! What a broker changes in a batch, in place. All take bytes that begin with a whole batch that
//! was parsed before, and panic on less than that.

use super::builder::ProducerFields;
use super::header::{
    ATTRIBUTES_OFFSET, Attributes, BASE_OFFSET_OFFSET, BASE_SEQUENCE_OFFSET, BASE_TIMESTAMP_OFFSET,
    BatchHeader, CRC_OFFSET, MAX_TIMESTAMP_OFFSET, PARTITION_LEADER_EPOCH_OFFSET,
    PRODUCER_EPOCH_OFFSET, PRODUCER_ID_OFFSET, TimestampType,
};

/// Sets the offset of the first record, and so of all; outside the CRC.
pub fn set_base_offset(batch: &mut [u8], base_offset: i64) {
    put(batch, BASE_OFFSET_OFFSET, &base_offset.to_be_bytes());
}

/// Sets the epoch of the leader that appends the batch; outside the CRC.
pub fn set_leader_epoch(batch: &mut [u8], leader_epoch: i32) {
    put(batch, PARTITION_LEADER_EPOCH_OFFSET, &leader_epoch.to_be_bytes());
}

/// Sets who produces the batch and where it stands in the producer's sequence, and computes the
/// CRC anew.
pub fn set_producer(batch: &mut [u8], producer: ProducerFields) {
    put(batch, PRODUCER_ID_OFFSET, &producer.producer_id.to_be_bytes());
    put(batch, PRODUCER_EPOCH_OFFSET, &producer.producer_epoch.to_be_bytes());
    put(batch, BASE_SEQUENCE_OFFSET, &producer.base_sequence.to_be_bytes());
    set_crc(batch);
}

/// Makes `now_ms` the timestamp of every record, and computes the CRC anew.
pub fn set_log_append_time(batch: &mut [u8], now_ms: i64) {
    let attributes = attributes(batch).with_timestamp_type(TimestampType::LogAppendTime);
    put(batch, ATTRIBUTES_OFFSET, &attributes.0.to_be_bytes());
    put(batch, MAX_TIMESTAMP_OFFSET, &now_ms.to_be_bytes());
    set_crc(batch);
}

/// Notes the time after which the cleaner may drop tombstones and markers of this batch, and
/// computes the CRC anew. The caller rewrites the records: their timestamps are relative to the
/// field that the horizon takes.
pub fn set_delete_horizon(batch: &mut [u8], horizon_ms: i64) {
    let attributes = attributes(batch).with_delete_horizon(true);
    put(batch, ATTRIBUTES_OFFSET, &attributes.0.to_be_bytes());
    put(batch, BASE_TIMESTAMP_OFFSET, &horizon_ms.to_be_bytes());
    set_crc(batch);
}

fn attributes(batch: &[u8]) -> Attributes {
    let bytes = batch[ATTRIBUTES_OFFSET..].first_chunk().copied();
    Attributes(i16::from_be_bytes(bytes.expect("the caller passes a whole batch")))
}

fn set_crc(batch: &mut [u8]) {
    let header = BatchHeader::parse(batch).expect("the caller passes a parsed batch");
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_OFFSET..header.size()]);
    put(batch, CRC_OFFSET, &crc.to_be_bytes());
}

fn put(batch: &mut [u8], at: usize, bytes: &[u8]) {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
}
