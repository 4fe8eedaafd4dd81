//! What the machine answers. The handlers turn these into responses.

use bytes::Bytes;
use klamm_protocol::ErrorCode;

/// The answer to one ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a join.
    Join(JoinAnswer),
    /// To a sync.
    Sync(SyncAnswer),
    /// To a heartbeat.
    Heartbeat(ErrorCode),
    /// To a leave.
    Leave(LeaveAnswer),
    /// To a commit: one code per offset of the request.
    Commit(Vec<ErrorCode>),
    /// To an offset deletion: one code per partition of the request, or one for all.
    DeleteOffsets(Result<Vec<ErrorCode>, ErrorCode>),
    /// To a group deletion.
    DeleteGroup(ErrorCode),
}

impl Answer {
    /// Whether the answer promises something. Such an answer must not go out when its records
    /// could not be appended.
    #[must_use]
    pub fn is_success(&self) -> bool {
        match self {
            Answer::Join(answer) => {
                matches!(answer.error, ErrorCode::None | ErrorCode::MemberIdRequired)
            }
            Answer::Sync(answer) => answer.error == ErrorCode::None,
            Answer::Heartbeat(error) | Answer::DeleteGroup(error) => *error == ErrorCode::None,
            Answer::Leave(answer) => answer.error == ErrorCode::None,
            Answer::Commit(codes) => codes.contains(&ErrorCode::None),
            Answer::DeleteOffsets(result) => {
                result.as_ref().is_ok_and(|codes| codes.contains(&ErrorCode::None))
            }
        }
    }

    /// The same kind of answer, saying that it came to nothing.
    #[must_use]
    pub fn failed(self, error: ErrorCode) -> Answer {
        match self {
            Answer::Join(_) => Answer::Join(JoinAnswer::failed(error, "")),
            Answer::Sync(_) => Answer::Sync(SyncAnswer::failed(error)),
            Answer::Heartbeat(_) => Answer::Heartbeat(error),
            Answer::Leave(_) => Answer::Leave(LeaveAnswer { error, members: Vec::new() }),
            Answer::Commit(codes) => Answer::Commit(vec![error; codes.len()]),
            Answer::DeleteOffsets(_) => Answer::DeleteOffsets(Err(error)),
            Answer::DeleteGroup(_) => Answer::DeleteGroup(error),
        }
    }
}

/// The answer to a join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinAnswer {
    /// What went wrong, if anything did.
    pub error: ErrorCode,
    /// The generation joined, or -1.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The protocol all members assign by.
    pub protocol: Option<String>,
    /// The leader's member id; empty if there is none.
    pub leader: String,
    /// The leader must not assign: the assignment of this generation stands (KIP-814).
    pub skip_assignment: bool,
    /// The member id the client is to use.
    pub member_id: String,
    /// Everybody in the generation, for the leader alone.
    pub members: Vec<JoinedMember>,
}

impl JoinAnswer {
    /// A refusal.
    #[must_use]
    pub fn failed(error: ErrorCode, member_id: &str) -> JoinAnswer {
        JoinAnswer {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }
}

/// A member, as the leader is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// The member.
    pub member_id: String,
    /// Set for a static member.
    pub group_instance_id: Option<String>,
    /// What it sent under the chosen protocol.
    pub metadata: Bytes,
}

/// The answer to a sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncAnswer {
    /// What went wrong, if anything did.
    pub error: ErrorCode,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The protocol all members assign by.
    pub protocol: Option<String>,
    /// What the leader gave this member.
    pub assignment: Bytes,
}

impl SyncAnswer {
    /// A refusal.
    #[must_use]
    pub fn failed(error: ErrorCode) -> SyncAnswer {
        SyncAnswer { error, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

/// The answer to a leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveAnswer {
    /// What went wrong with the whole request.
    pub error: ErrorCode,
    /// One entry per member of the request.
    pub members: Vec<LeftMember>,
}

/// What became of one member of a leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftMember {
    /// As in the request.
    pub member_id: String,
    /// As in the request.
    pub group_instance_id: Option<String>,
    /// What went wrong, if anything did.
    pub error: ErrorCode,
}
