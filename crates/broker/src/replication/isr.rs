//! Changing the ISR of the partitions that this broker leads, by compare-and-set in the tree (R18).
//!
//! It looks at partitions that a fetch or the tree has given reason to, and at all of them twice in
//! `replica.lag.time.max.ms`, as a follower that stays away gives no sign. A broker without
//! followers does nothing here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use klamm_cluster::controller::Registered;
use klamm_cluster::isr::{Expected, isr_change};
use klamm_cluster::tree::{MultiError, OpResult, TreeError};
use klamm_cluster::{Image, Member};
use tokio::sync::Notify;
use tracing::{debug, info};
use uuid::Uuid;

use super::{Outcome, Standing};
use crate::broker::Broker;
use crate::partition::{IsrOrder, Partition};

/// Changes that are on their way to the tree at a time.
const IN_FLIGHT_MAX: usize = 32;
/// Pause before a change whose outcome is not known, or that did not fit, is looked at again.
const AGAIN_PAUSE: Duration = Duration::from_millis(100);

type Key = (Uuid, i32);

/// The partitions whose ISR may have to change.
#[derive(Default)]
pub(crate) struct IsrChanges {
    due: Mutex<BTreeMap<Key, Weak<Partition>>>,
    news: Notify,
}

impl IsrChanges {
    /// Has a partition looked at.
    pub(crate) fn look_at(&self, partition: &Arc<Partition>) {
        let key = (partition.topic_id(), partition.id().partition);
        let mut due = self.due.lock().expect("no panic while locked");
        let first = due.is_empty();
        due.insert(key, Arc::downgrade(partition));
        drop(due);
        if first {
            self.news.notify_one();
        }
    }

    fn take(&self) -> Vec<Arc<Partition>> {
        let due = std::mem::take(&mut *self.due.lock().expect("no panic while locked"));
        due.values().filter_map(Weak::upgrade).collect()
    }
}

/// How replica `id` of a partition stands, as `image` has it.
pub(crate) fn standing(image: &Image, topic: Uuid, index: i32, id: i32) -> Standing {
    let Some(broker) = image.broker(id) else { return Standing::Gone };
    let leaving = image.broker_epoch(id).is_none_or(|epoch| epoch.shutting_down);
    let state = image.topic_by_id(topic).and_then(|topic| topic.partition(index));
    let lost = state.is_some_and(|state| state.lost_its_disk(image, id));
    if leaving || lost { Standing::Leaving } else { Standing::Here(broker.broker_epoch) }
}

/// Changes the ISR wherever it has to be; ends only by being dropped.
pub(crate) async fn run(broker: Arc<Broker>) {
    let lag_max_ms = u64::try_from(broker.config().replica_lag_time_max_ms).unwrap_or(0);
    let round = (Duration::from_millis(lag_max_ms) / 2).max(AGAIN_PAUSE);
    let changes = &broker.isr_changes;
    let mut next_round = tokio::time::Instant::now() + round;
    loop {
        // Without followers there is nothing that could be late.
        let replicates = broker.image().brokers().nth(1).is_some();
        tokio::select! {
            biased;
            () = changes.news.notified() => {}
            () = tokio::time::sleep_until(next_round), if replicates => {
                next_round = tokio::time::Instant::now() + round;
                led_with_others(&broker).for_each(|partition| changes.look_at(&partition));
            }
        }
        // R5: a broker that may be taken for dead changes nothing in the tree.
        broker.fence.found_again().await;
        let due = changes.take();
        let unsettled = stream::iter(due)
            .map(|partition| settle(&broker, partition))
            .buffer_unordered(IN_FLIGHT_MAX)
            .filter(|settled| std::future::ready(!settled))
            .count()
            .await;
        if unsettled > 0 {
            tokio::time::sleep(AGAIN_PAUSE).await;
        }
    }
}

/// The partitions that this broker leads and others hold too.
pub(crate) fn led_with_others(broker: &Broker) -> impl Iterator<Item = Arc<Partition>> {
    broker.partitions.all().into_iter().filter(|partition| partition.is_led_with_others())
}

/// Writes the ISR of one partition if it should be another one. False where it has to be looked at
/// again, which is noted.
async fn settle(broker: &Arc<Broker>, partition: Arc<Partition>) -> bool {
    // It may have been lost since.
    if broker.fence.is_lost() {
        broker.isr_changes.look_at(&partition);
        return false;
    }
    let (topic, index) = (partition.topic_id(), partition.id().partition);
    let image = broker.image();
    let of = |id| standing(&image, topic, index, id);
    let Some(order) = partition.begin_isr_change(of) else { return true };
    let outcome = write(broker, &image, (topic, index), &order).await;
    partition.end_isr_change(&order, outcome);
    match outcome {
        Outcome::Written(_) => {
            info!(
                partition = %partition.id(), isr = ?order.change.isr, elr = ?order.change.elr,
                "in-sync replicas changed"
            );
            true
        }
        // The newer state is on its way, and brings the partition here again.
        Outcome::Overtaken => true,
        Outcome::Refused | Outcome::Unclear | Outcome::NotSent => {
            debug!(partition = %partition.id(), ?outcome, "in-sync replicas not changed yet");
            broker.isr_changes.look_at(&partition);
            false
        }
    }
}

async fn write(broker: &Broker, image: &Image, key: Key, order: &IsrOrder) -> Outcome {
    let Registered { tree, epoch } = broker.fence.registered();
    let IsrOrder { leader_epoch, version, change } = order;
    let leader = Member { id: broker.id, epoch };
    let expected = Expected { leader, leader_epoch: *leader_epoch, version: *version };
    let nonce = broker.env.random.u64();
    let Some(ops) = isr_change(image, key, expected, &change.isr, &change.elr, nonce) else {
        // Another image is on its way.
        return Outcome::NotSent;
    };
    match tree.multi(ops).await {
        Ok(results) => match results.first() {
            Some(OpResult::Set(stat)) => Outcome::Written(stat.version),
            _ => Outcome::Unclear,
        },
        Err(MultiError { error, index: Some(0) }) if error.is_conflict() => Outcome::Overtaken,
        Err(MultiError { error, index: Some(_) }) if error.is_conflict() => Outcome::Refused,
        Err(MultiError { error: TreeError::SessionLost, .. }) => Outcome::NotSent,
        Err(_) => Outcome::Unclear,
    }
}
