//! The first scenario: one broker whose machine loses power again and again, a producer that notes
//! what was acknowledged, and a look at what is left after each loss and at the end.
//!
//! One topic keeps everything, another is compacted all the while. What must hold at each loss:
//!
//! - Each log is a prefix of what it was (I15): no gap, no record that was never written, no other
//!   record at an offset. It holds at least what was synced, and nothing below its recovery point is
//!   missing. A compacted log is as good as such a prefix: the newest value of each key is the same
//!   (I16).
//! - `flush=acked`: what was acknowledged is there; with an idempotent producer, once.
//! - `flush=os`: what was acknowledged was there before the loss.
//!
//! At the end a consumer reads what the disk holds.

mod client;
mod left;
mod witness;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use klamm_broker::Broker;
use klamm_broker::config::load;
use klamm_env::Env;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::disk::{Lie, SimulatedDisk};
use crate::trace::Trace;
use crate::world;
use client::publish_and_read;
use left::Logs;
use witness::Witness;

/// Changes of the disk within which the power fails, counted from the start of the broker.
const OPERATIONS_MAX: u64 = 300;
/// The power fails after this time, where the changes do not come.
const LIFE_MAX: Duration = Duration::from_secs(5);
/// Outcomes of each power loss that are looked at besides the one that the run goes on with.
const OTHER_OUTCOMES: u64 = 2;
/// A run that is not done by then hangs.
const SIMULATED_TIME_MAX: Duration = Duration::from_secs(600);
/// Simulated time per step.
const TICK: Duration = Duration::from_millis(1);

type Failure = Box<dyn std::error::Error>;

/// When an append is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// When it is on stable storage.
    Acked,
    /// When the operating system has it.
    Os,
}

impl Policy {
    /// The value of `flush`.
    pub fn word(self) -> &'static str {
        match self {
            Policy::Acked => "acked",
            Policy::Os => "os",
        }
    }
}

/// What is to be simulated.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// The broker's `flush`.
    pub policy: Policy,
    /// Times that the power fails.
    pub power_losses: u32,
    /// A disk that confirms syncs that it does not do: the run is to fail, which shows that a broker
    /// that does not sync would be found out.
    pub lie: Option<Lie>,
}

/// What a run has to show.
#[derive(Debug)]
pub struct Outcome {
    /// Records that were acknowledged.
    pub acknowledged: usize,
    /// Power losses that happened.
    pub power_losses: u32,
    /// Disks that were looked at after a power loss.
    pub states: u64,
    /// Records that a power loss has taken.
    pub lost: u64,
    /// Records that compaction had removed by the end.
    pub compacted: u64,
}

/// What the client and the losses of power tell each other.
#[derive(Default)]
struct Shared {
    witness: Witness,
    power_losses: u32,
}

impl Shared {
    fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
        shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the scenario; everything observable goes to `trace`, in order.
///
/// # Errors
/// What was lost, doubled, invented or changed; or that a chosen fault never fired, or nothing was done.
pub fn run(scenario: Scenario, trace: &Trace) -> Result<Outcome, Failure> {
    let Scenario { seed, policy, power_losses, lie } = scenario;
    let shared = Arc::new(Mutex::new(Shared::default()));
    let disk = SimulatedDisk::new(seed);
    disk.set_lie(lie);
    let mut random = SmallRng::seed_from_u64(seed);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(SIMULATED_TIME_MAX)
        .tick_duration(TICK)
        .max_message_latency(Duration::from_millis(random.random_range(1..20)))
        .build();

    let (broker_disk, starts) = (Arc::clone(&disk), Arc::new(Mutex::new(0_u64)));
    let broker_trace = trace.clone();
    sim.host("broker", move || {
        let start = {
            let mut starts = starts.lock().unwrap_or_else(PoisonError::into_inner);
            *starts += 1;
            *starts
        };
        let env = world::env(seed.wrapping_mul(31).wrapping_add(start), broker_disk.files());
        serve(env, policy, start, Arc::clone(&broker_disk), broker_trace.clone())
    });
    let client_env = world::env(seed.wrapping_add(1), SimulatedDisk::new(seed).files());
    sim.client("client", publish_and_read(client_env, scenario, trace.clone(), shared.clone()));

    let mut life = Life::begin(&disk, Duration::ZERO, &mut random);
    while !sim.step()? {
        if life.is_over(&disk, sim.elapsed()) && Shared::lock(&shared).power_losses < power_losses {
            sim.crash("broker");
            lose_power(&disk, policy, &mut random, trace, &mut Shared::lock(&shared))?;
            sim.bounce("broker");
            Shared::lock(&shared).power_losses += 1;
            life = Life::begin(&disk, sim.elapsed(), &mut random);
        }
        if Shared::lock(&shared).power_losses == power_losses {
            disk.live_on();
        }
    }
    let mut shared = Shared::lock(&shared);
    disk.kill_process();
    shared.witness.on_end(policy, &Logs::read(&disk)?)?;
    let witness = &shared.witness;
    let done = (shared.power_losses, witness.acknowledged());
    if done.0 < power_losses || done.1 < power_losses as usize {
        return Err(format!("the run did too little (losses, acknowledged): {done:?}").into());
    }
    Ok(Outcome {
        acknowledged: done.1,
        power_losses: done.0,
        states: witness.states,
        lost: witness.lost,
        compacted: witness.compacted,
    })
}

/// From one start of the machine to the next loss of power.
struct Life {
    ends: Duration,
}

impl Life {
    /// Most lives end within some work on the disk, a few between two.
    fn begin(disk: &SimulatedDisk, now: Duration, random: &mut SmallRng) -> Life {
        if random.random_range(0..4) > 0 {
            disk.die_after(random.random_range(1..OPERATIONS_MAX));
            return Life { ends: now + LIFE_MAX };
        }
        Life { ends: now + Duration::from_millis(random.random_range(200..1000)) }
    }

    fn is_over(&self, disk: &SimulatedDisk, now: Duration) -> bool {
        disk.is_dead() || now >= self.ends
    }
}

/// Compares what the power loss leaves, and some other things that it might have left, with what
/// was there.
fn lose_power(
    disk: &Arc<SimulatedDisk>,
    policy: Policy,
    random: &mut SmallRng,
    trace: &Trace,
    shared: &mut Shared,
) -> Result<(), String> {
    disk.kill_process();
    let before = Logs::read(&disk.fork(0))?;
    let synced = disk.fork(0);
    synced.lose_all_unsynced();
    let synced = Logs::read(&synced)?;
    let witness = &mut shared.witness;
    witness.on_power_loss(before, &synced)?;
    witness.check_left(policy, &synced).map_err(|why| format!("nothing unsynced left: {why}"))?;
    for _ in 0..OTHER_OUTCOMES {
        let other = disk.fork(random.random());
        other.lose_power();
        let left = Logs::read(&other)?;
        witness.check_left(policy, &left).map_err(|why| format!("another outcome: {why}"))?;
    }
    disk.lose_power();
    trace.line(format_args!("power lost, disk is {:016x}", disk.fingerprint()));
    let left = Logs::read(&disk.fork(0))?;
    witness.check_left(policy, &left)?;
    witness.go_on_with(left);
    Ok(())
}

async fn serve(
    env: Env,
    policy: Policy,
    start: u64,
    disk: Arc<SimulatedDisk>,
    trace: Trace,
) -> turmoil::Result {
    let set = [
        ("listeners", "PLAINTEXT://0.0.0.0:9092"),
        ("advertised.listeners", "PLAINTEXT://broker:9092"),
        ("log.dirs", "/data"),
        ("log.segment.bytes", "1048576"),
        ("log.cleaner.backoff.ms", "50"),
        ("log.cleaner.min.cleanable.ratio", "0.01"),
        ("flush", policy.word()),
    ];
    let set: Vec<_> = set.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let loaded = load(None, &set)?;
    match Broker::start(env, loaded.config).await {
        Ok(running) => {
            trace.line(format_args!("broker start {start} serves on {}", running.address()));
            std::future::pending::<()>().await;
            running.stop().await;
        }
        Err(error) if disk.is_dead() => {
            trace.line(format_args!("broker start {start} ends: {error}"));
            std::future::pending::<()>().await;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
