//! AskController, version 0: Klamm's own API, by which one broker asks another that is the
//! controller (see [`crate::forwarding`]). ApiVersions does not name it.
//!
//! - Taken on the inter-broker listener alone, from a registered broker
//!   (CLUSTER_AUTHORIZATION_FAILED otherwise) that names its current epoch (STALE_BROKER_EPOCH).
//!   As in Kafka, where no listener demands to know who speaks, anybody may say to be a broker.
//! - A broker that is not the controller of the epoch that is asked answers NOT_CONTROLLER.
//! - The request's own error says that nothing was done; otherwise each item has its answer. One
//!   with NOT_CONTROLLER may have been carried out before the office ended.

use klamm_protocol::messages::{AskControllerRequest, AskControllerResponse};

use crate::request::{Answer, RequestContext};

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: AskControllerRequest,
) -> Answer<AskControllerResponse> {
    Answer::Now(ctx.broker.controller.answer(&ctx.connection.listener.name, request).await)
}
