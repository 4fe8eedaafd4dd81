//! What the shell asks of the machine, already decoded and authorised.

use bytes::Bytes;
use uuid::Uuid;

/// Names a parked request. Opaque here: the shell gives it in and finds its waiter by it.
/// Every ticket is answered exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// One assignment protocol a member offers, with what it wants the leader to know under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// For example `range`.
    pub name: String,
    /// The subscription; opaque but for the `consumer` protocol type.
    pub metadata: Bytes,
}

/// JoinGroup.
#[derive(Clone, Debug)]
pub struct Join {
    /// Where the answer goes, perhaps much later.
    pub ticket: Ticket,
    /// Version 4 and up must come back with the member id they are given; version 9 and up know
    /// what a skipped assignment is.
    pub api_version: i16,
    /// From the request header; empty if null.
    pub client_id: String,
    /// As Java prints an address: a slash, then the literal.
    pub client_host: String,
    /// The group.
    pub group_id: String,
    /// Empty for a member that has none yet.
    pub member_id: String,
    /// Set for a static member.
    pub group_instance_id: Option<String>,
    /// For example `consumer`.
    pub protocol_type: String,
    /// In the order the member prefers them.
    pub protocols: Vec<Protocol>,
    /// Silence after which the member is taken for dead.
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for this member.
    pub rebalance_timeout_ms: i32,
    /// Why the client joins (version 8 and up).
    pub reason: Option<String>,
    /// Fresh randomness, used if a member id has to be made.
    pub fresh: Uuid,
}

/// SyncGroup.
#[derive(Clone, Debug)]
pub struct Sync {
    /// Where the answer goes, perhaps later.
    pub ticket: Ticket,
    /// The group.
    pub group_id: String,
    /// The generation the member believes in.
    pub generation: i32,
    /// The member.
    pub member_id: String,
    /// Set for a static member.
    pub group_instance_id: Option<String>,
    /// Version 5 and up; null is not compared.
    pub protocol_type: Option<String>,
    /// Version 5 and up; null is not compared.
    pub protocol: Option<String>,
    /// Member id and assignment; only the leader's count.
    pub assignments: Vec<(String, Bytes)>,
}

/// Heartbeat.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// Where the answer goes.
    pub ticket: Ticket,
    /// The group.
    pub group_id: String,
    /// The generation the member believes in.
    pub generation: i32,
    /// The member.
    pub member_id: String,
    /// Set for a static member.
    pub group_instance_id: Option<String>,
}

/// LeaveGroup. Versions 0 to 2 carry one member, which the handler puts in a list of one.
#[derive(Clone, Debug)]
pub struct Leave {
    /// Where the answer goes.
    pub ticket: Ticket,
    /// The group.
    pub group_id: String,
    /// Who leaves.
    pub members: Vec<Leaving>,
}

/// One member of a LeaveGroup.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// Empty when an administrator removes a static member by its instance id.
    pub member_id: String,
    /// Set for a static member.
    pub group_instance_id: Option<String>,
    /// Why (version 5 and up).
    pub reason: Option<String>,
}

/// OffsetCommit, without the partitions the shell has already refused.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Where the answer goes: one code per entry of `offsets`, in their order.
    pub ticket: Ticket,
    /// Version 9 and up are told GROUP_ID_NOT_FOUND where older ones get ILLEGAL_GENERATION.
    pub api_version: i16,
    /// The group; may be empty, which Kafka tolerates here.
    pub group_id: String,
    /// Negative for a consumer that is no member.
    pub generation: i32,
    /// Empty for a consumer that is no member.
    pub member_id: String,
    /// Set for a static member.
    pub group_instance_id: Option<String>,
    /// Versions 2 to 4; `None` stands for -1, the broker's own retention.
    pub retention_ms: Option<i64>,
    /// What to commit.
    pub offsets: Vec<CommitOffset>,
}

/// One offset to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOffset {
    /// The topic's name.
    pub topic: String,
    /// The topic's id; nil if unknown.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
    /// The offset of the next record to read.
    pub offset: i64,
    /// Leader epoch of the last record read, or -1.
    pub leader_epoch: i32,
    /// What the client wants kept with it; null counts as empty.
    pub metadata: Option<String>,
}

/// OffsetDelete.
#[derive(Clone, Debug)]
pub struct DeleteOffsets {
    /// Where the answer goes: one code per entry of `partitions`, in their order.
    pub ticket: Ticket,
    /// The group.
    pub group_id: String,
    /// Topic and partition.
    pub partitions: Vec<(String, i32)>,
}
