//! What follows the first I/O error of a log directory (R23): whoever waits on one of its partitions
//! is told, and the broker resigns their leadership through the controller. It looks at what is, so
//! that a refused or lost request, a new registration or a new controller changes nothing. With its
//! last directory the broker is of no use, and ends.

use std::sync::Arc;
use std::time::Duration;

use klamm_cluster::{Image, Member};
use tokio::sync::watch;
use tracing::{info, warn};
use uuid::Uuid;

use crate::broker::Broker;
use crate::data_dir::DataDir;
use crate::forwarding::TakeOffline;

/// Partitions in one request: others may ask the controller in between.
const RESIGNATIONS_MAX: usize = 1000;
/// Longest wait for the controller, until it is looked again what is due.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause after a refusal.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Tells when a log directory goes offline.
pub(crate) struct OfflineDirs {
    /// Grows with each of them.
    count: Arc<watch::Sender<usize>>,
}

impl OfflineDirs {
    /// Listens to these directories.
    pub(crate) fn of(dirs: &[Arc<DataDir>]) -> OfflineDirs {
        let count = Arc::new(watch::Sender::new(0));
        for dir in dirs {
            let count = Arc::clone(&count);
            // Called under the lock of a log: nothing is looked at here.
            dir.log_dir().on_offline(move || count.send_modify(|count| *count += 1));
        }
        OfflineDirs { count }
    }

    fn news(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }
}

/// Waits until every log directory is offline; answers why the last one is, for people.
pub(crate) async fn all_lost(broker: &Broker) -> String {
    let mut news = broker.offline_dirs.news();
    loop {
        let dirs = broker.partitions.dirs();
        let reasons: Vec<_> = dirs.iter().filter_map(|dir| dir.log_dir().offline()).collect();
        if reasons.len() == dirs.len() {
            let last = reasons.last().map_or(String::new(), |offline| offline.reason.to_string());
            return format!("every log directory is offline: {last}");
        }
        news.changed().await.expect("the broker has the sender");
    }
}

/// Looks after the directories that go offline; ends only by being dropped.
pub(crate) async fn run(broker: Arc<Broker>) {
    let mut news = broker.offline_dirs.news();
    let mut known = 0;
    loop {
        let offline = offline(&broker);
        if offline.len() > known {
            known = offline.len();
            offline.iter().for_each(|dir| dir.wake_all());
        }
        let due = due(&broker, &offline, &broker.image());
        if !due.is_empty() {
            // However long that takes, with the next directory it begins anew.
            tokio::select! {
                biased;
                changed = news.changed() => changed.expect("the broker has the sender"),
                () = resign(&broker, due) => {}
            }
            continue;
        }
        tokio::select! {
            biased;
            changed = news.changed() => changed.expect("the broker has the sender"),
            _ = broker.partitions.wait_for(|image| !self::due(&broker, &offline, image).is_empty()),
                if !offline.is_empty() => {}
        }
    }
}

fn offline(broker: &Broker) -> Vec<Arc<DataDir>> {
    let dirs = broker.partitions.dirs().iter();
    dirs.filter(|dir| dir.log_dir().offline().is_some()).cloned().collect()
}

/// This broker in its current registration.
fn me(broker: &Broker, image: &Image) -> Option<Member> {
    let registered = image.broker(broker.id)?;
    Some(Member { id: broker.id, epoch: registered.broker_epoch })
}

/// Replicas in these directories that the tree does not show as offline, one request's worth.
fn due(broker: &Broker, dirs: &[Arc<DataDir>], image: &Image) -> Vec<(Uuid, i32)> {
    let Some(me) = me(broker, image) else { return Vec::new() };
    let hosted = dirs.iter().flat_map(|dir| dir.partitions());
    let is_due = |id: &(Uuid, i32)| {
        let state = image.topic_by_id(id.0).and_then(|topic| topic.partition(id.1));
        state.is_some_and(|state| {
            state.replicas().contains(&me.id) && !state.lost_its_disk(image, me.id)
        })
    };
    let ids = hosted.map(|partition| (partition.topic_id(), partition.id().partition));
    ids.filter(is_due).take(RESIGNATIONS_MAX).collect()
}

async fn resign(broker: &Broker, due: Vec<(Uuid, i32)>) {
    let Some(me) = me(broker, &broker.image()) else { return };
    let question = TakeOffline { member: me, partitions: due.clone() };
    let outcomes = broker.controller.ask(question, PATIENCE).await;
    let refused = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    let (count, last) = refused.fold((0, None), |(count, _), refusal| (count + 1, Some(refusal)));
    match last {
        None => {
            info!(partitions = due.len(), "resigned: their log directory is offline");
            // Until then the same would be due again.
            let listed =
                |image: &Image| self::me(broker, image) != Some(me) || shows(image, me, &due);
            broker.partitions.wait_for(listed).await;
        }
        Some(refusal) => {
            warn!(
                partitions = count,
                "not resigned, though their log directory is offline: {refusal}"
            );
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

/// Whether an image shows that these replicas are offline, or that they are gone.
fn shows(image: &Image, me: Member, replicas: &[(Uuid, i32)]) -> bool {
    replicas.iter().all(|(topic, index)| {
        let state = image.topic_by_id(*topic).and_then(|topic| topic.partition(*index));
        state.is_none_or(|state| state.lost_its_disk(image, me.id))
    })
}
