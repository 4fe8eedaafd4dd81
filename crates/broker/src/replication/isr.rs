//! Changing the ISR of the partitions that this broker leads, by compare-and-set in the tree (R18):
//! several partitions in one multi, a few multis on their way at a time. Where one of several meets a
//! conflict nothing of that multi was done, and each is written alone (docs/decisions/0014).
//!
//! It looks at partitions that a fetch or the tree has given reason to, and at all of them twice in
//! `replica.lag.time.max.ms`, as a follower that stays away gives no sign. A broker without
//! followers does nothing here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{join, join_all};
use futures_util::stream;
use klamm_cluster::controller::Registered;
use klamm_cluster::isr::{Expected, IsrWrite, fitting, isr_change, together};
use klamm_cluster::tree::{MultiError, OpResult, Tree, TreeError};
use klamm_cluster::{Image, Member};
use tokio::sync::Notify;
use tracing::{debug, info};
use uuid::Uuid;

use super::{Outcome, Standing};
use crate::broker::Broker;
use crate::partition::{IsrOrder, Partition};

/// Partitions whose changes go to the tree together, if they fit into one multi.
const TOGETHER_MAX: usize = 32;
/// Multis that are on their way to the tree at a time: few, as others ask in the same session.
const IN_FLIGHT_MAX: usize = 4;
/// Logs that are opened at a time.
const OPEN_MAX: usize = 16;
/// Pause before a change whose outcome is not known, or that did not fit, is looked at again.
const AGAIN_PAUSE: Duration = Duration::from_millis(100);

type Key = (Uuid, i32);

/// The partitions whose ISR may have to change.
#[derive(Default)]
pub(crate) struct IsrChanges {
    due: Waiting,
    /// Whose logs must be open before that.
    closed: Waiting,
}

/// Partitions, each once, that wait for something to be done with them.
#[derive(Default)]
struct Waiting {
    partitions: Mutex<BTreeMap<Key, Weak<Partition>>>,
    news: Notify,
}

impl IsrChanges {
    /// Has a partition looked at.
    pub(crate) fn look_at(&self, partition: &Arc<Partition>) {
        self.due.add(partition);
    }
}

impl Waiting {
    fn add(&self, partition: &Arc<Partition>) {
        let key = (partition.topic_id(), partition.id().partition);
        let mut partitions = self.partitions.lock().expect("no panic while locked");
        let first = partitions.is_empty();
        partitions.insert(key, Arc::downgrade(partition));
        drop(partitions);
        if first {
            self.news.notify_one();
        }
    }

    fn take(&self) -> Vec<Arc<Partition>> {
        let mut partitions = self.partitions.lock().expect("no panic while locked");
        let taken = std::mem::take(&mut *partitions);
        taken.values().filter_map(Weak::upgrade).collect()
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
    join(change(&broker), open_closed(&broker)).await;
}

async fn change(broker: &Broker) {
    let lag_max_ms = u64::try_from(broker.config().replica_lag_time_max_ms).unwrap_or(0);
    let round = (Duration::from_millis(lag_max_ms) / 2).max(AGAIN_PAUSE);
    let changes = &broker.isr_changes;
    let mut next_round = tokio::time::Instant::now() + round;
    loop {
        // Without followers there is nothing that could be late.
        let replicates = broker.image().brokers().nth(1).is_some();
        tokio::select! {
            biased;
            () = changes.due.news.notified() => {}
            () = tokio::time::sleep_until(next_round), if replicates => {
                next_round = tokio::time::Instant::now() + round;
                led_with_others(broker).for_each(|partition| changes.look_at(&partition));
            }
        }
        // R5: a broker that may be taken for dead changes nothing in the tree.
        broker.fence.found_again().await;
        let due = changes.due.take();
        let due: Vec<Vec<_>> = due.chunks(TOGETHER_MAX).map(<[_]>::to_vec).collect();
        let unsettled = stream::iter(due)
            .map(|partitions| settle(broker, partitions))
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

/// Writes the ISRs of some partitions that should be others. False where one has to be looked at
/// again, which is noted.
async fn settle(broker: &Broker, partitions: Vec<Arc<Partition>>) -> bool {
    // It may have been lost since.
    if broker.fence.is_lost() {
        partitions.iter().for_each(|partition| broker.isr_changes.look_at(partition));
        return false;
    }
    let Registered { tree, epoch } = broker.fence.registered();
    let leader = Member { id: broker.id, epoch };
    let image = broker.image();
    let mut settled = true;
    let (mut begun, mut writes) = (Vec::new(), Vec::new());
    for partition in &partitions {
        let key = (partition.topic_id(), partition.id().partition);
        let of = |id| standing(&image, key.0, key.1, id);
        if partition.is_closed_without(|id| id != broker.id && is_lost(of(id))) {
            broker.isr_changes.closed.add(partition);
            continue;
        }
        let Some(order) = partition.begin_isr_change(of) else { continue };
        let IsrOrder { leader_epoch, version, ref change } = order;
        let expected = Expected { leader, leader_epoch, version };
        let nonce = broker.env.random.u64();
        match isr_change(&image, key, expected, &change.isr, &change.elr, nonce) {
            Some(write) => {
                begun.push((partition, order));
                writes.push(write);
            }
            // Another image is on its way.
            None => settled &= end(broker, partition, &order, Outcome::NotSent),
        }
    }
    let outcomes = write(&*tree, &writes).await;
    for ((partition, order), outcome) in begun.into_iter().zip(outcomes) {
        settled &= end(broker, partition, &order, outcome);
    }
    settled
}

fn is_lost(standing: Standing) -> bool {
    matches!(standing, Standing::Gone | Standing::Leaving)
}

/// Opens the logs of partitions that have lost a member of the ISR. A leader whose log was never needed
/// does not know whether it can be read, and must before it goes on without the others (hazard 14).
/// Nobody else may have a reason to open it. Apart from the changes: a slow disk holds up none of them.
async fn open_closed(broker: &Broker) {
    let changes = &broker.isr_changes;
    loop {
        changes.closed.news.notified().await;
        stream::iter(changes.closed.take())
            .for_each_concurrent(OPEN_MAX, |partition| async move {
                // Where it cannot be opened, that was said there, and the ISR stays.
                if partition.open().await.is_ok() {
                    changes.look_at(&partition);
                }
            })
            .await;
    }
}

/// Ends a change of the ISR; false where the partition has to be looked at again, which is noted.
fn end(broker: &Broker, partition: &Arc<Partition>, order: &IsrOrder, outcome: Outcome) -> bool {
    partition.end_isr_change(order, outcome);
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
            broker.isr_changes.look_at(partition);
            false
        }
    }
}

/// What became of each of `writes`.
async fn write(tree: &dyn Tree, writes: &[IsrWrite]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    while let rest @ [_, ..] = &writes[outcomes.len()..] {
        let (now, _) = rest.split_at(fitting(rest, tree.max_multi()));
        match write_together(tree, now).await {
            Some(done) => outcomes.extend(done),
            None => {
                let alone = now.chunks(1).map(|one| write_together(tree, one));
                outcomes.extend(join_all(alone).await.into_iter().flatten().flatten());
            }
        }
    }
    outcomes
}

/// Writes all of `writes` or nothing. `None` where one of several met a conflict: none is done, and
/// which of the nodes are as expected is not known.
async fn write_together(tree: &dyn Tree, writes: &[IsrWrite]) -> Option<Vec<Outcome>> {
    let all = |outcome| Some(vec![outcome; writes.len()]);
    match tree.multi(together(writes)).await {
        Ok(results) => {
            let outcome = |result: &OpResult| match result {
                OpResult::Set(stat) => Outcome::Written(stat.version),
                _ => Outcome::Unclear,
            };
            let of = |at| results.get(at).map_or(Outcome::Unclear, outcome);
            Some((0..writes.len()).map(of).collect())
        }
        Err(MultiError { error, index: Some(at) }) if error.is_conflict() => match (writes, at) {
            ([_], 0) => all(Outcome::Overtaken),
            ([_], _) => all(Outcome::Refused),
            _ => None,
        },
        Err(MultiError { error: TreeError::SessionLost, .. }) => all(Outcome::NotSent),
        Err(_) => all(Outcome::Unclear),
    }
}

#[cfg(test)]
mod tests;
