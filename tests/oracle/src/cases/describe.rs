//! DescribeCluster and DescribeLogDirs.

use klamm_protocol::ApiKey;
use klamm_protocol::messages::describe_cluster::DescribeClusterRequest;
use klamm_protocol::messages::describe_log_dirs::{DescribableLogDirTopic, DescribeLogDirsRequest};

use super::produce::send;
use super::{Behaviour, of};
use crate::batches::batch;
use crate::case::{Case, Step};

pub(super) const ALL: &[Behaviour] = &[
    of(ApiKey::DescribeCluster, "cluster", cluster),
    of(ApiKey::DescribeLogDirs, "directories", directories),
];

fn cluster(case: &mut Case) -> Step {
    let plain = DescribeClusterRequest::default();
    case.ask("plain", &plain);
    case.ask(
        "operations",
        &DescribeClusterRequest { include_cluster_authorized_operations: true, ..plain.clone() },
    );
    for endpoint_type in [0, 2, 3, -1] {
        let request = DescribeClusterRequest { endpoint_type, ..plain.clone() };
        case.ask(&format!("endpoint type {endpoint_type}"), &request);
    }
    case.ask("fenced", &DescribeClusterRequest { include_fenced_brokers: true, ..plain });
    Ok(())
}

fn directories(case: &mut Case) -> Step {
    let (name, _) = case.topic("t", 2)?;
    case.quietly(9, &send(&name, 0, batch(&["one", "two"])))?;
    let of = |topics: &[(&str, &[i32])]| DescribeLogDirsRequest {
        topics: Some(
            topics
                .iter()
                .map(|(topic, partitions)| DescribableLogDirTopic {
                    topic: (*topic).to_owned(),
                    partitions: partitions.to_vec(),
                })
                .collect(),
        ),
    };
    case.ask("one partition", &of(&[(&name, &[0])]));
    case.ask("both and one that is not", &of(&[(&name, &[0, 1, 7])]));
    case.ask("missing topic", &of(&[(&case.named("missing"), &[0])]));
    case.ask("nothing", &of(&[]));
    let all = case.quietly(case.version, &DescribeLogDirsRequest { topics: None })?;
    let there = all.results.iter().any(|dir| dir.topics.iter().any(|topic| topic.name == name));
    case.note("everything", "has the topic", there.to_string());
    Ok(())
}
