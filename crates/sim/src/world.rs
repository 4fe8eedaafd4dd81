//! The simulated [`Env`] of one host.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use klamm_env::{Clock, Env, Files, Loop, Random, Threads};
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};

use crate::links::Links;
use crate::network::SimulatedNetwork;

/// Wall time at the start of a simulation: 2026-01-01T00:00:00Z, in milliseconds.
pub(crate) const WALL_START_MS: i64 = 1_767_225_600_000;

/// Longest time that a simulated blocking job (a sync, say) takes to get its thread, microseconds.
const BLOCKING_DELAY_US_MAX: u64 = 2_000;

/// The loop whose tasks wait for the disk.
const SYNC_LOOP: &str = "klamm-sync";

/// Longest time that a disk takes until it syncs: others ask and are answered meanwhile.
const SYNC_DELAY_MAX: Duration = Duration::from_millis(10);

/// The seams of one simulated host, all fed from `seed`. Make it inside the host's software, anew
/// after every crash; `files` outlives the crash.
pub fn env(seed: u64, files: Arc<dyn Files>) -> Env {
    env_on(seed, files, Links::default())
}

/// As [`env`], on a network whose ways may be cut.
pub(crate) fn env_on(seed: u64, files: Arc<dyn Files>, links: Links) -> Env {
    let random = Arc::new(SeededRandom(Mutex::new(SmallRng::seed_from_u64(seed))));
    Env {
        clock: Arc::new(SimulatedClock),
        random: Arc::clone(&random) as Arc<dyn Random>,
        files,
        network: Arc::new(SimulatedNetwork { links }),
        threads: Arc::new(SimulatedThreads { random }),
    }
}

struct SimulatedClock;

impl Clock for SimulatedClock {
    fn monotonic(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_default()
    }

    fn boot_time(&self) -> Duration {
        self.monotonic()
    }

    fn wall_ms(&self) -> i64 {
        WALL_START_MS + i64::try_from(self.monotonic().as_millis()).unwrap_or(i64::MAX)
    }
}

struct SeededRandom(Mutex<SmallRng>);

impl Random for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(buffer);
    }
}

struct SimulatedThreads {
    random: Arc<SeededRandom>,
}

impl Threads for SimulatedThreads {
    fn start_loops(&self, name: &str, _count: usize) -> std::io::Result<Vec<Loop>> {
        let random = || Arc::clone(&self.random) as Arc<dyn Random>;
        let it = match name {
            SYNC_LOOP => Loop::current_but_late(random(), SYNC_DELAY_MAX),
            _ => Loop::current(),
        };
        Ok(vec![it])
    }

    fn queue_blocking(&self, job: Box<dyn FnOnce() + Send>) {
        let delay = {
            let mut random = self.random.0.lock().unwrap_or_else(PoisonError::into_inner);
            Duration::from_micros(random.random_range(1..=BLOCKING_DELAY_US_MAX))
        };
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            job();
        });
    }

    fn cores(&self) -> usize {
        1
    }
}
