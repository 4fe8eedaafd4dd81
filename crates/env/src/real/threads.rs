//! Threads of the machine.

use std::io;
use std::num::NonZero;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::threads::{Loop, Threads};

/// Threads for blocking work at most; one more job waits for one of them.
const BLOCKING_THREADS_MAX: usize = 16;

pub(crate) struct SystemThreads {
    blocking: Option<Runtime>,
}

impl SystemThreads {
    pub(crate) fn new() -> io::Result<SystemThreads> {
        let blocking = Builder::new_current_thread()
            .thread_name("klamm-blocking")
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build()?;
        Ok(SystemThreads { blocking: Some(blocking) })
    }
}

impl Threads for SystemThreads {
    fn start_loops(&self, name: &str, count: usize) -> io::Result<Vec<Loop>> {
        (0..count).map(|n| start_loop(&format!("{name}-{n}"))).collect()
    }

    fn queue_blocking(&self, job: Box<dyn FnOnce() + Send>) {
        let runtime = self.blocking.as_ref().expect("present until dropped");
        runtime.spawn_blocking(job);
    }

    fn cores(&self) -> usize {
        std::thread::available_parallelism().map_or(1, NonZero::get)
    }
}

impl Drop for SystemThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.blocking.take() {
            // An Env may be dropped inside an event loop, where waiting is forbidden.
            runtime.shutdown_background();
        }
    }
}

fn start_loop(name: &str) -> io::Result<Loop> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Either a stop is sent or its sender is dropped; both end the loop.
        let _ = runtime.block_on(stopped);
    })?;
    Ok(Loop::of_thread(handle, stop))
}
