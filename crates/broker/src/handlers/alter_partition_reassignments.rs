//! AlterPartitionReassignments (45), versions 0 and 1: moves partitions to other brokers, and takes
//! moves that are under way back.
//!
//! - Null for the replicas takes the move back; NO_REASSIGNMENT_IN_PROGRESS where there is none.
//! - Version 1 can forbid that the number of replicas changes; version 0 always allows it.
//! - The controller takes it, to whom clients send it: another broker answers NOT_CONTROLLER, for the
//!   whole and for each partition.
//!
//! The answer says that the moves have begun, and waits until this broker shows that; they end by
//! themselves.

use klamm_cluster::controller::Reassignment;
use klamm_cluster::{Image, Refusal};
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};

use crate::auto_create;
use crate::forwarding::patience;
use crate::request::{Answer, RequestContext};

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: AlterPartitionReassignmentsRequest,
) -> Answer<AlterPartitionReassignmentsResponse> {
    if request.topics.is_empty() {
        // Kafka's answer to nothing has an empty sentence instead of none.
        let error_message = Some(String::new());
        return Answer::Now(AlterPartitionReassignmentsResponse {
            error_message,
            ..Default::default()
        });
    }
    let moves = moves(&request);
    let outcomes = ctx.broker.controller.here().reassign_partitions(moves.clone()).await;
    // Late is no error: the moves are in the tree.
    let begun = moves.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
    let begun: Vec<&Reassignment> = begun.map(|(asked, _)| asked).collect();
    let shown = auto_create::shown(&ctx.broker, |image| begun.iter().all(|of| shows(image, of)));
    let _ = tokio::time::timeout(patience(request.timeout_ms), shown).await;
    Answer::Now(response(&request, outcomes))
}

/// What is asked, partition by partition.
fn moves(request: &AlterPartitionReassignmentsRequest) -> Vec<Reassignment> {
    let mut moves = Vec::new();
    for topic in &request.topics {
        moves.extend(topic.partitions.iter().map(|partition| Reassignment {
            topic: topic.name.clone(),
            partition: partition.partition_index,
            replicas: partition.replicas.clone(),
            may_resize: request.allow_replication_factor_change,
        }));
    }
    moves
}

/// Whether the image has come as far as the beginning of a move, or as its being taken back.
fn shows(image: &Image, asked: &Reassignment) -> bool {
    let topic = image.topic(&asked.topic);
    let Some(partition) = topic.and_then(|topic| topic.partition(asked.partition)) else {
        return true;
    };
    match &asked.replicas {
        Some(replicas) => partition.assignment.target() == *replicas,
        None => !partition.assignment.is_moving(),
    }
}

fn response(
    request: &AlterPartitionReassignmentsRequest,
    outcomes: Vec<Result<(), Refusal>>,
) -> AlterPartitionReassignmentsResponse {
    // A controller that is not in office, or no longer, refuses all that is asked.
    let elsewhere = |outcome: &Result<(), Refusal>| {
        outcome.clone().err().filter(|refusal| refusal.code == ErrorCode::NotController)
    };
    let refused = outcomes.iter().find_map(elsewhere);
    let mut outcomes = outcomes.into_iter();
    let topics = request.topics.iter().map(|topic| ReassignableTopicResponse {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .zip(outcomes.by_ref())
            .map(|(partition, outcome)| {
                let (error_code, error_message) = told(outcome.err());
                let partition_index = partition.partition_index;
                ReassignablePartitionResponse { partition_index, error_code, error_message }
            })
            .collect(),
    });
    let responses = topics.collect();
    let (error_code, error_message) = told(refused);
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        error_code,
        error_message,
        responses,
        ..Default::default()
    }
}

/// The code, and a sentence where that says more.
fn told(refused: Option<Refusal>) -> (i16, Option<String>) {
    let Some(Refusal { code, message }) = refused else { return (0, None) };
    (code.as_i16(), Some(message).filter(|message| message != code.message()))
}
