//! The settings of a topic.

use super::key::{
    Allowed, CleanupPolicy, CompressionType, FlushClass, Key, Kind, Origin, RecordValidation,
    TimestampType, Update,
};

macro_rules! topic_table {
    ($($field:ident: $ty:ty, $name:literal, $kind:ident, $default:literal, $allowed:expr,
       [$($synonym:literal * $factor:literal),*], $origin:expr, $doc:literal;)*) => {
        /// Every topic key, by name.
        pub const TOPIC_KEYS: &[Key] = &[$(
            Key {
                name: $name,
                kind: Kind::$kind,
                default: Some($default),
                allowed: $allowed,
                update: Update::ClusterWide,
                origin: $origin,
                synonyms: &[$(($synonym, $factor)),*],
                doc: $doc,
            },
        )*];

        /// The settings in force for one topic: its own over those of the broker.
        #[derive(Clone, Debug, PartialEq)]
        pub struct TopicConfig {
            $(#[doc = $doc] pub $field: $ty,)*
        }

        impl TopicConfig {
            /// From the canonical text of every key.
            pub(crate) fn from_texts(text: impl Fn(&Key) -> String) -> TopicConfig {
                use super::key::Field;
                let mut rows = TOPIC_KEYS.iter();
                TopicConfig {
                    $($field: <$ty>::from_canonical(Some(&text(
                        rows.next().expect("one field for each row"),
                    ))),)*
                }
            }
        }
    };
}

const CODECS: Allowed = Allowed::OneOf(CompressionType::WORDS);

topic_table! {
    cleanup_policy: CleanupPolicy, "cleanup.policy", List, "delete", Allowed::EachOf(&["compact", "delete"]), ["log.cleanup.policy" * 1], Origin::Kafka,
        "What becomes of old records: delete drops segments by age and size, compact keeps the newest record of each key, both together do both, an empty list keeps everything.";
    compression_gzip_level: i32, "compression.gzip.level", Int, "-1", Allowed::BetweenOr(1, 9, -1), ["compression.gzip.level" * 1], Origin::Kafka,
        "Effort of gzip where compression.type is gzip; -1 is the codec's own default.";
    compression_lz4_level: i32, "compression.lz4.level", Int, "9", Allowed::Between(1, 17), ["compression.lz4.level" * 1], Origin::Kafka,
        "Effort of lz4 where compression.type is lz4.";
    compression_type: CompressionType, "compression.type", String, "producer", CODECS, ["compression.type" * 1], Origin::Kafka,
        "The codec in which batches are stored; producer keeps what the producer chose.";
    compression_zstd_level: i32, "compression.zstd.level", Int, "3", Allowed::Between(-131_072, 22), ["compression.zstd.level" * 1], Origin::Kafka,
        "Effort of zstd where compression.type is zstd.";
    delete_retention_ms: i64, "delete.retention.ms", Long, "86400000", Allowed::AtLeast(0), ["log.cleaner.delete.retention.ms" * 1], Origin::Kafka,
        "Milliseconds for which a compacted topic keeps a tombstone, so that a reader who started at the beginning in time sees the deletion.";
    file_delete_delay_ms: i64, "file.delete.delay.ms", Long, "60000", Allowed::AtLeast(0), ["log.segment.delete.delay.ms" * 1], Origin::Kafka,
        "Milliseconds between taking a segment out of the log and removing its files. Klamm goes by the broker's value for all topics.";
    flush: FlushClass, "flush", String, "acked", Allowed::OneOf(FlushClass::WORDS), ["flush" * 1], Origin::Klamm,
        "When an append with acks=all is acknowledged: acked, when it is on stable storage of every in-sync replica; os, when their operating systems have it, as in Kafka. A topic takes the broker's value when it is created.";
    flush_messages: i64, "flush.messages", Long, "9223372036854775807", Allowed::AtLeast(1), ["log.flush.interval.messages" * 1], Origin::Kafka,
        "Number of records after which a log is synced to disk whatever else is due; with flush=acked every acknowledged record is synced anyway.";
    flush_ms: i64, "flush.ms", Long, "9223372036854775807", Allowed::AtLeast(0), ["log.flush.interval.ms" * 1, "log.flush.scheduler.interval.ms" * 1], Origin::Kafka,
        "Milliseconds after which unsynced records are synced to disk whatever else is due.";
    follower_replication_throttled_replicas: Vec<String>, "follower.replication.throttled.replicas", List, "", Allowed::ThrottledReplicas, [], Origin::Kafka,
        "Replicas whose fetching, while they are out of sync, is held to follower.replication.throttled.rate, as partition:broker, or * for all.";
    index_interval_bytes: i32, "index.interval.bytes", Int, "4096", Allowed::AtLeast(0), ["log.index.interval.bytes" * 1], Origin::Kafka,
        "Bytes of log between two entries of the offset index.";
    leader_replication_throttled_replicas: Vec<String>, "leader.replication.throttled.replicas", List, "", Allowed::ThrottledReplicas, [], Origin::Kafka,
        "Replicas that, while they lead, send to followers out of sync no faster than leader.replication.throttled.rate, as partition:broker, or * for all.";
    local_retention_bytes: i64, "local.retention.bytes", Long, "-2", Allowed::AtLeast(-2), ["log.local.retention.bytes" * 1], Origin::Kafka,
        "Bytes to keep on the broker's own disks where remote storage is on; -2 means retention.bytes. Without remote storage it has no effect.";
    local_retention_ms: i64, "local.retention.ms", Long, "-2", Allowed::AtLeast(-2), ["log.local.retention.ms" * 1], Origin::Kafka,
        "Milliseconds to keep on the broker's own disks where remote storage is on; -2 means retention.ms. Without remote storage it has no effect.";
    max_compaction_lag_ms: i64, "max.compaction.lag.ms", Long, "9223372036854775807", Allowed::AtLeast(1), ["log.cleaner.max.compaction.lag.ms" * 1], Origin::Kafka,
        "Milliseconds after which a record of a compacted topic has to be compacted.";
    max_message_bytes: i32, "max.message.bytes", Int, "1048588", Allowed::AtLeast(0), ["message.max.bytes" * 1], Origin::Kafka,
        "Largest batch of records that is accepted, in bytes, as it is stored (compressed).";
    message_timestamp_after_max_ms: i64, "message.timestamp.after.max.ms", Long, "3600000", Allowed::AtLeast(0), ["log.message.timestamp.after.max.ms" * 1], Origin::Kafka,
        "How far a record's timestamp may lie ahead of the broker's clock, in milliseconds; not looked at under LogAppendTime.";
    message_timestamp_before_max_ms: i64, "message.timestamp.before.max.ms", Long, "9223372036854775807", Allowed::AtLeast(0), ["log.message.timestamp.before.max.ms" * 1], Origin::Kafka,
        "How far a record's timestamp may lie behind the broker's clock, in milliseconds; not looked at under LogAppendTime.";
    message_timestamp_type: TimestampType, "message.timestamp.type", String, "CreateTime", Allowed::OneOf(TimestampType::WORDS), ["log.message.timestamp.type" * 1], Origin::Kafka,
        "Whether a record carries the time of its creation or of its append.";
    min_cleanable_dirty_ratio: f64, "min.cleanable.dirty.ratio", Double, "0.5", Allowed::Between(0, 1), ["log.cleaner.min.cleanable.ratio" * 1], Origin::Kafka,
        "Share of a compacted log that must be uncompacted before it is worth a pass.";
    min_compaction_lag_ms: i64, "min.compaction.lag.ms", Long, "0", Allowed::AtLeast(0), ["log.cleaner.min.compaction.lag.ms" * 1], Origin::Kafka,
        "Milliseconds for which a record of a compacted topic stays uncompacted.";
    min_insync_replicas: i32, "min.insync.replicas", Int, "1", Allowed::AtLeast(1), ["min.insync.replicas" * 1], Origin::Kafka,
        "In-sync replicas that must have a record before acks=all is answered; with fewer in sync such appends are refused.";
    preallocate: bool, "preallocate", Boolean, "false", Allowed::Any, ["log.preallocate" * 1], Origin::Kafka,
        "Whether room for a full segment is set aside on the disk when it is begun, where the file system can; the file's length stays what is written, and the rest comes free when the segment is complete or the log is closed.";
    record_validation: RecordValidation, "record.validation", String, "header", Allowed::OneOf(RecordValidation::WORDS), ["record.validation" * 1], Origin::Klamm,
        "How closely a produced batch is checked: header looks at header, lengths and checksum and passes the records through; full reads every record, as Kafka does.";
    remote_log_copy_disable: bool, "remote.log.copy.disable", Boolean, "false", Allowed::Any, [], Origin::Kafka,
        "Whether copying to remote storage is stopped. Klamm has no remote storage: no effect.";
    remote_log_delete_on_disable: bool, "remote.log.delete.on.disable", Boolean, "false", Allowed::Any, [], Origin::Kafka,
        "Whether switching remote storage off deletes what is there. Klamm has no remote storage: no effect.";
    remote_storage_enable: bool, "remote.storage.enable", Boolean, "false", Allowed::Any, [], Origin::Kafka,
        "Whether segments are copied to remote storage. Klamm has none; true is refused.";
    retention_bytes: i64, "retention.bytes", Long, "-1", Allowed::Any, ["log.retention.bytes" * 1], Origin::Kafka,
        "Bytes that a partition of a topic with cleanup policy delete may reach before its oldest segments go; -1 sets no bound.";
    retention_ms: i64, "retention.ms", Long, "604800000", Allowed::AtLeast(-1), ["log.retention.ms" * 1, "log.retention.minutes" * 60_000, "log.retention.hours" * 3_600_000], Origin::Kafka,
        "Milliseconds for which a topic with cleanup policy delete keeps a segment after its newest record; -1 keeps it for ever.";
    segment_bytes: i32, "segment.bytes", Int, "1073741824", Allowed::AtLeast(1_048_576), ["log.segment.bytes" * 1], Origin::Kafka,
        "Size in bytes at which a new segment is begun; retention and compaction work on whole segments.";
    segment_index_bytes: i32, "segment.index.bytes", Int, "10485760", Allowed::AtLeast(4), ["log.index.size.max.bytes" * 1], Origin::Kafka,
        "Largest size of a segment's offset index in bytes; a full index begins a new segment.";
    segment_jitter_ms: i64, "segment.jitter.ms", Long, "0", Allowed::AtLeast(0), ["log.roll.jitter.ms" * 1, "log.roll.jitter.hours" * 3_600_000], Origin::Kafka,
        "Up to so many milliseconds, chosen at random, are taken off segment.ms, so that not all partitions begin a segment at once.";
    segment_ms: i64, "segment.ms", Long, "604800000", Allowed::AtLeast(1), ["log.roll.ms" * 1, "log.roll.hours" * 3_600_000], Origin::Kafka,
        "Milliseconds after which a new segment is begun even if the old one is not full, so that retention can reach its records.";
    unclean_leader_election_enable: bool, "unclean.leader.election.enable", Boolean, "false", Allowed::Any, ["unclean.leader.election.enable" * 1], Origin::Kafka,
        "Whether a replica outside the in-sync set may be elected when nobody else is left, at the price of acknowledged records.";
}
