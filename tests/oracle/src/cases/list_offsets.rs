//! ListOffsets and OffsetForLeaderEpoch.

use klamm_protocol::ApiKey;
use klamm_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use klamm_protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};

use super::produce::send;
use super::{Behaviour, of};
use crate::batches::{MADE_AT, Plan};
use crate::case::{Case, Step};

pub(super) const ALL: &[Behaviour] = &[
    of(ApiKey::ListOffsets, "timestamps", timestamps),
    of(ApiKey::ListOffsets, "empty partition", empty),
    of(ApiKey::ListOffsets, "unknown places", places),
    of(ApiKey::ListOffsets, "leader epochs", current_epochs),
    of(ApiKey::OffsetForLeaderEpoch, "epochs", epochs),
];

fn list(topic: &str, asked: &[(i32, i64)]) -> ListOffsetsRequest {
    let partitions = asked.iter().map(|(partition, timestamp)| ListOffsetsPartition {
        partition_index: *partition,
        current_leader_epoch: -1,
        timestamp: *timestamp,
    });
    ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic { name: topic.to_owned(), partitions: partitions.collect() }],
        ..Default::default()
    }
}

/// Batches whose timestamps are 100 apart.
fn filled(case: &mut Case) -> Step<String> {
    let (name, _) = case.topic("t", 2)?;
    for n in 0..4 {
        let records = Plan::of(&["a", "b", "c"]).at(MADE_AT + 100 * n).build();
        case.quietly(9, &send(&name, 0, records))?;
    }
    // Late in the log, early by its time.
    let records = Plan::of(&["d"]).at(MADE_AT - 50).build();
    case.quietly(9, &send(&name, 0, records))?;
    Ok(name)
}

fn timestamps(case: &mut Case) -> Step {
    let name = filled(case)?;
    for timestamp in [-1, -2, -3, -4, -5, -6, -7, 0] {
        case.ask(&format!("timestamp {timestamp}"), &list(&name, &[(0, timestamp)]));
    }
    for after in [-100, -50, 0, 1, 2, 3, 100, 101, 250, 302, 303] {
        case.ask(&format!("made at {after}"), &list(&name, &[(0, MADE_AT + after)]));
    }
    for isolation_level in [0, 1, 2] {
        let request = ListOffsetsRequest { isolation_level, ..list(&name, &[(0, -1)]) };
        case.ask(&format!("isolation {isolation_level}"), &request);
    }
    case.ask("both partitions", &list(&name, &[(0, -1), (1, -1)]));
    case.ask("partition twice", &list(&name, &[(0, -1), (0, -2)]));
    Ok(())
}

fn empty(case: &mut Case) -> Step {
    let (name, _) = case.topic("t", 1)?;
    for timestamp in [-1, -2, -3, -4, 0, MADE_AT] {
        case.ask(&format!("timestamp {timestamp}"), &list(&name, &[(0, timestamp)]));
    }
    Ok(())
}

fn places(case: &mut Case) -> Step {
    let (name, _) = case.topic("t", 1)?;
    case.ask("unknown topic", &list(&case.named("missing"), &[(0, -1)]));
    case.ask("unknown partition", &list(&name, &[(5, -1), (0, -1)]));
    case.ask("negative partition", &list(&name, &[(-1, -1)]));
    case.ask("illegal name", &list("a b", &[(0, -1)]));
    case.ask("nothing", &ListOffsetsRequest { replica_id: -1, ..Default::default() });
    Ok(())
}

fn current_epochs(case: &mut Case) -> Step {
    let name = filled(case)?;
    for epoch in [0, 5] {
        for timestamp in [-1, -2, MADE_AT] {
            let mut request = list(&name, &[(0, timestamp)]);
            request.topics[0].partitions[0].current_leader_epoch = epoch;
            case.ask(&format!("epoch {epoch} timestamp {timestamp}"), &request);
        }
    }
    Ok(())
}

fn epochs(case: &mut Case) -> Step {
    let name = filled(case)?;
    let request =
        |topic: &str, partition, current_leader_epoch, leader_epoch| OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: vec![OffsetForLeaderTopic {
                topic: topic.to_owned(),
                partitions: vec![OffsetForLeaderPartition {
                    partition,
                    current_leader_epoch,
                    leader_epoch,
                }],
            }],
        };
    for (current, epoch) in [(-1, 0), (0, 0), (-1, 5), (7, 0), (-1, -1), (-1, i32::MAX)] {
        case.ask(&format!("current {current} epoch {epoch}"), &request(&name, 0, current, epoch));
    }
    case.ask("empty partition", &request(&name, 1, -1, 0));
    case.ask("unknown partition", &request(&name, 8, -1, 0));
    case.ask("unknown topic", &request(&case.named("missing"), 0, -1, 0));
    case.ask("illegal name", &request("a b", 0, -1, 0));
    Ok(())
}
