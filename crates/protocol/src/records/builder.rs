//! Writing batches: for the client, for coordinators' records, for the cleaner and for tests.

use bytes::Bytes;

use crate::compression::{CompressError, Compression, compress};

use super::control::EndTxnMarker;
use super::header::{
    ATTRIBUTES_OFFSET, Attributes, BatchHeader, CRC_OFFSET, HEADER_LEN, LENGTH_PREFIX_LEN, MAGIC,
    NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP,
    TimestampType,
};
use super::reader::Header;
use super::varint;

/// A record that does not fit any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of {record_bytes} bytes does not fit: {batch_bytes} of {batch_bytes_max} taken")]
pub struct BatchFull {
    /// What the record would take.
    pub record_bytes: usize,
    /// What the batch has, before compression.
    pub batch_bytes: usize,
    /// The builder's limit.
    pub batch_bytes_max: usize,
}

/// A record to be written.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// What the record is filed under.
    pub key: Option<&'a [u8]>,
    /// What the record says.
    pub value: Option<&'a [u8]>,
    /// In this order.
    pub headers: &'a [Header],
}

/// Who produces a batch, for duplicates to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerFields {
    /// Given out by the broker.
    pub producer_id: i64,
    /// Given out by the broker.
    pub producer_epoch: i16,
    /// Of the batch's first record.
    pub base_sequence: i32,
}

impl ProducerFields {
    /// A producer without idempotence.
    pub const NONE: Self = Self {
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        base_sequence: NO_SEQUENCE,
    };
}

/// Gathers records into one batch of bounded size.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    records: Vec<u8>,
    records_count: i32,
    batch_bytes_max: usize,
    next_offset_delta: i32,
    last_offset_delta: Option<i32>,
    base_timestamp: i64,
    max_timestamp: i64,
    base_offset: i64,
    leader_epoch: i32,
    producer: ProducerFields,
    attributes: Attributes,
    compression: Compression,
    compression_level: Option<i32>,
}

impl BatchBuilder {
    /// A builder for one batch of at most `batch_bytes_max` bytes before compression; the first
    /// record is taken whatever its size.
    pub fn new(compression: Compression, batch_bytes_max: usize) -> Self {
        Self {
            records: Vec::new(),
            records_count: 0,
            batch_bytes_max,
            next_offset_delta: 0,
            last_offset_delta: None,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            base_offset: 0,
            leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer: ProducerFields::NONE,
            attributes: Attributes::default(),
            compression,
            compression_level: None,
        }
    }

    /// A level other than the codec's usual one.
    pub fn set_compression_level(&mut self, level: Option<i32>) {
        self.compression_level = level;
    }

    /// Offset of the first record; 0 unless set.
    pub fn set_base_offset(&mut self, base_offset: i64) {
        self.base_offset = base_offset;
    }

    /// Epoch of the leader; -1 unless set.
    pub fn set_leader_epoch(&mut self, leader_epoch: i32) {
        self.leader_epoch = leader_epoch;
    }

    /// Who produces the batch; nobody unless set.
    pub fn set_producer(&mut self, producer: ProducerFields) {
        self.producer = producer;
    }

    /// Part of a transaction.
    pub fn set_transactional(&mut self, on: bool) {
        self.attributes = self.attributes.with_transactional(on);
    }

    /// Not for applications.
    pub fn set_control(&mut self, on: bool) {
        self.attributes = self.attributes.with_control(on);
    }

    /// Stamps the whole batch with the time of the append.
    pub fn set_log_append_time(&mut self, now_ms: i64) {
        self.attributes = self.attributes.with_timestamp_type(TimestampType::LogAppendTime);
        self.max_timestamp = now_ms;
    }

    /// Notes the time after which the cleaner may drop the batch's tombstones or marker (KIP-534).
    /// It takes the place of the base timestamp; before any record is added.
    pub fn set_delete_horizon(&mut self, horizon_ms: i64) {
        self.attributes = self.attributes.with_delete_horizon(true);
        self.base_timestamp = horizon_ms;
    }

    /// The least that the batch gives as its greatest timestamp; what an empty batch keeps.
    pub fn set_max_timestamp(&mut self, max_timestamp: i64) {
        self.max_timestamp = max_timestamp;
    }

    /// Lets the batch span offsets up to here, whether or not records have them all: what
    /// compaction leaves behind.
    pub fn set_last_offset_delta(&mut self, last_offset_delta: i32) {
        self.last_offset_delta = Some(last_offset_delta);
    }

    /// Records so far.
    pub fn records_count(&self) -> i32 {
        self.records_count
    }

    /// Whether there are no records yet.
    pub fn is_empty(&self) -> bool {
        self.records_count == 0
    }

    /// Bytes so far, before compression, header included.
    pub fn size(&self) -> usize {
        HEADER_LEN + self.records.len()
    }

    /// Adds a record at the next offset.
    pub fn append(&mut self, record: &NewRecord<'_>) -> Result<(), BatchFull> {
        self.append_at(self.next_offset_delta, record)
    }

    /// Adds a record at an offset of its own, which must lie after the last one's.
    pub fn append_at(
        &mut self,
        offset_delta: i32,
        record: &NewRecord<'_>,
    ) -> Result<(), BatchFull> {
        assert!(
            offset_delta >= self.next_offset_delta,
            "offset delta {offset_delta} is not after {}",
            self.next_offset_delta - 1
        );
        let is_given = !self.is_empty() || self.attributes.has_delete_horizon();
        let base_timestamp = if is_given { self.base_timestamp } else { record.timestamp };
        let timestamp_delta = record.timestamp.wrapping_sub(base_timestamp);
        let body_len = body_len(timestamp_delta, offset_delta, record);
        let record_bytes = varint::len_i32(body_len.try_into().unwrap_or(i32::MAX)) + body_len;
        if !self.fits(record_bytes) || offset_delta == i32::MAX {
            return Err(BatchFull {
                record_bytes,
                batch_bytes: self.size(),
                batch_bytes_max: self.batch_bytes_max,
            });
        }
        self.write(body_len, timestamp_delta, offset_delta, record);
        self.base_timestamp = base_timestamp;
        if self.attributes.timestamp_type() == TimestampType::CreateTime {
            self.max_timestamp = self.max_timestamp.max(record.timestamp);
        }
        self.next_offset_delta = offset_delta + 1;
        self.records_count += 1;
        Ok(())
    }

    fn fits(&self, record_bytes: usize) -> bool {
        let size = self.size() + record_bytes;
        let addressable = size <= i32::MAX as usize;
        addressable && (self.is_empty() || size <= self.batch_bytes_max)
    }

    fn write(
        &mut self,
        body_len: usize,
        timestamp_delta: i64,
        offset_delta: i32,
        record: &NewRecord<'_>,
    ) {
        let output = &mut self.records;
        output.reserve(body_len + 5);
        put_len(output, body_len);
        let start = output.len();
        output.push(0);
        varint::put_i64(output, timestamp_delta);
        varint::put_i32(output, offset_delta);
        put_nullable(output, record.key);
        put_nullable(output, record.value);
        put_len(output, record.headers.len());
        for header in record.headers {
            put_nullable(output, Some(&header.key));
            put_nullable(output, header.value.as_deref());
        }
        debug_assert_eq!(output.len() - start, body_len);
    }

    /// The finished batch. Without records it is the empty batch that compaction may leave.
    pub fn build(&self) -> Result<Bytes, CompressError> {
        let compressed;
        let codec = if self.is_empty() { Compression::None } else { self.compression };
        let payload = if codec == Compression::None {
            &self.records[..]
        } else {
            compressed = compress(codec, self.compression_level, &self.records)?;
            &compressed[..]
        };
        let batch_length = HEADER_LEN - LENGTH_PREFIX_LEN + payload.len();
        let batch_length = i32::try_from(batch_length).map_err(|_| CompressError {
            codec,
            reason: format!("{} bytes are too many for a batch", payload.len()),
        })?;
        let header = self.header(batch_length, self.attributes.with_compression(codec));
        let mut batch = Vec::with_capacity(HEADER_LEN + payload.len());
        batch.extend_from_slice(&header.encode());
        batch.extend_from_slice(payload);
        let crc = crc32c::crc32c(&batch[ATTRIBUTES_OFFSET..]);
        batch[CRC_OFFSET..ATTRIBUTES_OFFSET].copy_from_slice(&crc.to_be_bytes());
        Ok(batch.into())
    }

    /// A control batch that ends a transaction, as a coordinator has its partitions' leaders
    /// write it.
    pub fn end_txn(
        producer_id: i64,
        producer_epoch: i16,
        now_ms: i64,
        marker: EndTxnMarker,
    ) -> Bytes {
        let mut builder = Self::new(Compression::None, usize::MAX);
        builder.set_producer(ProducerFields {
            producer_id,
            producer_epoch,
            base_sequence: NO_SEQUENCE,
        });
        builder.set_transactional(true);
        builder.set_control(true);
        let (key, value) = (marker.control_type.key().encode(), marker.encode());
        let record =
            NewRecord { timestamp: now_ms, key: Some(&key), value: Some(&value), headers: &[] };
        builder.append(&record).expect("a first record always fits");
        builder.build().expect("nothing is compressed")
    }

    fn header(&self, batch_length: i32, attributes: Attributes) -> BatchHeader {
        BatchHeader {
            base_offset: self.base_offset,
            batch_length,
            partition_leader_epoch: self.leader_epoch,
            magic: MAGIC,
            crc: 0,
            attributes,
            last_offset_delta: self
                .last_offset_delta
                .unwrap_or((self.next_offset_delta - 1).max(0)),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer.producer_id,
            producer_epoch: self.producer.producer_epoch,
            base_sequence: self.producer.base_sequence,
            records_count: self.records_count,
        }
    }
}

fn body_len(timestamp_delta: i64, offset_delta: i32, record: &NewRecord<'_>) -> usize {
    let headers = record
        .headers
        .iter()
        .map(|header| nullable_len(Some(&header.key)) + nullable_len(header.value.as_deref()))
        .fold(len_len(record.headers.len()), usize::saturating_add);
    [nullable_len(record.key), nullable_len(record.value), headers].into_iter().fold(
        1 + varint::len_i64(timestamp_delta) + varint::len_i32(offset_delta),
        usize::saturating_add,
    )
}

fn nullable_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| len_len(bytes.len()).saturating_add(bytes.len()))
}

fn len_len(len: usize) -> usize {
    varint::len_i32(i32::try_from(len).unwrap_or(i32::MAX))
}

fn put_len(output: &mut Vec<u8>, len: usize) {
    let len = i32::try_from(len).expect("a batch that fits holds no longer part");
    varint::put_i32(output, len);
}

fn put_nullable(output: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::put_i32(output, -1),
        Some(bytes) => {
            put_len(output, bytes.len());
            output.extend_from_slice(bytes);
        }
    }
}
