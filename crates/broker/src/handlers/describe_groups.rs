//! DescribeGroups: members and state of classic groups.
//!
//! Versions 0 to 6.
//!
//! - 3: asked for, what the client may do with each group; nobody restricts anything, so all.
//! - 4: the instance id of static members.
//! - 6: an unknown group is GROUP_ID_NOT_FOUND with a sentence; before, a group in state `Dead`.
//!
//! Protocol and subscriptions are told of stable groups only.

use futures_util::future::join_all;
use klamm_coordinator::{DescribedGroup as Seen, DescribedMember};
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};

use crate::authorized_operations;
use crate::coordinators::{Promise, answer_when};
use crate::request::{Answer, RequestContext};

/// The first version with GROUP_ID_NOT_FOUND.
const NOT_FOUND_SINCE: i16 = 6;

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: DescribeGroupsRequest,
) -> Answer<DescribeGroupsResponse> {
    let version = ctx.api_version;
    let authorized_operations = match request.include_authorized_operations {
        true => authorized_operations::GROUP,
        false => authorized_operations::NOT_ASKED,
    };
    let mut answers = Vec::with_capacity(request.groups.len());
    for group_id in request.groups {
        let promise = look(ctx, &group_id).await;
        answers.push(async move {
            match promise.await {
                Ok(Some(seen)) => {
                    DescribedGroup { authorized_operations, ..described(group_id, seen) }
                }
                Ok(None) => not_found(version, group_id, authorized_operations),
                Err(error) => failed(group_id, error),
            }
        });
    }
    answer_when(Box::pin(async move {
        DescribeGroupsResponse { groups: join_all(answers).await, ..Default::default() }
    }))
}

async fn look(ctx: &RequestContext, group_id: &str) -> Promise<Option<Seen>> {
    match ctx.broker.coordinators.shard(&ctx.broker, group_id).await {
        Ok(shard) => shard.read(|groups| groups.describe(group_id)),
        Err(error) => Box::pin(async move { Err(error) }),
    }
}

fn described(group_id: String, seen: Seen) -> DescribedGroup {
    let member = |member: DescribedMember| DescribedGroupMember {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    };
    DescribedGroup {
        group_id,
        group_state: seen.state.name().to_owned(),
        protocol_type: seen.protocol_type,
        protocol_data: seen.protocol,
        members: seen.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}

fn not_found(version: i16, group_id: String, authorized_operations: i32) -> DescribedGroup {
    let dead = DescribedGroup { group_state: "Dead".to_owned(), ..Default::default() };
    if version < NOT_FOUND_SINCE {
        return DescribedGroup { group_id, authorized_operations, ..dead };
    }
    DescribedGroup {
        error_code: ErrorCode::GroupIdNotFound.as_i16(),
        error_message: Some(format!("Group {group_id} not found.")),
        group_id,
        ..dead
    }
}

fn failed(group_id: String, error: ErrorCode) -> DescribedGroup {
    DescribedGroup { group_id, error_code: error.as_i16(), ..Default::default() }
}
