//! DeleteTopics (20), versions 1 to 6.
//!
//! - From 6 on topics are named by name or by id, one of the two each.
//! - Where `delete.topic.enable` is false, version 3 and later are told so, earlier ones get
//!   INVALID_REQUEST.
//! - Any broker takes it: the controller decides, wherever it is (see [`crate::forwarding`]).
//! - The answer waits until this broker no longer knows the topics: their names are free then. Their
//!   files go later.

use std::collections::BTreeSet;

use klamm_cluster::controller::TopicRef;
use klamm_cluster::{Image, Refusal};
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse,
};
use uuid::Uuid;

use crate::auto_create;
use crate::config::Refused;
use crate::forwarding::{DeleteTopics, patience};
use crate::request::{Answer, RequestContext};

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: DeleteTopicsRequest,
) -> Answer<DeleteTopicsResponse> {
    let wanted = Wanted::of(&request);
    if !ctx.broker.config().delete_topic_enable {
        return Answer::Now(disabled(ctx.api_version, &request));
    }
    let image = ctx.broker.image();
    let (mut responses, asked) = wanted.resolve(&image);
    let answers = if asked.is_empty() {
        Vec::new()
    } else {
        let question = DeleteTopics::new(asked.clone(), &image);
        ctx.broker.controller.ask(question, patience(request.timeout_ms)).await
    };
    let mut gone = Vec::new();
    for (topic, answer) in asked.into_iter().zip(answers) {
        let (name, id) = match topic {
            TopicRef::Name(name) => (Some(name), Uuid::nil()),
            TopicRef::Id(id) => (image.topic_by_id(id).map(|topic| topic.name.to_string()), id),
        };
        responses.push(match answer {
            Ok(deleted) => {
                gone.push(deleted.id);
                let (name, topic_id) = (name.or(deleted.name), deleted.id);
                DeletableTopicResult { name, topic_id, ..Default::default() }
            }
            Err(refusal) => result(name, id, refused(refusal)),
        });
    }
    let unknown = |image: &Image| gone.iter().all(|id| image.topic_by_id(*id).is_none());
    auto_create::shown(&ctx.broker, unknown).await;
    Answer::Now(DeleteTopicsResponse { responses, ..Default::default() })
}

/// Kafka's sentence for a topic that is not there says no more than its code.
fn refused(refusal: Refusal) -> Refused {
    match refusal.code {
        code @ (ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId) => {
            Refused::new(code, code.message())
        }
        code => Refused::new(code, refusal.message),
    }
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

    /// The topics that the controller is asked to delete, and the answers to those that it is not.
    /// Which there are says the controller: another broker may have been asked just before.
    fn resolve(mut self, image: &Image) -> (Vec<DeletableTopicResult>, Vec<TopicRef>) {
        let mut responses = std::mem::take(&mut self.refused);
        let mut asked = Vec::new();
        let invalid = |message| Refused::new(ErrorCode::InvalidRequest, message);
        for name in &self.names_twice {
            let refused = invalid("Duplicate topic name.");
            responses.push(result(Some(name.clone()), Uuid::nil(), refused));
        }
        for id in &self.ids_twice {
            responses.push(result(None, *id, invalid("Duplicate topic id.")));
        }
        let mut ids: BTreeSet<Uuid> = self.ids.difference(&self.ids_twice).copied().collect();
        for name in self.names.difference(&self.names_twice) {
            match image.topic(name).map(|topic| topic.id).filter(|id| self.ids.contains(id)) {
                Some(id) => {
                    ids.remove(&id);
                    let refused = invalid("The topic is also named by its id.");
                    responses.push(result(Some(name.clone()), id, refused));
                }
                None => asked.push(TopicRef::Name(name.clone())),
            }
        }
        asked.extend(ids.into_iter().map(TopicRef::Id));
        (responses, asked)
    }
}
