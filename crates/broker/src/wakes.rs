//! Waking the requests of another event loop: one wake-up of the loop, which is a system call, for
//! all that a sync or an append has done for its requests.

use std::future::poll_fn;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Poll, Waker};
use std::thread::{self, ThreadId};

use futures_util::task::AtomicWaker;

/// What is to be woken on one event loop.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    /// One for each request that waits at most; those of a connection are bounded by
    /// `max.inflight.requests.per.connection`.
    due: Mutex<Vec<Waker>>,
    bell: AtomicWaker,
    /// The bell has rung and was not heard yet.
    rung: AtomicBool,
    thread: OnceLock<ThreadId>,
}

impl Wakes {
    /// Wakes on the loop that it runs on what others add; ends only by being dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        self.thread.get_or_init(|| thread::current().id());
        poll_fn(|cx| {
            self.bell.register(cx.waker());
            // Before looking, so that whoever adds from now on rings again.
            self.rung.store(false, Ordering::SeqCst);
            let due = mem::take(&mut *self.due.lock().expect("no panic while locked"));
            due.into_iter().for_each(Waker::wake);
            Poll::<()>::Pending
        })
        .await;
    }

    /// Whether the caller runs on the loop itself, where waking costs nothing.
    pub(crate) fn is_here(&self) -> bool {
        self.thread.get() == Some(&thread::current().id())
    }

    /// Adds a task of the loop, to be woken once [`Wakes::ring`] is called.
    pub(crate) fn add(&self, waker: Waker) {
        self.due.lock().expect("no panic while locked").push(waker);
    }

    /// Has the loop wake what was added.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            self.bell.wake();
        }
    }
}
