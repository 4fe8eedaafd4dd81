//! What is checked of a batch without looking at its records.

use crate::compression::UnknownCodec;

use super::header::{
    ATTRIBUTES_OFFSET, BATCH_LENGTH_MIN, BatchHeader, HEADER_LEN, MAGIC, NO_SEQUENCE,
};

/// What is wrong with a batch, with the values that say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Not even a header.
    #[error("{bytes} bytes are too few for a batch header of {HEADER_LEN}")]
    HeaderTruncated {
        /// The bytes there are.
        bytes: usize,
    },
    /// The length does not cover the header.
    #[error("batch length {batch_length} is below the minimum of {BATCH_LENGTH_MIN}")]
    LengthTooSmall {
        /// As stored.
        batch_length: i32,
    },
    /// The batch goes on after the bytes end.
    #[error("a batch of {size} bytes is cut off after {bytes}")]
    Truncated {
        /// Bytes of the batch by its header.
        size: usize,
        /// The bytes there are.
        bytes: usize,
    },
    /// A message set of before Kafka 0.11, which nobody writes any more.
    #[error("message format {magic} is no longer supported, {MAGIC} is")]
    OldMagic {
        /// 0 or 1.
        magic: i8,
    },
    /// A format that does not exist.
    #[error("unknown message format {magic}")]
    UnknownMagic {
        /// As stored.
        magic: i8,
    },
    /// The content is not what was written.
    #[error("CRC {computed:#010x} is not the stored {stored:#010x}")]
    CrcMismatch {
        /// As stored.
        stored: u32,
        /// Of the content.
        computed: u32,
    },
    /// The attributes name no codec.
    #[error(transparent)]
    UnknownCodec(#[from] UnknownCodec),
    /// Fewer than no records.
    #[error("records count {records_count} is negative")]
    NegativeCount {
        /// As stored.
        records_count: i32,
    },
    /// The last offset lies before the first.
    #[error("last offset delta {last_offset_delta} is negative")]
    NegativeOffsetDelta {
        /// As stored.
        last_offset_delta: i32,
    },
    /// More records than offsets.
    #[error("{records_count} records do not fit into the offset delta {last_offset_delta}")]
    CountAboveOffsets {
        /// As stored.
        records_count: i32,
        /// As stored.
        last_offset_delta: i32,
    },
    /// The last offset would pass the greatest there is.
    #[error("offset {base_offset} plus {last_offset_delta} is no offset")]
    OffsetOverflow {
        /// As stored.
        base_offset: i64,
        /// As stored.
        last_offset_delta: i32,
    },
    /// A producer sent a batch without records.
    #[error("a produced batch has no records")]
    Empty,
    /// A producer's batch must have one record for each offset.
    #[error(
        "{records_count} records with last offset delta {last_offset_delta}: not one per offset"
    )]
    OffsetsNotDense {
        /// As stored.
        records_count: i32,
        /// As stored.
        last_offset_delta: i32,
    },
    /// Producers leave the base offset to the broker.
    #[error("a produced batch has base offset {base_offset}, not 0")]
    BaseOffsetNotZero {
        /// As stored.
        base_offset: i64,
    },
    /// Control batches come from coordinators only.
    #[error("a producer sent a control batch")]
    Control,
    /// A producer id without a sequence.
    #[error("producer {producer_id} epoch {producer_epoch} sent base sequence {base_sequence}")]
    SequenceMissing {
        /// As stored.
        producer_id: i64,
        /// As stored.
        producer_epoch: i16,
        /// As stored.
        base_sequence: i32,
    },
}

/// Checks the batch at the start of `bytes` as a broker does for producers: everything that
/// [`validate_stored`] checks, and that it has records, one for each offset from 0 on, is no
/// control batch, and has a sequence if it has a producer.
pub fn validate_header(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = validate_stored(bytes)?;
    let BatchHeader { base_offset, records_count, last_offset_delta, .. } = header;
    if records_count == 0 {
        return Err(BatchError::Empty);
    }
    if i64::from(last_offset_delta) != i64::from(records_count) - 1 {
        return Err(BatchError::OffsetsNotDense { records_count, last_offset_delta });
    }
    if base_offset != 0 {
        return Err(BatchError::BaseOffsetNotZero { base_offset });
    }
    if header.is_control() {
        return Err(BatchError::Control);
    }
    if header.has_producer_id()
        && (header.base_sequence <= NO_SEQUENCE || header.producer_epoch < 0)
    {
        return Err(BatchError::SequenceMissing {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
        });
    }
    Ok(header)
}

/// Checks the batch at the start of `bytes` as any batch of a log must be, compacted ones and
/// those of coordinators included: whole, CRC, codec, count and offsets in order.
pub fn validate_stored(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(bytes)?;
    verify_crc(&header, bytes)?;
    header.attributes.compression()?;
    let BatchHeader { base_offset, records_count, last_offset_delta, .. } = header;
    if records_count < 0 {
        return Err(BatchError::NegativeCount { records_count });
    }
    if last_offset_delta < 0 {
        return Err(BatchError::NegativeOffsetDelta { last_offset_delta });
    }
    if i64::from(records_count) > i64::from(last_offset_delta) + 1 {
        return Err(BatchError::CountAboveOffsets { records_count, last_offset_delta });
    }
    // Equal to i64::MAX is too much as well: the log's end is one more.
    if base_offset.checked_add(i64::from(last_offset_delta)).is_none_or(|last| last == i64::MAX) {
        return Err(BatchError::OffsetOverflow { base_offset, last_offset_delta });
    }
    Ok(header)
}

/// Compares the stored CRC with that of the batch at the start of `bytes`, whose header was
/// parsed before.
pub fn verify_crc(header: &BatchHeader, bytes: &[u8]) -> Result<(), BatchError> {
    let size = header.size();
    let Some(covered) = bytes.get(ATTRIBUTES_OFFSET..size) else {
        return Err(BatchError::Truncated { size, bytes: bytes.len() });
    };
    let computed = crc32c::crc32c(covered);
    if computed != header.crc {
        return Err(BatchError::CrcMismatch { stored: header.crc, computed });
    }
    Ok(())
}
