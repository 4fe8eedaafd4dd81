//! One log directory at work: which of its partitions are dirty, and what is to be checkpointed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use klamm_env::Threads;
use klamm_env::threads::run_blocking;
use klamm_log::{LogDir, TopicPartition};
use tokio::sync::{Notify, Semaphore};

use crate::partition::Partition;

/// Jobs that work on a directory at a time.
const JOBS_MAX: u32 = 16;

/// A list of partitions that somebody is going to look at. It does not keep them: a partition that
/// has gone in the meantime needs nothing any more.
#[derive(Default)]
pub(crate) struct Inbox {
    partitions: Mutex<Vec<Weak<Partition>>>,
    news: Notify,
}

impl Inbox {
    /// Adds a partition; the caller sees to it that it is added once.
    pub(crate) fn push(&self, partition: &Arc<Partition>) {
        let mut partitions = self.partitions.lock().expect("no panic while locked");
        partitions.push(Arc::downgrade(partition));
        let first = partitions.len() == 1;
        drop(partitions);
        if first {
            self.news.notify_one();
        }
    }

    /// Waits until there is something, and takes all.
    pub(crate) async fn take(&self) -> Vec<Arc<Partition>> {
        loop {
            let taken = self.take_now();
            if !taken.is_empty() {
                return taken;
            }
            self.news.notified().await;
        }
    }

    /// Takes all there is.
    pub(crate) fn take_now(&self) -> Vec<Arc<Partition>> {
        let taken = std::mem::take(&mut *self.partitions.lock().expect("no panic while locked"));
        taken.iter().filter_map(Weak::upgrade).collect()
    }
}

/// A log directory and the work that its partitions have for the background.
pub(crate) struct DataDir {
    log_dir: Arc<LogDir>,
    /// Whose logs were here at the start.
    found: BTreeSet<TopicPartition>,
    /// Partitions with unsynced appends ([`crate::flusher`]).
    pub dirty: Inbox,
    /// Partitions that are to be synced some time after an append ([`crate::flusher`]).
    pub to_sync_later: Inbox,
    /// Partitions whose checkpoint is due ([`crate::checkpointer`]).
    pub to_checkpoint: Inbox,
    /// Some high watermark has moved since they were stored.
    high_watermarks_moved: AtomicBool,
    /// One permit for each job that works on the directory off the loops.
    jobs: Arc<Semaphore>,
    /// Told when that becomes so.
    pub high_watermark_news: Notify,
    /// Owned by the topics; a partition knows its directory, so this must not own it.
    hosted: Mutex<BTreeMap<TopicPartition, Weak<Partition>>>,
    /// Partitions that are to go, and still have their directories.
    doomed: Mutex<BTreeMap<TopicPartition, usize>>,
    /// Told when one of those has given its name up.
    name_news: Notify,
}

impl DataDir {
    /// A directory without partitions.
    pub(crate) fn new(log_dir: Arc<LogDir>) -> DataDir {
        DataDir {
            found: log_dir.partitions().iter().cloned().collect(),
            log_dir,
            dirty: Inbox::default(),
            to_sync_later: Inbox::default(),
            to_checkpoint: Inbox::default(),
            high_watermarks_moved: AtomicBool::new(false),
            jobs: Arc::new(Semaphore::new(JOBS_MAX as usize)),
            high_watermark_news: Notify::new(),
            hosted: Mutex::default(),
            doomed: Mutex::default(),
            name_news: Notify::new(),
        }
    }

    /// The directory itself.
    pub(crate) fn log_dir(&self) -> &Arc<LogDir> {
        &self.log_dir
    }

    /// Runs `job` on a thread that may block. It goes on when this future is dropped, and
    /// [`DataDir::quiet`] waits for it all the same.
    pub(crate) async fn run_job<T: Send + 'static>(
        self: &Arc<Self>,
        threads: &dyn Threads,
        job: impl FnOnce(&DataDir) -> T + Send + 'static,
    ) -> T {
        let permit = Arc::clone(&self.jobs).acquire_owned().await.expect("nobody closes it");
        let dir = Arc::clone(self);
        let run = move || {
            let result = job(&dir);
            drop(dir);
            drop(permit);
            result
        };
        run_blocking(threads, run).await
    }

    /// Waits until no job works on the directory, and lets none begin from now on.
    pub(crate) async fn quiet(&self) {
        let all = self.jobs.acquire_many(JOBS_MAX).await.expect("nobody closes it");
        all.forget();
    }

    /// Whether the log of a partition was here at the start.
    pub(crate) fn has_found(&self, id: &TopicPartition) -> bool {
        self.found.contains(id)
    }

    /// Notes that some high watermark has moved.
    pub(crate) fn note_high_watermark(&self) {
        if !self.high_watermarks_moved.swap(true, Ordering::AcqRel) {
            self.high_watermark_news.notify_one();
        }
    }

    /// Whether some high watermark has moved since the last call.
    pub(crate) fn take_high_watermark_news(&self) -> bool {
        self.high_watermarks_moved.swap(false, Ordering::AcqRel)
    }

    /// Adds a partition that lies here.
    pub(crate) fn host(&self, partition: &Arc<Partition>) {
        let mut hosted = self.hosted.lock().expect("no panic while locked");
        hosted.insert(partition.id().clone(), Arc::downgrade(partition));
    }

    /// Removes a partition that is not to be here any more, if it is this one. Its name is taken until
    /// [`DataDir::give_up_name`].
    pub(crate) fn unhost(&self, partition: &Arc<Partition>) {
        let mut hosted = self.hosted.lock().expect("no panic while locked");
        if hosted.get(partition.id()).is_some_and(|known| known.as_ptr() == Arc::as_ptr(partition))
        {
            hosted.remove(partition.id());
        }
        let mut doomed = self.doomed.lock().expect("no panic while locked");
        *doomed.entry(partition.id().clone()).or_default() += 1;
    }

    /// The directory of a deleted partition has another name by now, or will never get one.
    pub(crate) fn give_up_name(&self, id: &TopicPartition) {
        let mut doomed = self.doomed.lock().expect("no panic while locked");
        if let Some(count) = doomed.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                doomed.remove(id);
            }
        }
        drop(doomed);
        self.name_news.notify_waiters();
    }

    /// Waits until no deleted partition of that name has its directory any more.
    pub(crate) async fn wait_for_name(&self, id: &TopicPartition) {
        loop {
            let news = self.name_news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if !self.doomed.lock().expect("no panic while locked").contains_key(id) {
                return;
            }
            news.await;
        }
    }

    /// Whether a partition of that name is to go, and still has its directory here.
    pub(crate) fn dooms_name(&self, id: &TopicPartition) -> bool {
        self.doomed.lock().expect("no panic while locked").contains_key(id)
    }

    /// Whether a partition of that name lies here.
    pub(crate) fn hosts_name(&self, id: &TopicPartition) -> bool {
        self.hosted.lock().expect("no panic while locked").contains_key(id)
    }

    /// Whether this is the partition that has its name here.
    pub(crate) fn hosts(&self, partition: &Partition) -> bool {
        let hosted = self.hosted.lock().expect("no panic while locked");
        let known = hosted.get(partition.id());
        known.is_some_and(|known| std::ptr::eq(known.as_ptr(), partition))
    }

    /// The partitions that lie here, by name and number.
    pub(crate) fn partitions(&self) -> Vec<Arc<Partition>> {
        let hosted = self.hosted.lock().expect("no panic while locked");
        hosted.values().filter_map(Weak::upgrade).collect()
    }

    /// Number of partitions that lie here.
    pub(crate) fn partition_count(&self) -> usize {
        self.hosted.lock().expect("no panic while locked").len()
    }

    /// The directory went offline: whoever waits on one of its partitions is told.
    pub(crate) fn wake_all(&self) {
        self.partitions().iter().for_each(|partition| partition.wake_all());
    }
}
