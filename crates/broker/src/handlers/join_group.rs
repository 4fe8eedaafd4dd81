//! JoinGroup: becomes a member of the next generation of a classic group.
//!
//! Versions 0 to 9. The answer is parked until the generation is complete: the initial delay of an
//! empty group has passed, or every member has joined or run out of time.
//!
//! - 0: the session timeout is the rebalance timeout too.
//! - 4: a member without an id is given one and must come back with it (MEMBER_ID_REQUIRED);
//!   static members (5) are not sent back.
//! - 5: `group_instance_id` makes a member static (KIP-345).
//! - 7: protocol type and name are in the answer, the name null where there is none.
//! - 8: the client says why it joins; it is in the broker's log.
//! - 9: a static leader that comes back is told to skip the assignment (KIP-814).
//!
//! Known gaps: groups of the newer consumer, share and streams protocols do not exist, so no join
//! is answered on their behalf.

use klamm_coordinator::{Answer as Made, Join, JoinAnswer, Protocol};
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember,
};

use crate::coordinators::answer;
use crate::request::{Answer, RequestContext};

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: JoinGroupRequest,
) -> Answer<JoinGroupResponse> {
    let version = ctx.api_version;
    let member_id = request.member_id.clone();
    if request.group_id.is_empty() {
        return refused(version, ErrorCode::InvalidGroupId, &member_id);
    }
    let shard = match ctx.broker.coordinators.shard(&ctx.broker, &request.group_id).await {
        Ok(shard) => shard,
        Err(error) => return refused(version, error, &member_id),
    };
    let fresh = ctx.broker.env.random.uuid();
    let promise = shard.call(|groups, now, ticket| {
        let protocols = request.protocols.into_iter();
        groups.join(
            now,
            Join {
                ticket,
                api_version: version,
                client_id: ctx.client_id.to_string(),
                client_host: ctx.client_host(),
                group_id: request.group_id,
                member_id: request.member_id,
                group_instance_id: request.group_instance_id,
                protocol_type: request.protocol_type,
                protocols: protocols
                    .map(|it| Protocol { name: it.name, metadata: it.metadata })
                    .collect(),
                session_timeout_ms: request.session_timeout_ms,
                rebalance_timeout_ms: match version {
                    0 => request.session_timeout_ms,
                    _ => request.rebalance_timeout_ms,
                },
                reason: request.reason,
                fresh,
            },
        )
    });
    answer(promise, move |made| match made {
        Ok(Made::Join(join)) => response(version, join),
        Ok(other) => unreachable!("a join answered with {other:?}"),
        Err(error) => response(version, JoinAnswer::failed(error, &member_id)),
    })
}

fn refused(version: i16, error: ErrorCode, member_id: &str) -> Answer<JoinGroupResponse> {
    Answer::Now(response(version, JoinAnswer::failed(error, member_id)))
}

fn response(version: i16, join: JoinAnswer) -> JoinGroupResponse {
    let member = |member: klamm_coordinator::JoinedMember| JoinGroupResponseMember {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        metadata: member.metadata,
    };
    JoinGroupResponse {
        error_code: join.error.as_i16(),
        generation_id: join.generation,
        protocol_type: join.protocol_type,
        // Null can be said from version 7 on.
        protocol_name: match version {
            ..7 => Some(join.protocol.unwrap_or_default()),
            _ => join.protocol,
        },
        leader: join.leader,
        skip_assignment: join.skip_assignment,
        member_id: join.member_id,
        members: join.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}
