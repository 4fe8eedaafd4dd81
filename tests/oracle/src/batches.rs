//! Record batches, good and bad, and what is in those that come back.

use bytes::{Bytes, BytesMut};
use klamm_protocol::compression::Compression;
use klamm_protocol::records::{
    BatchBuilder, BatchHeader, CRC_OFFSET, NewRecord, ProducerFields, RECORDS_COUNT_OFFSET, split,
};

/// When the records of all cases were made.
pub(crate) const MADE_AT: i64 = 1_700_000_000_000;

const BATCH_MAX: usize = 64 << 20;

/// A batch to be written down.
#[derive(Debug)]
#[expect(dead_code, reason = "read through Debug")]
pub(crate) struct Opened {
    pub(crate) name: String,
    pub(crate) batches: Vec<OpenedBatch>,
}

#[derive(Debug)]
#[expect(dead_code, reason = "read through Debug")]
pub(crate) struct OpenedBatch {
    pub(crate) index: usize,
    pub(crate) header: Option<BatchHeader>,
    pub(crate) bytes: usize,
    pub(crate) payload: String,
}

/// What a fetch brought.
pub(crate) fn open(bytes: Bytes) -> Vec<OpenedBatch> {
    let batches = split(bytes).filter_map(Result::ok);
    batches
        .enumerate()
        .map(|(index, batch)| OpenedBatch {
            index,
            header: Some(*batch.header()),
            bytes: batch.bytes().len(),
            payload: format!("{:?}", batch.payload()),
        })
        .collect()
}

/// What a case asks of a batch.
#[derive(Clone)]
pub(crate) struct Plan<'a> {
    pub(crate) records: Vec<(Option<&'a str>, Option<&'a str>)>,
    pub(crate) codec: Compression,
    pub(crate) producer: ProducerFields,
    pub(crate) transactional: bool,
    pub(crate) control: bool,
    pub(crate) timestamp: i64,
}

impl<'a> Plan<'a> {
    /// Keyed records, a millisecond apart.
    pub(crate) fn of(values: &[&'a str]) -> Plan<'a> {
        Plan {
            records: values.iter().map(|value| (Some("key"), Some(*value))).collect(),
            codec: Compression::None,
            producer: ProducerFields::NONE,
            transactional: false,
            control: false,
            timestamp: MADE_AT,
        }
    }

    pub(crate) fn codec(mut self, codec: Compression) -> Plan<'a> {
        self.codec = codec;
        self
    }

    pub(crate) fn from(mut self, id: i64, epoch: i16, sequence: i32) -> Plan<'a> {
        self.producer =
            ProducerFields { producer_id: id, producer_epoch: epoch, base_sequence: sequence };
        self
    }

    pub(crate) fn at(mut self, timestamp: i64) -> Plan<'a> {
        self.timestamp = timestamp;
        self
    }

    pub(crate) fn keyless(mut self) -> Plan<'a> {
        self.records.iter_mut().for_each(|record| record.0 = None);
        self
    }

    pub(crate) fn build(&self) -> Bytes {
        let mut builder = BatchBuilder::new(self.codec, BATCH_MAX);
        builder.set_producer(self.producer);
        builder.set_transactional(self.transactional);
        builder.set_control(self.control);
        for (index, (key, value)) in self.records.iter().enumerate() {
            let record = NewRecord {
                timestamp: self.timestamp + index as i64,
                key: key.map(str::as_bytes),
                value: value.map(str::as_bytes),
                headers: &[],
            };
            builder.append(&record).expect("small records fit");
        }
        builder.build().expect("every codec works")
    }
}

/// A batch of these values.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    Plan::of(values).build()
}

/// The batch with bytes changed, its checksum unchanged.
pub(crate) fn damaged(batch: &Bytes, at: usize, with: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(&batch[..]);
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes.freeze()
}

/// The batch with bytes changed and its checksum right.
pub(crate) fn altered(batch: &Bytes, at: usize, with: &[u8]) -> Bytes {
    let changed = damaged(batch, at, with);
    let crc = crc32c(&changed[CRC_OFFSET + 4..]);
    damaged(&changed, CRC_OFFSET, &crc.to_be_bytes())
}

/// The batch claiming to have `count` records.
pub(crate) fn with_count(batch: &Bytes, count: i32) -> Bytes {
    altered(batch, RECORDS_COUNT_OFFSET, &count.to_be_bytes())
}

/// Castagnoli's checksum, a bit at a time: slow and independent of what is tested.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}
