//! InitProducerId: an id for an idempotent producer.
//!
//! Versions 0 to 5. A producer without a transactional id always gets a new id with epoch 0,
//! whatever id it had; one of the pair of old id and epoch without the other is INVALID_REQUEST.
//!
//! Known gaps: transactions are not offered. A transactional id is refused with
//! TRANSACTIONAL_ID_AUTHORIZATION_FAILED, which no client tries again; an empty one is
//! INVALID_REQUEST, as in Kafka.

use klamm_cluster::Member;
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};
use tracing::{info, warn};

use crate::request::{Answer, RequestContext};

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: InitProducerIdRequest,
) -> Answer<InitProducerIdResponse> {
    if let Some(code) = refusal(&request) {
        if code == ErrorCode::TransactionalIdAuthorizationFailed {
            info!(client = &*ctx.client_id, "refused: transactions are not offered");
        }
        return Answer::Now(refused(code));
    }
    let ctx = ctx.clone();
    Answer::Later(Box::pin(async move {
        let broker = &ctx.broker;
        let me = Member { id: broker.id, epoch: broker.epoch() };
        match broker.producer_ids.next(&broker.controller, me).await {
            Ok(producer_id) => {
                InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() }
            }
            Err(error) => {
                warn!("no producer id: {error}");
                // The controller is away for a moment: the client asks again.
                refused(ErrorCode::CoordinatorLoadInProgress)
            }
        }
    }))
}

fn refusal(request: &InitProducerIdRequest) -> Option<ErrorCode> {
    match &request.transactional_id {
        _ if (request.producer_id == -1) != (request.producer_epoch == -1) => {
            Some(ErrorCode::InvalidRequest)
        }
        Some(id) if id.is_empty() => Some(ErrorCode::InvalidRequest),
        Some(_) => Some(ErrorCode::TransactionalIdAuthorizationFailed),
        None => None,
    }
}

fn refused(code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse {
        error_code: code.as_i16(),
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    }
}
