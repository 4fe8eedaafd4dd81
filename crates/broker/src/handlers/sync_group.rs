//! SyncGroup: asks for the assignment of a generation; the leader brings everybody's.
//!
//! Versions 0 to 5. Followers are parked until the leader's assignment is recorded and committed.
//!
//! - 3: `group_instance_id` names a static member.
//! - 5: protocol type and name are mandatory in the request and present in the answer.

use klamm_coordinator::{Answer as Made, Sync, SyncAnswer};
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};

use crate::coordinators::answer;
use crate::request::{Answer, RequestContext};

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: SyncGroupRequest,
) -> Answer<SyncGroupResponse> {
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if ctx.api_version >= 5 && !names_protocol {
        return refused(ErrorCode::InconsistentGroupProtocol);
    }
    if request.group_id.is_empty() {
        return refused(ErrorCode::InvalidGroupId);
    }
    let shard = match ctx.broker.coordinators.shard(&ctx.broker, &request.group_id).await {
        Ok(shard) => shard,
        Err(error) => return refused(error),
    };
    let promise = shard.call(|groups, now, ticket| {
        let assignments = request.assignments.into_iter();
        groups.sync(
            now,
            Sync {
                ticket,
                group_id: request.group_id,
                generation: request.generation_id,
                member_id: request.member_id,
                group_instance_id: request.group_instance_id,
                protocol_type: request.protocol_type,
                protocol: request.protocol_name,
                assignments: assignments.map(|it| (it.member_id, it.assignment)).collect(),
            },
        )
    });
    answer(promise, |made| match made {
        Ok(Made::Sync(sync)) => response(sync),
        Ok(other) => unreachable!("a sync answered with {other:?}"),
        Err(error) => response(SyncAnswer::failed(error)),
    })
}

fn refused(error: ErrorCode) -> Answer<SyncGroupResponse> {
    Answer::Now(response(SyncAnswer::failed(error)))
}

fn response(sync: SyncAnswer) -> SyncGroupResponse {
    SyncGroupResponse {
        error_code: sync.error.as_i16(),
        protocol_type: sync.protocol_type,
        protocol_name: sync.protocol,
        assignment: sync.assignment,
        ..Default::default()
    }
}
