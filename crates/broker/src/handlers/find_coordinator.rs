//! FindCoordinator: which broker coordinates a group.
//!
//! Versions 0 to 5.
//!
//! - 0: groups only. 1: a key type (group 0, transaction 1, share 2) and an error message, `NONE`
//!   where nothing is wrong, as in Kafka. 4: several keys at once, each with its own error.
//!
//! The first request makes `__consumer_offsets` and is answered when it is there, where Kafka sends
//! the client away to try again.
//!
//! Known gaps: transactions are not offered. A transactional id is answered with
//! TRANSACTIONAL_ID_AUTHORIZATION_FAILED and a sentence: the one code that the Java client and
//! librdkafka both take for fatal at once (librdkafka asks again for ever after any other).
//! Share keys need version 6, which is not served: INVALID_REQUEST, as for unknown types.

use klamm_protocol::ErrorCode;
use klamm_protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};

use super::metadata::endpoint;
use crate::coordinators::coordinator_of;
use crate::request::{Answer, RequestContext};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// The first version with several keys.
const KEYS_SINCE: i16 = 4;
const NO_NODE: i32 = -1;
const NO_TRANSACTIONS: &str = "This broker does not offer transactions.";

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: FindCoordinatorRequest,
) -> Answer<FindCoordinatorResponse> {
    if ctx.api_version < KEYS_SINCE {
        let found = find(ctx, request.key_type, request.key).await;
        return Answer::Now(FindCoordinatorResponse {
            error_code: found.error_code,
            error_message: found.error_message.or_else(|| Some("NONE".to_owned())),
            node_id: found.node_id,
            host: found.host,
            port: found.port,
            ..Default::default()
        });
    }
    let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
    for key in request.coordinator_keys {
        coordinators.push(find(ctx, request.key_type, key).await);
    }
    Answer::Now(FindCoordinatorResponse { coordinators, ..Default::default() })
}

async fn find(ctx: &RequestContext, key_type: i8, key: String) -> Coordinator {
    match locate(ctx, key_type, &key).await {
        Ok((node_id, host, port)) => {
            Coordinator { key, node_id, host, port: port.into(), ..Default::default() }
        }
        Err(error) => {
            let message = match error {
                ErrorCode::TransactionalIdAuthorizationFailed => NO_TRANSACTIONS,
                other => other.message(),
            };
            Coordinator {
                key,
                node_id: NO_NODE,
                port: NO_NODE,
                error_code: error.as_i16(),
                error_message: Some(message.to_owned()),
                ..Default::default()
            }
        }
    }
}

async fn locate(
    ctx: &RequestContext,
    key_type: i8,
    key: &str,
) -> Result<(i32, String, u16), ErrorCode> {
    match key_type {
        GROUP => {}
        TRANSACTION => return Err(ErrorCode::TransactionalIdAuthorizationFailed),
        _ => return Err(ErrorCode::InvalidRequest),
    }
    let node_id = coordinator_of(&ctx.broker, key).await?;
    let reached = endpoint(ctx, &ctx.broker.image(), node_id);
    let (host, port) = reached.ok_or(ErrorCode::CoordinatorNotAvailable)?;
    Ok((node_id, host, port))
}
