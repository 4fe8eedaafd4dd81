//! IncrementalAlterConfigs (44), versions 0 and 1: settings are set, deleted, and lists grown and
//! shortened, one by one; of one resource all or none.
//!
//! The versions differ in form only. What is checked, and in which order, is
//! [`crate::config_change`]'s.
//!
//! Known gap: levels of loggers cannot be changed.

use klamm_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};

use crate::config_change::{ResourceChange, Wanted, change_configs};
use crate::request::{Answer, RequestContext};

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> Answer<IncrementalAlterConfigsResponse> {
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
    Answer::Now(IncrementalAlterConfigsResponse {
        responses: responses.collect(),
        ..Default::default()
    })
}

fn change(resource: &AlterConfigsResource) -> ResourceChange<'_> {
    let configs = resource.configs.iter();
    ResourceChange {
        resource_type: resource.resource_type,
        name: &resource.resource_name,
        wanted: Wanted::Steps(
            configs
                .map(|config| {
                    (config.name.as_str(), config.config_operation, config.value.as_deref())
                })
                .collect(),
        ),
    }
}
