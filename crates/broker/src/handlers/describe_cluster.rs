//! DescribeCluster (60), versions 0 to 2: the brokers and the controller.
//!
//! - From 1 on the client says whether it means brokers or controllers; the latter do not listen
//!   here.
//! - From 2 on brokers say whether they are fenced. Only registered brokers are listed, and those are
//!   not.

use klamm_protocol::ErrorCode;
use klamm_protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};

use super::metadata::{controller_id, endpoint};
use crate::authorized_operations as operations;
use crate::request::{Answer, RequestContext};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: DescribeClusterRequest,
) -> Answer<DescribeClusterResponse> {
    let refused = |error: ErrorCode, message: String| {
        Answer::Now(DescribeClusterResponse {
            error_code: error.as_i16(),
            error_message: Some(message),
            ..Default::default()
        })
    };
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            let message = "This endpoint is a broker's, not a controller's.".to_owned();
            return refused(ErrorCode::MismatchedEndpointType, message);
        }
        other => {
            return refused(
                ErrorCode::UnsupportedEndpointType,
                format!("There is no endpoint type {other}."),
            );
        }
    }
    let image = ctx.broker.image();
    let brokers = image.brokers().filter_map(|broker| {
        let (host, port) = endpoint(ctx, &image, broker.id)?;
        Some(DescribeClusterBroker {
            broker_id: broker.id,
            host,
            port: port.into(),
            rack: broker.rack.clone(),
            is_fenced: false,
        })
    });
    Answer::Now(DescribeClusterResponse {
        cluster_id: ctx.broker.cluster_id.clone(),
        controller_id: controller_id(ctx, &image),
        brokers: brokers.collect(),
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            operations::CLUSTER
        } else {
            operations::NOT_ASKED
        },
        ..Default::default()
    })
}
