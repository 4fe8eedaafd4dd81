//! AlterPartitionReassignments. One node has nowhere to move to; what is compared is how it says so.

use klamm_protocol::ApiKey;
use klamm_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};

use super::{Behaviour, of};
use crate::case::{Case, Step};

pub(super) const ALL: &[Behaviour] = &[
    of(ApiKey::AlterPartitionReassignments, "refused", refused),
    of(ApiKey::AlterPartitionReassignments, "nothing", nothing),
];

/// The one node's id.
const HERE: i32 = 0;
/// The first version that can forbid another number of replicas.
const FIXED_SINCE: i16 = 1;

fn moved(topic: &str, partitions: &[(i32, Option<&[i32]>)]) -> AlterPartitionReassignmentsRequest {
    let partition = |(partition_index, replicas): &(i32, Option<&[i32]>)| ReassignablePartition {
        partition_index: *partition_index,
        replicas: replicas.map(<[i32]>::to_vec),
    };
    let partitions = partitions.iter().map(partition).collect();
    let topics = vec![ReassignableTopic { name: topic.to_owned(), partitions }];
    AlterPartitionReassignmentsRequest { topics, timeout_ms: 10_000, ..Default::default() }
}

fn refused(case: &mut Case) -> Step {
    let (name, _) = case.topic("t", 2)?;
    let missing = case.named("missing");
    case.ask("no topic", &moved(&missing, &[(0, Some(&[HERE])), (1, None)]));
    case.ask("no partition", &moved(&name, &[(7, Some(&[HERE])), (-1, None)]));
    case.ask("not moving", &moved(&name, &[(0, None), (1, None)]));
    let targets: [&[i32]; 6] =
        [&[], &[HERE, HERE], &[HERE, 9], &[9], &[-1], &[HERE, HERE, HERE, 9]];
    for may_resize in [true, false] {
        if !may_resize && case.version < FIXED_SINCE {
            continue;
        }
        for target in targets {
            let request = AlterPartitionReassignmentsRequest {
                allow_replication_factor_change: may_resize,
                ..moved(&name, &[(0, Some(target)), (1, Some(&[HERE]))])
            };
            case.ask(&format!("to {target:?}, resizing {may_resize}"), &request);
        }
    }
    Ok(())
}

fn nothing(case: &mut Case) -> Step {
    let (name, _) = case.topic("t", 1)?;
    case.ask("no topics", &AlterPartitionReassignmentsRequest::default());
    case.ask("no partitions", &moved(&name, &[]));
    case.ask("where it is", &moved(&name, &[(0, Some(&[HERE]))]));
    case.ask("where it is, again", &moved(&name, &[(0, Some(&[HERE]))]));
    Ok(())
}
