//! What a leader checks of a batch before it gives it offsets.

use bytes::Bytes;
use klamm_protocol::compression::BATCH_DECOMPRESSED_BYTES_MAX;
use klamm_protocol::records::{
    ATTRIBUTES_OFFSET, BatchError, BatchHeader, CRC_OFFSET, HEADER_LEN, MAX_TIMESTAMP_OFFSET,
    NO_TIMESTAMP, Record, Records, TimestampType, validate_header, validate_stored,
};

use crate::config::{LogConfig, RecordValidation};
use crate::error::{AppendError, RejectedRecord};
use crate::log::Origin;

/// Records at fault that an error names; the rest only count.
const REJECTED_RECORDS_MAX: usize = 100;

/// What a batch is held against.
pub(crate) struct Rules<'a> {
    pub(crate) config: &'a LogConfig,
    pub(crate) origin: Origin,
    pub(crate) now_ms: i64,
}

/// Checks the one batch in `records`. The header that it answers may have another greatest timestamp
/// than the bytes, which is then the true one.
pub(crate) fn validate_produced(
    records: &[u8],
    rules: &Rules<'_>,
) -> Result<BatchHeader, AppendError> {
    // Sizes come first: a CRC over what is refused anyway is wasted.
    let header = BatchHeader::parse(records)?;
    let (size, max) = (header.size(), rules.config.max_message_bytes);
    if records.len() < size {
        return Err(BatchError::Truncated { size, bytes: records.len() }.into());
    }
    if size as u64 > u64::from(max) {
        return Err(AppendError::TooLarge { size, max });
    }
    let mut header = match rules.origin {
        Origin::Client => validate_header(records)?,
        Origin::Coordinator => validate_stored(records)?,
    };
    if records.len() > size {
        return Err(AppendError::MoreThanOneBatch { bytes: records.len() - size });
    }
    if rules.origin == Origin::Client {
        if header.is_transactional() {
            return Err(AppendError::Transactional);
        }
        rules.check_timestamps(&header, records)?;
        if rules.config.compact || rules.config.validation == RecordValidation::Full {
            rules.check_records(&mut header, records)?;
        }
    }
    Ok(header)
}

impl Rules<'_> {
    /// Checks what the header says about time.
    fn check_timestamps(&self, header: &BatchHeader, records: &[u8]) -> Result<(), AppendError> {
        if self.config.log_append_time {
            return Ok(());
        }
        if header.timestamp_type() == TimestampType::LogAppendTime {
            let message = "producers must not set the timestamp type LogAppendTime".to_owned();
            return Err(AppendError::InvalidTimestamp { message, records: Vec::new() });
        }
        if self.in_bounds(header.max_timestamp) && self.in_bounds(header.base_timestamp) {
            return Ok(());
        }
        let mut rejected = Vec::new();
        if let Ok(all) = decode(header, records) {
            let found = all.map_while(Result::ok).zip(0..);
            rejected = found.filter_map(|(record, at)| self.timestamp_fault(&record, at)).collect();
            rejected.truncate(REJECTED_RECORDS_MAX);
        }
        Err(self.invalid_timestamp(rejected))
    }

    fn invalid_timestamp(&self, records: Vec<RejectedRecord>) -> AppendError {
        let message = "One or more records have been rejected due to invalid timestamp".to_owned();
        AppendError::InvalidTimestamp { message, records }
    }

    fn in_bounds(&self, timestamp: i64) -> bool {
        let LogConfig { timestamp_before_max_ms, timestamp_after_max_ms, .. } = *self.config;
        timestamp == NO_TIMESTAMP
            || (self.now_ms.saturating_sub(timestamp) <= timestamp_before_max_ms
                && timestamp.saturating_sub(self.now_ms) <= timestamp_after_max_ms)
    }

    fn timestamp_fault(&self, record: &Record, batch_index: i32) -> Option<RejectedRecord> {
        if self.config.log_append_time || self.in_bounds(record.timestamp) {
            return None;
        }
        let message = format!(
            "timestamp {} is not within [{}, {}]",
            record.timestamp,
            self.now_ms.saturating_sub(self.config.timestamp_before_max_ms),
            self.now_ms.saturating_add(self.config.timestamp_after_max_ms),
        );
        Some(RejectedRecord { batch_index, message })
    }

    /// Checks every record, and sets the greatest timestamp to what it is.
    fn check_records(&self, header: &mut BatchHeader, records: &[u8]) -> Result<(), AppendError> {
        let mut keyless = Vec::new();
        let mut untimely = Vec::new();
        let mut max_timestamp = NO_TIMESTAMP;
        for (record, at) in decode(header, records)?.zip(0..) {
            let record = record?;
            if record.offset != header.base_offset + i64::from(at) {
                let message =
                    format!("record {at} has offset delta {}", record.offset - header.base_offset);
                return Err(AppendError::InvalidRecord { message, records: Vec::new() });
            }
            if self.config.compact && record.key.is_none() && keyless.len() < REJECTED_RECORDS_MAX {
                let message = "a compacted topic takes no record without a key".to_owned();
                keyless.push(RejectedRecord { batch_index: at, message });
            }
            if untimely.len() < REJECTED_RECORDS_MAX {
                untimely.extend(self.timestamp_fault(&record, at));
            }
            max_timestamp = max_timestamp.max(record.timestamp);
        }
        if !untimely.is_empty() {
            untimely.extend(keyless);
            untimely.sort_by_key(|rejected| rejected.batch_index);
            return Err(self.invalid_timestamp(untimely));
        }
        if !keyless.is_empty() {
            let count = keyless.len();
            let message =
                format!("One or more records have been rejected due to {count} record errors");
            return Err(AppendError::InvalidRecord { message, records: keyless });
        }
        if !self.config.log_append_time {
            header.max_timestamp = max_timestamp;
        }
        Ok(())
    }
}

fn decode(header: &BatchHeader, records: &[u8]) -> Result<Records, AppendError> {
    let payload = Bytes::copy_from_slice(&records[HEADER_LEN..header.size()]);
    Ok(Records::new(header, &payload, BATCH_DECOMPRESSED_BYTES_MAX)?)
}

pub(crate) fn set_max_timestamp(batch: &mut [u8], timestamp: i64) {
    batch[MAX_TIMESTAMP_OFFSET..][..8].copy_from_slice(&timestamp.to_be_bytes());
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_OFFSET..]);
    batch[CRC_OFFSET..][..4].copy_from_slice(&crc.to_be_bytes());
}
