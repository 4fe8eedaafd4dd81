//! LeaveGroup: takes members out of a classic group.
//!
//! Versions 0 to 5.
//!
//! - 0 to 2: one member, whose error is that of the answer.
//! - 3: any number of members, each with its own error; a static member may be named by its
//!   instance id alone, which is how administrators remove one.
//! - 5: why each one leaves; it is in the broker's log.

use klamm_coordinator::{Answer as Made, Leave, LeaveAnswer, Leaving, LeftMember};
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::leave_group::{
    LeaveGroupRequest, LeaveGroupResponse, MemberResponse,
};

use crate::coordinators::answer;
use crate::request::{Answer, RequestContext};

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: LeaveGroupRequest,
) -> Answer<LeaveGroupResponse> {
    let version = ctx.api_version;
    let refused = move |error| Answer::Now(response(version, failed(error)));
    if request.group_id.is_empty() {
        return refused(ErrorCode::InvalidGroupId);
    }
    let shard = match ctx.broker.coordinators.shard(&ctx.broker, &request.group_id).await {
        Ok(shard) => shard,
        Err(error) => return refused(error),
    };
    let promise = shard.call(|groups, now, ticket| {
        let group_id = request.group_id.clone();
        groups.leave(now, Leave { ticket, group_id, members: members(version, request) })
    });
    answer(promise, move |made| match made {
        Ok(Made::Leave(leave)) => response(version, leave),
        Ok(other) => unreachable!("a leave answered with {other:?}"),
        Err(error) => response(version, failed(error)),
    })
}

fn members(version: i16, request: LeaveGroupRequest) -> Vec<Leaving> {
    if version < 3 {
        let member_id = request.member_id;
        return vec![Leaving { member_id, group_instance_id: None, reason: None }];
    }
    let leaving = request.members.into_iter().map(|member| Leaving {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        reason: member.reason,
    });
    leaving.collect()
}

fn failed(error: ErrorCode) -> LeaveAnswer {
    LeaveAnswer { error, members: Vec::new() }
}

fn response(version: i16, leave: LeaveAnswer) -> LeaveGroupResponse {
    if version < 3 {
        let of_member = leave.members.first().map_or(ErrorCode::None, |member| member.error);
        let error = if leave.error.is_none() { of_member } else { leave.error };
        return LeaveGroupResponse { error_code: error.as_i16(), ..Default::default() };
    }
    let member = |member: LeftMember| MemberResponse {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        error_code: member.error.as_i16(),
    };
    LeaveGroupResponse {
        error_code: leave.error.as_i16(),
        members: leave.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}
