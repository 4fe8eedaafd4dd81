//! Heartbeat: keeps a member's session alive and tells it of rebalances.
//!
//! Versions 0 to 4. From version 3 on `group_instance_id` names a static member.
//!
//! REBALANCE_IN_PROGRESS sends the member back to JoinGroup; while members wait for their
//! assignment a heartbeat is answered as usual.

use klamm_coordinator::{Answer as Made, Heartbeat};
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use crate::coordinators::answer;
use crate::request::{Answer, RequestContext};

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: HeartbeatRequest,
) -> Answer<HeartbeatResponse> {
    if request.group_id.is_empty() {
        return Answer::Now(response(ErrorCode::InvalidGroupId));
    }
    let shard = match ctx.broker.coordinators.shard(&ctx.broker, &request.group_id).await {
        Ok(shard) => shard,
        Err(error) => return Answer::Now(response(error)),
    };
    let promise = shard.call(|groups, now, ticket| {
        groups.heartbeat(
            now,
            Heartbeat {
                ticket,
                group_id: request.group_id,
                generation: request.generation_id,
                member_id: request.member_id,
                group_instance_id: request.group_instance_id,
            },
        )
    });
    answer(promise, |made| match made {
        Ok(Made::Heartbeat(error)) | Err(error) => response(error),
        Ok(other) => unreachable!("a heartbeat answered with {other:?}"),
    })
}

fn response(error: ErrorCode) -> HeartbeatResponse {
    HeartbeatResponse { error_code: error.as_i16(), ..Default::default() }
}
