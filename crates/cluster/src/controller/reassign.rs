//! Moving partitions to other brokers.
//!
//! A move begins with an assignment that has both the old and the new replicas. New ones become
//! followers and, through the leader, members of the ISR; once all of them are, the old ones go in one
//! step from assignment, ISR and leadership.

use std::collections::BTreeSet;
use std::iter;

use klamm_protocol::ErrorCode;

use super::elect::{Stranded, is_sound, settle_on};
use super::topics::check_manual;
use super::{Context, Reason, Refusal, Write};
use crate::image::{Image, Topic};
use crate::nodes::topic::{AssignNode, Assignment};
use crate::nodes::{NodeKey, Versioned, encode};
use crate::tree::Op;

/// Partitions of one topic whose moves end in one step.
const ENDS_PER_WRITE: usize = 40;

/// A move that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassignment {
    /// The topic's name.
    pub topic: String,
    /// Number within the topic.
    pub partition: i32,
    /// The replicas that it shall have, the preferred leader first; `None`: those that it had before
    /// the move that is under way.
    pub replicas: Option<Vec<i32>>,
    /// Whether their number may be another one.
    pub may_resize: bool,
}

/// Begins a move, turns it elsewhere, or ends it where it began.
///
/// # Errors
/// Why it cannot be, as clients are told.
pub fn reassign(
    image: &Image,
    asked: &Reassignment,
    context: &Context,
) -> Result<Vec<Write>, Refusal> {
    let found = image
        .topic(&asked.topic)
        .and_then(|topic| Some((topic, topic.assign()?, topic.partition(asked.partition)?)));
    let (topic, assign, now) = found.ok_or_else(|| {
        let message = format!("There is no partition {}-{}.", asked.topic, asked.partition);
        Refusal::new(ErrorCode::UnknownTopicOrPartition, message)
    })?;
    let next = match &asked.replicas {
        Some(replicas) => begun(image, now.assignment, replicas, asked.may_resize)?,
        None if now.assignment.is_moving() => {
            Assignment { replicas: now.assignment.origin(), ..Assignment::default() }
        }
        None => {
            let code = ErrorCode::NoReassignmentInProgress;
            return Err(Refusal::new(code, code.message()));
        }
    };
    if next == *now.assignment {
        return Ok(Vec::new());
    }
    let state = settle_on(image, topic, now, &next, context).map_err(|Stranded| {
        let message = format!(
            "Nobody could lead {}-{} on the replicas {:?} alone.",
            asked.topic, asked.partition, next.replicas
        );
        Refusal::new(ErrorCode::InvalidReplicaAssignment, message)
    })?;
    let mut change = AssignChange::new(topic, assign);
    change.set(now.index, next, state);
    Ok(change.end(Reason::Request))
}

/// The assignment that a move to `replicas` begins with. What an earlier move has added and this one
/// does not want is left out at once.
fn begun(
    image: &Image,
    now: &Assignment,
    replicas: &[i32],
    may_resize: bool,
) -> Result<Assignment, Refusal> {
    check_manual(image, iter::once(replicas), None)?;
    let origin = now.origin();
    let size = now.target().len();
    if !may_resize && replicas.len() != size {
        let message = format!("The replicas {replicas:?} are not as many as before, {size}.");
        return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
    }
    let adding: Vec<i32> = replicas.iter().copied().filter(|id| !origin.contains(id)).collect();
    let removing: Vec<i32> = origin.into_iter().filter(|id| !replicas.contains(id)).collect();
    let all = replicas.iter().chain(&removing).copied().collect();
    Ok(Assignment { replicas: all, adding, removing })
}

/// Ends the moves of a topic whose new replicas are all in sync. Answers what is to be written, and
/// which partitions it is about.
pub(super) fn end_moves(
    image: &Image,
    topic: &Topic,
    context: &Context,
) -> (Vec<Write>, BTreeSet<i32>) {
    let (mut writes, mut ended) = (Vec::new(), BTreeSet::new());
    let assign = topic.assign().filter(|_| has_moves(topic));
    let Some(assign) = assign else { return (writes, ended) };
    let mut change = AssignChange::new(topic, assign);
    for now in topic.partitions().filter(|now| now.assignment.is_moving()) {
        let target = Assignment { replicas: now.assignment.target(), ..Assignment::default() };
        let sound = |member| is_sound(image, member, now.flush);
        let in_sync = |id: &i32| now.isr_member(*id).is_some_and(sound);
        if !now.assignment.adding.iter().all(in_sync) {
            continue;
        }
        let Ok(state) = settle_on(image, topic, now, &target, context) else { continue };
        change.set(now.index, target, state);
        ended.insert(now.index);
        if ended.len() % ENDS_PER_WRITE == 0 {
            writes.extend(change.take(Reason::Election));
        }
    }
    writes.extend(change.end(Reason::Election));
    (writes, ended)
}

/// Whether a partition is on its way to other replicas.
pub(super) fn has_moves(topic: &Topic) -> bool {
    topic.assign().is_some_and(|assign| assign.partitions.iter().any(Assignment::is_moving))
}

/// A change of several partitions in a topic's assignment.
struct AssignChange<'a> {
    topic: &'a Topic,
    node: AssignNode,
    version: i32,
    states: Vec<Write>,
    is_changed: bool,
}

impl<'a> AssignChange<'a> {
    fn new(topic: &'a Topic, assign: &Versioned<AssignNode>) -> AssignChange<'a> {
        let node = assign.value.clone();
        AssignChange { topic, node, version: assign.version, states: Vec::new(), is_changed: false }
    }

    /// A partition lies elsewhere, and its state changes with that.
    fn set(&mut self, index: i32, next: Assignment, state: Option<Write>) {
        let index = usize::try_from(index).expect("a partition that is there");
        self.node.partitions[index] = next;
        self.states.extend(state);
        self.is_changed = true;
    }

    /// One step with all that was set since the last.
    fn take(&mut self, reason: Reason) -> Option<Write> {
        if !std::mem::take(&mut self.is_changed) {
            return None;
        }
        let path = NodeKey::Assign(self.topic.id).path();
        let mut write = Write::new(reason, Vec::new());
        for state in self.states.drain(..) {
            // The step itself changes the assignment, and so sees that nobody else has.
            write.checks.extend(state.checks.into_iter().filter(|(checked, _)| *checked != path));
            write.ops.extend(state.ops);
        }
        write.ops.push(Op::set(path, encode(&self.node), self.version));
        self.version += 1;
        Some(write)
    }

    fn end(mut self, reason: Reason) -> Vec<Write> {
        self.take(reason).into_iter().collect()
    }
}
