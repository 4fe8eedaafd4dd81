//! Records of `__consumer_offsets`, in Kafka's own format: a key that begins with the number of its
//! kind, a value that begins with its version, no value for a tombstone.
//!
//! | kind | key | value | written here |
//! |---|---|---|---|
//! | 0, 1 | group, topic, partition | committed offset, versions 0 to 4 | kind 1, version 4; version 1 if the commit named its retention |
//! | 2 | group | generation and members, versions 0 to 4 | version 3 |
//!
//! These are the versions that Kafka 4.3 writes. Other kinds (consumer, share and streams groups)
//! are reported as unknown and skipped by whoever loads.

use bytes::Bytes;
use klamm_protocol::messages::group_metadata_key::GroupMetadataKey;
use klamm_protocol::messages::group_metadata_value::{GroupMetadataValue, MemberMetadata};
use klamm_protocol::messages::offset_commit_key::OffsetCommitKey;
use klamm_protocol::messages::offset_commit_value::OffsetCommitValue;
use klamm_protocol::{DecodeError, EncodeError, Message, Reader, Writer};
use thiserror::Error;
use uuid::Uuid;

const LEGACY_OFFSET_KIND: i16 = 0;
const OFFSET_KIND: i16 = 1;
const GROUP_KIND: i16 = 2;

const OFFSET_VERSION: i16 = 4;
/// The only version with an expiry of its own.
const OFFSET_VERSION_WITH_EXPIRY: i16 = 1;
const GROUP_VERSION: i16 = 3;

/// One change of durable state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A generation of a group, or the end of the group.
    Group {
        /// The group.
        group: String,
        /// `None` is a tombstone.
        image: Option<GroupImage>,
    },
    /// A committed offset, or its end.
    Offset {
        /// The group.
        group: String,
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: i32,
        /// `None` is a tombstone.
        offset: Option<CommittedOffset>,
    },
}

/// A generation of a classic group, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupImage {
    /// Empty for a group that never had members.
    pub protocol_type: String,
    /// Its number.
    pub generation: i32,
    /// The protocol its members assign by.
    pub protocol: Option<String>,
    /// The leader's member id.
    pub leader: Option<String>,
    /// Wall clock of the last change of state; -1 if unknown.
    pub state_since_ms: i64,
    /// Its members and what they own.
    pub members: Vec<MemberImage>,
}

/// A member of a recorded generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberImage {
    /// The member.
    pub member_id: String,
    /// Set for a static member.
    pub group_instance_id: Option<String>,
    /// From its join.
    pub client_id: String,
    /// From its join.
    pub client_host: String,
    /// -1 in old records: as long as the session.
    pub rebalance_timeout_ms: i32,
    /// From its join.
    pub session_timeout_ms: i32,
    /// What it sent under the chosen protocol.
    pub subscription: Bytes,
    /// What it owns.
    pub assignment: Bytes,
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Of the next record to read.
    pub offset: i64,
    /// Of the last record read, or -1.
    pub leader_epoch: i32,
    /// What the client wants kept with it.
    pub metadata: String,
    /// Wall clock of the commit.
    pub commit_ms: i64,
    /// When it expires, if the commit said so.
    pub expire_ms: Option<i64>,
    /// Nil if unknown.
    pub topic_id: Uuid,
}

/// Why a record of `__consumer_offsets` tells us nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// A kind of record that is not ours to read. Skip it and say so.
    #[error("record kind {kind} is not known here")]
    UnknownKind {
        /// The number the key begins with.
        kind: i16,
    },
    /// A version of a known kind that is not known here.
    #[error("version {version} of record kind {kind} is not known here")]
    UnknownVersion {
        /// The number the key begins with.
        kind: i16,
        /// The number the value begins with.
        version: i16,
    },
    /// It does not decode.
    #[error("a record of __consumer_offsets does not decode: {0}")]
    Malformed(#[from] DecodeError),
}

impl Record {
    /// Key and value as they stand in the log.
    ///
    /// # Errors
    /// If a string is longer than the format allows.
    pub fn encode(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        match self {
            Record::Group { group, image } => {
                let key = GroupMetadataKey { group: group.clone() };
                let value =
                    image.as_ref().map(|image| versioned(&group_value(image), GROUP_VERSION));
                Ok((kinded(GROUP_KIND, &key)?, value.transpose()?))
            }
            Record::Offset { group, topic, partition, offset } => {
                let key = OffsetCommitKey {
                    group: group.clone(),
                    topic: topic.clone(),
                    partition: *partition,
                };
                let value = offset.as_ref().map(encode_offset);
                Ok((kinded(OFFSET_KIND, &key)?, value.transpose()?))
            }
        }
    }

    /// Reads key and value as they stand in the log.
    ///
    /// # Errors
    /// If the record is of a kind or version that is not ours, or damaged.
    pub fn decode(key: Bytes, value: Option<Bytes>) -> Result<Record, RecordError> {
        let mut reader = Reader::new(key);
        match reader.i16()? {
            LEGACY_OFFSET_KIND | OFFSET_KIND => {
                let key = OffsetCommitKey::decode_whole(&mut reader, 0)?;
                let offset = value.map(decode_offset).transpose()?;
                let OffsetCommitKey { group, topic, partition } = key;
                Ok(Record::Offset { group, topic, partition, offset })
            }
            GROUP_KIND => {
                let key = GroupMetadataKey::decode_whole(&mut reader, 0)?;
                let image = value.map(decode_group).transpose()?;
                Ok(Record::Group { group: key.group, image })
            }
            kind => Err(RecordError::UnknownKind { kind }),
        }
    }

    /// The group that it is about.
    #[must_use]
    pub fn group(&self) -> &str {
        match self {
            Record::Group { group, .. } | Record::Offset { group, .. } => group,
        }
    }

    /// About how many bytes a tombstone of this record takes in a batch.
    pub(crate) fn tombstone_size(&self) -> usize {
        const OVERHEAD: usize = 32;
        match self {
            Record::Group { group, .. } => OVERHEAD + group.len(),
            Record::Offset { group, topic, .. } => OVERHEAD + group.len() + topic.len(),
        }
    }
}

fn kinded(kind: i16, key: &impl Message) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.i16(kind);
    key.encode_checked(&mut writer, 0)?;
    Ok(writer.finish().bytes)
}

fn versioned(value: &impl Message, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.i16(version);
    value.encode_checked(&mut writer, version)?;
    Ok(writer.finish().bytes)
}

fn encode_offset(offset: &CommittedOffset) -> Result<Bytes, EncodeError> {
    let version = match offset.expire_ms {
        Some(_) => OFFSET_VERSION_WITH_EXPIRY,
        None => OFFSET_VERSION,
    };
    let value = OffsetCommitValue {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone(),
        commit_timestamp: offset.commit_ms,
        expire_timestamp: offset.expire_ms.unwrap_or(-1),
        topic_id: offset.topic_id,
    };
    versioned(&value, version)
}

fn decode_offset(value: Bytes) -> Result<CommittedOffset, RecordError> {
    let value: OffsetCommitValue = decode_versioned(OFFSET_KIND, value)?;
    Ok(CommittedOffset {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata,
        commit_ms: value.commit_timestamp,
        expire_ms: Some(value.expire_timestamp).filter(|ms| *ms != -1),
        topic_id: value.topic_id,
    })
}

fn group_value(image: &GroupImage) -> GroupMetadataValue {
    let member = |member: &MemberImage| MemberMetadata {
        member_id: member.member_id.clone(),
        group_instance_id: member.group_instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout: member.rebalance_timeout_ms,
        session_timeout: member.session_timeout_ms,
        subscription: member.subscription.clone(),
        assignment: member.assignment.clone(),
    };
    GroupMetadataValue {
        protocol_type: image.protocol_type.clone(),
        generation: image.generation,
        protocol: image.protocol.clone(),
        leader: image.leader.clone(),
        current_state_timestamp: image.state_since_ms,
        members: image.members.iter().map(member).collect(),
    }
}

fn decode_group(value: Bytes) -> Result<GroupImage, RecordError> {
    let value: GroupMetadataValue = decode_versioned(GROUP_KIND, value)?;
    let member = |member: MemberMetadata| MemberImage {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        rebalance_timeout_ms: member.rebalance_timeout,
        session_timeout_ms: member.session_timeout,
        subscription: member.subscription,
        assignment: member.assignment,
    };
    Ok(GroupImage {
        protocol_type: value.protocol_type,
        generation: value.generation,
        protocol: value.protocol,
        leader: value.leader,
        state_since_ms: value.current_state_timestamp,
        members: value.members.into_iter().map(member).collect(),
    })
}

fn decode_versioned<M: Message>(kind: i16, value: Bytes) -> Result<M, RecordError> {
    let mut reader = Reader::new(value);
    let version = reader.i16()?;
    if !M::has_version(version) {
        return Err(RecordError::UnknownVersion { kind, version });
    }
    Ok(M::decode_whole(&mut reader, version)?)
}
