//! DeleteGroups: forgets groups without members and all that they have committed.
//!
//! Versions 0 to 2. NON_EMPTY_GROUP while there are members, GROUP_ID_NOT_FOUND for an unknown
//! group. A group that is named twice is answered once.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use klamm_coordinator::Answer as Made;
use klamm_protocol::messages::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};

use crate::coordinators::{Promise, answer_when};
use crate::request::{Answer, RequestContext};

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: DeleteGroupsRequest,
) -> Answer<DeleteGroupsResponse> {
    let mut answers = Vec::with_capacity(request.groups_names.len());
    let mut seen = BTreeSet::new();
    for group_id in request.groups_names {
        if !seen.insert(group_id.clone()) {
            continue;
        }
        let promise = delete(ctx, &group_id).await;
        answers.push(async move {
            let error = match promise.await {
                Ok(Made::DeleteGroup(error)) | Err(error) => error,
                Ok(other) => unreachable!("a group deletion answered with {other:?}"),
            };
            DeletableGroupResult { group_id, error_code: error.as_i16() }
        });
    }
    answer_when(Box::pin(async move {
        DeleteGroupsResponse { results: join_all(answers).await, ..Default::default() }
    }))
}

async fn delete(ctx: &RequestContext, group_id: &str) -> Promise<Made> {
    match ctx.broker.coordinators.shard(&ctx.broker, group_id).await {
        Ok(shard) => shard.delete_group(group_id),
        Err(error) => Box::pin(async move { Err(error) }),
    }
}
