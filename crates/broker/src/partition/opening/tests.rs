use std::pin::pin;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use klamm_cluster::FlushClass;
use klamm_env::{Env, Loop, Threads};
use klamm_log::{LogConfig, LogDir, TopicPartition};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::partition::{Leadership, Role};
use crate::retention;

/// Keeps jobs until the test runs them.
#[derive(Default)]
struct Queue(Mutex<Vec<Box<dyn FnOnce() + Send>>>);

impl Queue {
    fn len(&self) -> usize {
        self.0.lock().expect("not poisoned").len()
    }

    fn run_all(&self) {
        let jobs = std::mem::take(&mut *self.0.lock().expect("not poisoned"));
        jobs.into_iter().for_each(|job| job());
    }
}

impl Threads for Queue {
    fn start_loops(&self, _: &str, _: usize) -> std::io::Result<Vec<Loop>> {
        Ok(Vec::new())
    }

    fn queue_blocking(&self, job: Box<dyn FnOnce() + Send>) {
        self.0.lock().expect("not poisoned").push(job);
    }

    fn cores(&self) -> usize {
        1
    }
}

fn partition(folder: &TempDir) -> (Arc<Partition>, Arc<Queue>) {
    let queue = Arc::new(Queue::default());
    let mut env = Env::real().expect("a runtime for blocking work");
    env.threads = Arc::clone(&queue) as Arc<dyn Threads>;
    let log_dir = LogDir::open(Arc::clone(&env.files), folder.path()).expect("taken");
    let dir = Arc::new(DataDir::new(Arc::new(log_dir)));
    let (id, config) = (TopicPartition::new("t", 0), LogConfig::default());
    (Arc::new(Partition::new(env, id, Uuid::from_u128(7), dir, config)), queue)
}

#[test]
fn an_opening_that_was_given_up_is_over_before_the_next_begins() {
    let folder = TempDir::new().expect("a folder");
    let (partition, queue) = partition(&folder);
    assert!(partition.open().now_or_never().is_none(), "its connection goes away");
    let mut again = pin!(partition.open());
    assert!(again.as_mut().now_or_never().is_none());
    assert_eq!(queue.len(), 1, "two recoveries of one log would cut what the other appended");
    queue.run_all();
    assert!(again.as_mut().now_or_never().is_none());
    queue.run_all();
    assert!(again.now_or_never().expect("no job is left").is_ok());
}

#[test]
fn a_directory_keeps_its_name_while_retention_removes_its_files() {
    let folder = TempDir::new().expect("a folder");
    let (partition, queue) = partition(&folder);
    let mut opening = pin!(partition.open());
    assert!(opening.as_mut().now_or_never().is_none());
    queue.run_all();
    assert!(opening.now_or_never().expect("no job is left").is_ok());
    let mut retention = pin!(retention::check_off_loop(&*queue, &partition, 0));
    assert!(retention.as_mut().now_or_never().is_none());
    let mut deletion = pin!(partition.delete());
    assert!(deletion.as_mut().now_or_never().is_none());
    assert_eq!(queue.len(), 1, "the next topic of that name would lose its files");
    queue.run_all();
    assert!(retention.now_or_never().is_some());
    assert!(deletion.as_mut().now_or_never().is_none());
    queue.run_all();
    assert!(deletion.now_or_never().expect("no job is left").is_ok());
}

#[test]
fn who_waits_for_a_partition_that_moves_away_looks_for_its_leader_again() {
    let folder = TempDir::new().expect("a folder");
    let (partition, queue) = partition(&folder);
    let mut opening = pin!(partition.open());
    assert!(opening.as_mut().now_or_never().is_none());
    queue.run_all();
    assert!(opening.now_or_never().expect("no job is left").is_ok());
    let leadership = Leadership { epoch: 3, flush: FlushClass::Acked, min_isr: 1, isr: 1 };
    partition.apply_state(5, Role::Leads(leadership, None), None);

    assert!(!partition.leave(4), "an older state says nothing");
    assert_eq!((partition.leader_epoch(), partition.ack_outcome(3, 1)), (Ok(3), None));
    assert!(partition.leave(5));
    let moved = ErrorCode::NotLeaderOrFollower;
    let is_told = || {
        assert_eq!(partition.leader_epoch(), Err(moved));
        assert_eq!(partition.ack_outcome(3, 1), Some(Err(moved)), "the topic is still there");
    };
    is_told();
    let mut deletion = pin!(partition.delete());
    assert!(deletion.as_mut().now_or_never().is_none());
    queue.run_all();
    assert!(deletion.now_or_never().expect("no job is left").is_ok());
    is_told();
}
