//! Which partitions this broker follows, and the fetcher that each belongs to: one for each leader and
//! for each of `num.replica.fetchers`.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};

use klamm_cluster::image::ImageUpdate;
use klamm_env::Loop;
use tokio::task::JoinHandle;

use super::fetcher::{Fetcher, Followed};
use super::session::Key;
use crate::broker::Broker;
use crate::partition::Partition;

/// Names a fetcher: whom it asks, and which of several it is.
type Place = (i32, usize);

#[derive(Default)]
struct State {
    fetchers: BTreeMap<Place, Arc<Fetcher>>,
    /// Where each followed partition is, and in which epoch.
    places: HashMap<Key, (Place, i32)>,
    tasks: Vec<JoinHandle<()>>,
    stopped: bool,
}

/// The fetchers of a broker.
pub(crate) struct Fetchers {
    loops: Vec<Loop>,
    state: Mutex<State>,
}

impl Fetchers {
    /// None yet; they will run on `loops`, as many for each leader as there are.
    pub(crate) fn new(loops: Vec<Loop>) -> Fetchers {
        Fetchers { loops, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while locked")
    }

    /// Follows whom an applied update says, and nobody else. `gone` are partitions that are not here
    /// any more.
    pub(crate) fn follow(
        &self,
        broker: &Arc<Broker>,
        update: &ImageUpdate,
        gone: &[Arc<Partition>],
    ) {
        let changes = &update.changes;
        for partition in gone {
            self.leave(key_of(partition));
        }
        // A broker that was struck off may be let in again, without a change of the partition.
        if changes.everything || changes.brokers {
            for partition in broker.partitions.all() {
                self.place(broker, &partition);
            }
            return;
        }
        for (topic, index) in &changes.partitions {
            if let Ok(partition) = broker.partitions.leader_of_id(*topic, *index) {
                self.place(broker, &partition);
            }
        }
        for topic in &changes.topics {
            let topic = broker.partitions.topic_of_id(*topic);
            for partition in topic.iter().flat_map(|topic| topic.partitions()) {
                self.place(broker, partition);
            }
        }
    }

    fn place(&self, broker: &Arc<Broker>, partition: &Arc<Partition>) {
        let key = key_of(partition);
        let Some(following) = partition.following() else { return self.leave(key) };
        let place = (following.leader, self.shard(key));
        if self.lock().places.get(&key) == Some(&(place, following.epoch)) {
            return;
        }
        self.leave(key);
        let mut state = self.lock();
        if state.stopped {
            return;
        }
        state.places.insert(key, (place, following.epoch));
        let fetcher = match state.fetchers.get(&place) {
            Some(known) => Arc::clone(known),
            None => {
                let fetcher = Arc::new(Fetcher::new(following.leader));
                state.fetchers.insert(place, Arc::clone(&fetcher));
                let task = Arc::clone(&fetcher).run(Arc::downgrade(broker));
                state.tasks.push(self.loops[place.1].spawn(task));
                fetcher
            }
        };
        drop(state);
        fetcher.add(key, Followed::new(Arc::clone(partition), following.epoch));
    }

    fn leave(&self, key: Key) {
        let mut state = self.lock();
        if let Some((place, _)) = state.places.remove(&key)
            && let Some(fetcher) = state.fetchers.get(&place)
        {
            fetcher.remove(key);
        }
    }

    fn shard(&self, key: Key) -> usize {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let shards = u64::try_from(self.loops.len()).unwrap_or(1);
        usize::try_from(hasher.finish() % shards).unwrap_or(0)
    }

    /// Ends all of them, for good.
    pub(crate) async fn stop(&self) {
        for task in self.abort() {
            // An aborted task ends with an error by intent.
            let _ = task.await;
        }
    }
}

impl Fetchers {
    fn abort(&self) -> Vec<JoinHandle<()>> {
        let mut state = self.lock();
        state.stopped = true;
        let tasks = std::mem::take(&mut state.tasks);
        tasks.iter().for_each(JoinHandle::abort);
        tasks
    }
}

/// Ends the fetchers of a broker that is dropped without being stopped: they know the broker, and it
/// knows the loops that they run on.
pub(crate) struct EndFetchers(pub Arc<Broker>);

impl Drop for EndFetchers {
    fn drop(&mut self) {
        self.0.fetchers.abort();
    }
}

fn key_of(partition: &Partition) -> Key {
    (partition.topic_id(), partition.id().partition)
}
