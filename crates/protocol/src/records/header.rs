//! The fixed 61 bytes in front of a batch's records.

use crate::compression::{Compression, UnknownCodec};

use super::validate::BatchError;

/// The batch format that this crate reads and writes; 0 and 1 are the message sets of old.
pub const MAGIC: i8 = 2;
/// Bytes in front of the records.
pub const HEADER_LEN: usize = 61;
/// Bytes that `batch_length` does not count: base offset and itself.
pub const LENGTH_PREFIX_LEN: usize = 12;
/// `batch_length` of a batch without records.
pub const BATCH_LENGTH_MIN: i32 = 49;

/// Position of `base_offset`.
pub const BASE_OFFSET_OFFSET: usize = 0;
/// Position of `batch_length`.
pub const BATCH_LENGTH_OFFSET: usize = 8;
/// Position of `partition_leader_epoch`.
pub const PARTITION_LEADER_EPOCH_OFFSET: usize = 12;
/// Position of `magic`.
pub const MAGIC_OFFSET: usize = 16;
/// Position of `crc`.
pub const CRC_OFFSET: usize = 17;
/// Position of `attributes`, where the CRC's range begins.
pub const ATTRIBUTES_OFFSET: usize = 21;
/// Position of `last_offset_delta`.
pub const LAST_OFFSET_DELTA_OFFSET: usize = 23;
/// Position of `base_timestamp`.
pub const BASE_TIMESTAMP_OFFSET: usize = 27;
/// Position of `max_timestamp`.
pub const MAX_TIMESTAMP_OFFSET: usize = 35;
/// Position of `producer_id`.
pub const PRODUCER_ID_OFFSET: usize = 43;
/// Position of `producer_epoch`.
pub const PRODUCER_EPOCH_OFFSET: usize = 51;
/// Position of `base_sequence`.
pub const BASE_SEQUENCE_OFFSET: usize = 53;
/// Position of `records_count`.
pub const RECORDS_COUNT_OFFSET: usize = 57;

/// `producer_id` of a producer without idempotence.
pub const NO_PRODUCER_ID: i64 = -1;
/// `producer_epoch` of a producer without idempotence.
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// `base_sequence` of a producer without idempotence.
pub const NO_SEQUENCE: i32 = -1;
/// `partition_leader_epoch` before a leader has set it.
pub const NO_PARTITION_LEADER_EPOCH: i32 = -1;
/// A timestamp that is not known.
pub const NO_TIMESTAMP: i64 = -1;

/// What a batch's timestamps mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// Set by the producer, record by record.
    #[default]
    CreateTime,
    /// Set by the broker: `max_timestamp` stands for every record.
    LogAppendTime,
}

/// The flags of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Attributes(
    /// As on the wire.
    pub i16,
);

impl Attributes {
    const CODEC_MASK: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    /// How the records are compressed.
    pub const fn compression(self) -> Result<Compression, UnknownCodec> {
        Compression::from_id((self.0 & Self::CODEC_MASK) as u8)
    }

    /// What the timestamps mean.
    pub const fn timestamp_type(self) -> TimestampType {
        if self.has(Self::LOG_APPEND_TIME) {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    /// Part of a transaction.
    pub const fn is_transactional(self) -> bool {
        self.has(Self::TRANSACTIONAL)
    }

    /// Written by a broker or coordinator, not for applications.
    pub const fn is_control(self) -> bool {
        self.has(Self::CONTROL)
    }

    /// `base_timestamp` is the time after which tombstones and markers may go.
    pub const fn has_delete_horizon(self) -> bool {
        self.has(Self::DELETE_HORIZON)
    }

    /// The same with another codec.
    #[must_use]
    pub const fn with_compression(self, codec: Compression) -> Self {
        Self((self.0 & !Self::CODEC_MASK) | codec.id() as i16)
    }

    /// The same with another timestamp type.
    #[must_use]
    pub const fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        self.with(Self::LOG_APPEND_TIME, matches!(timestamp_type, TimestampType::LogAppendTime))
    }

    /// The same with the transactional flag set or not.
    #[must_use]
    pub const fn with_transactional(self, on: bool) -> Self {
        self.with(Self::TRANSACTIONAL, on)
    }

    /// The same with the control flag set or not.
    #[must_use]
    pub const fn with_control(self, on: bool) -> Self {
        self.with(Self::CONTROL, on)
    }

    /// The same with the delete-horizon flag set or not.
    #[must_use]
    pub const fn with_delete_horizon(self, on: bool) -> Self {
        self.with(Self::DELETE_HORIZON, on)
    }

    const fn has(self, flag: i16) -> bool {
        self.0 & flag != 0
    }

    const fn with(self, flag: i16, on: bool) -> Self {
        Self(if on { self.0 | flag } else { self.0 & !flag })
    }
}

/// The header's fields, read out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; assigned by the leader.
    pub base_offset: i64,
    /// Bytes after this field; never below [`BATCH_LENGTH_MIN`].
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch.
    pub partition_leader_epoch: i32,
    /// Always [`MAGIC`].
    pub magic: i8,
    /// CRC-32C of everything from the attributes on, as stored.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// Last offset of the batch, less the base offset; stays when compaction takes records out.
    pub last_offset_delta: i32,
    /// What the records' timestamps are relative to, or the delete horizon.
    pub base_timestamp: i64,
    /// Greatest timestamp of the batch, as the producer says, or the time of the append.
    pub max_timestamp: i64,
    /// Who produced the batch, or [`NO_PRODUCER_ID`].
    pub producer_id: i64,
    /// Epoch of the producer, or [`NO_PRODUCER_EPOCH`].
    pub producer_epoch: i16,
    /// Sequence of the first record, or [`NO_SEQUENCE`].
    pub base_sequence: i32,
    /// Number of records in the batch.
    pub records_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes` and checks what is needed to find the batch's
    /// end: the magic and the length. The records need not be there.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(BatchError::HeaderTruncated { bytes: bytes.len() });
        };
        let parsed = Self::read(header);
        match parsed.magic {
            MAGIC => {}
            magic @ (0 | 1) => return Err(BatchError::OldMagic { magic }),
            magic => return Err(BatchError::UnknownMagic { magic }),
        }
        if parsed.batch_length < BATCH_LENGTH_MIN {
            return Err(BatchError::LengthTooSmall { batch_length: parsed.batch_length });
        }
        Ok(parsed)
    }

    fn read(header: &[u8; HEADER_LEN]) -> Self {
        Self {
            base_offset: i64::from_be_bytes(field(header, BASE_OFFSET_OFFSET)),
            batch_length: i32::from_be_bytes(field(header, BATCH_LENGTH_OFFSET)),
            partition_leader_epoch: i32::from_be_bytes(field(
                header,
                PARTITION_LEADER_EPOCH_OFFSET,
            )),
            magic: i8::from_be_bytes(field(header, MAGIC_OFFSET)),
            crc: u32::from_be_bytes(field(header, CRC_OFFSET)),
            attributes: Attributes(i16::from_be_bytes(field(header, ATTRIBUTES_OFFSET))),
            last_offset_delta: i32::from_be_bytes(field(header, LAST_OFFSET_DELTA_OFFSET)),
            base_timestamp: i64::from_be_bytes(field(header, BASE_TIMESTAMP_OFFSET)),
            max_timestamp: i64::from_be_bytes(field(header, MAX_TIMESTAMP_OFFSET)),
            producer_id: i64::from_be_bytes(field(header, PRODUCER_ID_OFFSET)),
            producer_epoch: i16::from_be_bytes(field(header, PRODUCER_EPOCH_OFFSET)),
            base_sequence: i32::from_be_bytes(field(header, BASE_SEQUENCE_OFFSET)),
            records_count: i32::from_be_bytes(field(header, RECORDS_COUNT_OFFSET)),
        }
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(BASE_OFFSET_OFFSET, &self.base_offset.to_be_bytes());
        put(BATCH_LENGTH_OFFSET, &self.batch_length.to_be_bytes());
        put(PARTITION_LEADER_EPOCH_OFFSET, &self.partition_leader_epoch.to_be_bytes());
        put(MAGIC_OFFSET, &self.magic.to_be_bytes());
        put(CRC_OFFSET, &self.crc.to_be_bytes());
        put(ATTRIBUTES_OFFSET, &self.attributes.0.to_be_bytes());
        put(LAST_OFFSET_DELTA_OFFSET, &self.last_offset_delta.to_be_bytes());
        put(BASE_TIMESTAMP_OFFSET, &self.base_timestamp.to_be_bytes());
        put(MAX_TIMESTAMP_OFFSET, &self.max_timestamp.to_be_bytes());
        put(PRODUCER_ID_OFFSET, &self.producer_id.to_be_bytes());
        put(PRODUCER_EPOCH_OFFSET, &self.producer_epoch.to_be_bytes());
        put(BASE_SEQUENCE_OFFSET, &self.base_sequence.to_be_bytes());
        put(RECORDS_COUNT_OFFSET, &self.records_count.to_be_bytes());
        header
    }

    /// Bytes of the whole batch, header included.
    pub fn size(&self) -> usize {
        let length = usize::try_from(self.batch_length).expect("parse refuses negative lengths");
        LENGTH_PREFIX_LEN + length
    }

    /// Offset of the last record, or of the last that was here before compaction. Saturates where
    /// a header claims more than an offset can hold.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset after the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Sequence of the last record; sequences wrap to 0 after `i32::MAX`.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence == NO_SEQUENCE {
            return NO_SEQUENCE;
        }
        sequence_after(self.base_sequence, self.last_offset_delta)
    }

    /// How the records are compressed.
    pub fn compression(&self) -> Result<Compression, UnknownCodec> {
        self.attributes.compression()
    }

    /// What the timestamps mean.
    pub fn timestamp_type(&self) -> TimestampType {
        self.attributes.timestamp_type()
    }

    /// Part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes.is_transactional()
    }

    /// Written by a broker or coordinator, not for applications.
    pub fn is_control(&self) -> bool {
        self.attributes.is_control()
    }

    /// Carries a producer id.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// The time after which tombstones and markers in here may go, once the cleaner has set it.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        self.attributes.has_delete_horizon().then_some(self.base_timestamp)
    }
}

/// The sequence `delta` records on, wrapping to 0 after `i32::MAX`.
fn sequence_after(sequence: i32, delta: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(delta);
    let wrapped = sum.rem_euclid(1 << 31);
    i32::try_from(wrapped).expect("a remainder by 2^31 fits")
}

fn field<const N: usize>(header: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    header[at..].first_chunk().copied().expect("every field lies within the header")
}
