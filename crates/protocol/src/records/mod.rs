//! Record batches, the unit that producers send, logs store and consumers fetch (magic 2).
//!
//! ```text
//!  0 base_offset i64            21 attributes i16        43 producer_id i64
//!  8 batch_length i32           23 last_offset_delta i32 51 producer_epoch i16
//! 12 partition_leader_epoch i32 27 base_timestamp i64    53 base_sequence i32
//! 16 magic i8 = 2               35 max_timestamp i64     57 records_count i32
//! 17 crc u32                                             61 records, perhaps compressed
//! ```
//!
//! `batch_length` counts from byte 12. The CRC covers byte 21 to the end, so that a broker can
//! set base offset and leader epoch in place without touching it. Whoever passes batches on reads
//! the header alone; [`Batch::records`] is for those who must look inside.

mod batch;
mod builder;
mod control;
mod header;
mod patch;
mod reader;
mod split;
#[cfg(test)]
mod tests;
mod times;
mod validate;
mod varint;

pub use batch::Batch;
pub use builder::{BatchBuilder, BatchFull, NewRecord, ProducerFields};
pub use control::{ControlError, ControlKey, ControlType, EndTxnMarker};
pub use header::{
    ATTRIBUTES_OFFSET, Attributes, BASE_OFFSET_OFFSET, BASE_SEQUENCE_OFFSET, BASE_TIMESTAMP_OFFSET,
    BATCH_LENGTH_MIN, BATCH_LENGTH_OFFSET, BatchHeader, CRC_OFFSET, HEADER_LEN,
    LAST_OFFSET_DELTA_OFFSET, LENGTH_PREFIX_LEN, MAGIC, MAGIC_OFFSET, MAX_TIMESTAMP_OFFSET,
    NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP,
    PARTITION_LEADER_EPOCH_OFFSET, PRODUCER_EPOCH_OFFSET, PRODUCER_ID_OFFSET, RECORDS_COUNT_OFFSET,
    TimestampType,
};
pub use patch::{
    set_base_offset, set_delete_horizon, set_leader_epoch, set_log_append_time, set_producer,
};
pub use reader::{Header, Record, RecordError, Records};
pub use split::{Batches, split, split_strict};
pub use times::{RecordTime, RecordTimes};
pub use validate::{BatchError, validate_header, validate_stored, verify_crc};
