//! Event loops and blocking work.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use crate::random::Random;

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
    /// What is ready gets its turn after this; at once where there is none.
    delay: Option<Delay>,
    // Dropping the last clone ends the loop's thread.
    _stop: Option<Arc<oneshot::Sender<()>>>,
}

impl Loop {
    /// The loop that the caller runs on.
    pub fn current() -> Loop {
        Loop { handle: Handle::current(), load: Arc::default(), delay: None, _stop: None }
    }

    /// The loop that the caller runs on, in the place of one on a thread that others keep waiting:
    /// whatever is ready gets its turn after up to `max`.
    pub fn current_but_late(random: Arc<dyn Random>, max: Duration) -> Loop {
        Loop { delay: Some(Delay { random, max }), ..Loop::current() }
    }

    pub(crate) fn of_thread(handle: Handle, stop: oneshot::Sender<()>) -> Loop {
        Loop { handle, load: Arc::default(), delay: None, _stop: Some(Arc::new(stop)) }
    }

    /// Starts a task on this loop.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        match &self.delay {
            None => self.handle.spawn(task),
            Some(delay) => {
                let (task, delay) = (Box::pin(task), delay.clone());
                self.handle.spawn(Late { task, delay, turn: None })
            }
        }
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

#[derive(Clone)]
struct Delay {
    random: Arc<dyn Random>,
    max: Duration,
}

impl Delay {
    fn draw(&self) -> Duration {
        let max = u64::try_from(self.max.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.random.u64() % max.max(1))
    }
}

impl std::fmt::Debug for Delay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Delay").field(&self.max).finish()
    }
}

/// A task that gets its turn some time after it has become ready.
struct Late<F> {
    task: Pin<Box<F>>,
    delay: Delay,
    turn: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Future for Late<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Late { task, delay, turn } = &mut *self;
        let awaited = turn.get_or_insert_with(|| Box::pin(tokio::time::sleep(delay.draw())));
        ready!(awaited.as_mut().poll(cx));
        *turn = None;
        task.as_mut().poll(cx)
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
