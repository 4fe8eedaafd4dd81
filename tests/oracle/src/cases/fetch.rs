//! Fetch.

use klamm_protocol::ApiKey;
use klamm_protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchTopic, ForgottenTopic, ReplicaState,
};
use uuid::Uuid;

use super::produce::send;
use super::{Behaviour, of};
use crate::batches::batch;
use crate::case::{Case, Step};

pub(super) const ALL: &[Behaviour] = &[
    of(ApiKey::Fetch, "offsets", offsets),
    of(ApiKey::Fetch, "unknown places", places),
    of(ApiKey::Fetch, "sizes", sizes),
    of(ApiKey::Fetch, "leader epochs", epochs),
    of(ApiKey::Fetch, "sessions", sessions),
    of(ApiKey::Fetch, "sessions refused", sessions_refused),
    of(ApiKey::Fetch, "isolation", isolation),
    of(ApiKey::Fetch, "waiting", waiting),
    of(ApiKey::Fetch, "replicas", replicas).long(),
];

/// One partition of a topic by name and by id: each version carries its own.
fn partition(index: i32, offset: i64) -> FetchPartition {
    FetchPartition {
        partition: index,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        ..Default::default()
    }
}

fn one(version: i16, (name, id): &(String, Uuid), partitions: Vec<FetchPartition>) -> FetchRequest {
    let by_id = version >= 13;
    FetchRequest {
        replica_id: -1,
        max_wait_ms: 100,
        min_bytes: 0,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: if by_id { String::new() } else { name.clone() },
            topic_id: if by_id { *id } else { Uuid::nil() },
            partitions,
        }],
        ..Default::default()
    }
}

/// Everything of a partition, for version 12.
pub(super) fn from_start(topic: &str, index: i32) -> FetchRequest {
    one(12, &(topic.to_owned(), Uuid::nil()), vec![partition(index, 0)])
}

/// A topic with five batches in its first partition.
fn filled(case: &mut Case) -> Step<(String, Uuid)> {
    let topic = case.topic("t", 3)?;
    for values in [&["a", "b"][..], &["c"], &["d", "e", "f"], &["g"], &["h"]] {
        case.quietly(9, &send(&topic.0, 0, batch(values)))?;
    }
    Ok(topic)
}

fn offsets(case: &mut Case) -> Step {
    let topic = filled(case)?;
    let version = case.version;
    for offset in [0, 1, 2, 4, 7, 8, 9, -1, -2, i64::MAX] {
        case.ask(&format!("offset {offset}"), &one(version, &topic, vec![partition(0, offset)]));
    }
    case.ask("empty partition", &one(version, &topic, vec![partition(1, 0)]));
    case.ask("beyond an empty partition", &one(version, &topic, vec![partition(1, 1)]));
    let all = (0..3).map(|index| partition(index, 0)).collect();
    case.ask("all partitions", &one(version, &topic, all));
    Ok(())
}

fn places(case: &mut Case) -> Step {
    let topic = filled(case)?;
    let version = case.version;
    let missing = (case.named("missing"), Uuid::from_u128(0xabc));
    case.ask("unknown topic", &one(version, &missing, vec![partition(0, 0)]));
    case.ask("unknown partition", &one(version, &topic, vec![partition(9, 0)]));
    case.ask("negative partition", &one(version, &topic, vec![partition(-1, 0)]));
    let mut both = one(version, &topic, vec![partition(0, 0), partition(7, 0)]);
    both.topics.extend(one(version, &missing, vec![partition(0, 0)]).topics);
    case.ask("known and unknown", &both);
    let nowhere = ("a b".to_owned(), Uuid::nil());
    case.ask("illegal name or nil id", &one(version, &nowhere, vec![partition(0, 0)]));
    let nothing = FetchRequest { topics: Vec::new(), ..one(version, &topic, Vec::new()) };
    case.ask("nothing", &nothing);
    case.ask("no partitions", &one(version, &topic, Vec::new()));
    let twice = one(version, &topic, vec![partition(0, 0), partition(0, 2)]);
    case.ask("partition twice", &twice);
    Ok(())
}

fn sizes(case: &mut Case) -> Step {
    let topic = filled(case)?;
    let version = case.version;
    for max_bytes in [0, 1, 70, 150, 200, 1000, -1] {
        let mut bounded = partition(0, 0);
        bounded.partition_max_bytes = max_bytes;
        case.ask(&format!("partition max {max_bytes}"), &one(version, &topic, vec![bounded]));
        let bounded = FetchRequest { max_bytes, ..one(version, &topic, vec![partition(0, 0)]) };
        case.ask(&format!("max {max_bytes}"), &bounded);
    }
    case.quietly(9, &send(&topic.0, 1, batch(&["x"])))?;
    let two = FetchRequest {
        max_bytes: 1,
        ..one(version, &topic, vec![partition(1, 0), partition(0, 0)])
    };
    case.ask("the first partition alone", &two);
    Ok(())
}

fn epochs(case: &mut Case) -> Step {
    let topic = filled(case)?;
    let version = case.version;
    for current in [0, 5, 1000] {
        let mut known = partition(0, 0);
        known.current_leader_epoch = current;
        case.ask(&format!("current epoch {current}"), &one(version, &topic, vec![known]));
    }
    for (last, offset) in [(0, 8), (0, 3), (7, 3)] {
        let mut fetched = partition(0, offset);
        fetched.last_fetched_epoch = last;
        let step = format!("last fetched epoch {last} at {offset}");
        case.ask(&step, &one(version, &topic, vec![fetched]));
    }
    Ok(())
}

fn sessions(case: &mut Case) -> Step {
    if case.version < 7 {
        return Ok(());
    }
    let topic = filled(case)?;
    let version = case.version;
    let full = (0..2).map(|index| partition(index, 0)).collect();
    let first = FetchRequest { session_epoch: 0, ..one(version, &topic, full) };
    let Some(answer) = case.ask("begin", &first) else { return Ok(()) };
    let session_id = answer.session_id;
    let with = |epoch, partitions: Vec<FetchPartition>| {
        let mut request = one(version, &topic, partitions);
        if request.topics[0].partitions.is_empty() {
            request.topics.clear();
        }
        FetchRequest { session_id, session_epoch: epoch, ..request }
    };
    case.ask("same again", &with(1, Vec::new()));
    case.ask("one moves on", &with(2, vec![partition(0, 8)]));
    case.ask("nothing new", &with(3, Vec::new()));
    case.quietly(9, &send(&topic.0, 1, batch(&["new"])))?;
    case.ask("something new", &with(4, vec![partition(1, 0)]));
    let forget = FetchRequest {
        forgotten_topics_data: vec![ForgottenTopic {
            topic: if version >= 13 { String::new() } else { topic.0.clone() },
            topic_id: if version >= 13 { topic.1 } else { Uuid::nil() },
            partitions: vec![1],
        }],
        ..with(5, Vec::new())
    };
    case.ask("one forgotten", &forget);
    case.ask("a third added", &with(6, vec![partition(2, 0)]));
    case.ask("unknown partition added", &with(7, vec![partition(9, 0)]));
    case.ask("out of range", &with(8, vec![partition(2, 50)]));
    case.ask("still out of range", &with(9, Vec::new()));
    case.ask("wrong epoch", &with(5, Vec::new()));
    case.ask("ended", &with(-1, vec![partition(0, 0)]));
    case.ask("after the end", &with(10, Vec::new()));
    Ok(())
}

fn sessions_refused(case: &mut Case) -> Step {
    if case.version < 7 {
        return Ok(());
    }
    let topic = filled(case)?;
    let version = case.version;
    for (id, epoch) in [(0, 5), (123_456, 1), (123_456, 0), (123_456, -1), (-1, 1), (0, -2)] {
        let request = FetchRequest {
            session_id: id,
            session_epoch: epoch,
            ..one(version, &topic, vec![partition(0, 0)])
        };
        case.ask(&format!("session {id} epoch {epoch}"), &request);
    }
    Ok(())
}

fn isolation(case: &mut Case) -> Step {
    let topic = filled(case)?;
    for isolation_level in [0, 1, 2] {
        let request = FetchRequest {
            isolation_level,
            ..one(case.version, &topic, vec![partition(0, 0), partition(1, 0)])
        };
        case.ask(&format!("level {isolation_level}"), &request);
    }
    Ok(())
}

fn waiting(case: &mut Case) -> Step {
    let topic = filled(case)?;
    let version = case.version;
    let wait = |max_wait_ms, min_bytes, offset| FetchRequest {
        max_wait_ms,
        min_bytes,
        ..one(version, &topic, vec![partition(0, offset)])
    };
    case.ask("no data", &wait(50, 1, 8));
    case.ask("too little data", &wait(50, 1 << 20, 0));
    case.ask("no time", &wait(0, 1, 8));
    case.ask("error at once", &wait(60_000, 1, 99));
    let mut connection = case.connect()?;
    let Some(id) = case.send_on(&mut connection, version, &wait(15_000, 1, 8)) else {
        return Ok(());
    };
    crate::case::pause();
    case.quietly(9, &send(&topic.0, 0, batch(&["late"])))?;
    case.receive_on::<FetchRequest>(&mut connection, version, "woken", id);
    Ok(())
}

fn replicas(case: &mut Case) -> Step {
    let topic = filled(case)?;
    for replica in [0, 3, -2] {
        let request = FetchRequest {
            replica_id: if case.version >= 15 { -1 } else { replica },
            replica_state: ReplicaState {
                replica_id: if case.version >= 15 { replica } else { -1 },
                replica_epoch: -1,
            },
            ..one(case.version, &topic, vec![partition(0, 0)])
        };
        case.ask(&format!("replica {replica}"), &request);
    }
    Ok(())
}
