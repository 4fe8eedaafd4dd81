//! What a topic's settings mean to its logs.

use std::time::Duration;

use klamm_env::Random;
use klamm_log::{LogConfig, RecordValidation};

use crate::config::{self, BrokerConfig, TimestampType, TopicConfig};
use crate::partition::FlushPolicy;

/// The settings of one log; draws its share of `segment.jitter.ms`.
pub(crate) fn log_config(
    topic: &TopicConfig,
    broker: &BrokerConfig,
    random: &dyn Random,
) -> LogConfig {
    LogConfig {
        segment_bytes: unsigned(topic.segment_bytes),
        segment_ms: topic.segment_ms,
        segment_jitter_ms: jitter(topic.segment_jitter_ms.min(topic.segment_ms), random),
        segment_index_bytes: unsigned(topic.segment_index_bytes),
        index_interval_bytes: unsigned(topic.index_interval_bytes),
        max_message_bytes: unsigned(topic.max_message_bytes),
        log_append_time: topic.message_timestamp_type == TimestampType::LogAppendTime,
        timestamp_before_max_ms: topic.message_timestamp_before_max_ms,
        timestamp_after_max_ms: topic.message_timestamp_after_max_ms,
        compact: topic.cleanup_policy.compact,
        delete: topic.cleanup_policy.delete,
        retention_ms: topic.retention_ms,
        retention_bytes: topic.retention_bytes,
        min_cleanable_dirty_ratio: topic.min_cleanable_dirty_ratio,
        min_compaction_lag_ms: topic.min_compaction_lag_ms,
        max_compaction_lag_ms: topic.max_compaction_lag_ms,
        delete_retention_ms: topic.delete_retention_ms,
        preallocate: topic.preallocate,
        validation: match topic.record_validation {
            config::RecordValidation::Header => RecordValidation::Header,
            config::RecordValidation::Full => RecordValidation::Full,
        },
        producer_id_expiration: Duration::from_millis(u64::from(unsigned(
            broker.producer_id_expiration_ms,
        ))),
    }
}

/// When a log of class os is synced for its own sake.
pub(crate) fn flush_policy(topic: &TopicConfig) -> FlushPolicy {
    let after_ms = u64::try_from(topic.flush_ms).ok().filter(|_| topic.flush_ms < i64::MAX);
    FlushPolicy { messages: topic.flush_messages, after: after_ms.map(Duration::from_millis) }
}

/// A number that the table keeps at or above zero.
fn unsigned(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

fn jitter(jitter_ms: i64, random: &dyn Random) -> i64 {
    match u64::try_from(jitter_ms) {
        Ok(jitter_ms) if jitter_ms > 0 => (random.u64() % jitter_ms) as i64,
        _ => 0,
    }
}
