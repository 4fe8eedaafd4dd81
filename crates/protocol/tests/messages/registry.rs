//! The messages by name, ours and the other implementation's.

use bytes::Bytes;
use kafka_protocol::messages as their_messages;
use kafka_protocol::protocol::{Decodable, Encodable, Message as TheirMessage};
use klamm_protocol::{DecodeError, Message, messages};

/// A message read and written again.
pub(crate) struct Reread {
    pub(crate) encoded: Bytes,
    pub(crate) shown: String,
}

fn reread_ours<M: Message + std::fmt::Debug + PartialEq>(
    bytes: Bytes,
    version: i16,
) -> Result<Reread, DecodeError> {
    let value = M::from_bytes(bytes, version)?;
    let encoded = value.to_encoded(version).expect("what was read can be written");
    assert_eq!(encoded.gaps, []);
    let again =
        M::from_bytes(encoded.bytes.clone(), version).expect("what was written can be read");
    assert_eq!(again, value);
    Ok(Reread { encoded: encoded.bytes, shown: format!("{value:?}") })
}

fn reread_theirs<M: TheirMessage + Decodable + Encodable + std::fmt::Debug>(
    mut bytes: Bytes,
    version: i16,
) -> Option<Reread> {
    if !(M::VERSIONS.min..=M::VERSIONS.max).contains(&version) {
        return None;
    }
    let value = M::decode(&mut bytes, version).expect("they read it");
    assert!(bytes.is_empty(), "they leave {} bytes", bytes.len());
    let mut encoded = Vec::new();
    value.encode(&mut encoded, version).expect("they write it");
    Some(Reread { encoded: encoded.into(), shown: format!("{value:?}") })
}

macro_rules! registry {
    (both: $($both:ident)*; ours: $($ours:ident)*;) => {
        /// Reads and writes with our implementation.
        pub(crate) fn ours(
            name: &str,
            bytes: Bytes,
            version: i16,
        ) -> Result<Reread, DecodeError> {
            match name {
                $(stringify!($both) => reread_ours::<messages::$both>(bytes, version),)*
                $(stringify!($ours) => reread_ours::<messages::$ours>(bytes, version),)*
                _ => panic!("{name} is missing in tests/messages/registry.rs"),
            }
        }

        /// Reads and writes with the other implementation, if it knows message and version.
        pub(crate) fn theirs(name: &str, bytes: Bytes, version: i16) -> Option<Reread> {
            match name {
                $(stringify!($both) => reread_theirs::<their_messages::$both>(bytes, version),)*
                _ => None,
            }
        }
    };
}

registry! {
    both:
        AlterConfigsRequest AlterConfigsResponse AlterPartitionReassignmentsRequest
        AlterPartitionReassignmentsResponse ApiVersionsRequest ApiVersionsResponse
        ConsumerProtocolAssignment ConsumerProtocolSubscription CreatePartitionsRequest
        CreatePartitionsResponse CreateTopicsRequest CreateTopicsResponse DeleteGroupsRequest
        DeleteGroupsResponse DeleteRecordsRequest DeleteRecordsResponse DeleteTopicsRequest
        DeleteTopicsResponse DescribeClusterRequest DescribeClusterResponse DescribeConfigsRequest
        DescribeConfigsResponse DescribeGroupsRequest DescribeGroupsResponse DescribeLogDirsRequest
        DescribeLogDirsResponse DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse
        ElectLeadersRequest ElectLeadersResponse EndTxnMarker FetchRequest FetchResponse
        FindCoordinatorRequest
        FindCoordinatorResponse HeartbeatRequest HeartbeatResponse IncrementalAlterConfigsRequest
        IncrementalAlterConfigsResponse InitProducerIdRequest InitProducerIdResponse
        JoinGroupRequest JoinGroupResponse LeaveGroupRequest LeaveGroupResponse ListGroupsRequest
        ListGroupsResponse ListOffsetsRequest ListOffsetsResponse ListPartitionReassignmentsRequest
        ListPartitionReassignmentsResponse MetadataRequest MetadataResponse
        OffsetCommitRequest OffsetCommitResponse OffsetDeleteRequest OffsetDeleteResponse
        OffsetFetchRequest OffsetFetchResponse OffsetForLeaderEpochRequest
        OffsetForLeaderEpochResponse ProduceRequest ProduceResponse RequestHeader ResponseHeader
        SaslAuthenticateRequest SaslAuthenticateResponse SaslHandshakeRequest SaslHandshakeResponse
        SyncGroupRequest SyncGroupResponse;
    ours:
        AskControllerRequest AskControllerResponse ControlRecordTypeSchema GroupMetadataKey
        GroupMetadataValue LegacyOffsetCommitKey LegacyOffsetCommitValue OffsetCommitKey
        OffsetCommitValue;
}
