//! Metadata.

use klamm_protocol::ApiKey;
use klamm_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use uuid::Uuid;

use super::{Behaviour, of};
use crate::case::{Case, Step};

pub(super) const ALL: &[Behaviour] = &[
    of(ApiKey::Metadata, "by name", by_name),
    of(ApiKey::Metadata, "by id", by_id),
    of(ApiKey::Metadata, "nothing and everything", extent),
    of(ApiKey::Metadata, "authorized operations", operations),
    of(ApiKey::Metadata, "automatic creation", creation),
];

pub(super) fn names(names: &[&str], create: bool) -> MetadataRequest {
    let topics = names
        .iter()
        .map(|name| MetadataRequestTopic { name: Some((*name).to_owned()), ..Default::default() });
    MetadataRequest {
        topics: Some(topics.collect()),
        allow_auto_topic_creation: create,
        ..Default::default()
    }
}

fn by_name(case: &mut Case) -> Step {
    let (one, _) = case.topic("one", 1)?;
    let (three, _) = case.topic("three", 3)?;
    // Before version 4 every request creates what is missing.
    let create = case.version < 4;
    case.ask("one", &names(&[&one], create));
    case.ask("two", &names(&[&one, &three], create));
    case.ask("twice", &names(&[&one, &one], create));
    let long = "x".repeat(250);
    case.ask("bad names", &names(&["", ".", "..", "a b", "ä", &long], create));
    if !create {
        let missing = case.named("missing");
        case.ask("missing", &names(&[&missing, &one, "a/b"], false));
    }
    Ok(())
}

fn by_id(case: &mut Case) -> Step {
    let (name, id) = case.topic("t", 2)?;
    let asked = |topics: &[(Option<&str>, Uuid)]| MetadataRequest {
        topics: Some(
            topics
                .iter()
                .map(|(name, topic_id)| MetadataRequestTopic {
                    name: name.map(str::to_owned),
                    topic_id: *topic_id,
                })
                .collect(),
        ),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    if case.version < 10 {
        return Ok(());
    }
    let unknown = Uuid::from_u128(0x1234);
    case.ask("id", &asked(&[(None, id)]));
    case.ask("unknown id", &asked(&[(None, unknown)]));
    case.ask("known and unknown id", &asked(&[(None, id), (None, unknown)]));
    case.ask("id and name", &asked(&[(Some(&name), id)]));
    case.ask("neither", &asked(&[(None, Uuid::nil())]));
    Ok(())
}

fn extent(case: &mut Case) -> Step {
    if case.version > 0 {
        case.ask("none", &names(&[], true));
    }
    case.topic("t", 1)?;
    let all = MetadataRequest {
        topics: if case.version == 0 { Some(Vec::new()) } else { None },
        ..Default::default()
    };
    let own = |response: &MetadataResponse| response.topics.len();
    let found = case.quietly(case.version, &all)?;
    let whole = own(&found) > 0 && found.topics.iter().all(|topic| topic.error_code == 0);
    case.note("everything", "whole", whole.to_string());
    Ok(())
}

fn operations(case: &mut Case) -> Step {
    if case.version < 8 {
        return Ok(());
    }
    let (name, _) = case.topic("t", 1)?;
    let mut request = names(&[&name], false);
    request.include_topic_authorized_operations = true;
    request.include_cluster_authorized_operations = case.version <= 10;
    case.ask("operations", &request);
    request.topics = names(&[&case.named("missing"), "a b"], false).topics;
    case.ask("of missing topics", &request);
    Ok(())
}

fn creation(case: &mut Case) -> Step {
    let name = case.named("made");
    let request = names(&[&name], true);
    case.ask_until("made", &request, |response| {
        response.topics.iter().all(|topic| {
            topic.error_code == 0 && topic.partitions.iter().all(|p| p.error_code == 0)
        })
    });
    case.ask("bad names", &names(&["a b", ".."], true));
    Ok(())
}

/// Waits until the topic shows so many partitions.
pub(super) fn await_partitions(case: &mut Case, name: &str, count: usize) {
    for _ in 0..500 {
        let seen = case.quietly(12, &names(&[name], false));
        if seen.is_ok_and(|response| response.topics[0].partitions.len() == count) {
            return;
        }
        crate::case::pause();
    }
}
