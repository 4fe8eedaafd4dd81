//! The simulated tree: the conformance suite of all homes, and histories under every nuisance at once.

mod controllers;
mod nuisances;
mod pipelining;
mod subject;

use std::sync::Arc;
use std::time::Duration;

use klamm_cluster::conformance::{CASES, Report, Subject, run_all};
use klamm_env::Clock;

use subject::Simulated;

/// Tokio's paused time.
pub(crate) struct PausedClock(tokio::time::Instant);

impl PausedClock {
    pub(crate) fn start() -> Arc<dyn Clock> {
        Arc::new(PausedClock(tokio::time::Instant::now()))
    }
}

impl Clock for PausedClock {
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn boot_time(&self) -> Duration {
        self.monotonic()
    }

    fn wall_ms(&self) -> i64 {
        0
    }
}

const SEEDS: u64 = 20;

#[tokio::test(start_paused = true)]
async fn conforms() {
    for seed in 0..SEEDS {
        let report = run_all(async || Arc::new(Simulated::new(seed)) as Arc<dyn Subject>).await;
        let Report { passed, skipped } = report;
        assert_eq!(skipped, [] as [&str; 0], "a simulation can have every fault");
        assert_eq!(passed.len(), CASES.len(), "seed {seed}");
    }
}
