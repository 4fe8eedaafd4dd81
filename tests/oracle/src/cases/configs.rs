//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs.

use klamm_protocol::ApiKey;
use klamm_protocol::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use klamm_protocol::messages::{alter_configs, incremental_alter_configs};

use super::{Behaviour, of};
use crate::case::{Case, Step};

pub(super) const ALL: &[Behaviour] = &[
    of(ApiKey::DescribeConfigs, "topics", topics),
    of(ApiKey::DescribeConfigs, "brokers", brokers),
    of(ApiKey::DescribeConfigs, "other resources", others),
    of(ApiKey::AlterConfigs, "topics", alter_topic),
    of(ApiKey::AlterConfigs, "brokers", alter_broker),
    of(ApiKey::IncrementalAlterConfigs, "topics", increment_topic),
    of(ApiKey::IncrementalAlterConfigs, "brokers", increment_broker),
    of(ApiKey::IncrementalAlterConfigs, "lists", lists),
    of(ApiKey::IncrementalAlterConfigs, "throttles", throttles),
];

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn describe(kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsRequest {
    let keys = keys.map(|keys| keys.iter().map(|key| (*key).to_owned()).collect());
    DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configuration_keys: keys,
        }],
        ..Default::default()
    }
}

fn topics(case: &mut Case) -> Step {
    let (plain, _) = case.topic("plain", 1)?;
    let own = [("cleanup.policy", "compact"), ("retention.ms", "1000"), ("segment.ms", "5000")];
    let (set, _) = case.topic_with("set", 1, &own)?;
    case.ask("defaults", &describe(TOPIC, &plain, None));
    case.ask("own settings", &describe(TOPIC, &set, None));
    let mut request = describe(TOPIC, &set, None);
    request.include_synonyms = true;
    case.ask("synonyms", &request);
    case.ask("no keys", &describe(TOPIC, &set, Some(&[])));
    case.ask("keys", &describe(TOPIC, &set, Some(&["retention.ms", "flush.ms", "no.such.key"])));
    case.ask("missing topic", &describe(TOPIC, &case.named("missing"), None));
    case.ask("bad name", &describe(TOPIC, "a b", None));
    case.ask("empty name", &describe(TOPIC, "", None));
    let mut both = describe(TOPIC, &plain, Some(&["retention.ms"]));
    both.resources.extend(describe(TOPIC, "a b", None).resources);
    both.resources.extend(describe(TOPIC, &plain, Some(&["flush.ms"])).resources);
    case.ask("several", &both);
    Ok(())
}

/// What test suites and tools read of a broker.
const READ_OF_BROKERS: &[&str] = &[
    "log.flush.interval.messages",
    "message.max.bytes",
    "auto.create.topics.enable",
    "default.replication.factor",
    "num.partitions",
    "log.cleanup.policy",
    "log.retention.ms",
    "log.retention.hours",
    "log.roll.hours",
    "delete.topic.enable",
    "broker.id",
    "group.initial.rebalance.delay.ms",
    "unclean.leader.election.enable",
    "max.connections",
    "fetch.max.bytes",
];

fn brokers(case: &mut Case) -> Step {
    let mut request = describe(BROKER, "0", Some(READ_OF_BROKERS));
    case.ask("this broker", &request);
    request.include_synonyms = true;
    case.ask("synonyms", &request);
    case.ask("another broker", &describe(BROKER, "1", None));
    case.ask("no number", &describe(BROKER, "x", None));
    case.ask("negative", &describe(BROKER, "-1", None));
    let keys = ["log.retention.ms", "no.such.key"];
    case.ask("all brokers", &describe(BROKER, "", Some(&keys)));
    case.ask("everything", &describe(BROKER, "0", None));
    Ok(())
}

fn others(case: &mut Case) -> Step {
    case.ask("unknown type", &describe(77, "x", None));
    case.ask("any type", &describe(1, "x", None));
    case.ask("group", &describe(32, &case.named("group"), None));
    case.ask("empty group", &describe(32, "", None));
    case.ask("client metrics", &describe(16, &case.named("metrics"), None));
    case.ask("empty client metrics", &describe(16, "", None));
    case.ask("logger of another broker", &describe(8, "1", None));
    case.ask("logger of nobody", &describe(8, "", None));
    Ok(())
}

fn alter(
    kind: i8,
    name: &str,
    configs: &[(&str, Option<&str>)],
    validate_only: bool,
) -> alter_configs::AlterConfigsRequest {
    let configs = configs.iter().map(|(name, value)| alter_configs::AlterableConfig {
        name: (*name).to_owned(),
        value: value.map(str::to_owned),
    });
    alter_configs::AlterConfigsRequest {
        resources: vec![alter_configs::AlterConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configs: configs.collect(),
        }],
        validate_only,
    }
}

type IncrementalRequest = incremental_alter_configs::IncrementalAlterConfigsRequest;

fn increment(
    kind: i8,
    name: &str,
    configs: &[(&str, i8, Option<&str>)],
    validate_only: bool,
) -> IncrementalRequest {
    let configs =
        configs.iter().map(|(name, operation, value)| incremental_alter_configs::AlterableConfig {
            name: (*name).to_owned(),
            config_operation: *operation,
            value: value.map(str::to_owned),
        });
    IncrementalRequest {
        resources: vec![incremental_alter_configs::AlterConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configs: configs.collect(),
        }],
        validate_only,
    }
}

/// The values of some keys once they are as expected.
fn see(case: &mut Case, step: &str, kind: i8, name: &str, expected: &[(&str, &str)]) {
    let keys: Vec<&str> = expected.iter().map(|(key, _)| *key).collect();
    let request = describe(kind, name, Some(&keys));
    for _ in 0..200 {
        let response = case.quietly(4, &request);
        let settled = response.is_ok_and(|response| {
            expected.iter().all(|(key, value)| {
                response.results[0]
                    .configs
                    .iter()
                    .any(|config| config.name == *key && config.value.as_deref() == Some(value))
            })
        });
        if settled {
            break;
        }
        crate::case::pause();
    }
    case.ask_at(4, step, &request);
}

fn alter_topic(case: &mut Case) -> Step {
    let (name, _) = case.topic_with("t", 1, &[("retention.ms", "1000")])?;
    case.ask("validate only", &alter(TOPIC, &name, &[("segment.ms", Some("1"))], true));
    see(case, "unchanged", TOPIC, &name, &[("retention.ms", "1000"), ("segment.ms", "604800000")]);
    case.ask("replace", &alter(TOPIC, &name, &[("segment.ms", Some("5000"))], false));
    see(case, "replaced", TOPIC, &name, &[("retention.ms", "604800000"), ("segment.ms", "5000")]);
    case.ask("clear", &alter(TOPIC, &name, &[], false));
    see(case, "cleared", TOPIC, &name, &[("segment.ms", "604800000")]);
    for (step, key, value) in [
        ("unknown key", "no.such.key", Some("1")),
        ("bad value", "segment.ms", Some("x")),
        ("no value", "segment.ms", None),
    ] {
        case.ask(step, &alter(TOPIC, &name, &[(key, value)], false));
    }
    let twice = [("segment.ms", Some("1")), ("segment.ms", Some("2"))];
    case.ask("key twice", &alter(TOPIC, &name, &twice, false));
    let good = [("segment.ms", Some("1"))];
    case.ask("missing topic", &alter(TOPIC, &case.named("missing"), &good, false));
    case.ask("bad name", &alter(TOPIC, "a b", &good, false));
    case.ask("empty name", &alter(TOPIC, "", &good, false));
    case.ask("unknown type", &alter(77, "x", &good, false));
    case.ask("logger", &alter(8, "0", &good, false));
    let mut twice = alter(TOPIC, &name, &good, false);
    twice.resources.push(twice.resources[0].clone());
    case.ask_owed("resource twice", &twice);
    case.ask("nothing", &alter_configs::AlterConfigsRequest::default());
    Ok(())
}

fn alter_broker(case: &mut Case) -> Step {
    let good = [("log.retention.ms", Some("604800000"))];
    case.ask("validate only", &alter(BROKER, "0", &good, true));
    case.ask("read only", &alter(BROKER, "0", &[("num.partitions", Some("2"))], true));
    case.ask("bad value", &alter(BROKER, "0", &[("message.max.bytes", Some("x"))], true));
    case.ask("another broker", &alter(BROKER, "1", &good, true));
    case.ask("no number", &alter(BROKER, "x", &good, true));
    // Kafka sets this one by itself and does not let it go.
    let kept = ("min.insync.replicas", Some("1"));
    case.ask("all brokers", &alter(BROKER, "", &[good[0], kept], true));
    let set = ("log.index.interval.bytes", Some("8192"));
    case.ask("set", &alter(BROKER, "", &[set, kept], false));
    see(case, "seen", BROKER, "0", &[("log.index.interval.bytes", "8192")]);
    case.ask("clear", &alter(BROKER, "", &[kept], false));
    see(case, "cleared", BROKER, "0", &[("log.index.interval.bytes", "4096")]);
    Ok(())
}

fn increment_topic(case: &mut Case) -> Step {
    let (name, _) = case.topic_with("t", 1, &[("retention.ms", "1000")])?;
    let set = [("segment.ms", SET, Some("5000"))];
    case.ask("validate only", &increment(TOPIC, &name, &set, true));
    case.ask("set", &increment(TOPIC, &name, &set, false));
    see(case, "was set", TOPIC, &name, &[("retention.ms", "1000"), ("segment.ms", "5000")]);
    case.ask("delete", &increment(TOPIC, &name, &[("segment.ms", DELETE, None)], false));
    see(case, "was deleted", TOPIC, &name, &[("segment.ms", "604800000")]);
    case.ask("delete what is not", &increment(TOPIC, &name, &[("flush.ms", DELETE, None)], false));
    case.ask(
        "delete with value",
        &increment(TOPIC, &name, &[("flush.ms", DELETE, Some("1"))], false),
    );
    for (step, key, operation, value) in [
        ("unknown key", "no.such.key", SET, Some("1")),
        ("delete unknown key", "no.such.key", DELETE, None),
        ("bad value", "segment.ms", SET, Some("x")),
        ("no value", "segment.ms", SET, None),
        ("unknown operation", "segment.ms", 9, Some("1")),
        ("append to a number", "segment.ms", APPEND, Some("1")),
        ("subtract from a number", "segment.ms", SUBTRACT, Some("1")),
        ("append to unknown key", "no.such.key", APPEND, Some("1")),
    ] {
        case.ask(step, &increment(TOPIC, &name, &[(key, operation, value)], false));
    }
    let twice = [("segment.ms", SET, Some("1")), ("segment.ms", SET, Some("2"))];
    case.ask("key twice", &increment(TOPIC, &name, &twice, false));
    case.ask("missing topic", &increment(TOPIC, &case.named("missing"), &set, false));
    case.ask("bad name", &increment(TOPIC, "a b", &set, false));
    case.ask("empty name", &increment(TOPIC, "", &set, false));
    case.ask("unknown type", &increment(77, "x", &set, false));
    let mut twice = increment(TOPIC, &name, &set, false);
    twice.resources.push(twice.resources[0].clone());
    case.ask("resource twice", &twice);
    let half = [("segment.ms", SET, Some("7000")), ("retention.ms", SET, Some("x"))];
    case.ask("half good", &increment(TOPIC, &name, &half, false));
    see(case, "as before", TOPIC, &name, &[("segment.ms", "604800000"), ("retention.ms", "1000")]);
    case.ask("nothing", &IncrementalRequest::default());
    Ok(())
}

fn increment_broker(case: &mut Case) -> Step {
    let good = [("log.segment.delete.delay.ms", SET, Some("50000"))];
    case.ask("validate only", &increment(BROKER, "0", &good, true));
    case.ask("set", &increment(BROKER, "0", &good, false));
    see(case, "was set", BROKER, "0", &[("log.segment.delete.delay.ms", "50000")]);
    let all = [("log.segment.delete.delay.ms", SET, Some("40000"))];
    case.ask("set for all", &increment(BROKER, "", &all, false));
    see(case, "for all", BROKER, "", &[("log.segment.delete.delay.ms", "40000")]);
    see(case, "own wins", BROKER, "0", &[("log.segment.delete.delay.ms", "50000")]);
    let (topic, _) = case.topic("t", 1)?;
    see(case, "topics follow", TOPIC, &topic, &[("file.delete.delay.ms", "50000")]);
    let gone = [("log.segment.delete.delay.ms", DELETE, None)];
    case.ask("delete", &increment(BROKER, "0", &gone, false));
    see(case, "all wins", BROKER, "0", &[("log.segment.delete.delay.ms", "40000")]);
    case.ask("delete for all", &increment(BROKER, "", &gone, false));
    see(case, "default", BROKER, "0", &[("log.segment.delete.delay.ms", "60000")]);
    for (step, name, key, operation, value) in [
        ("read only", "0", "num.partitions", SET, Some("2")),
        ("read only for all", "", "num.partitions", SET, Some("2")),
        ("bad value", "0", "message.max.bytes", SET, Some("-1")),
        ("append to a number", "0", "message.max.bytes", APPEND, Some("1")),
        ("no value", "0", "message.max.bytes", SET, None),
        ("another broker", "1", "message.max.bytes", SET, Some("1000")),
        ("no number", "x", "message.max.bytes", SET, Some("1000")),
    ] {
        case.ask(step, &increment(BROKER, name, &[(key, operation, value)], true));
    }
    Ok(())
}

fn lists(case: &mut Case) -> Step {
    let (name, _) = case.topic("t", 1)?;
    let steps: &[(&str, i8, &str, &str)] = &[
        ("append to the default", APPEND, "compact", "delete,compact"),
        ("append what is there", APPEND, "compact", "delete,compact"),
        ("subtract", SUBTRACT, "delete", "compact"),
        ("subtract what is not there", SUBTRACT, "delete", "compact"),
        ("subtract the last", SUBTRACT, "compact", ""),
        ("append to nothing", APPEND, "delete", "delete"),
        ("append two", APPEND, "compact,delete", "delete,compact"),
        ("append what is not allowed", APPEND, "shred", "delete,compact"),
    ];
    for (step, operation, value, expected) in steps {
        let change = [("cleanup.policy", *operation, Some(*value))];
        case.ask(step, &increment(TOPIC, &name, &change, false));
        see(case, &format!("{step} seen"), TOPIC, &name, &[("cleanup.policy", expected)]);
    }
    let throttled = "follower.replication.throttled.replicas";
    case.ask(
        "append replicas",
        &increment(TOPIC, &name, &[(throttled, APPEND, Some("0:0"))], false),
    );
    see(case, "replicas", TOPIC, &name, &[(throttled, "0:0")]);
    Ok(())
}

/// As `kafka-reassign-partitions` sets replication quotas and takes them away.
fn throttles(case: &mut Case) -> Step {
    let (leader, follower) =
        ("leader.replication.throttled.rate", "follower.replication.throttled.rate");
    let rates = [(leader, SET, Some("50000")), (follower, SET, Some("60000"))];
    case.ask("set", &increment(BROKER, "0", &rates, false));
    see(case, "was set", BROKER, "0", &[(leader, "50000"), (follower, "60000")]);
    case.ask("set for all", &increment(BROKER, "", &rates[..1], false));
    see(case, "for all", BROKER, "", &[(leader, "50000")]);
    for (step, value) in [("below zero", "-1"), ("no number", "fast"), ("none", "0")] {
        case.ask(step, &increment(BROKER, "0", &[(leader, SET, Some(value))], true));
    }
    let moves = "replica.alter.log.dirs.io.max.bytes.per.second";
    let gone = [(leader, DELETE, None), (follower, DELETE, None), (moves, DELETE, None)];
    case.ask("delete", &increment(BROKER, "0", &gone, false));
    case.ask("delete again", &increment(BROKER, "0", &gone, false));
    case.ask("delete for all", &increment(BROKER, "", &gone[..1], false));
    let (name, _) = case.topic("t", 2)?;
    let (leads, follows) =
        ("leader.replication.throttled.replicas", "follower.replication.throttled.replicas");
    for value in ["0:0", "0:0,1:0,1:7", "*", ""] {
        let lists = [(leads, SET, Some(value)), (follows, SET, Some(value))];
        case.ask(&format!("list {value:?}"), &increment(TOPIC, &name, &lists, false));
        see(case, &format!("listed {value:?}"), TOPIC, &name, &[(leads, value), (follows, value)]);
    }
    for value in ["0", "0:", ":0", "0:x", "-1:0", "0:0,*", "0:0:0"] {
        let list = [(leads, SET, Some(value))];
        case.ask(&format!("no list {value:?}"), &increment(TOPIC, &name, &list, true));
    }
    let lists = [(leads, DELETE, None), (follows, DELETE, None)];
    case.ask("delete lists", &increment(TOPIC, &name, &lists, false));
    see(case, "no lists", TOPIC, &name, &[(leads, ""), (follows, "")]);
    Ok(())
}
