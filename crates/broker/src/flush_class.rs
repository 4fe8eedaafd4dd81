//! From `flush=os` to `flush=acked` (R18c): while a partition is *syncing*, acknowledgements wait for
//! the disk already, but what was confirmed before may be in the page cache only. Once that is
//! synced too, on every replica in sync, the leader says so and the controller makes it *acked*.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use klamm_cluster::image::ImageUpdate;
use klamm_cluster::{FlushClass, Partition as PartitionState};
use klamm_env::Loop;
use klamm_protocol::ErrorCode;
use tracing::{info, warn};
use uuid::Uuid;

use crate::broker::Broker;
use crate::forwarding::FlushSynced;
use crate::partition::Partition;
use crate::waiters::Signal;

/// Longest wait for the followers; the next change of the partition tries again.
const FOLLOWERS_MAX: Duration = Duration::from_secs(60);
/// Longest wait for the controller, until it is looked again whether it is still true.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause before it is said again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Looks after the partitions that this broker leads and that an applied update shows as syncing.
pub(crate) fn follow(broker: &Arc<Broker>, update: &ImageUpdate, background: &Loop) {
    let start = |topic: Uuid, index: i32| {
        background.spawn(confirm(Arc::clone(broker), topic, index));
    };
    if update.changes.everything {
        for topic in update.image.topics() {
            let syncing = topic.partitions().filter(|state| is_due(broker, state));
            syncing.for_each(|state| start(topic.id, state.index));
        }
        return;
    }
    for (id, index) in &update.changes.partitions {
        let topic = update.image.topic_by_id(*id);
        if let Some(state) = topic.and_then(|topic| topic.partition(*index))
            && is_due(broker, &state)
        {
            start(*id, *index);
        }
    }
}

/// Who is eligible without being in sync says nothing about its disk: it has to be in sync first.
fn is_due(broker: &Broker, state: &PartitionState<'_>) -> bool {
    let syncing = state.flush == FlushClass::Syncing && state.leader == Some(broker.id);
    syncing && state.elr.is_empty()
}

async fn confirm(broker: Arc<Broker>, topic: Uuid, index: i32) {
    let Ok(partition) = broker.partitions.leader_of_id(topic, index) else { return };
    // Another epoch brings another update.
    let Ok(epoch) = partition.leader_epoch() else { return };
    if partition.open().await.is_err() || !sync(&broker, &partition, epoch).await {
        warn!(partition = %partition.id(), "it stays syncing: not all of it is on the disk");
        return;
    }
    let question = FlushSynced { topic, index, leader_epoch: epoch };
    loop {
        match broker.controller.ask_one(question, PATIENCE).await {
            Ok(()) => return info!(partition = %partition.id(), "flush=acked holds"),
            // Nobody decides at the moment: it is to be said again, as long as it is true.
            Err(refusal)
                if matches!(
                    refusal.code,
                    ErrorCode::NotController | ErrorCode::RequestTimedOut
                ) && partition.leader_epoch() == Ok(epoch) =>
            {
                warn!(partition = %partition.id(), "it stays syncing until it is known: {refusal}");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            Err(refusal) => {
                return warn!(partition = %partition.id(), "it stays syncing: {refusal}");
            }
        }
    }
}

/// Makes everything durable that was there when this began, and waits until all replicas in sync have
/// done so: what they ask for says it. Whether they have.
async fn sync(broker: &Broker, partition: &Arc<Partition>, leader_epoch: i32) -> bool {
    let Some(end) = partition.with_log(|log| log.log_end_offset()) else { return false };
    let job = Arc::clone(partition);
    partition.dir().run_job(&*broker.env.threads, move |_| job.checkpoint()).await;
    if partition.with_log(|log| log.synced_end_offset()).is_none_or(|synced| synced < end) {
        return false;
    }
    let signal = Arc::new(Signal::default());
    // No high watermark comes as far as this: woken by what followers say, and by a change of the ISR
    // or the epoch.
    let key = partition.waiters().add(i64::MAX, &signal);
    let mut over = pin!(tokio::time::sleep(FOLLOWERS_MAX));
    let synced = loop {
        match partition.is_synced_by_all(leader_epoch, end) {
            Some(false) => {}
            decided => break decided.is_some(),
        }
        if let Either::Right(_) = select(pin!(signal.fired()), &mut over).await {
            break false;
        }
    };
    partition.waiters().remove(key);
    synced
}
