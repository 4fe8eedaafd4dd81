//! The error codes of Kafka's protocol.

use std::fmt;

macro_rules! error_codes {
    ($($(#[$attribute:meta])* $variant:ident = $code:literal, $name:literal, $retriable:literal, $message:literal;)*) => {
        /// Every error that Kafka has a number for.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(#[doc = $message] $(#[$attribute])* $variant = $code,)*
        }

        impl ErrorCode {
            /// All of them, by number.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The error with this number.
            pub const fn from_i16(code: i16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Kafka's name for it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// One sentence for people, where nothing more precise is known.
            pub const fn message(self) -> &'static str {
                match self {
                    $(Self::$variant => $message,)*
                }
            }

            /// Whether Kafka's clients try again after it.
            pub const fn is_retriable(self) -> bool {
                match self {
                    $(Self::$variant => $retriable,)*
                }
            }
        }
    };
}

// Number, name, whether a client retries, and a sentence of our own.
error_codes! {
    UnknownServerError = -1, "UNKNOWN_SERVER_ERROR", false, "The server met an error that it did not expect.";
    #[default]
    None = 0, "NONE", false, "No error.";
    OffsetOutOfRange = 1, "OFFSET_OUT_OF_RANGE", false, "The offset lies outside what the partition holds.";
    CorruptMessage = 2, "CORRUPT_MESSAGE", true, "The batch is damaged: its checksum, its size or its content is wrong.";
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION", true, "No such topic or partition here.";
    InvalidFetchSize = 4, "INVALID_FETCH_SIZE", false, "The fetch size makes no sense.";
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE", true, "The partition has no leader at the moment.";
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER", true, "This broker is not the leader (or, where a follower would do, not a replica) of the partition.";
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", true, "The request took longer than its timeout.";
    BrokerNotAvailable = 8, "BROKER_NOT_AVAILABLE", false, "The broker is not available.";
    ReplicaNotAvailable = 9, "REPLICA_NOT_AVAILABLE", true, "The replica is not available.";
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", false, "A message is larger than this server takes.";
    StaleControllerEpoch = 11, "STALE_CONTROLLER_EPOCH", false, "The controller's epoch is out of date.";
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE", false, "The metadata string of a committed offset is too long.";
    NetworkException = 13, "NETWORK_EXCEPTION", true, "The connection ended before the answer came.";
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS", true, "The coordinator is still loading its state.";
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE", true, "The coordinator is not available.";
    NotCoordinator = 16, "NOT_COORDINATOR", true, "This broker does not coordinate that group or transactional id.";
    InvalidTopicException = 17, "INVALID_TOPIC_EXCEPTION", false, "The topic's name is not a legal one, or the topic may not be used this way.";
    RecordListTooLarge = 18, "RECORD_LIST_TOO_LARGE", false, "A batch is larger than a segment may be.";
    NotEnoughReplicas = 19, "NOT_ENOUGH_REPLICAS", true, "Too few replicas are in sync to accept the write.";
    NotEnoughReplicasAfterAppend = 20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", true, "The write happened, but too few replicas were in sync to confirm it.";
    InvalidRequiredAcks = 21, "INVALID_REQUIRED_ACKS", false, "acks must be -1, 0 or 1.";
    IllegalGeneration = 22, "ILLEGAL_GENERATION", false, "The generation is not the group's current one.";
    InconsistentGroupProtocol = 23, "INCONSISTENT_GROUP_PROTOCOL", false, "The member's protocols have nothing in common with those of the group, or it named none.";
    InvalidGroupId = 24, "INVALID_GROUP_ID", false, "The group id is not a legal one.";
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID", false, "The group has no such member.";
    InvalidSessionTimeout = 26, "INVALID_SESSION_TIMEOUT", false, "The session timeout is outside the range that this broker allows.";
    RebalanceInProgress = 27, "REBALANCE_IN_PROGRESS", false, "The group is rebalancing; join again.";
    InvalidCommitOffsetSize = 28, "INVALID_COMMIT_OFFSET_SIZE", false, "The offset commit is too large.";
    TopicAuthorizationFailed = 29, "TOPIC_AUTHORIZATION_FAILED", false, "Not authorized for the topic.";
    GroupAuthorizationFailed = 30, "GROUP_AUTHORIZATION_FAILED", false, "Not authorized for the group.";
    ClusterAuthorizationFailed = 31, "CLUSTER_AUTHORIZATION_FAILED", false, "Not authorized for the cluster.";
    InvalidTimestamp = 32, "INVALID_TIMESTAMP", false, "A timestamp is outside the accepted range.";
    UnsupportedSaslMechanism = 33, "UNSUPPORTED_SASL_MECHANISM", false, "The SASL mechanism is not enabled here.";
    IllegalSaslState = 34, "ILLEGAL_SASL_STATE", false, "The request does not fit the state of the SASL exchange.";
    UnsupportedVersion = 35, "UNSUPPORTED_VERSION", false, "This version of the API is not served.";
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", false, "A topic of this name exists already.";
    InvalidPartitions = 37, "INVALID_PARTITIONS", false, "The number of partitions is not possible.";
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", false, "The replication factor is below 1 or above the number of brokers.";
    InvalidReplicaAssignment = 39, "INVALID_REPLICA_ASSIGNMENT", false, "The replica assignment is not possible.";
    InvalidConfig = 40, "INVALID_CONFIG", false, "A configuration value is not valid.";
    NotController = 41, "NOT_CONTROLLER", true, "This broker is not the controller.";
    InvalidRequest = 42, "INVALID_REQUEST", false, "The request contradicts itself or the protocol; the server's log may say more.";
    UnsupportedForMessageFormat = 43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", false, "The message format in use cannot do this.";
    PolicyViolation = 44, "POLICY_VIOLATION", false, "A configured policy forbids this.";
    OutOfOrderSequenceNumber = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", false, "The sequence number is not the next one of this producer.";
    DuplicateSequenceNumber = 46, "DUPLICATE_SEQUENCE_NUMBER", false, "The sequence number has been seen before.";
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", false, "The producer's epoch is an old one.";
    InvalidTxnState = 48, "INVALID_TXN_STATE", false, "The transaction is not in a state that allows this.";
    InvalidProducerIdMapping = 49, "INVALID_PRODUCER_ID_MAPPING", false, "The producer id does not belong to this transactional id.";
    InvalidTransactionTimeout = 50, "INVALID_TRANSACTION_TIMEOUT", false, "The transaction timeout is above the maximum that this broker allows.";
    ConcurrentTransactions = 51, "CONCURRENT_TRANSACTIONS", true, "Another operation on the same transaction is not finished yet.";
    TransactionCoordinatorFenced = 52, "TRANSACTION_COORDINATOR_FENCED", false, "A newer transaction coordinator exists for this producer.";
    TransactionalIdAuthorizationFailed = 53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", false, "Not authorized for the transactional id.";
    SecurityDisabled = 54, "SECURITY_DISABLED", false, "No authorizer is configured.";
    OperationNotAttempted = 55, "OPERATION_NOT_ATTEMPTED", false, "Not attempted, because another part of the request failed.";
    KafkaStorageError = 56, "KAFKA_STORAGE_ERROR", true, "The disk failed under the log.";
    LogDirNotFound = 57, "LOG_DIR_NOT_FOUND", false, "The broker has no such log directory.";
    SaslAuthenticationFailed = 58, "SASL_AUTHENTICATION_FAILED", false, "SASL authentication failed.";
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", false, "Nothing is known about this producer id any more.";
    ReassignmentInProgress = 60, "REASSIGNMENT_IN_PROGRESS", false, "The partition is being reassigned.";
    DelegationTokenAuthDisabled = 61, "DELEGATION_TOKEN_AUTH_DISABLED", false, "Delegation tokens are not enabled.";
    DelegationTokenNotFound = 62, "DELEGATION_TOKEN_NOT_FOUND", false, "No such delegation token.";
    DelegationTokenOwnerMismatch = 63, "DELEGATION_TOKEN_OWNER_MISMATCH", false, "The principal neither owns nor may renew the delegation token.";
    DelegationTokenRequestNotAllowed = 64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", false, "Delegation tokens may not be requested on this kind of connection.";
    DelegationTokenAuthorizationFailed = 65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", false, "Not authorized for the delegation token.";
    DelegationTokenExpired = 66, "DELEGATION_TOKEN_EXPIRED", false, "The delegation token has expired.";
    InvalidPrincipalType = 67, "INVALID_PRINCIPAL_TYPE", false, "The principal's type is not supported.";
    NonEmptyGroup = 68, "NON_EMPTY_GROUP", false, "The group still has members.";
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND", false, "No such group.";
    FetchSessionIdNotFound = 70, "FETCH_SESSION_ID_NOT_FOUND", true, "No such fetch session.";
    InvalidFetchSessionEpoch = 71, "INVALID_FETCH_SESSION_EPOCH", true, "The fetch session's epoch is not the expected one.";
    ListenerNotFound = 72, "LISTENER_NOT_FOUND", true, "The leader has no listener of the name on which the request came.";
    TopicDeletionDisabled = 73, "TOPIC_DELETION_DISABLED", false, "Deleting topics is disabled.";
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH", true, "The leader epoch is older than the broker's.";
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH", true, "The leader epoch is newer than the broker's.";
    UnsupportedCompressionType = 76, "UNSUPPORTED_COMPRESSION_TYPE", false, "The client does not support the partition's compression.";
    StaleBrokerEpoch = 77, "STALE_BROKER_EPOCH", false, "The broker's epoch has changed.";
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE", true, "The new leader does not know its high watermark yet.";
    MemberIdRequired = 79, "MEMBER_ID_REQUIRED", false, "Join again with the member id of this answer.";
    PreferredLeaderNotAvailable = 80, "PREFERRED_LEADER_NOT_AVAILABLE", true, "The preferred leader is not available.";
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED", false, "The group is full.";
    FencedInstanceId = 82, "FENCED_INSTANCE_ID", false, "A newer member has taken this group instance id.";
    EligibleLeadersNotAvailable = 83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", true, "None of the eligible leaders is available.";
    ElectionNotNeeded = 84, "ELECTION_NOT_NEEDED", true, "The partition has the wanted leader already.";
    NoReassignmentInProgress = 85, "NO_REASSIGNMENT_IN_PROGRESS", false, "The partition is not being reassigned.";
    GroupSubscribedToTopic = 86, "GROUP_SUBSCRIBED_TO_TOPIC", false, "The group is subscribed to the topic.";
    InvalidRecord = 87, "INVALID_RECORD", false, "A record is not acceptable.";
    UnstableOffsetCommit = 88, "UNSTABLE_OFFSET_COMMIT", true, "Offsets of an unfinished transaction are pending.";
    ThrottlingQuotaExceeded = 89, "THROTTLING_QUOTA_EXCEEDED", true, "A quota on changes has been used up.";
    ProducerFenced = 90, "PRODUCER_FENCED", false, "A newer producer has taken this transactional id.";
    ResourceNotFound = 91, "RESOURCE_NOT_FOUND", false, "The request names something that does not exist.";
    DuplicateResource = 92, "DUPLICATE_RESOURCE", false, "The request names the same thing twice.";
    UnacceptableCredential = 93, "UNACCEPTABLE_CREDENTIAL", false, "The credential is not acceptable.";
    InconsistentVoterSet = 94, "INCONSISTENT_VOTER_SET", false, "Sender or recipient is not among the expected voters.";
    InvalidUpdateVersion = 95, "INVALID_UPDATE_VERSION", false, "The version given for an update is not valid.";
    FeatureUpdateFailed = 96, "FEATURE_UPDATE_FAILED", false, "The features could not be updated.";
    PrincipalDeserializationFailure = 97, "PRINCIPAL_DESERIALIZATION_FAILURE", false, "The forwarded principal cannot be read.";
    SnapshotNotFound = 98, "SNAPSHOT_NOT_FOUND", false, "No such snapshot.";
    PositionOutOfRange = 99, "POSITION_OUT_OF_RANGE", false, "The position lies outside the snapshot.";
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", true, "No topic with this id here.";
    DuplicateBrokerRegistration = 101, "DUPLICATE_BROKER_REGISTRATION", false, "Another live broker uses this id.";
    BrokerIdNotRegistered = 102, "BROKER_ID_NOT_REGISTERED", false, "No broker is registered under this id.";
    InconsistentTopicId = 103, "INCONSISTENT_TOPIC_ID", true, "The topic id is not the one of the log.";
    InconsistentClusterId = 104, "INCONSISTENT_CLUSTER_ID", false, "The cluster id is not this cluster's.";
    TransactionalIdNotFound = 105, "TRANSACTIONAL_ID_NOT_FOUND", false, "No such transactional id.";
    FetchSessionTopicIdError = 106, "FETCH_SESSION_TOPIC_ID_ERROR", true, "The fetch session mixes topic names and topic ids.";
    IneligibleReplica = 107, "INELIGIBLE_REPLICA", false, "A replica of the new in-sync set may not be part of it.";
    NewLeaderElected = 108, "NEW_LEADER_ELECTED", false, "The partition was changed, and its leader with it.";
    OffsetMovedToTieredStorage = 109, "OFFSET_MOVED_TO_TIERED_STORAGE", false, "The offset has moved to tiered storage.";
    FencedMemberEpoch = 110, "FENCED_MEMBER_EPOCH", false, "The member's epoch is fenced: give up all partitions and join again.";
    UnreleasedInstanceId = 111, "UNRELEASED_INSTANCE_ID", false, "Another member still holds this group instance id.";
    UnsupportedAssignor = 112, "UNSUPPORTED_ASSIGNOR", false, "The group has no such assignor, or not in this version.";
    StaleMemberEpoch = 113, "STALE_MEMBER_EPOCH", false, "The member's epoch is stale; the next heartbeat brings the new one.";
    MismatchedEndpointType = 114, "MISMATCHED_ENDPOINT_TYPE", false, "The request came to the wrong kind of endpoint.";
    UnsupportedEndpointType = 115, "UNSUPPORTED_ENDPOINT_TYPE", false, "This kind of endpoint is not supported.";
    UnknownControllerId = 116, "UNKNOWN_CONTROLLER_ID", false, "No such controller.";
    UnknownSubscriptionId = 117, "UNKNOWN_SUBSCRIPTION_ID", false, "The telemetry subscription is unknown or out of date.";
    TelemetryTooLarge = 118, "TELEMETRY_TOO_LARGE", false, "The telemetry is larger than this broker takes.";
    InvalidRegistration = 119, "INVALID_REGISTRATION", false, "The registration is not valid.";
    TransactionAbortable = 120, "TRANSACTION_ABORTABLE", false, "The transaction met an error; abort it and the transactional id can go on.";
    InvalidRecordState = 121, "INVALID_RECORD_STATE", false, "The record is not in a state that can be acknowledged so.";
    ShareSessionNotFound = 122, "SHARE_SESSION_NOT_FOUND", true, "No such share session.";
    InvalidShareSessionEpoch = 123, "INVALID_SHARE_SESSION_EPOCH", true, "The share session's epoch is not the expected one.";
    FencedStateEpoch = 124, "FENCED_STATE_EPOCH", false, "The share group's state has a newer epoch.";
    InvalidVoterKey = 125, "INVALID_VOTER_KEY", false, "The voter's key is not the one of this replica.";
    DuplicateVoter = 126, "DUPLICATE_VOTER", false, "The voter is one already.";
    VoterNotFound = 127, "VOTER_NOT_FOUND", false, "The voter is not one.";
    InvalidRegularExpression = 128, "INVALID_REGULAR_EXPRESSION", false, "The regular expression is not valid.";
    RebootstrapRequired = 129, "REBOOTSTRAP_REQUIRED", false, "The client's metadata is too old; start again from the bootstrap servers.";
    StreamsInvalidTopology = 130, "STREAMS_INVALID_TOPOLOGY", false, "The topology is not valid.";
    StreamsInvalidTopologyEpoch = 131, "STREAMS_INVALID_TOPOLOGY_EPOCH", false, "The topology's epoch is not valid.";
    StreamsTopologyFenced = 132, "STREAMS_TOPOLOGY_FENCED", false, "The topology's epoch is an old one.";
    ShareSessionLimitReached = 133, "SHARE_SESSION_LIMIT_REACHED", true, "There are as many share sessions as allowed.";
}

impl ErrorCode {
    /// The number.
    pub const fn as_i16(self) -> i16 {
        self as i16
    }

    /// Whether it stands for success.
    pub const fn is_none(self) -> bool {
        matches!(self, Self::None)
    }

    /// The error with this number; an unknown number counts as [`ErrorCode::UnknownServerError`],
    /// as in Kafka's clients.
    pub const fn from_wire(code: i16) -> Self {
        match Self::from_i16(code) {
            Some(error) => error,
            None => Self::UnknownServerError,
        }
    }
}

impl From<ErrorCode> for i16 {
    fn from(error: ErrorCode) -> Self {
        error.as_i16()
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name(), self.as_i16(), self.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_contiguous_and_lead_back() {
        for (at, &error) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(error.as_i16() as isize, at as isize - 1);
            assert_eq!(ErrorCode::from_i16(error.as_i16()), Some(error));
        }
        assert_eq!(ErrorCode::from_wire(i16::MAX), ErrorCode::UnknownServerError);
    }

    #[test]
    fn an_error_says_name_number_and_sentence() {
        let shown = ErrorCode::OffsetOutOfRange.to_string();
        assert_eq!(
            shown,
            "OFFSET_OUT_OF_RANGE (1): The offset lies outside what the partition holds."
        );
        assert!(ErrorCode::NotLeaderOrFollower.is_retriable());
        assert!(!ErrorCode::OffsetOutOfRange.is_retriable());
    }
}
