//! Creating and growing topics.

use std::collections::{BTreeMap, BTreeSet};

use klamm_protocol::ErrorCode;
use uuid::Uuid;

use super::configs::{ConfigRules, check_all};
use super::durability::flush_of_new;
use super::elect::{check_registration, first_state};
use super::placement::{place, places};
use super::{Context, Reason, Refusal, Write};
use crate::image::{Image, Topic};
use crate::nodes::config::{ConfigNode, ConfigResource};
use crate::nodes::topic::{AssignNode, Assignment, FlushClass, NameNode, REPLICAS_MAX, TopicNode};
use crate::nodes::{NodeKey, encode};
use crate::tree::Op;

/// Characters of a topic's name at most: its folder's name must fit the file system.
pub const NAME_LEN_MAX: usize = 249;
/// Partitions that one request may add to a topic, as in Kafka.
pub const NEW_PARTITIONS_MAX: usize = 10_000;

/// A topic that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// The id that it shall get, drawn for this one request; nil: the controller draws one.
    pub id: Uuid,
    /// Number of partitions; -1: the default, or by `assignments`.
    pub partitions: i32,
    /// Number of replicas; -1: the default, or by `assignments`.
    pub replication_factor: i32,
    /// Replicas by partition where the client wants to say; empty: placed by the controller.
    pub assignments: BTreeMap<i32, Vec<i32>>,
    /// Settings that differ from the defaults.
    pub configs: BTreeMap<String, String>,
}

/// What -1 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicDefaults {
    /// `num.partitions`.
    pub partitions: i32,
    /// `default.replication.factor`.
    pub replication_factor: i32,
}

/// A topic that was created (or would be).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its name.
    pub name: String,
    /// Its id; nil when it was only validated.
    pub id: Uuid,
    /// Number of partitions.
    pub partitions: i32,
    /// Number of replicas of each.
    pub replication_factor: i32,
}

/// Refuses names that Kafka refuses.
///
/// # Errors
/// `INVALID_TOPIC_EXCEPTION`.
pub fn check_name(name: &str) -> Result<(), Refusal> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fault = if name.is_empty() {
        "it is empty".to_owned()
    } else if name == "." || name == ".." {
        "it stands for a directory".to_owned()
    } else if name.len() > NAME_LEN_MAX {
        format!("it has {} characters, {NAME_LEN_MAX} are allowed", name.chars().count())
    } else if !name.chars().all(legal) {
        "only ASCII letters, digits, '.', '_' and '-' are allowed".to_owned()
    } else {
        return Ok(());
    };
    let message = format!("The topic name {name:?} is not legal: {fault}.");
    Err(Refusal::new(ErrorCode::InvalidTopicException, message))
}

/// Creates a topic under `id`, which must never have been used.
///
/// # Errors
/// Why it cannot be, as clients are told.
pub fn create_topic(
    image: &Image,
    topic: &NewTopic,
    id: Uuid,
    defaults: TopicDefaults,
    rules: &dyn ConfigRules,
    context: &Context,
) -> Result<(CreatedTopic, Vec<Write>), Refusal> {
    check_name(&topic.name)?;
    check_free(image, &topic.name)?;
    check_all(rules, &ConfigResource::topic(&topic.name), &topic.configs)?;
    let assignments = assignments(image, topic, defaults, context.nonce)?;
    let created = CreatedTopic {
        name: topic.name.clone(),
        id,
        partitions: count(assignments.len()),
        replication_factor: count(assignments.first().map_or(0, |a| a.replicas.len())),
    };
    let mut shown = image.clone();
    let mut writes = vec![make_topic(topic, id, &assignments)];
    // The first states take their min_isr from the settings that come with the topic.
    let settings = settings_op(image, topic);
    shown.preview(settings.as_slice()).map_err(internal)?;
    let flush = flush_of_new(&shown, &topic.name, context);
    writes.extend(make_partitions(&shown, &topic.name, id, 0, &assignments, flush, context)?);
    let mut last: Vec<Op> = settings.into_iter().collect();
    last.push(Op::create(
        NodeKey::Name(topic.name.clone()).path(),
        encode(&NameNode { topic_id: id }),
    ));
    writes.push(Write::new(Reason::Request, last));
    Ok((created, writes))
}

fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(ErrorCode::UnknownServerError, error.to_string())
}

fn count(len: usize) -> i32 {
    i32::try_from(len).expect("bounded by NEW_PARTITIONS_MAX and REPLICAS_MAX")
}

fn check_free(image: &Image, name: &str) -> Result<(), Refusal> {
    if image.name_node(name).is_some() {
        let message = format!("Topic '{name}' already exists.");
        return Err(Refusal::new(ErrorCode::TopicAlreadyExists, message));
    }
    // Names of metrics do not tell a dot from an underscore.
    if !name.contains(['.', '_']) {
        return Ok(());
    }
    let folded = name.replace('.', "_");
    match image
        .names()
        .find(|other| other.contains(['.', '_']) && other.replace('.', "_") == folded)
    {
        Some(other) => {
            let message = format!("Topic '{name}' collides with the existing topic '{other}'.");
            Err(Refusal::new(ErrorCode::InvalidTopicException, message))
        }
        None => Ok(()),
    }
}

fn make_topic(topic: &NewTopic, id: Uuid, assignments: &[Assignment]) -> Write {
    let node = TopicNode { name: topic.name.clone(), deleting: false };
    let assign = AssignNode { partitions: assignments.to_vec() };
    let ops = vec![
        Op::create(NodeKey::Topic(id).path(), encode(&node)),
        Op::create(NodeKey::Assign(id).path(), encode(&assign)),
        Op::create(NodeKey::partitions_folder(id), ""),
    ];
    Write::new(Reason::Request, ops)
}

fn settings_op(image: &Image, topic: &NewTopic) -> Option<Op> {
    let resource = ConfigResource::topic(&topic.name);
    let path = NodeKey::Config(resource.clone()).path();
    let data = encode(&ConfigNode { config: topic.configs.clone() });
    match image.config_node(&resource) {
        // Left behind by hand; a topic begins with its own settings only.
        Some(node) => Some(Op::set(path, data, node.version)),
        None if topic.configs.is_empty() => None,
        None => Some(Op::create(path, data)),
    }
}

fn make_partitions(
    image: &Image,
    name: &str,
    id: Uuid,
    first: i32,
    assignments: &[Assignment],
    flush: FlushClass,
    context: &Context,
) -> Result<Vec<Write>, Refusal> {
    let make = |(index, assignment): (i32, &Assignment)| {
        let Some(state) = first_state(image, name, assignment, flush, context) else {
            let message = format!(
                "Partition {index} would have no leader: none of its replicas {:?} is available.",
                assignment.replicas
            );
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        };
        let path = NodeKey::Partition(id, index).path();
        let mut write = Write::new(Reason::Request, vec![Op::create(path, encode(&state))]);
        for member in &state.isr {
            check_registration(image, member.id, &mut write);
        }
        Ok(write)
    };
    (first..).zip(assignments).map(make).collect()
}

fn assignments(
    image: &Image,
    topic: &NewTopic,
    defaults: TopicDefaults,
    start: u64,
) -> Result<Vec<Assignment>, Refusal> {
    if !topic.assignments.is_empty() {
        return manual_assignments(image, topic);
    }
    let partitions = if topic.partitions == -1 { defaults.partitions } else { topic.partitions };
    let replicas = if topic.replication_factor == -1 {
        defaults.replication_factor
    } else {
        topic.replication_factor
    };
    if partitions < 1 {
        let message = format!("The number of partitions is {partitions}; it must be at least 1.");
        return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    }
    placed(image, 0, check_count(partitions)?, replicas, start)
}

fn check_count(partitions: i32) -> Result<usize, Refusal> {
    let count = usize::try_from(partitions).unwrap_or(0);
    if count > NEW_PARTITIONS_MAX {
        let message = format!(
            "{partitions} partitions at once are more than the {NEW_PARTITIONS_MAX} allowed."
        );
        return Err(Refusal::new(ErrorCode::PolicyViolation, message));
    }
    Ok(count)
}

fn placed(
    image: &Image,
    first: usize,
    count: usize,
    replicas: i32,
    start: u64,
) -> Result<Vec<Assignment>, Refusal> {
    let available = places(image);
    let refuse = |message| Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
    match usize::try_from(replicas) {
        Err(_) | Ok(0) => {
            refuse(format!("The replication factor is {replicas}; it must be at least 1."))
        }
        Ok(wanted) if wanted > available.len() => refuse(format!(
            "A replication factor of {replicas} needs as many brokers, but only {} are available.",
            available.len()
        )),
        Ok(wanted) if wanted > REPLICAS_MAX => refuse(format!(
            "A replication factor of {replicas} is more than the {REPLICAS_MAX} allowed."
        )),
        Ok(wanted) => Ok(place(&available, first, count, wanted, start)),
    }
}

fn manual_assignments(image: &Image, topic: &NewTopic) -> Result<Vec<Assignment>, Refusal> {
    let both = |what: &str, value: i32| {
        let message = format!(
            "The {what} is given as {value} and by a manual assignment; with one, it must be -1."
        );
        Err(Refusal::new(ErrorCode::InvalidRequest, message))
    };
    if topic.partitions != -1 {
        return both("number of partitions", topic.partitions);
    }
    if topic.replication_factor != -1 {
        return both("replication factor", topic.replication_factor);
    }
    check_count(i32::try_from(topic.assignments.len()).unwrap_or(i32::MAX))?;
    let contiguous = topic.assignments.keys().copied().eq(0..count(topic.assignments.len()));
    if !contiguous {
        let message = "A manual assignment must name the partitions 0, 1, 2… without a gap.";
        return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    check_manual(image, topic.assignments.values().map(Vec::as_slice), None)
}

/// Replicas named by a client, all partitions with the same number of them (`expected`, if given).
pub(super) fn check_manual<'a>(
    image: &Image,
    lists: impl Iterator<Item = &'a [i32]>,
    mut expected: Option<usize>,
) -> Result<Vec<Assignment>, Refusal> {
    let refuse = |message: String| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    let mut assignments = Vec::new();
    for replicas in lists {
        let distinct: BTreeSet<i32> = replicas.iter().copied().collect();
        if replicas.is_empty() || replicas.len() > REPLICAS_MAX {
            return refuse(format!("A partition cannot have {} replicas.", replicas.len()));
        }
        if distinct.len() != replicas.len() {
            return refuse(format!("The replicas {replicas:?} name a broker twice."));
        }
        if let Some(stranger) = replicas.iter().find(|id| image.broker(**id).is_none()) {
            return refuse(format!(
                "The replicas {replicas:?} name broker {stranger}, which is not registered."
            ));
        }
        let wanted = *expected.get_or_insert(replicas.len());
        if wanted != replicas.len() {
            return refuse(format!(
                "The replicas {replicas:?} are {}, but other partitions have {wanted}.",
                replicas.len()
            ));
        }
        assignments.push(Assignment { replicas: replicas.to_vec(), ..Assignment::default() });
    }
    Ok(assignments)
}

/// More partitions for a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MorePartitions {
    /// The topic.
    pub name: String,
    /// Number of partitions that it shall have.
    pub count: i32,
    /// Replicas of the new ones, in order, where the client wants to say; empty: placed.
    pub assignments: Vec<Vec<i32>>,
}

/// Adds partitions to a topic.
///
/// # Errors
/// Why it cannot be, as clients are told.
pub fn create_partitions(
    image: &Image,
    more: &MorePartitions,
    context: &Context,
) -> Result<Vec<Write>, Refusal> {
    let (topic, assign) = image
        .topic(&more.name)
        .and_then(|topic| Some((topic, topic.assign()?)))
        .ok_or_else(|| unknown_topic(&more.name))?;
    let now = topic.partition_count();
    let invalid = |message| Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    if more.count == now {
        return invalid(format!("Topic '{}' already has {now} partitions.", more.name));
    }
    if more.count < now {
        return invalid(format!(
            "Topic '{}' has {now} partitions, which cannot become {}.",
            more.name, more.count
        ));
    }
    let new = check_count(more.count - now)?;
    let replicas = assign.partitions.first().map_or(1, |first| first.target().len());
    let added = if more.assignments.is_empty() {
        placed(image, assign.partitions.len(), new, count(replicas), context.nonce)?
    } else if more.assignments.len() == new {
        check_manual(image, more.assignments.iter().map(Vec::as_slice), Some(replicas))?
    } else {
        let message = format!(
            "Replicas are given for {} partitions, but {new} are to be added.",
            more.assignments.len()
        );
        return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    };
    let flush = flush_of(image, topic, context);
    let mut writes = make_partitions(image, &more.name, topic.id, now, &added, flush, context)?;
    // States left over from an attempt that did not come to its end are replaced.
    for (write, index) in writes.iter_mut().zip(now..) {
        if let Some(old) = topic.state(index) {
            let path = NodeKey::Partition(topic.id, index).path();
            write.ops.insert(0, Op::delete(path, old.version));
        }
    }
    let mut partitions = assign.partitions.clone();
    partitions.extend(added);
    let path = NodeKey::Assign(topic.id).path();
    let grown = Op::set(path, encode(&AssignNode { partitions }), assign.version);
    writes.push(Write::new(Reason::Request, vec![grown]));
    Ok(writes)
}

/// New partitions of a topic mean by an acknowledgement what the old ones mean.
fn flush_of(image: &Image, topic: &Topic, context: &Context) -> FlushClass {
    let first = topic.partition(0).map(|partition| match partition.flush {
        FlushClass::Os => FlushClass::Os,
        FlushClass::Syncing | FlushClass::Acked => FlushClass::Acked,
    });
    first.unwrap_or_else(|| flush_of_new(image, &topic.name, context))
}

pub(super) fn unknown_topic(name: &str) -> Refusal {
    let message = format!("There is no topic '{name}'.");
    Refusal::new(ErrorCode::UnknownTopicOrPartition, message)
}
