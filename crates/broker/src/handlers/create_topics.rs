//! CreateTopics (19), versions 2 to 7.
//!
//! - Each topic stands for itself: one that is refused does not hold up the others.
//! - A request for more partitions than one may make is refused as a whole.
//! - From 4 on -1 means the broker's default for partitions and replicas; earlier versions are
//!   treated alike, as in Kafka.
//! - From 5 on a created topic is answered with its size and its settings, from 7 on with its id.
//! - Any broker takes it: the controller decides, wherever it is (see [`crate::forwarding`]).
//! - The answer waits until this broker knows the new topics, so that a client that produces next
//!   finds them.

use std::collections::BTreeMap;

use klamm_cluster::controller::topics::NEW_PARTITIONS_MAX;
use klamm_cluster::controller::{CreatedTopic, NewTopic};
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};

use crate::auto_create;
use crate::config::{BrokerConfig, Refused, Scope, Settings, check, describe_topic};
use crate::forwarding::{CreateTopics, patience};
use crate::request::{Answer, RequestContext};
use crate::topic_name;

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: CreateTopicsRequest,
) -> Answer<CreateTopicsResponse> {
    let config = ctx.broker.config();
    if partitions_of(&request.topics, config.num_partitions) > NEW_PARTITIONS_MAX as i64 {
        return Answer::Now(too_many(&request.topics));
    }
    let image = ctx.broker.image();
    let (unique, repeated) = by_name(&request.topics);
    let mut results: Vec<CreatableTopicResult> = Vec::with_capacity(request.topics.len());
    let mut asked = Vec::new();
    for topic in unique {
        match checked(&config, topic) {
            Ok(new) => {
                asked.push((results.len(), new));
                results.push(CreatableTopicResult::default());
            }
            // Kafka looks for the name first.
            Err(_) if image.topic(&topic.name).is_some() => {
                results.push(failed(&topic.name, exists(&topic.name)));
            }
            Err(refused) => results.push(failed(&topic.name, refused)),
        }
    }
    results.extend(repeated.into_iter().map(|name| {
        failed(name, Refused::new(ErrorCode::InvalidRequest, "Duplicate topic name."))
    }));

    let topics: Vec<NewTopic> = asked.iter().map(|(_, new)| new.clone()).collect();
    let answers = if topics.is_empty() {
        Vec::new()
    } else {
        let defaults = auto_create::defaults(&config);
        let question = CreateTopics::new(topics, defaults, request.validate_only);
        ctx.broker.controller.ask(question, patience(request.timeout_ms)).await
    };
    let mut made = Vec::new();
    for ((at, new), answer) in asked.iter().zip(answers) {
        results[*at] = match answer {
            Ok(created) => {
                made.push(created.id);
                succeeded(ctx, &config, new, &created)
            }
            Err(refusal) => failed(&new.name, Refused::new(refusal.code, refusal.message)),
        };
    }
    if !request.validate_only && !made.is_empty() {
        auto_create::await_topics(&ctx.broker, &made).await;
    }
    Answer::Now(CreateTopicsResponse { topics: results, ..Default::default() })
}

/// How many partitions are asked for by all topics together.
fn partitions_of(topics: &[CreatableTopic], default: i32) -> i64 {
    let of = |topic: &CreatableTopic| match topic.num_partitions {
        _ if !topic.assignments.is_empty() => topic.assignments.len() as i64,
        -1 => i64::from(default),
        given => i64::from(given.max(0)),
    };
    topics.iter().map(of).sum()
}

fn too_many(topics: &[CreatableTopic]) -> CreateTopicsResponse {
    let message = format!("One request makes {NEW_PARTITIONS_MAX} partitions at most.");
    let refused = || Refused::new(ErrorCode::PolicyViolation, message.clone());
    let results = topics.iter().map(|topic| failed(&topic.name, refused()));
    CreateTopicsResponse { topics: results.collect(), ..Default::default() }
}

/// The topics named once, and the names that stand more than once.
fn by_name(topics: &[CreatableTopic]) -> (Vec<&CreatableTopic>, Vec<&str>) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in topics {
        *counts.entry(&topic.name).or_default() += 1;
    }
    let unique = topics.iter().filter(|topic| counts[topic.name.as_str()] == 1).collect();
    let repeated = counts.into_iter().filter(|(_, count)| *count > 1).map(|(name, _)| name);
    (unique, repeated.collect())
}

fn exists(name: &str) -> Refused {
    Refused::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists."))
}

/// All that can be refused without the controller, in Kafka's order. Whether the name is free is not
/// among it: another broker may have been asked just before.
fn checked(config: &BrokerConfig, topic: &CreatableTopic) -> Result<NewTopic, Refused> {
    if topic.name == topic_name::CLUSTER_METADATA {
        let message = format!("{} cannot be created.", topic.name);
        return Err(Refused::new(ErrorCode::InvalidRequest, message));
    }
    topic_name::check(&topic.name)
        .map_err(|why| Refused::new(ErrorCode::InvalidTopicException, why))?;
    let configs = settings(topic)?;
    check(Scope::Topic, config, &configs)?;
    let assignments = if topic.assignments.is_empty() {
        check_counts(topic)?;
        BTreeMap::new()
    } else {
        assignments(topic)?
    };
    Ok(NewTopic {
        name: topic.name.clone(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor.into(),
        assignments,
        configs,
        ..NewTopic::default()
    })
}

fn settings(topic: &CreatableTopic) -> Result<Settings, Refused> {
    let mut settings = Settings::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            let message = format!("{} has no value.", config.name);
            return Err(Refused::new(ErrorCode::InvalidConfig, message));
        };
        settings.insert(config.name.clone(), value.clone());
    }
    Ok(settings)
}

fn check_counts(topic: &CreatableTopic) -> Result<(), Refused> {
    let refused = |code, message: String| Err(Refused::new(code, message));
    if topic.replication_factor < -1 || topic.replication_factor == 0 {
        return refused(
            ErrorCode::InvalidReplicationFactor,
            format!("{} replicas are asked for; it takes one, or -1.", topic.replication_factor),
        );
    }
    if topic.num_partitions < -1 || topic.num_partitions == 0 {
        return refused(
            ErrorCode::InvalidPartitions,
            format!("{} partitions are asked for; it takes one, or -1.", topic.num_partitions),
        );
    }
    Ok(())
}

fn assignments(topic: &CreatableTopic) -> Result<BTreeMap<i32, Vec<i32>>, Refused> {
    for (what, given) in [
        ("replication factor", i32::from(topic.replication_factor)),
        ("number of partitions", topic.num_partitions),
    ] {
        if given != -1 {
            let message = format!("With assigned replicas the {what} is -1, not {given}.");
            return Err(Refused::new(ErrorCode::InvalidRequest, message));
        }
    }
    let mut assignments = BTreeMap::new();
    for assignment in &topic.assignments {
        let index = assignment.partition_index;
        if assignments.insert(index, assignment.broker_ids.clone()).is_some() {
            let message = format!("Partition {index} is assigned twice.");
            return Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message));
        }
    }
    Ok(assignments)
}

fn failed(name: &str, refused: Refused) -> CreatableTopicResult {
    CreatableTopicResult {
        name: name.to_owned(),
        error_code: refused.code.as_i16(),
        error_message: Some(refused.message),
        ..Default::default()
    }
}

fn succeeded(
    ctx: &RequestContext,
    config: &BrokerConfig,
    new: &NewTopic,
    created: &CreatedTopic,
) -> CreatableTopicResult {
    let mut result = CreatableTopicResult {
        name: created.name.clone(),
        topic_id: created.id,
        error_message: None,
        ..Default::default()
    };
    if ctx.api_version >= 5 {
        result.num_partitions = created.partitions;
        result.replication_factor = i16::try_from(created.replication_factor).unwrap_or(i16::MAX);
        let shown = describe_topic(config, &new.configs).into_iter();
        let shown = shown.map(|entry| CreatableTopicConfigs {
            name: entry.name.to_owned(),
            value: entry.value,
            read_only: entry.read_only,
            config_source: entry.source as i8,
            is_sensitive: false,
        });
        result.configs = Some(shown.collect());
    }
    result
}
