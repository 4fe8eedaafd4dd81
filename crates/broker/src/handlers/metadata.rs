//! Metadata (3), versions 0 to 13: brokers, topics, their partitions and leaders.
//!
//! - Version 0: an empty list of topics means all of them. From 1 on null means all, an empty list
//!   none.
//! - From 4 on the client says whether missing topics may be created; before that they always may.
//! - 8 to 10: the cluster's authorized operations; from 8 on those of topics.
//! - From 10 on answers have topic ids, from 12 on a topic may be asked for by its id. 10 and 11 have
//!   the field and refuse it.
//! - A broker is there for clients that came by a listener of which it has one too. A replica is
//!   offline without its broker, or in a log directory that an I/O error took offline.
//! - A leader that the client cannot reach is LISTENER_NOT_FOUND from 6 on where it is registered
//!   without that listener, and LEADER_NOT_AVAILABLE otherwise.
//! - Version 0 does not list replicas that the client cannot reach, and says REPLICA_NOT_AVAILABLE.
//!
//! A topic that is created on the way is answered with its leaders at once; Kafka answers
//! UNKNOWN_TOPIC_OR_PARTITION and lets the client ask again.

use std::collections::{BTreeMap, BTreeSet};

use klamm_cluster::{Image, Leaderless, Partition, Topic};
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use uuid::Uuid;

use crate::authorized_operations as operations;
use crate::auto_create;
use crate::request::{Answer, RequestContext};
use crate::topic_name;

/// The leader of a partition that has none.
pub(crate) const NO_LEADER: i32 = -1;

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: MetadataRequest,
) -> Answer<MetadataResponse> {
    let version = ctx.api_version;
    let wanted = match Wanted::of(version, &request) {
        Ok(wanted) => wanted,
        Err(response) => return Answer::Now(response),
    };
    let mut topics = match wanted {
        Wanted::All => {
            let image = ctx.broker.image();
            image.topics().map(|topic| described(ctx, &image, topic)).collect()
        }
        Wanted::Ids(ids) => by_id(ctx, &ids),
        Wanted::Names(names) => by_name(ctx, &names, request.allow_auto_topic_creation).await,
    };
    if request.include_topic_authorized_operations {
        for topic in topics.iter_mut().filter(|_| version >= 8) {
            topic.topic_authorized_operations = operations::TOPIC;
        }
    }
    let image = ctx.broker.image();
    let asked = (8..=10).contains(&version) && request.include_cluster_authorized_operations;
    Answer::Now(MetadataResponse {
        brokers: brokers(ctx, &image),
        cluster_id: Some(ctx.broker.cluster_id.clone()),
        controller_id: controller_id(ctx, &image),
        topics,
        cluster_authorized_operations: if asked {
            operations::CLUSTER
        } else {
            operations::NOT_ASKED
        },
        ..Default::default()
    })
}

/// Which topics a request asks for.
enum Wanted {
    All,
    Ids(BTreeSet<Uuid>),
    Names(BTreeSet<String>),
}

impl Wanted {
    fn of(version: i16, request: &MetadataRequest) -> Result<Wanted, MetadataResponse> {
        let topics = match &request.topics {
            None => return Ok(Wanted::All),
            Some(topics) if version == 0 && topics.is_empty() => return Ok(Wanted::All),
            Some(topics) => topics,
        };
        let malformed = |topic: &klamm_protocol::messages::metadata::MetadataRequestTopic| {
            let unnamed = topic.name.is_none() && (version < 12 || topic.topic_id.is_nil());
            unnamed || (version < 12 && !topic.topic_id.is_nil())
        };
        if topics.iter().any(malformed) {
            let refused = topics.iter().map(|topic| MetadataResponseTopic {
                name: Some(topic.name.clone().unwrap_or_default()),
                ..failed(ErrorCode::InvalidRequest, None, topic.topic_id)
            });
            return Err(MetadataResponse { topics: refused.collect(), ..Default::default() });
        }
        let ids: BTreeSet<Uuid> =
            topics.iter().map(|topic| topic.topic_id).filter(|id| !id.is_nil()).collect();
        if !ids.is_empty() {
            return Ok(Wanted::Ids(ids));
        }
        Ok(Wanted::Names(topics.iter().filter_map(|topic| topic.name.clone()).collect()))
    }
}

fn by_id(ctx: &RequestContext, ids: &BTreeSet<Uuid>) -> Vec<MetadataResponseTopic> {
    let image = ctx.broker.image();
    ids.iter()
        .map(|id| match image.topic_by_id(*id) {
            Some(topic) => described(ctx, &image, topic),
            None => failed(ErrorCode::UnknownTopicId, None, *id),
        })
        .collect()
}

async fn by_name(
    ctx: &RequestContext,
    names: &BTreeSet<String>,
    may_create: bool,
) -> Vec<MetadataResponseTopic> {
    let missing: Vec<&str> = {
        let image = ctx.broker.image();
        names.iter().map(String::as_str).filter(|name| image.topic(name).is_none()).collect()
    };
    let create = may_create && ctx.broker.config().auto_create_topics_enable;
    let errors = if create {
        auto_create::create(&ctx.broker, &missing).await
    } else {
        let unknown = ErrorCode::UnknownTopicOrPartition;
        missing
            .iter()
            .map(|name| {
                topic_name::check(name).map_or(ErrorCode::InvalidTopicException, |()| unknown)
            })
            .collect()
    };
    let errors: BTreeMap<&str, ErrorCode> = missing.iter().copied().zip(errors).collect();
    let image = ctx.broker.image();
    names
        .iter()
        .map(|name| match image.topic(name) {
            Some(topic) => described(ctx, &image, topic),
            None => {
                let error = errors.get(name.as_str()).copied();
                let error = error.unwrap_or(ErrorCode::UnknownTopicOrPartition);
                // A topic that was made and is not in the image yet will be there in a moment.
                let error = if error.is_none() { ErrorCode::LeaderNotAvailable } else { error };
                failed(error, Some(name.clone()), Uuid::nil())
            }
        })
        .collect()
}

fn failed(error: ErrorCode, name: Option<String>, topic_id: Uuid) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: error.as_i16(),
        is_internal: name.as_deref().is_some_and(topic_name::is_internal),
        name,
        topic_id,
        ..Default::default()
    }
}

fn described(ctx: &RequestContext, image: &Image, topic: &Topic) -> MetadataResponseTopic {
    MetadataResponseTopic {
        name: Some(topic.name.to_string()),
        topic_id: topic.id,
        is_internal: topic_name::is_internal(&topic.name),
        partitions: topic.partitions().map(|partition| state(ctx, image, partition)).collect(),
        ..Default::default()
    }
}

fn state(
    ctx: &RequestContext,
    image: &Image,
    partition: Partition<'_>,
) -> MetadataResponsePartition {
    let (version, listener) = (ctx.api_version, ctx.connection.listener.name.as_str());
    let leader = partition.leader_on(image, listener);
    let hidden =
        if version == 0 { partition.unreachable_replicas(image, listener) } else { Vec::new() };
    let error = match leader {
        Err(Leaderless::NoListener) if version >= 6 => ErrorCode::ListenerNotFound,
        Err(_) => ErrorCode::LeaderNotAvailable,
        Ok(_) if !hidden.is_empty() => ErrorCode::ReplicaNotAvailable,
        Ok(_) => ErrorCode::None,
    };
    let listed = |mut ids: Vec<i32>| {
        ids.retain(|id| !hidden.contains(id));
        ids
    };
    MetadataResponsePartition {
        error_code: error.as_i16(),
        partition_index: partition.index,
        leader_id: leader.unwrap_or(NO_LEADER),
        leader_epoch: partition.leader_epoch,
        replica_nodes: listed(partition.replicas().to_vec()),
        isr_nodes: listed(partition.isr.iter().map(|member| member.id).collect()),
        offline_replicas: partition.offline_replicas(image, listener),
    }
}

/// Where the client of this connection reaches a broker.
pub(crate) fn endpoint(ctx: &RequestContext, image: &Image, id: i32) -> Option<(String, u16)> {
    let endpoint = image.broker(id)?.endpoint(&ctx.connection.listener.name)?;
    Some((endpoint.host.clone(), endpoint.port))
}

fn brokers(ctx: &RequestContext, image: &Image) -> Vec<MetadataResponseBroker> {
    image
        .brokers()
        .filter_map(|broker| {
            let (host, port) = endpoint(ctx, image, broker.id)?;
            let rack = broker.rack.clone();
            Some(MetadataResponseBroker { node_id: broker.id, host, port: port.into(), rack })
        })
        .collect()
}

/// Never nobody: clients send there what any broker passes on.
pub(crate) fn controller_id(ctx: &RequestContext, image: &Image) -> i32 {
    let reachable = |id: &i32| endpoint(ctx, image, *id).is_some();
    image.controller().filter(reachable).unwrap_or(ctx.broker.id)
}
