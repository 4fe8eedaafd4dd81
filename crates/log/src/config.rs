//! What a topic's settings say about its logs.

use std::time::Duration;

/// How far a leader looks into what producers send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RecordValidation {
    /// Header, lengths and CRC.
    #[default]
    Header,
    /// Every record, as Apache Kafka does.
    Full,
}

/// The settings of one log; the broker makes them from the topic's and its own.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes`
    pub segment_bytes: u32,
    /// `segment.ms`
    pub segment_ms: i64,
    /// `segment.jitter.ms`, already drawn: taken off [`LogConfig::segment_ms`].
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`
    pub index_interval_bytes: u32,
    /// `max.message.bytes`
    pub max_message_bytes: u32,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`
    pub timestamp_after_max_ms: i64,
    /// `cleanup.policy` names `compact`: records need keys.
    pub compact: bool,
    /// `cleanup.policy` names `delete`: retention applies.
    pub delete: bool,
    /// `retention.ms`; negative keeps for ever.
    pub retention_ms: i64,
    /// `retention.bytes`; negative keeps all.
    pub retention_bytes: i64,
    /// `min.cleanable.dirty.ratio`
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`
    pub max_compaction_lag_ms: i64,
    /// `delete.retention.ms`
    pub delete_retention_ms: i64,
    /// `preallocate`
    pub preallocate: bool,
    /// `record.validation`
    pub validation: RecordValidation,
    /// `producer.id.expiration.ms`
    pub producer_id_expiration: Duration,
}

impl LogConfig {
    /// How old a segment's first record may get before the next one is begun. A compacted topic's
    /// must be complete in time to be compacted (KIP-354).
    pub(crate) fn roll_ms(&self) -> i64 {
        let roll_ms = match self.compact {
            true => self.segment_ms.min(self.max_compaction_lag_ms),
            false => self.segment_ms,
        };
        roll_ms.saturating_sub(self.segment_jitter_ms).max(0)
    }
}

impl Default for LogConfig {
    /// The defaults of Apache Kafka.
    fn default() -> LogConfig {
        const HOUR_MS: i64 = 3_600_000;
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * HOUR_MS,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            max_message_bytes: 1_048_588,
            log_append_time: false,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: HOUR_MS,
            compact: false,
            delete: true,
            retention_ms: 7 * 24 * HOUR_MS,
            retention_bytes: -1,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            delete_retention_ms: 24 * HOUR_MS,
            preallocate: false,
            validation: RecordValidation::Header,
            producer_id_expiration: Duration::from_secs(24 * 3600),
        }
    }
}
