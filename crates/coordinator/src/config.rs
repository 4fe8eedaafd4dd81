//! The settings of the group coordinator, under Kafka's key names and with Kafka's defaults.

/// Settings of the group coordinator. Each field names the broker key it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`: a smaller session timeout in a join is refused.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`: a larger session timeout in a join is refused.
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members before
    /// its first generation.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`: members a group may have.
    pub max_size: usize,
    /// `offset.metadata.max.bytes`: longest metadata string of a committed offset (Kafka counts
    /// UTF-16 units, not bytes, and so do we).
    pub offset_metadata_max: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval_ms: i64,
    /// How long a member that has never finished a join may wait for it. Five minutes, as in
    /// Kafka, where it has no key either.
    pub new_member_join_timeout_ms: i64,
    /// Member ids handed out with MEMBER_ID_REQUIRED and not yet used, per group. Ours: Kafka has
    /// no bound here but the session timeout.
    pub max_pending_members: usize,
    /// Groups in one partition of `__consumer_offsets`. Ours: Kafka has no bound.
    pub max_groups: usize,
    /// Bytes of tombstones written in one batch by retention and topic deletion.
    pub max_tombstone_batch_bytes: usize,
}

impl Default for GroupConfig {
    fn default() -> Self {
        GroupConfig {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            max_size: i32::MAX as usize,
            offset_metadata_max: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
            offsets_retention_check_interval_ms: 600_000,
            new_member_join_timeout_ms: 5 * 60 * 1_000,
            max_pending_members: 10_000,
            max_groups: 1_000_000,
            max_tombstone_batch_bytes: 256 * 1024,
        }
    }
}
