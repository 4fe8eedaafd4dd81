//! DescribeConfigs (32), versions 1 to 4: the settings in force and where they come from.
//!
//! - Topics and this broker (by id; an empty name means what was set for all brokers).
//! - From 3 on answers have types and, if asked for, documentation.
//!
//! Known gaps: groups, client metrics and loggers have no settings of their own yet and are answered
//! with an empty list. Keys of Kafka's that Klamm does not implement are not listed.

use klamm_cluster::Topic;
use klamm_cluster::controller::FLUSH_CONFIG;
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};

use crate::config::{
    Described, Kind, Refused, describe_all_brokers, describe_broker, describe_topic,
};
use crate::config_resource::{ResourceType, own_broker};
use crate::request::{Answer, RequestContext};
use crate::topic_name;

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: DescribeConfigsRequest,
) -> Answer<DescribeConfigsResponse> {
    let result = |resource: &DescribeConfigsResource| {
        let mut result = DescribeConfigsResult {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..Default::default()
        };
        match described(ctx, resource) {
            Ok(mut entries) => {
                if let Some(keys) = resource.configuration_keys.as_ref().filter(|k| !k.is_empty()) {
                    entries.retain(|entry| keys.iter().any(|key| key == entry.name));
                }
                let shown = entries.into_iter().map(|entry| shown(ctx, &request, entry));
                result.configs = shown.collect();
            }
            Err(refused) => {
                result.error_code = refused.code.as_i16();
                result.error_message = Some(refused.message);
            }
        }
        result
    };
    let results = request.resources.iter().map(result).collect();
    Answer::Now(DescribeConfigsResponse { results, ..Default::default() })
}

fn described(
    ctx: &RequestContext,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Described>, Refused> {
    let name = &resource.resource_name;
    let config = ctx.broker.config();
    match ResourceType::from_i8(resource.resource_type) {
        Some(ResourceType::Topic) => {
            topic_name::check(name)
                .map_err(|why| Refused::new(ErrorCode::InvalidTopicException, why))?;
            let image = ctx.broker.image();
            let Some(topic) = image.topic(name) else {
                return Err(Refused::new(ErrorCode::UnknownTopicOrPartition, ""));
            };
            let own = image.topic_config(name);
            let mut entries = describe_topic(&config, own);
            if !own.contains_key(FLUSH_CONFIG) {
                entries.iter_mut().for_each(|entry| show_flush_of(topic, entry));
            }
            Ok(entries)
        }
        Some(ResourceType::Broker) if name.is_empty() => Ok(describe_all_brokers(&config)),
        Some(ResourceType::Broker) => {
            own_broker(name, ctx.broker.id)?;
            Ok(describe_broker(&config))
        }
        Some(ResourceType::BrokerLogger) => {
            own_broker(name, ctx.broker.id)?;
            Ok(Vec::new())
        }
        Some(ResourceType::Group | ResourceType::ClientMetrics) if name.is_empty() => {
            Err(Refused::new(ErrorCode::InvalidRequest, "The name of the resource is empty."))
        }
        Some(ResourceType::Group | ResourceType::ClientMetrics) => Ok(Vec::new()),
        None => {
            let message = format!("There is no resource type {}.", resource.resource_type);
            Err(Refused::new(ErrorCode::InvalidRequest, message))
        }
    }
}

/// A topic keeps the flush class that the broker gave it when it was made.
fn show_flush_of(topic: &Topic, entry: &mut Described) {
    let first = topic.partition(0).map(|partition| partition.flush);
    if let Some(class) = first.filter(|_| entry.name == FLUSH_CONFIG) {
        let word = if class.counts_synced() { "acked" } else { "os" };
        entry.value = Some(word.to_owned());
    }
}

fn shown(
    ctx: &RequestContext,
    request: &DescribeConfigsRequest,
    entry: Described,
) -> DescribeConfigsResourceResult {
    let synonym = |place: crate::config::Place| DescribeConfigsSynonym {
        name: place.name.to_owned(),
        value: place.value,
        source: place.source as i8,
    };
    let documented = ctx.api_version >= 3 && request.include_documentation;
    let synonyms = entry.synonyms.into_iter().filter(|_| request.include_synonyms);
    DescribeConfigsResourceResult {
        name: entry.name.to_owned(),
        value: entry.value,
        read_only: entry.read_only,
        config_source: entry.source as i8,
        is_sensitive: entry.kind == Kind::Password,
        synonyms: synonyms.map(synonym).collect(),
        config_type: if ctx.api_version >= 3 { entry.kind as i8 } else { 0 },
        documentation: documented.then(|| entry.doc.to_owned()),
    }
}
