//! What happened in a simulation, line by line, to be compared with another run of the same seed.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// The lines of one run. Clones write to the same trace.
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<Mutex<String>>);

impl Trace {
    /// Adds a line with the simulated time, to the microsecond.
    pub fn line(&self, text: impl std::fmt::Display) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(lines, "{:>12} {text}", at.as_micros()).expect("a string takes all");
    }

    /// All lines.
    pub fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
