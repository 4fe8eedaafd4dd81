//! ElectLeaders (43), versions 0 to 2: elections that an operator asks for.
//!
//! - Version 0 knows elections of the preferred replica only; from 1 on there are unclean ones, which
//!   give a partition without a leader one that may lack confirmed records.
//! - Version 0 has no error code of its own; the later ones say in it what holds for all partitions.
//! - Null for the list means every partition there is. Those that need no election are left out then;
//!   their topics are not.
//! - Any broker takes it: the controller decides, wherever it is (see [`crate::forwarding`]).
//!
//! The answer waits until this broker shows the new leaders.

use std::sync::Arc;

use klamm_cluster::controller::{ElectionType, PartitionElection};
use klamm_cluster::{Image, Refusal};
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
    TopicPartitions,
};

use crate::auto_create;
use crate::forwarding::{self, ElectLeaders};
use crate::request::{Answer, RequestContext};

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
/// The first version whose answer has a code of its own.
const CODE_SINCE: i16 = 1;

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: ElectLeadersRequest,
) -> Answer<ElectLeadersResponse> {
    let topics = request.topic_partitions.as_deref();
    if topics.is_some_and(<[_]>::is_empty) {
        return Answer::Now(ElectLeadersResponse::default());
    }
    let how = match request.election_type {
        PREFERRED => ElectionType::Preferred,
        UNCLEAN => ElectionType::Unclean,
        other => {
            let message = format!("There is no election type {other}.");
            let refused = Refusal::new(ErrorCode::InvalidRequest, message);
            return Answer::Now(refusal(ctx, topics, &refused));
        }
    };
    let patience = forwarding::patience(request.timeout_ms);
    let question = ElectLeaders { how, partitions: topics.map(named) };
    let elections = match ctx.broker.controller.ask_one(question, patience).await {
        Ok(elections) => elections,
        Err(refused) => return Answer::Now(refusal(ctx, topics, &refused)),
    };
    // Late is no error: the leaders are in the tree.
    let shown = auto_create::shown(&ctx.broker, |image| all_led(image, &elections));
    let _ = tokio::time::timeout(patience, shown).await;
    let replica_election_results = match topics {
        Some(topics) => as_asked(topics, &elections),
        None => of_all(&elections),
    };
    Answer::Now(ElectLeadersResponse { replica_election_results, ..Default::default() })
}

fn named(topics: &[TopicPartitions]) -> Vec<(Arc<str>, i32)> {
    let each = |topic: &TopicPartitions| {
        let name: Arc<str> = Arc::from(topic.topic.as_str());
        let partitions = topic.partitions.clone().into_iter();
        partitions.map(move |index| (Arc::clone(&name), index))
    };
    topics.iter().flat_map(each).collect()
}

/// The same error for all that was asked.
fn refusal(
    ctx: &RequestContext,
    topics: Option<&[TopicPartitions]>,
    refused: &Refusal,
) -> ElectLeadersResponse {
    let code = refused.code.as_i16();
    let partition = |index: &i32| PartitionResult {
        partition_id: *index,
        error_code: code,
        error_message: Some(refused.message.clone()),
    };
    let topic = |topic: &TopicPartitions| ReplicaElectionResult {
        topic: topic.topic.clone(),
        partition_result: topic.partitions.iter().map(partition).collect(),
    };
    ElectLeadersResponse {
        error_code: if ctx.api_version >= CODE_SINCE { code } else { 0 },
        replica_election_results: topics.unwrap_or_default().iter().map(topic).collect(),
        ..Default::default()
    }
}

/// Whether the image has come as far as the elections.
fn all_led(image: &Image, elections: &[PartitionElection]) -> bool {
    elections.iter().all(|election| {
        let Ok(epoch) = election.outcome else { return true };
        let topic = image.topic(&election.topic);
        let partition = topic.and_then(|topic| topic.partition(election.partition));
        partition.is_none_or(|partition| partition.leader_epoch >= epoch)
    })
}

fn as_asked(
    topics: &[TopicPartitions],
    elections: &[PartitionElection],
) -> Vec<ReplicaElectionResult> {
    let mut results = elections.iter().map(result);
    let topic = |topic: &TopicPartitions| ReplicaElectionResult {
        topic: topic.topic.clone(),
        partition_result: results.by_ref().take(topic.partitions.len()).collect(),
    };
    topics.iter().map(topic).collect()
}

fn of_all(elections: &[PartitionElection]) -> Vec<ReplicaElectionResult> {
    let of_topic = elections.chunk_by(|one, next| one.topic == next.topic);
    of_topic
        .map(|of_topic| {
            let results = of_topic.iter().map(result);
            let not_needed = ErrorCode::ElectionNotNeeded.as_i16();
            ReplicaElectionResult {
                topic: of_topic[0].topic.to_string(),
                partition_result: results.filter(|it| it.error_code != not_needed).collect(),
            }
        })
        .collect()
}

fn result(election: &PartitionElection) -> PartitionResult {
    let refused = election.outcome.as_ref().err();
    PartitionResult {
        partition_id: election.partition,
        error_code: refused.map_or(ErrorCode::None, |refused| refused.code).as_i16(),
        error_message: refused.map(|refused| refused.message.clone()),
    }
}
