//! The cluster scenario: real brokers on simulated machines, a simulated ensemble, real clients, and
//! faults that the seed draws.
//!
//! ```text
//! topics are made -> load and faults -> everything heals -> all must be well again -> whole reads
//! ```
//!
//! What is looked at, and when:
//!
//! | when | what | by |
//! | --- | --- | --- |
//! | at each change of the tree | I1, I2, I8, I17 | `rules` |
//! | at each crash, every few seconds and at the end | I3, I4 on all disks: equal epochs mean equal records; whoever is in the ISR has what was acknowledged | `replicas` |
//! | within 30 s after the faults | I20: leaders everywhere, ISR = replicas, clients done | `run` |
//! | at the end | I9, I10, I11, I14: the history of all clients, committed offsets | `verdict` |
//!
//! A fault that was drawn and could not be inflicted fails the run: it would have tested nothing.
//! Replication factor 1 with one broker works as well; then the ISR says nothing.

mod consumers;
mod director;
mod faults;
mod load;
mod machine;
mod plan;
mod replicas;
mod rules;
mod settings;
mod shared;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::trace::Trace;
use director::Director;

pub use crate::durability::Policy;
pub use settings::Scenario;

type Failure = Box<dyn std::error::Error>;

/// What a run has to show.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Records acknowledged with acks=all.
    pub acknowledged: usize,
    /// Those that the whole reads at the end found.
    pub found: usize,
    /// Records that consumers were given while the faults lasted, and after.
    pub polled: usize,
    /// Commits of offsets that were acknowledged.
    pub commits: usize,
    /// Leaders elected.
    pub elections: usize,
    /// Controllers elected.
    pub controllers: i32,
    /// Times that all disks were looked at.
    pub looks: usize,
    /// Faults that happened, by kind.
    pub faults: BTreeMap<&'static str, u32>,
    /// From the end of the faults to a cluster that is well.
    pub healed_within: Duration,
}

/// Runs the scenario; everything observable goes to `trace`, in order.
///
/// # Errors
/// What was lost, doubled, invented or changed; an invariant that did not hold; a cluster that does
/// not recover; a fault that never happened.
pub fn run(scenario: &Scenario, trace: &Trace) -> Result<Outcome, Failure> {
    let mut director = Director::new(scenario, trace)?;
    director.run()?;
    director.judge()
}

/// The name of a broker's machine.
fn machine_name(broker: i32) -> String {
    format!("broker-{broker}")
}

/// Where clients find the brokers.
fn bootstrap(scenario: &Scenario) -> Vec<String> {
    (1..=scenario.brokers).map(|id| format!("{}:{PORT}", machine_name(id))).collect()
}

const PORT: u16 = 9092;

/// A clock that the director moves where no host is running; within a host it is the host's.
struct TrueClock(std::sync::atomic::AtomicU64);

impl TrueClock {
    fn start() -> Arc<TrueClock> {
        Arc::new(TrueClock(0.into()))
    }

    fn set(&self, now: Duration) {
        let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        self.0.store(micros, std::sync::atomic::Ordering::Relaxed);
    }
}

impl klamm_env::Clock for TrueClock {
    fn monotonic(&self) -> Duration {
        let set = || Duration::from_micros(self.0.load(std::sync::atomic::Ordering::Relaxed));
        turmoil::sim_elapsed().unwrap_or_else(set)
    }

    fn boot_time(&self) -> Duration {
        self.monotonic()
    }

    fn wall_ms(&self) -> i64 {
        crate::world::WALL_START_MS + i64::try_from(self.monotonic().as_millis()).unwrap_or(0)
    }
}
