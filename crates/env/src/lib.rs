//! The outside world behind traits: clocks, randomness, files, network, threads.
//!
//! Everything in Klamm that reads a clock, draws a random number, touches a file, opens a socket or
//! starts a thread goes through an [`Env`]. [`Env::real`] is the machine; crate `sim` builds one that
//! is a simulation, in which the same seed gives the same run. Direct calls are banned by clippy
//! (`clippy.toml`).
//!
//! Deadlines and pauses use `tokio::time`, which the simulator drives as well. Hash maps of the
//! standard library may be used for look-ups; what is iterated over is a `BTreeMap` or a `Vec`, so
//! that no order depends on a random seed.

pub mod clock;
pub mod files;
pub mod network;
pub mod random;
pub mod rules;
pub mod threads;

mod real;

use std::sync::Arc;

pub use clock::Clock;
pub use files::{File, Files};
pub use network::{Network, Stream};
pub use random::Random;
pub use threads::{Loop, Threads};

/// The seams together; cheap to clone.
#[derive(Clone)]
pub struct Env {
    /// Monotonic, boot and wall time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes and ids.
    pub random: Arc<dyn Random>,
    /// The file systems.
    pub files: Arc<dyn Files>,
    /// Listening and outgoing connections.
    pub network: Arc<dyn Network>,
    /// Event loops and blocking work.
    pub threads: Arc<dyn Threads>,
}

impl Env {
    /// The machine itself.
    ///
    /// # Errors
    /// When the runtime for blocking work cannot be started.
    pub fn real() -> std::io::Result<Env> {
        let files = real::files::SystemFiles::default();
        let network = real::network::SystemNetwork::new(files.open.clone());
        Ok(Env {
            clock: Arc::new(real::clock::SystemClock::new()),
            random: Arc::new(real::random::SystemRandom),
            files: Arc::new(files),
            network: Arc::new(network),
            threads: Arc::new(real::threads::SystemThreads::new()?),
        })
    }
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Env").finish_non_exhaustive()
    }
}
