//! Event loops and blocking work.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Starts event loops and runs what would block one.
pub trait Threads: Send + Sync + 'static {
    /// Starts `count` event loops, each a single-threaded runtime on a thread of its own called
    /// `name`-N. The simulator gives one loop, the one it was called on, whatever `count` says.
    ///
    /// # Errors
    /// When a thread or runtime cannot be started.
    fn start_loops(&self, name: &str, count: usize) -> std::io::Result<Vec<Loop>>;

    /// Queues `job` for a thread that may block. Use [`run_blocking`] to have its result.
    fn queue_blocking(&self, job: Box<dyn FnOnce() + Send>);

    /// Cores this process may use; 1 in the simulator.
    fn cores(&self) -> usize;
}

/// Runs `job` on a thread that may block and returns its result.
///
/// # Panics
/// When `job` panicked or the process is shutting down.
pub async fn run_blocking<T: Send + 'static>(
    threads: &dyn Threads,
    job: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, receiver) = oneshot::channel();
    threads.queue_blocking(Box::new(move || {
        // The receiver is gone when the waiting task was cancelled; the job still ran.
        let _ = sender.send(job());
    }));
    receiver.await.expect("a blocking job panicked")
}

/// One event loop; tasks started on it stay on it. Clones mean the same loop.
#[derive(Clone, Debug)]
pub struct Loop {
    handle: Handle,
    load: Arc<AtomicUsize>,
    // Dropping the last clone ends the loop's thread.
    _stop: Option<Arc<oneshot::Sender<()>>>,
}

impl Loop {
    /// The loop that the caller runs on.
    pub fn current() -> Loop {
        Loop { handle: Handle::current(), load: Arc::default(), _stop: None }
    }

    pub(crate) fn of_thread(handle: Handle, stop: oneshot::Sender<()>) -> Loop {
        Loop { handle, load: Arc::default(), _stop: Some(Arc::new(stop)) }
    }

    /// Starts a task on this loop.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(task)
    }

    /// Connections that live here, as counted by [`Loop::enter`].
    pub fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Counts one connection until the guard is dropped.
    pub fn enter(&self) -> LoadGuard {
        self.load.fetch_add(1, Ordering::Relaxed);
        LoadGuard(Arc::clone(&self.load))
    }
}

/// Counts one connection of a [`Loop`].
#[derive(Debug)]
pub struct LoadGuard(Arc<AtomicUsize>);

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
