//! What clients ask for, and how they are refused.

use std::collections::BTreeSet;

use klamm_protocol::ErrorCode;

use super::world::{Rules, World};
use crate::controller::configs::alter;
use crate::controller::topics::{check_name, create_partitions};
use crate::controller::{
    ConfigAlteration, ConfigChange, ConfigEdit, EditOp, MorePartitions, NewTopic, Scope,
    producer_ids, reconcile,
};
use crate::image::Image;
use crate::nodes::NodeKey;
use crate::nodes::config::ConfigResource;
use crate::nodes::topic::FlushClass;
use crate::tree::Op;

fn new_topic(name: &str, partitions: i32, replication_factor: i32) -> NewTopic {
    NewTopic { name: name.into(), partitions, replication_factor, ..NewTopic::default() }
}

fn refusal(world: &mut World, topic: &NewTopic) -> (ErrorCode, String) {
    let refused = world.plan(topic).unwrap_err();
    (refused.code, refused.message)
}

#[test]
fn a_topic_with_defaults() {
    let mut world = World::with_brokers(1);
    let id = world.create(&new_topic("a", -1, -1)).unwrap();
    let image = world.image();
    let topic = image.topic("a").unwrap();
    assert_eq!((topic.id, topic.partition_count()), (id, 1));
    assert_eq!(image.topic_by_id(id).unwrap().name, topic.name);
    let partition = topic.partition(0).unwrap();
    assert_eq!((partition.leader, partition.flush), (Some(1), FlushClass::Acked));
    assert_eq!(partition.controller_epoch, 7);
    assert_eq!(world.decide(), []);
}

#[test]
fn a_topic_with_settings() {
    let mut world = World::with_brokers(2);
    let mut topic = new_topic("a", 2, 2);
    topic.configs = [("min.insync.replicas", "2"), ("flush", "os")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    world.create(&topic).unwrap();
    let image = world.image();
    assert_eq!(image.topic_config("a"), &topic.configs);
    for partition in image.topic("a").unwrap().partitions() {
        assert_eq!((partition.min_isr, partition.flush), (2, FlushClass::Os));
    }
    assert_eq!(world.decide(), []);
}

#[test]
fn refusals_name_what_was_asked_and_what_there_is() {
    let mut world = World::with_brokers(1);
    world.create(&new_topic("a.b", 1, 1)).unwrap();
    let mut manual = new_topic("m", -1, -1);
    for (topic, code, parts) in [
        (new_topic("a.b", 1, 1), ErrorCode::TopicAlreadyExists, &["a.b"][..]),
        (new_topic("a_b", 1, 1), ErrorCode::InvalidTopicException, &["a_b", "a.b"]),
        (new_topic("a b", 1, 1), ErrorCode::InvalidTopicException, &["a b"]),
        (new_topic("x", 0, 1), ErrorCode::InvalidPartitions, &["0"]),
        (new_topic("x", -2, 1), ErrorCode::InvalidPartitions, &["-2"]),
        (new_topic("x", 10_001, 1), ErrorCode::PolicyViolation, &["10001", "10000"]),
        (new_topic("x", 1, 0), ErrorCode::InvalidReplicationFactor, &["0"]),
        (new_topic("x", 1, 3), ErrorCode::InvalidReplicationFactor, &["3", "1"]),
    ] {
        let (found, message) = refusal(&mut world, &topic);
        assert_eq!(found, code, "{topic:?}: {message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    for (assignments, code) in [
        (vec![(1, vec![1])], ErrorCode::InvalidReplicaAssignment),
        (vec![(0, vec![])], ErrorCode::InvalidReplicaAssignment),
        (vec![(0, vec![1, 1])], ErrorCode::InvalidReplicaAssignment),
        (vec![(0, vec![2])], ErrorCode::InvalidReplicaAssignment),
    ] {
        manual.assignments = assignments.into_iter().collect();
        let (found, message) = refusal(&mut world, &manual);
        assert_eq!(found, code, "{manual:?}: {message}");
    }
    manual.assignments = [(0, vec![1])].into();
    manual.partitions = 1;
    assert_eq!(refusal(&mut world, &manual).0, ErrorCode::InvalidRequest);
    let mut bad = new_topic("x", 1, 1);
    bad.configs.insert("bad.key".into(), "v".into());
    assert_eq!(refusal(&mut world, &bad).0, ErrorCode::InvalidConfig);
}

#[test]
fn names_that_kafka_takes_and_refuses() {
    let longest = "x".repeat(249);
    for name in ["a", "A.b_c-9", "__consumer_offsets", "...", longest.as_str()] {
        assert_eq!(check_name(name), Ok(()), "{name}");
    }
    for name in ["", ".", "..", "a/b", "ä", "a b", "a\n", &"x".repeat(250)] {
        let refused = check_name(name).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidTopicException, "{name}");
    }
}

#[test]
fn partitions_are_added() {
    let mut world = World::with_brokers(2);
    let id = world.create(&new_topic("a", 1, 2)).unwrap();
    let more = MorePartitions { name: "a".into(), count: 3, assignments: vec![] };
    let writes = create_partitions(&world.image(), &more, &world.context()).unwrap();
    let assign = NodeKey::Assign(id).path();
    let last = writes.last().unwrap().ops.last().unwrap();
    assert_eq!(last.path(), assign, "they are shown last");
    world.write(&writes);
    let image = world.image();
    assert_eq!(image.topic("a").unwrap().partitions().count(), 3);
    assert_eq!(world.decide(), []);
}

#[test]
fn partitions_are_not_taken_away() {
    let mut world = World::with_brokers(1);
    world.create(&new_topic("a", 2, 1)).unwrap();
    let refused = |name: &str, count, assignments| {
        let more = MorePartitions { name: name.into(), count, assignments };
        create_partitions(&world.image(), &more, &world.context()).unwrap_err().code
    };
    assert_eq!(refused("a", 2, vec![]), ErrorCode::InvalidPartitions);
    assert_eq!(refused("a", 1, vec![]), ErrorCode::InvalidPartitions);
    assert_eq!(refused("b", 3, vec![]), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(refused("a", 4, vec![vec![1]]), ErrorCode::InvalidReplicaAssignment);
    assert_eq!(refused("a", 3, vec![vec![9]]), ErrorCode::InvalidReplicaAssignment);
}

#[test]
fn hazard_30_a_deleted_topic_loses_its_name_at_once_and_its_nodes_later() {
    let mut world = World::with_brokers(1);
    world.topic(&[1], &[("flush", "os")]);
    let old = world.delete("t").unwrap();
    let image = world.image();
    assert!(image.topic("t").is_none() && image.topic_by_id(old).is_none());
    assert!(image.topic_config("t").is_empty());
    assert_eq!(image.deleting_topics().map(|topic| topic.id).collect::<Vec<_>>(), [old]);
    assert_eq!(world.decide(), [], "it is not purged before its time");

    let new = world.create(&new_topic("t", 1, 1)).unwrap();
    assert_ne!(old, new);
    let purge = BTreeSet::from([old]);
    let writes = reconcile(&world.image(), &Scope::topics(purge.clone()), &purge, &world.context());
    world.write(&writes);
    let image = world.image();
    assert!(image.any_topic(old).is_none());
    assert_eq!(image.topic("t").unwrap().id, new);
    let left = world.state.subtree("/topics").len();
    assert_eq!(left, 5, "/topics, the new topic, assign, p and p/0");
}

#[test]
fn hazard_29_a_topic_half_made_is_removed() {
    let mut world = World::with_brokers(1);
    let (_, writes) = world.plan(&new_topic("a", 3, 1)).unwrap();
    for made in 0..writes.len() {
        let mut world = world.clone();
        world.write(&writes[..made]);
        assert!(world.image().topic("a").is_none(), "the name comes last");
        world.settle();
        assert_eq!(world.state.subtree("/topics").len(), 1, "after {made} writes");
        world.create(&new_topic("a", 1, 1)).unwrap();
    }
}

#[test]
fn partitions_half_added_are_removed() {
    let mut world = World::with_brokers(1);
    world.create(&new_topic("a", 1, 1)).unwrap();
    let more = MorePartitions { name: "a".into(), count: 4, assignments: vec![] };
    let writes = create_partitions(&world.image(), &more, &world.context()).unwrap();
    world.write(&writes[..2]);
    let again = create_partitions(&world.image(), &more, &world.context()).unwrap();
    let mut other = world.clone();
    other.write(&again);
    assert_eq!(other.image().topic("a").unwrap().partitions().count(), 4);
    world.settle();
    assert_eq!(world.image().topic("a").unwrap().states().count(), 1);
}

fn edit(image: &Image, key: &str, op: EditOp) -> Result<Vec<Op>, ErrorCode> {
    let resource = ConfigResource::topic("t");
    let change = ConfigChange::Edit(vec![ConfigEdit { key: key.into(), op }]);
    let writes = alter(image, &ConfigAlteration { resource, change }, &Rules);
    Ok(writes.map_err(|refusal| refusal.code)?.into_iter().flat_map(|write| write.ops).collect())
}

#[test]
fn settings_are_set_deleted_appended_and_subtracted() {
    let mut world = World::with_brokers(1);
    world.topic(&[1], &[]);
    let policy = |world: &World| world.image().topic_config("t").get("cleanup.policy").cloned();
    let steps = [
        (EditOp::Append("compact".into()), Some("delete,compact")),
        (EditOp::Append("compact, compact".into()), Some("delete,compact")),
        (EditOp::Subtract("delete".into()), Some("compact")),
        (EditOp::Set("delete".into()), Some("delete")),
        (EditOp::Delete, None),
        (EditOp::Delete, None),
    ];
    for (step, expected) in steps {
        let ops = edit(&world.image(), "cleanup.policy", step.clone()).unwrap();
        world.state.apply(crate::tree::SessionId(0), &ops).unwrap();
        assert_eq!(policy(&world).as_deref(), expected, "{step:?}");
    }
}

#[test]
fn settings_that_are_refused() {
    let mut world = World::with_brokers(1);
    world.topic(&[1], &[]);
    let image = world.image();
    let code = |key: &str, op| edit(&image, key, op).unwrap_err();
    assert_eq!(code("bad.key", EditOp::Set("v".into())), ErrorCode::InvalidConfig);
    assert_eq!(code("retention.ms", EditOp::Append("v".into())), ErrorCode::InvalidConfig);
    let alteration = ConfigAlteration {
        resource: ConfigResource::topic("nope"),
        change: ConfigChange::Replace(Default::default()),
    };
    let refused = alter(&image, &alteration, &Rules).unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnknownTopicOrPartition);
}

#[test]
fn replacing_settings_leaves_nothing_of_the_old_ones() {
    let mut world = World::with_brokers(1);
    world.topic(&[1], &[("retention.ms", "1")]);
    let alteration = ConfigAlteration {
        resource: ConfigResource::topic("t"),
        change: ConfigChange::Replace([("segment.ms".to_owned(), "2".to_owned())].into()),
    };
    let writes = alter(&world.image(), &alteration, &Rules).unwrap();
    world.write(&writes);
    let keys: Vec<String> = world.image().topic_config("t").keys().cloned().collect();
    assert_eq!(keys, ["segment.ms"]);
    assert_eq!(alter(&world.image(), &alteration, &Rules).unwrap(), [], "nothing more to do");
}

#[test]
fn hazard_65_producer_ids_never_repeat() {
    let mut world = World::with_brokers(1);
    let mut firsts = Vec::new();
    for _ in 0..3 {
        let (block, write) = producer_ids::allocate(&world.image(), 1, 1).unwrap();
        world.write(&[write]);
        firsts.push((block.first, block.len));
    }
    assert_eq!(firsts, [(0, 1000), (1000, 1000), (2000, 1000)]);
}
