//! DeleteTopics and DeleteRecords.

use klamm_protocol::ApiKey;
use klamm_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use klamm_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use uuid::Uuid;

use super::groups::ready;
use super::produce::send;
use super::{Behaviour, of};
use crate::batches::batch;
use crate::case::{Case, Step};

pub(super) const ALL: &[Behaviour] = &[
    of(ApiKey::DeleteTopics, "by name", by_name),
    of(ApiKey::DeleteTopics, "by id", by_id),
    of(ApiKey::DeleteRecords, "records", records),
];

fn delete(version: i16, names: &[&str]) -> DeleteTopicsRequest {
    let names = names.iter().map(|name| (*name).to_owned());
    let mut request = DeleteTopicsRequest { timeout_ms: 10_000, ..Default::default() };
    if version >= 6 {
        let state = |name| DeleteTopicState { name: Some(name), topic_id: Uuid::nil() };
        request.topics = names.map(state).collect();
    } else {
        request.topic_names = names.collect();
    }
    request
}

fn by_name(case: &mut Case) -> Step {
    let version = case.version;
    let (a, _) = case.topic("a", 1)?;
    let (b, _) = case.topic("b", 2)?;
    let (c, _) = case.topic("c", 1)?;
    let missing = case.named("missing");
    case.ask("one", &delete(version, &[&a]));
    case.ask("again", &delete(version, &[&a]));
    case.ask("two and a missing one", &delete(version, &[&b, &c, &missing]));
    case.ask("bad names", &delete(version, &["", "a b", ".."]));
    let (d, _) = case.topic("d", 1)?;
    case.ask("twice", &delete(version, &[&d, &d]));
    case.ask("nothing", &delete(version, &[]));
    // A name can be used again at once.
    let (_, first) = case.topic("again", 1)?;
    let again = case.named("again");
    case.ask("to make it again", &delete(version, &[&again]));
    let (_, second) = case.topic("again", 1)?;
    case.note("made again", "other id", (first != second).to_string());
    Ok(())
}

fn by_id(case: &mut Case) -> Step {
    if case.version < 6 {
        return Ok(());
    }
    let (name, id) = case.topic("t", 1)?;
    let request = |topics: &[(Option<&str>, Uuid)]| DeleteTopicsRequest {
        topics: topics
            .iter()
            .map(|(name, topic_id)| DeleteTopicState {
                name: name.map(str::to_owned),
                topic_id: *topic_id,
            })
            .collect(),
        timeout_ms: 10_000,
        ..Default::default()
    };
    case.ask("unknown id", &request(&[(None, Uuid::from_u128(77))]));
    case.ask("neither", &request(&[(None, Uuid::nil())]));
    case.ask("both", &request(&[(Some(&name), id)]));
    case.ask("id twice", &request(&[(None, id), (None, id)]));
    case.ask("id", &request(&[(None, id)]));
    case.ask("id again", &request(&[(None, id)]));
    let (name, id) = case.topic("u", 1)?;
    case.ask("name and its id", &request(&[(Some(&name), Uuid::nil()), (None, id)]));
    Ok(())
}

fn records(case: &mut Case) -> Step {
    let (name, _) = case.topic("t", 2)?;
    for value in ["a", "b", "c", "d"] {
        case.quietly(9, &send(&name, 0, batch(&[value])))?;
    }
    let request = |topic: &str, partition, offset| DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: topic.to_owned(),
            partitions: vec![DeleteRecordsPartition { partition_index: partition, offset }],
        }],
        timeout_ms: 10_000,
    };
    case.ask("two", &request(&name, 0, 2));
    case.ask("less than before", &request(&name, 0, 1));
    case.ask("beyond the end", &request(&name, 0, 5));
    case.ask("negative", &request(&name, 0, -2));
    case.ask("all", &request(&name, 0, -1));
    case.ask("of an empty partition", &request(&name, 1, -1));
    case.ask("unknown partition", &request(&name, 9, 0));
    case.ask("unknown topic", &request(&case.named("missing"), 0, 0));
    case.ask("bad name", &request("a b", 0, 0));
    // Its first group makes the topic.
    ready(case, &case.named("g"))?;
    case.ask("internal topic", &request("__consumer_offsets", 0, 0));
    Ok(())
}
