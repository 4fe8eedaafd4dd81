//! Elections that are asked for (ElectLeaders), and the return of leadership to preferred replicas.

use std::collections::BTreeMap;
use std::sync::Arc;

use klamm_protocol::ErrorCode;

use super::elect::{elect_survivor, prefer};
use super::{Context, Refusal, Write};
use crate::image::{Image, Partition, Topic};

/// Which leader is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionType {
    /// The first of the replicas.
    Preferred,
    /// Anybody that is there, where there is no leader.
    Unclean,
}

/// What became of the election of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionElection {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Number within the topic.
    pub partition: i32,
    /// The leader epoch that the partition has reached at least, or why nobody was elected.
    pub outcome: Result<i32, Refusal>,
}

/// Elects a leader on request; answers with the leader epoch that the partition reaches at least.
///
/// # Errors
/// Why nobody is elected, as clients are told: the leader is there already, or cannot be.
pub fn elect_leader(
    image: &Image,
    topic: &str,
    index: i32,
    how: ElectionType,
    context: &Context,
) -> Result<(i32, Write), Refusal> {
    let found = image.topic(topic).and_then(|topic| Some((topic, topic.partition(index)?)));
    let (topic, now) = found.ok_or_else(|| {
        let message = format!("There is no partition {topic}-{index}.");
        Refusal::new(ErrorCode::UnknownTopicOrPartition, message)
    })?;
    let (done, refused) = match how {
        ElectionType::Preferred => {
            (now.leader == now.replicas().first().copied(), ErrorCode::PreferredLeaderNotAvailable)
        }
        ElectionType::Unclean => (now.leader.is_some(), ErrorCode::EligibleLeadersNotAvailable),
    };
    if done {
        let code = ErrorCode::ElectionNotNeeded;
        return Err(Refusal::new(code, code.message()));
    }
    let write = match how {
        ElectionType::Preferred => prefer(image, topic, now, context),
        ElectionType::Unclean => elect_survivor(image, topic, now, context),
    };
    let write = write.ok_or_else(|| Refusal::new(refused, refused.message()))?;
    Ok((now.leader_epoch + 1, write))
}

/// Every partition that there is.
pub(super) fn every_partition(image: &Image) -> Vec<(Arc<str>, i32)> {
    let of = |topic: &Arc<Topic>| {
        let name = Arc::clone(&topic.name);
        (0..topic.partition_count()).map(move |index| (Arc::clone(&name), index))
    };
    image.topics().flat_map(of).collect()
}

/// Gives brokers back what they are to lead: each that does not lead more than `percentage` of a
/// hundred of the partitions that prefer it, where it can. Nothing while there is one broker.
pub fn rebalance(image: &Image, percentage: i32, context: &Context) -> Vec<Write> {
    if is_alone(image) {
        return Vec::new();
    }
    let mut brokers: BTreeMap<i32, Preferring<'_>> = BTreeMap::new();
    for topic in image.topics() {
        for now in topic.partitions() {
            let Some(preferred) = now.replicas().first() else { continue };
            let broker = brokers.entry(*preferred).or_default();
            broker.count += 1;
            if now.leader != Some(*preferred) {
                broker.led_elsewhere.push((&**topic, now));
            }
        }
    }
    let unbalanced = brokers.into_values().filter(|broker| broker.exceeds(percentage));
    unbalanced
        .flat_map(|broker| broker.led_elsewhere)
        .filter_map(|(topic, now)| prefer(image, topic, now, context))
        .collect()
}

/// Whether leadership has nowhere to move to.
pub(super) fn is_alone(image: &Image) -> bool {
    image.brokers().nth(1).is_none()
}

/// The partitions that prefer one broker.
#[derive(Default)]
struct Preferring<'a> {
    count: i64,
    led_elsewhere: Vec<(&'a Topic, Partition<'a>)>,
}

impl Preferring<'_> {
    fn exceeds(&self, percentage: i32) -> bool {
        let elsewhere = i64::try_from(self.led_elsewhere.len()).unwrap_or(i64::MAX);
        elsewhere.saturating_mul(100) > self.count.saturating_mul(percentage.into())
    }
}
