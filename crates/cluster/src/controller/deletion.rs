//! Deleting topics: the first of two steps (R28); the second is [`super::reconcile()`]'s.

use klamm_protocol::ErrorCode;
use uuid::Uuid;

use super::topics::unknown_topic;
use super::{Reason, Refusal, Write};
use crate::image::Image;
use crate::nodes::config::ConfigResource;
use crate::nodes::name::uuid_to_text;
use crate::nodes::topic::TopicNode;
use crate::nodes::{NodeKey, encode};
use crate::tree::Op;

/// Names a topic that is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicRef {
    /// By name.
    Name(String),
    /// By id.
    Id(Uuid),
}

/// Marks a topic for deletion (R28): it loses its name at once; brokers put its data aside, and later
/// its nodes go.
///
/// # Errors
/// When there is no such topic.
pub fn delete_topic(
    image: &Image,
    topic: &TopicRef,
) -> Result<(String, Uuid, Vec<Write>), Refusal> {
    let found = match topic {
        TopicRef::Name(name) => image.topic(name).ok_or_else(|| unknown_topic(name))?,
        TopicRef::Id(id) => image.topic_by_id(*id).ok_or_else(|| {
            let message = format!("There is no topic with id {}.", uuid_to_text(*id));
            Refusal::new(ErrorCode::UnknownTopicId, message)
        })?,
    };
    let node = found.node().ok_or_else(|| unknown_topic(&found.name))?;
    let name = image.name_node(&found.name).ok_or_else(|| unknown_topic(&found.name))?;
    let mut ops = vec![Op::delete(NodeKey::Name(found.name.to_string()).path(), name.version)];
    let resource = ConfigResource::topic(&*found.name);
    if let Some(config) = image.config_node(&resource) {
        ops.push(Op::delete(NodeKey::Config(resource).path(), config.version));
    }
    let marked = TopicNode { deleting: true, ..node.value.clone() };
    ops.push(Op::set(NodeKey::Topic(found.id).path(), encode(&marked), node.version));
    Ok((found.name.to_string(), found.id, vec![Write::new(Reason::Request, ops)]))
}
