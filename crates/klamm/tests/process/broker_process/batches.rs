//! Record batches, sound ones and the means to spoil them.

use klamm_protocol::compression::Compression;
use klamm_protocol::records::{
    ATTRIBUTES_OFFSET, BatchBuilder, CRC_OFFSET, NewRecord, ProducerFields,
};

/// One batch with these values, uncompressed.
pub(crate) fn batch_of(values: &[&[u8]]) -> Vec<u8> {
    built(values, ProducerFields::NONE)
}

/// One batch with one record.
pub(crate) fn batch(value: &[u8]) -> Vec<u8> {
    batch_of(&[value])
}

/// One batch of an idempotent producer.
pub(crate) fn idempotent(id: i64, epoch: i16, sequence: i32, values: &[&[u8]]) -> Vec<u8> {
    let producer =
        ProducerFields { producer_id: id, producer_epoch: epoch, base_sequence: sequence };
    built(values, producer)
}

/// Makes the checksum fit what the batch says now.
pub(crate) fn reseal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_OFFSET..]);
    batch[CRC_OFFSET..ATTRIBUTES_OFFSET].copy_from_slice(&crc.to_be_bytes());
}

fn built(values: &[&[u8]], producer: ProducerFields) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None, usize::MAX);
    builder.set_producer(producer);
    let now_ms = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_millis();
    let timestamp = i64::try_from(now_ms).expect("not that late");
    for value in values {
        let record = NewRecord { timestamp, value: Some(value), ..NewRecord::default() };
        builder.append(&record).expect("no bound");
    }
    builder.build().expect("nothing is compressed").to_vec()
}
