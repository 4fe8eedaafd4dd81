//! ListGroups: the groups that this broker coordinates.
//!
//! Versions 0 to 5. From version 4 on the client may ask for some states and is told each group's,
//! from version 5 on the same with types; all groups here are of type `classic`. Both filters are
//! case-insensitive, and words that nobody knows match nothing.

use futures_util::future::join_all;
use klamm_coordinator::GroupFilter;
use klamm_protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};

use crate::coordinators::answer_when;
use crate::request::{Answer, RequestContext};

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: ListGroupsRequest,
) -> Answer<ListGroupsResponse> {
    let filter = GroupFilter { states: request.states_filter, types: request.types_filter };
    let shards = ctx.broker.coordinators.all(&ctx.broker).await;
    let looks: Vec<_> =
        shards.iter().map(|shard| shard.read(|groups| groups.list(&filter))).collect();
    answer_when(Box::pin(async move {
        // A partition that is lost meanwhile is another broker's to list.
        let groups = join_all(looks).await.into_iter().flatten().flatten().map(listed).collect();
        ListGroupsResponse { groups, ..Default::default() }
    }))
}

fn listed(group: klamm_coordinator::ListedGroup) -> ListedGroup {
    ListedGroup {
        group_id: group.group_id,
        protocol_type: group.protocol_type,
        group_state: group.state.name().to_owned(),
        group_type: "classic".to_owned(),
    }
}
