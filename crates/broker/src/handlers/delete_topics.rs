//! DeleteTopics (20), versions 1 to 6.
//!
//! - From 6 on topics are named by name or by id, one of the two each.
//! - Where `delete.topic.enable` is false, version 3 and later are told so, earlier ones get
//!   INVALID_REQUEST.
//! - The answer waits until this broker no longer knows the topics: their names are free then. Their
//!   files go later.

use std::collections::{BTreeMap, BTreeSet};

use klamm_cluster::Image;
use klamm_cluster::controller::TopicRef;
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse,
};
use uuid::Uuid;

use crate::auto_create;
use crate::config::Refused;
use crate::request::{Answer, RequestContext};

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: DeleteTopicsRequest,
) -> Answer<DeleteTopicsResponse> {
    let wanted = Wanted::of(&request);
    if !ctx.broker.config().delete_topic_enable {
        return Answer::Now(disabled(ctx.api_version, &request));
    }
    let (mut responses, found) = wanted.resolve(&ctx.broker.image());
    let refs = found.keys().map(|id| TopicRef::Id(*id)).collect();
    let answers =
        if found.is_empty() { Vec::new() } else { ctx.broker.controller.delete_topics(refs).await };
    let mut gone = Vec::new();
    for ((id, name), answer) in found.into_iter().zip(answers) {
        responses.push(match answer {
            Ok(_) => {
                gone.push(id);
                DeletableTopicResult { name: Some(name), topic_id: id, ..Default::default() }
            }
            Err(refusal) => result(Some(name), id, Refused::new(refusal.code, refusal.message)),
        });
    }
    let unknown = |image: &Image| gone.iter().all(|id| image.topic_by_id(*id).is_none());
    auto_create::shown(&ctx.broker, unknown).await;
    Answer::Now(DeleteTopicsResponse { responses, ..Default::default() })
}

fn disabled(version: i16, request: &DeleteTopicsRequest) -> DeleteTopicsResponse {
    let code = match version {
        ..=2 => ErrorCode::InvalidRequest,
        3.. => ErrorCode::TopicDeletionDisabled,
    };
    let refused = || Refused::new(code, "delete.topic.enable is false on this broker.");
    let named = request.topic_names.iter().map(|name| (Some(name.clone()), Uuid::nil()));
    let states = request.topics.iter().map(|state| (state.name.clone(), state.topic_id));
    let responses = named.chain(states).map(|(name, id)| result(name, id, refused()));
    DeleteTopicsResponse { responses: responses.collect(), ..Default::default() }
}

fn result(name: Option<String>, topic_id: Uuid, refused: Refused) -> DeletableTopicResult {
    DeletableTopicResult {
        name,
        topic_id,
        error_code: refused.code.as_i16(),
        error_message: Some(refused.message),
    }
}

/// What a request names, each once.
#[derive(Default)]
struct Wanted {
    names: BTreeSet<String>,
    names_twice: BTreeSet<String>,
    ids: BTreeSet<Uuid>,
    ids_twice: BTreeSet<Uuid>,
    refused: Vec<DeletableTopicResult>,
}

impl Wanted {
    fn of(request: &DeleteTopicsRequest) -> Wanted {
        let mut wanted = Wanted::default();
        request.topic_names.iter().for_each(|name| wanted.add_name(name));
        for state in &request.topics {
            let invalid = |message| Refused::new(ErrorCode::InvalidRequest, message);
            match (&state.name, state.topic_id) {
                (None, id) if id.is_nil() => wanted.refused.push(result(
                    None,
                    id,
                    invalid("A topic is named by its name or by its id; this one is by neither."),
                )),
                (None, id) => {
                    if !wanted.ids.insert(id) {
                        wanted.ids_twice.insert(id);
                    }
                }
                (Some(name), id) if id.is_nil() => wanted.add_name(name),
                (Some(name), id) => wanted.refused.push(result(
                    Some(name.clone()),
                    id,
                    invalid("A topic is named by its name or by its id, not by both."),
                )),
            }
        }
        wanted
    }

    fn add_name(&mut self, name: &str) {
        if !self.names.insert(name.to_owned()) {
            self.names_twice.insert(name.to_owned());
        }
    }

    /// The topics to delete by id, and the answers to those that are not.
    fn resolve(mut self, image: &Image) -> (Vec<DeletableTopicResult>, BTreeMap<Uuid, String>) {
        let mut responses = std::mem::take(&mut self.refused);
        let mut found = BTreeMap::new();
        let invalid = |message| Refused::new(ErrorCode::InvalidRequest, message);
        for name in &self.names_twice {
            let refused = invalid("Duplicate topic name.");
            responses.push(result(Some(name.clone()), Uuid::nil(), refused));
        }
        for id in &self.ids_twice {
            responses.push(result(None, *id, invalid("Duplicate topic id.")));
        }
        for id in self.ids.difference(&self.ids_twice) {
            match image.topic_by_id(*id) {
                Some(topic) => {
                    found.insert(*id, topic.name.to_string());
                }
                None => responses.push(result(None, *id, generic(ErrorCode::UnknownTopicId))),
            }
        }
        for name in self.names.difference(&self.names_twice) {
            let Some(topic) = image.topic(name) else {
                let refused = generic(ErrorCode::UnknownTopicOrPartition);
                responses.push(result(Some(name.clone()), Uuid::nil(), refused));
                continue;
            };
            let by_id_too = self.ids_twice.contains(&topic.id);
            if by_id_too || found.insert(topic.id, name.clone()).is_some() {
                found.remove(&topic.id);
                let refused = invalid("The topic is also named by its id.");
                responses.push(result(Some(name.clone()), topic.id, refused));
            }
        }
        (responses, found)
    }
}

fn generic(code: ErrorCode) -> Refused {
    Refused::new(code, code.message())
}
