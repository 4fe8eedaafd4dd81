//! A machine with a broker on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use klamm_broker::config::load;
use klamm_broker::{Broker, HomeFactory};
use klamm_cluster::tree::Home;
use klamm_env::{Clock, Loop};
use tokio::sync::Notify;

use super::{PORT, Scenario, machine_name};
use crate::disk::SimulatedDisk;
use crate::links::Links;
use crate::trace::Trace;
use crate::tree::SimEnsemble;
use crate::world;

/// What the process on a machine does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Process {
    /// It is on its way into the cluster.
    Starting,
    /// It serves.
    Serving,
    /// It was asked to stop.
    Stopping,
    /// It has stopped in order.
    Stopped,
    /// It has ended by itself.
    Ended(String),
    /// It was killed, or its machine has no power.
    Dead,
}

/// One machine. It outlives its processes and boots.
pub(super) struct Machine {
    pub(super) id: i32,
    pub(super) name: String,
    pub(super) ensemble: SimEnsemble,
    links: Links,
    trace: Trace,
    settings: Vec<(String, String)>,
    seed: u64,
    state: Mutex<State>,
}

struct State {
    disk: Arc<SimulatedDisk>,
    process: Process,
    starts: u64,
    stop: Arc<Notify>,
    wiped: u64,
}

impl Machine {
    pub(super) fn new(
        scenario: &Scenario,
        id: i32,
        ensemble: &SimEnsemble,
        links: &Links,
        trace: &Trace,
    ) -> Arc<Machine> {
        let seed = scenario.seed.wrapping_mul(1_000).wrapping_add(id.unsigned_abs().into());
        let state = State {
            disk: SimulatedDisk::new(seed),
            process: Process::Starting,
            starts: 0,
            stop: Arc::default(),
            wiped: 0,
        };
        Arc::new(Machine {
            id,
            name: machine_name(id),
            ensemble: ensemble.clone(),
            links: links.clone(),
            trace: trace.clone(),
            settings: settings(scenario, id),
            seed,
            state: Mutex::new(state),
        })
    }

    pub(super) fn process(&self) -> Process {
        self.lock().process.clone()
    }

    pub(super) fn disk(&self) -> Arc<SimulatedDisk> {
        Arc::clone(&self.lock().disk)
    }

    /// Asks the process to stop in order.
    pub(super) fn ask_to_stop(&self) {
        let mut state = self.lock();
        state.process = Process::Stopping;
        state.stop.notify_one();
    }

    /// Notes that the process is gone: its software was dropped before.
    pub(super) fn died(&self) {
        let mut state = self.lock();
        state.disk.kill_process();
        state.process = Process::Dead;
        self.ensemble.reconnect(&self.name);
    }

    /// Puts an empty disk in.
    pub(super) fn wipe(&self) {
        let mut state = self.lock();
        state.wiped += 1;
        state.disk = SimulatedDisk::new(self.seed.wrapping_add(state.wiped << 32));
    }

    /// One process, from its start on.
    pub(super) async fn run(self: Arc<Machine>) -> turmoil::Result {
        let (start, stop, disk) = {
            let mut state = self.lock();
            state.starts += 1;
            state.process = Process::Starting;
            state.stop = Arc::default();
            (state.starts, Arc::clone(&state.stop), Arc::clone(&state.disk))
        };
        let seed = self.seed.wrapping_mul(31).wrapping_add(start);
        let env = world::env_on(seed, disk.files(), self.links.clone());
        let homes = Homes {
            ensemble: self.ensemble.clone(),
            client: self.name.clone(),
            clock: Arc::clone(&env.clock),
        };
        self.trace.line(format_args!("{} start {start}", self.name));
        let config = load(None, &self.settings)?.config;
        match Broker::start_with(env, config, Some(Arc::new(homes))).await {
            Ok(running) => {
                self.becomes(Process::Serving);
                let ended = tokio::select! {
                    biased;
                    () = stop.notified() => None,
                    reason = running.replaced() => Some(reason),
                    reason = running.all_disks_lost() => Some(reason),
                };
                match ended {
                    None => {
                        running.stop().await;
                        self.becomes(Process::Stopped);
                    }
                    Some(reason) => self.becomes(Process::Ended(reason)),
                }
            }
            Err(error) => self.becomes(Process::Ended(error.to_string())),
        }
        // What still runs is dropped by the director.
        std::future::pending().await
    }

    fn becomes(&self, process: Process) {
        self.trace.line(format_args!("{} {process:?}", self.name));
        self.lock().process = process;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn settings(scenario: &Scenario, id: i32) -> Vec<(String, String)> {
    let name = machine_name(id);
    let replication = scenario.replication.to_string();
    let rate = scenario.throttle.map_or(i64::MAX, i64::from).to_string();
    let set = [
        ("broker.id", id.to_string()),
        ("listeners", format!("PLAINTEXT://0.0.0.0:{PORT}")),
        ("advertised.listeners", format!("PLAINTEXT://{name}:{PORT}")),
        ("zookeeper.connect", "ensemble:2181".to_owned()),
        ("log.dirs", "/data".to_owned()),
        ("flush", scenario.flush.word().to_owned()),
        (
            "offsets.storage",
            if scenario.offsets_in_tree { "zookeeper" } else { "kafka" }.to_owned(),
        ),
        ("log.segment.bytes", "1048576".to_owned()),
        ("default.replication.factor", replication.clone()),
        ("min.insync.replicas", scenario.min_in_sync().to_string()),
        ("offsets.topic.replication.factor", replication),
        ("offsets.topic.num.partitions", "2".to_owned()),
        ("group.initial.rebalance.delay.ms", "500".to_owned()),
        // Short where the defaults are for machines that are watched by people.
        ("replica.lag.time.max.ms", "4000".to_owned()),
        ("replica.fetch.wait.max.ms", "200".to_owned()),
        ("replica.socket.timeout.ms", "3000".to_owned()),
        ("log.cleaner.backoff.ms", "1000".to_owned()),
        ("leader.replication.throttled.rate", rate.clone()),
        ("follower.replication.throttled.rate", rate),
    ];
    set.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The simulated ensemble in the place of ZooKeeper.
struct Homes {
    ensemble: SimEnsemble,
    client: String,
    clock: Arc<dyn Clock>,
}

impl HomeFactory for Homes {
    fn home(&self, on: &Loop) -> Arc<dyn Home> {
        Arc::new(self.ensemble.home(&self.client, Arc::clone(&self.clock), on))
    }
}
