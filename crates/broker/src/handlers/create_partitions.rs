//! CreatePartitions (37), versions 0 to 3: more partitions for topics.
//!
//! One answer for each topic named; the versions differ in form only. Any broker takes it: the
//! controller decides, wherever it is (see [`crate::forwarding`]). The answer waits until this broker
//! knows the new partitions.

use std::collections::BTreeMap;

use klamm_cluster::Image;
use klamm_cluster::controller::MorePartitions;
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};

use crate::auto_create;
use crate::config::Refused;
use crate::forwarding::{CreatePartitions, patience};
use crate::request::{Answer, RequestContext};

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: CreatePartitionsRequest,
) -> Answer<CreatePartitionsResponse> {
    let image = ctx.broker.image();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in &request.topics {
        *counts.entry(&topic.name).or_default() += 1;
    }
    let mut results = Vec::new();
    for (name, _) in counts.iter().filter(|(_, count)| **count > 1) {
        let refused = Refused::new(ErrorCode::InvalidRequest, "Duplicate topic name.");
        results.push(failed(name, refused));
    }
    let mut asked = Vec::new();
    for topic in request.topics.iter().filter(|topic| counts[topic.name.as_str()] == 1) {
        match checked(&image, topic) {
            Ok(more) => asked.push(more),
            Err(refused) => results.push(failed(&topic.name, refused)),
        }
    }
    let answers = if asked.is_empty() {
        Vec::new()
    } else {
        let validate_only = request.validate_only;
        let question = CreatePartitions { more: asked.clone(), validate_only };
        ctx.broker.controller.ask(question, patience(request.timeout_ms)).await
    };
    let mut grown = Vec::new();
    for (more, answer) in asked.iter().zip(answers) {
        results.push(match answer {
            Ok(()) => {
                grown.push(more);
                CreatePartitionsTopicResult { name: more.name.clone(), ..Default::default() }
            }
            Err(refusal) => failed(&more.name, Refused::new(refusal.code, refusal.message)),
        });
    }
    if !request.validate_only {
        let there = |image: &Image| {
            grown.iter().all(|more| {
                let topic = image.topic(&more.name);
                topic.is_some_and(|topic| topic.partitions().count() as i64 >= more.count.into())
            })
        };
        auto_create::shown(&ctx.broker, there).await;
    }
    Answer::Now(CreatePartitionsResponse { results, ..Default::default() })
}

fn checked(image: &Image, topic: &CreatePartitionsTopic) -> Result<MorePartitions, Refused> {
    let known = image.topic(&topic.name);
    let now = known.map_or(topic.count, |known| known.partition_count());
    let assignments = topic.assignments.as_ref();
    if assignments.is_some_and(Vec::is_empty) && topic.count > now {
        let message = format!("Replicas for {} partitions are missing.", topic.count - now);
        return Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    let assignments = assignments.into_iter().flatten();
    Ok(MorePartitions {
        name: topic.name.clone(),
        count: topic.count,
        assignments: assignments.map(|assignment| assignment.broker_ids.clone()).collect(),
    })
}

fn failed(name: &str, refused: Refused) -> CreatePartitionsTopicResult {
    CreatePartitionsTopicResult {
        name: name.to_owned(),
        error_code: refused.code.as_i16(),
        // Kafka has no sentence for this one, and its code says all.
        error_message: Some(refused.message)
            .filter(|_| refused.code != ErrorCode::UnknownTopicOrPartition),
    }
}
