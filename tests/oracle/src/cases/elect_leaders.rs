//! ElectLeaders. One node has nothing to elect; what is compared is how it says so.

use klamm_protocol::ApiKey;
use klamm_protocol::messages::elect_leaders::{ElectLeadersRequest, TopicPartitions};

use super::{Behaviour, of};
use crate::case::{Case, Step};

pub(super) const ALL: &[Behaviour] = &[
    of(ApiKey::ElectLeaders, "named", named),
    of(ApiKey::ElectLeaders, "nothing and everything", extent),
];

fn elect(election_type: i8, topics: &[(&str, &[i32])]) -> ElectLeadersRequest {
    let topic = |(topic, partitions): &(&str, &[i32])| TopicPartitions {
        topic: (*topic).to_owned(),
        partitions: partitions.to_vec(),
    };
    ElectLeadersRequest {
        election_type,
        topic_partitions: Some(topics.iter().map(topic).collect()),
        timeout_ms: 10_000,
    }
}

fn named(case: &mut Case) -> Step {
    let (name, _) = case.topic("t", 2)?;
    let missing = case.named("missing");
    // Version 0 cannot carry the others.
    for kind in [0, 1, 2, -1] {
        let step = |what: &str| format!("{what} type {kind}");
        case.ask(&step("led"), &elect(kind, &[(&name, &[0, 1])]));
        case.ask(&step("unknown"), &elect(kind, &[(&name, &[7, 0, -1]), (&missing, &[0])]));
        case.ask(&step("twice"), &elect(kind, &[(&name, &[0, 0])]));
        case.ask(&step("no partitions"), &elect(kind, &[(&name, &[])]));
    }
    Ok(())
}

fn extent(case: &mut Case) -> Step {
    for kind in [0, 1, 2] {
        case.ask(&format!("nothing type {kind}"), &elect(kind, &[]));
    }
    let (name, _) = case.topic("t", 2)?;
    let all = ElectLeadersRequest { topic_partitions: None, ..Default::default() };
    let response = case.quietly(case.version, &all)?;
    let found = response.replica_election_results.iter().find(|topic| topic.topic == name);
    case.note("everything", "results", format!("{:?}", found.map(|it| &it.partition_result)));
    let unknown = ElectLeadersRequest { election_type: 2, ..all };
    case.ask("everything of no type", &unknown);
    Ok(())
}
