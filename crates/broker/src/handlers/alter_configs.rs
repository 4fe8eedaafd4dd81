//! AlterConfigs (33), versions 0 to 2: the settings of a resource are these and no others.
//!
//! The versions differ in form only. What is checked, and in which order, is
//! [`crate::config_change`]'s.

use klamm_protocol::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
};

use crate::config_change::{ResourceChange, Wanted, change_configs};
use crate::request::{Answer, RequestContext};

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: AlterConfigsRequest,
) -> Answer<AlterConfigsResponse> {
    let changes = request.resources.iter().map(change).collect();
    let outcomes = change_configs(ctx, changes, request.validate_only).await;
    let responses = request.resources.iter().zip(outcomes).map(|(resource, outcome)| {
        let (error_code, error_message) = outcome.into_wire();
        AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
        }
    });
    Answer::Now(AlterConfigsResponse { responses: responses.collect(), ..Default::default() })
}

fn change(resource: &AlterConfigsResource) -> ResourceChange<'_> {
    let configs = resource.configs.iter();
    ResourceChange {
        resource_type: resource.resource_type,
        name: &resource.resource_name,
        wanted: Wanted::Whole(
            configs.map(|config| (config.name.as_str(), config.value.as_deref())).collect(),
        ),
    }
}
