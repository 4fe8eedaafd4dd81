//! What the settings ask of a partition's state: `min.insync.replicas` (R22) and the flush class
//! (R18c).

use klamm_env::rules::Rule;

use super::elect::is_sound;
use crate::controller::{Context, FLUSH_CONFIG, MIN_ISR_CONFIG};
use crate::image::{Image, Topic};
use crate::nodes::config::ConfigResource;
use crate::nodes::topic::{Assignment, FlushClass, PartitionNode};

/// Brings `min_isr` and the flush class to what the settings say.
pub(super) fn follow_settings(
    image: &Image,
    topic: &Topic,
    assignment: &Assignment,
    next: &mut PartitionNode,
    context: &Context,
) -> bool {
    let before = (next.min_isr, next.flush, next.elr.len());
    let min_isr = effective_min_isr(image, &topic.name, assignment.factor(), context);
    // Lowering clears the ELR and so waits for a leader that knows all that was confirmed.
    if min_isr > next.min_isr || (min_isr < next.min_isr && next.leader.is_some()) {
        if min_isr < next.min_isr {
            next.elr.clear();
        }
        next.min_isr = min_isr;
    }
    if in_sync(next) >= next.min_isr && next.leader.is_some() {
        next.elr.clear();
    }
    match (flush_setting(image, &topic.name), next.flush) {
        (Some(FlushClass::Acked), FlushClass::Os) if !Rule::R18c.holds() => {
            next.flush = FlushClass::Acked;
        }
        (Some(FlushClass::Acked), FlushClass::Os) => change_flush(next, FlushClass::Syncing),
        (Some(FlushClass::Os), FlushClass::Acked | FlushClass::Syncing)
            if all_clean(image, next) =>
        {
            change_flush(next, FlushClass::Os);
        }
        _ => {}
    }
    before != (next.min_isr, next.flush, next.elr.len())
}

fn in_sync(state: &PartitionNode) -> i32 {
    i32::try_from(state.isr.len()).expect("bounded by REPLICAS_MAX")
}

fn change_flush(next: &mut PartitionNode, flush: FlushClass) {
    next.flush = flush;
    next.leader_epoch += 1;
}

/// Whether every listed broker epoch would also be sound under the class os.
fn all_clean(image: &Image, state: &PartitionNode) -> bool {
    state.isr.iter().chain(&state.elr).all(|member| is_sound(image, *member, FlushClass::Os))
}

/// `min.insync.replicas` of a topic, never more than it has replicas (R22).
pub(crate) fn effective_min_isr(
    image: &Image,
    topic: &str,
    replicas: usize,
    context: &Context,
) -> i32 {
    let set = setting(image, topic, MIN_ISR_CONFIG).and_then(|value| value.trim().parse().ok());
    let replicas = i32::try_from(replicas).unwrap_or(i32::MAX);
    set.unwrap_or(context.defaults.min_insync_replicas).clamp(1, replicas.max(1))
}

/// The flush class that a topic's own settings ask for.
fn flush_setting(image: &Image, topic: &str) -> Option<FlushClass> {
    parse_flush(image.topic_config(topic).get(FLUSH_CONFIG)?)
}

/// The flush class of a new topic: its own setting, else that of all brokers, which says nothing
/// about topics that are there already (R18c).
pub(crate) fn flush_of_new(image: &Image, topic: &str, context: &Context) -> FlushClass {
    let set = setting(image, topic, FLUSH_CONFIG).and_then(|value| parse_flush(value));
    set.unwrap_or(context.defaults.flush)
}

fn parse_flush(value: &str) -> Option<FlushClass> {
    match value.trim() {
        "acked" => Some(FlushClass::Acked),
        "os" => Some(FlushClass::Os),
        _ => None,
    }
}

/// The topic's setting, else the one for all brokers.
pub(super) fn setting<'a>(image: &'a Image, topic: &str, key: &str) -> Option<&'a String> {
    let topic = image.topic_config(topic).get(key);
    topic.or_else(|| image.config(&ConfigResource::broker(None)).get(key))
}
