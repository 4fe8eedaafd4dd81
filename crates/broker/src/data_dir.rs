//! One log directory at work: which of its partitions are dirty, and what is to be checkpointed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use klamm_log::{LogDir, TopicPartition};
use tokio::sync::Notify;

use crate::partition::Partition;

/// A list of partitions that somebody is going to look at.
#[derive(Default)]
pub(crate) struct Inbox {
    partitions: Mutex<Vec<Arc<Partition>>>,
    news: Notify,
}

impl Inbox {
    /// Adds a partition; the caller sees to it that it is added once.
    pub(crate) fn push(&self, partition: Arc<Partition>) {
        let mut partitions = self.partitions.lock().expect("no panic while locked");
        partitions.push(partition);
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
        std::mem::take(&mut *self.partitions.lock().expect("no panic while locked"))
    }
}

/// A log directory and the work that its partitions have for the background.
pub(crate) struct DataDir {
    log_dir: Arc<LogDir>,
    /// Partitions with unsynced appends ([`crate::flusher`]).
    pub dirty: Inbox,
    /// Partitions whose checkpoint is due ([`crate::checkpointer`]).
    pub to_checkpoint: Inbox,
    /// Some high watermark has moved since they were stored.
    high_watermarks_moved: AtomicBool,
    /// Told when that becomes so.
    pub high_watermark_news: Notify,
    /// Owned by the topics; a partition knows its directory, so this must not own it.
    hosted: Mutex<BTreeMap<TopicPartition, Weak<Partition>>>,
    /// Partitions of deleted topics that still have their directories.
    doomed: Mutex<BTreeMap<TopicPartition, usize>>,
    /// Told when one of those has given its name up.
    name_news: Notify,
}

impl DataDir {
    /// A directory without partitions.
    pub(crate) fn new(log_dir: Arc<LogDir>) -> DataDir {
        DataDir {
            log_dir,
            dirty: Inbox::default(),
            to_checkpoint: Inbox::default(),
            high_watermarks_moved: AtomicBool::new(false),
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

    /// Removes a partition whose topic is gone, if it is this one. Its name is taken until
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
