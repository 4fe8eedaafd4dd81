//! One log directory at work: which of its partitions are dirty, and what is to be checkpointed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

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
    hosted: Mutex<BTreeMap<TopicPartition, Arc<Partition>>>,
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
        hosted.insert(partition.id().clone(), Arc::clone(partition));
    }

    /// Removes a partition, if it is this one.
    pub(crate) fn unhost(&self, partition: &Arc<Partition>) {
        let mut hosted = self.hosted.lock().expect("no panic while locked");
        if hosted.get(partition.id()).is_some_and(|known| Arc::ptr_eq(known, partition)) {
            hosted.remove(partition.id());
        }
    }

    /// The partitions that lie here, by name and number.
    pub(crate) fn partitions(&self) -> Vec<Arc<Partition>> {
        self.hosted.lock().expect("no panic while locked").values().cloned().collect()
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
