//! What happened in a simulation, line by line, to be compared with another run of the same seed.

use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The lines of one run. Clones write to the same trace.
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    lines: String,
    /// The time where no host is running.
    now: Duration,
}

impl Trace {
    /// Adds a line with the simulated time, to the microsecond.
    pub fn line(&self, text: impl std::fmt::Display) {
        let mut state = self.lock();
        let at = turmoil::sim_elapsed().unwrap_or(state.now);
        writeln!(state.lines, "{:>12} {text}", at.as_micros()).expect("a string takes all");
    }

    /// Sets the time of lines that no host writes.
    pub fn set_now(&self, now: Duration) {
        self.lock().now = now;
    }

    /// All lines.
    pub fn text(&self) -> String {
        self.lock().lines.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The simulated time, within a host.
pub fn elapsed() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}
