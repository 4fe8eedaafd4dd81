//! DescribeCluster, DescribeLogDirs, DescribeTopicPartitions and ListPartitionReassignments.

use klamm_protocol::ApiKey;
use klamm_protocol::messages::describe_cluster::DescribeClusterRequest;
use klamm_protocol::messages::describe_log_dirs::{DescribableLogDirTopic, DescribeLogDirsRequest};
use klamm_protocol::messages::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, RequestCursor, TopicRequest,
};
use klamm_protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
};

use super::produce::send;
use super::{Behaviour, of};
use crate::batches::batch;
use crate::case::{Case, Step};

pub(super) const ALL: &[Behaviour] = &[
    of(ApiKey::DescribeCluster, "cluster", cluster),
    of(ApiKey::DescribeLogDirs, "directories", directories),
    of(ApiKey::DescribeTopicPartitions, "topics", topics),
    of(ApiKey::DescribeTopicPartitions, "pages", pages),
    of(ApiKey::ListPartitionReassignments, "moves", moves),
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

fn described(names: &[&str]) -> DescribeTopicPartitionsRequest {
    let topics = names.iter().map(|name| TopicRequest { name: (*name).to_owned() });
    DescribeTopicPartitionsRequest { topics: topics.collect(), ..Default::default() }
}

fn topics(case: &mut Case) -> Step {
    let (one, _) = case.topic("one", 1)?;
    let (three, _) = case.topic("three", 3)?;
    let missing = case.named("missing");
    case.ask("one", &described(&[&one]));
    case.ask("several", &described(&[&three, &missing, &one]));
    case.ask("twice", &described(&[&one, &one]));
    let long = "x".repeat(250);
    case.ask("empty name", &described(&[""]));
    for (n, name) in [".", "..", "a b", "ä", long.as_str()].into_iter().enumerate() {
        case.ask(&format!("bad name {n}"), &described(&[name]));
    }
    case.ask("bad and missing", &described(&["a b", &missing]));
    case.ask("internal and missing", &described(&["__share_group_state", "__cluster_metadata"]));
    let all = case.quietly(case.version, &described(&[]))?;
    let found = all.topics.iter().find(|topic| topic.name.as_deref() == Some(&three));
    let count = found.map(|topic| topic.partitions.len());
    case.note("everything", "partitions", format!("{count:?}"));
    Ok(())
}

fn pages(case: &mut Case) -> Step {
    let (a, _) = case.topic("a", 3)?;
    let (b, _) = case.topic("b", 2)?;
    let missing = case.named("aa");
    let both = described(&[&b, &missing, &a]);
    for limit in [1, 2, 3, 4, 5, 6, 0, -1, 2001] {
        let request =
            DescribeTopicPartitionsRequest { response_partition_limit: limit, ..both.clone() };
        case.ask(&format!("limit {limit}"), &request);
    }
    let elsewhere = case.named("elsewhere");
    let cursors =
        [(&a, 0), (&a, 2), (&a, 3), (&a, 9), (&missing, 0), (&b, 1), (&b, -1), (&elsewhere, 0)];
    for (n, (topic, partition_index)) in cursors.into_iter().enumerate() {
        let cursor = Some(RequestCursor { topic_name: topic.clone(), partition_index });
        let request =
            DescribeTopicPartitionsRequest { response_partition_limit: 2, cursor, ..both.clone() };
        case.ask(&format!("cursor {n}"), &request);
    }
    Ok(())
}

fn moves(case: &mut Case) -> Step {
    let (name, _) = case.topic("t", 2)?;
    let all = ListPartitionReassignmentsRequest::default();
    case.ask("everything", &all);
    case.ask("nothing", &ListPartitionReassignmentsRequest { topics: Some(vec![]), ..all.clone() });
    let of = |name: String, partition_indexes| ListPartitionReassignmentsTopics {
        name,
        partition_indexes,
    };
    let topics = vec![of(name, vec![0, 1, 7]), of(case.named("missing"), vec![0])];
    case.ask("named", &ListPartitionReassignmentsRequest { topics: Some(topics), ..all });
    Ok(())
}
