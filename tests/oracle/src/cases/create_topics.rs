//! CreateTopics and CreatePartitions.

use klamm_protocol::ApiKey;
use klamm_protocol::messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use klamm_protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use klamm_protocol::messages::metadata::MetadataRequest;

use super::metadata::names;
use super::{Behaviour, of};
use crate::case::{Case, Step};

pub(super) const ALL: &[Behaviour] = &[
    of(ApiKey::CreateTopics, "good", good),
    of(ApiKey::CreateTopics, "names", bad_names),
    of(ApiKey::CreateTopics, "counts", counts),
    of(ApiKey::CreateTopics, "assignments", assignments),
    of(ApiKey::CreateTopics, "settings", settings),
    of(ApiKey::CreateTopics, "validate only", validate_only),
    of(ApiKey::CreateTopics, "several at once", several),
    of(ApiKey::CreatePartitions, "more", more),
    of(ApiKey::CreatePartitions, "refused", refused),
    of(ApiKey::CreatePartitions, "assignments", more_assignments),
];

/// A partition and the brokers that shall have it.
type Placed<'a> = (i32, &'a [i32]);
/// A topic, its new size, and the brokers of each new partition.
type Growth<'a> = (&'a str, i32, Option<&'a [&'a [i32]]>);

fn topic(name: &str, partitions: i32, replicas: i16) -> CreatableTopic {
    CreatableTopic {
        name: name.to_owned(),
        num_partitions: partitions,
        replication_factor: replicas,
        ..Default::default()
    }
}

fn assigned(name: &str, assignments: &[Placed<'_>]) -> CreatableTopic {
    let assignments = assignments.iter().map(|(partition, brokers)| CreatableReplicaAssignment {
        partition_index: *partition,
        broker_ids: brokers.to_vec(),
    });
    CreatableTopic { assignments: assignments.collect(), ..topic(name, -1, -1) }
}

fn with(mut topic: CreatableTopic, configs: &[(&str, Option<&str>)]) -> CreatableTopic {
    let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
        name: (*name).to_owned(),
        value: value.map(str::to_owned),
    });
    topic.configs = configs.collect();
    topic
}

fn create(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest { topics, timeout_ms: 10_000, validate_only: false }
}

/// What brokers say of the topic afterwards.
fn look(case: &mut Case, step: &str, name: &str) {
    if case.await_leaders(name).is_ok() {
        case.ask_at::<MetadataRequest>(12, step, &names(&[name], false));
    } else {
        case.note(step, "outcome", "no leaders".to_owned());
    }
}

fn good(case: &mut Case) -> Step {
    let name = case.named("plain");
    case.ask("plain", &create(vec![topic(&name, 3, 1)]));
    look(case, "plain seen", &name);
    case.ask("again", &create(vec![topic(&name, 3, 1)]));
    if case.version >= 4 {
        let name = case.named("defaults");
        case.ask("defaults", &create(vec![topic(&name, -1, -1)]));
        look(case, "defaults seen", &name);
    }
    let name = case.named("placed");
    case.ask("placed", &create(vec![assigned(&name, &[(0, &[0]), (1, &[0])])]));
    look(case, "placed seen", &name);
    case.ask("nothing", &create(Vec::new()));
    Ok(())
}

fn bad_names(case: &mut Case) -> Step {
    let long = "x".repeat(250);
    for name in ["", ".", "..", "a b", "a/b", "ä", &long, "__cluster_metadata"] {
        case.ask(&format!("name {name}"), &create(vec![topic(name, 1, 1)]));
    }
    let dots = case.named("collide.with_me");
    let lines = case.named("collide_with.me");
    case.ask("first", &create(vec![topic(&dots, 1, 1)]));
    case.ask("colliding", &create(vec![topic(&lines, 1, 1)]));
    let longest = format!("{}{}", case.named(""), "y".repeat(249 - case.named("").len()));
    case.ask("longest", &create(vec![topic(&longest, 1, 1)]));
    Ok(())
}

fn counts(case: &mut Case) -> Step {
    for (partitions, replicas) in [(0, 1), (-2, 1), (1, 0), (1, -2), (1, 2), (1, 32_767), (0, 0)] {
        let name = case.named("t");
        let step = format!("{partitions} partitions {replicas} replicas");
        case.ask(&step, &create(vec![topic(&name, partitions, replicas)]));
    }
    Ok(())
}

fn assignments(case: &mut Case) -> Step {
    let name = case.named("t");
    let cases: &[(&str, &[Placed<'_>])] = &[
        ("unknown broker", &[(0, &[7])]),
        ("negative broker", &[(0, &[-1])]),
        ("broker twice", &[(0, &[0, 0])]),
        ("no broker", &[(0, &[])]),
        ("gap", &[(0, &[0]), (2, &[0])]),
        ("not from zero", &[(1, &[0])]),
        ("negative partition", &[(-1, &[0])]),
        ("partition twice", &[(0, &[0]), (0, &[0])]),
        ("uneven", &[(0, &[0]), (1, &[0, 1])]),
    ];
    for (step, assignments) in cases {
        case.ask(step, &create(vec![assigned(&name, assignments)]));
    }
    for (step, partitions, replicas) in
        [("with partitions", 1, -1), ("with replicas", -1, 1), ("with both", 1, 1)]
    {
        let mut topic = assigned(&name, &[(0, &[0])]);
        (topic.num_partitions, topic.replication_factor) = (partitions, replicas);
        case.ask(step, &create(vec![topic]));
    }
    Ok(())
}

fn settings(case: &mut Case) -> Step {
    let good = case.named("good");
    let configs = [
        ("cleanup.policy", Some("compact")),
        ("retention.ms", Some(" 100000 ")),
        ("min.insync.replicas", Some("1")),
        ("message.timestamp.type", Some("LogAppendTime")),
    ];
    case.ask("good", &create(vec![with(topic(&good, 1, 1), &configs)]));
    let bad: &[(&str, &str, Option<&str>)] = &[
        ("unknown key", "no.such.key", Some("1")),
        ("empty key", "", Some("1")),
        ("no value", "retention.ms", None),
        ("text for a number", "retention.ms", Some("soon")),
        ("out of bounds", "retention.ms", Some("-2")),
        ("unknown policy", "cleanup.policy", Some("shred")),
        ("unknown codec", "compression.type", Some("rar")),
        ("not a boolean", "preallocate", Some("yes")),
        ("small segments", "segment.bytes", Some("1")),
        ("remote", "remote.storage.enable", Some("true")),
    ];
    for (step, key, value) in bad {
        let name = case.named("bad");
        case.ask(step, &create(vec![with(topic(&name, 1, 1), &[(key, *value)])]));
    }
    let name = case.named("twice");
    let twice = [("retention.ms", Some("1")), ("retention.ms", Some("2"))];
    case.ask("key twice", &create(vec![with(topic(&name, 1, 1), &twice)]));
    let name = case.named("empty");
    case.ask(
        "empty list",
        &create(vec![with(topic(&name, 1, 1), &[("cleanup.policy", Some(""))])]),
    );
    Ok(())
}

fn validate_only(case: &mut Case) -> Step {
    let name = case.named("t");
    let only = |topics| CreateTopicsRequest { validate_only: true, ..create(topics) };
    case.ask("good", &only(vec![topic(&name, 2, 1)]));
    case.ask("bad", &only(vec![topic(&name, 1, 9)]));
    case.ask("too many", &only(vec![topic(&name, 10_001, 1)]));
    case.ask("far too many", &only(vec![topic(&name, i32::MAX, 1)]));
    let (a, b) = (case.named("a"), case.named("b"));
    case.ask("too many together", &only(vec![topic(&a, 6000, 1), topic(&b, 6000, 1)]));
    let there = case.topic("there", 1)?.0;
    case.ask("there already", &only(vec![topic(&there, 1, 1)]));
    case.ask_at::<MetadataRequest>(12, "not made", &names(&[&name], false));
    Ok(())
}

fn several(case: &mut Case) -> Step {
    let (a, b) = (case.named("a"), case.named("b"));
    let request = create(vec![topic(&a, 1, 1), topic("no good", 1, 1), topic(&b, 0, 1)]);
    case.ask("mixed", &request);
    look(case, "mixed seen", &a);
    let c = case.named("c");
    case.ask("name twice", &create(vec![topic(&c, 1, 1), topic(&c, 2, 1)]));
    case.ask("name thrice", &create(vec![topic(&c, 1, 1), topic(&c, 2, 1), topic(&c, 3, 1)]));
    Ok(())
}

fn grow(topics: &[Growth<'_>], validate_only: bool) -> CreatePartitionsRequest {
    let topics = topics.iter().map(|(name, count, assignments)| CreatePartitionsTopic {
        name: (*name).to_owned(),
        count: *count,
        assignments: assignments.map(|all| {
            all.iter().map(|ids| CreatePartitionsAssignment { broker_ids: ids.to_vec() }).collect()
        }),
    });
    CreatePartitionsRequest { topics: topics.collect(), timeout_ms: 10_000, validate_only }
}

fn more(case: &mut Case) -> Step {
    let name = case.topic("t", 1)?.0;
    case.ask("validate only", &grow(&[(&name, 2, None)], true));
    case.ask("two more", &grow(&[(&name, 3, None)], false));
    let grown = |case: &mut Case, count| {
        crate::cases::metadata::await_partitions(case, &name, count);
    };
    grown(case, 3);
    look(case, "seen", &name);
    case.ask("one more at a place", &grow(&[(&name, 4, Some(&[&[0]]))], false));
    grown(case, 4);
    look(case, "seen again", &name);
    Ok(())
}

fn refused(case: &mut Case) -> Step {
    let name = case.topic("t", 2)?.0;
    let missing = case.named("missing");
    for (step, count) in [("as many", 2), ("fewer", 1), ("none", 0), ("negative", -1)] {
        case.ask(step, &grow(&[(&name, count, None)], false));
    }
    case.ask("missing topic", &grow(&[(&missing, 3, None)], false));
    case.ask("bad name", &grow(&[("a b", 3, None)], false));
    case.ask("twice", &grow(&[(&name, 3, None), (&name, 4, None)], false));
    case.ask("nothing", &grow(&[], false));
    case.ask("good and bad", &grow(&[(&name, 3, None), (&missing, 3, None)], false));
    case.ask("too many", &grow(&[(&name, 10_100, None)], true));
    case.ask("far too many", &grow(&[(&name, i32::MAX, None)], true));
    Ok(())
}

fn more_assignments(case: &mut Case) -> Step {
    let name = case.topic("t", 1)?.0;
    let cases: &[(&str, i32, &[&[i32]])] = &[
        ("too few", 3, &[&[0]]),
        ("too many", 2, &[&[0], &[0]]),
        ("none", 2, &[]),
        ("no broker", 2, &[&[]]),
        ("unknown broker", 2, &[&[9]]),
        ("broker twice", 2, &[&[0, 0]]),
        ("more replicas", 2, &[&[0, 1]]),
    ];
    for (step, count, assignments) in cases {
        case.ask(step, &grow(&[(&name, *count, Some(assignments))], false));
    }
    Ok(())
}
