//! The run: it lets time pass, inflicts faults and looks at everything.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::faults::Inflicted;
use super::load::Client;
use super::machine::{Machine, Process};
use super::plan::{self, Planned};
use super::replicas::Replicas;
use super::rules::Rules;
use super::shared::{Phase, Shared};
use super::{Failure, Outcome, Scenario, TrueClock, consumers, load, verdict};
use crate::disk::SimulatedDisk;
use crate::links::Links;
use crate::trace::Trace;
use crate::tree::{Manners, SimEnsemble};
use crate::world;

/// Simulated time per step.
const TICK: Duration = Duration::from_millis(1);
/// Steps between two looks at whether all is well.
const STEPS_PER_LOOK: u64 = 20;
/// A cluster without faults is ready by then.
const SETUP_MAX: Duration = Duration::from_secs(60);
/// Time between two looks at the disks.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Faults that wait for their moment are inflicted by then, counted from the end of the unrest.
const POSTPONED_MAX: Duration = Duration::from_secs(60);
/// A supervisor starts a process that has ended by itself after this time.
const SUPERVISOR_PAUSE: Duration = Duration::from_secs(1);
/// Connections and requests of clients that wait on one socket.
const TCP_CAPACITY: usize = 4096;
/// A run that is not done by then hangs.
const SIMULATED_TIME_MAX: Duration = Duration::from_secs(3600);

pub(super) struct Director {
    pub(super) sim: turmoil::Sim<'static>,
    pub(super) scenario: Arc<Scenario>,
    pub(super) machines: Vec<Arc<Machine>>,
    pub(super) ensemble: SimEnsemble,
    pub(super) links: Links,
    /// Of all hosts.
    pub(super) addresses: BTreeMap<String, IpAddr>,
    pub(super) random: SmallRng,
    pub(super) trace: Trace,
    pub(super) rules: Rules,
    pub(super) replicas: Replicas,
    pub(super) inflicted: Inflicted,
    clock: Arc<TrueClock>,
    shared: Shared,
    plan: Vec<Planned>,
    steps: u64,
    looked_at: Duration,
    healed_within: Duration,
}

impl Director {
    pub(super) fn new(scenario: &Scenario, trace: &Trace) -> Result<Director, Failure> {
        let mut random = SmallRng::seed_from_u64(scenario.seed);
        let latency_max = Duration::from_millis(random.random_range(1..20));
        let mut sim = turmoil::Builder::new()
            .rng_seed(scenario.seed)
            .simulation_duration(SIMULATED_TIME_MAX)
            .tick_duration(TICK)
            .tcp_capacity(TCP_CAPACITY)
            .max_message_latency(latency_max)
            .build();
        let clock = TrueClock::start();
        let manners = draw_manners(&mut random);
        let ensemble = SimEnsemble::new(scenario.seed, manners, Arc::clone(&clock) as _);
        ensemble.observe();
        let links = Links::default();
        let machines: Vec<_> = (1..=scenario.brokers)
            .map(|id| Machine::new(scenario, id, &ensemble, &links, trace))
            .collect();
        for machine in &machines {
            let host = Arc::clone(machine);
            sim.host(machine.name.clone(), move || Arc::clone(&host).run());
        }
        let shared = Shared::default();
        let scenario = Arc::new(scenario.clone());
        let mut names: Vec<_> = machines.iter().map(|machine| machine.name.clone()).collect();
        names.extend(add_clients(&mut sim, &scenario, &links, &shared, trace));
        let addresses = names.into_iter().map(|name| (name.clone(), sim.lookup(name))).collect();
        let plan = plan::draw(&scenario, &mut random);
        trace.line(format_args!("{scenario:?}, latency {latency_max:?}, {manners:?}"));
        plan.iter().for_each(|planned| trace.line(format_args!("{planned:?}")));
        Ok(Director {
            sim,
            scenario,
            machines,
            ensemble,
            links,
            addresses,
            random,
            trace: trace.clone(),
            rules: Rules::default(),
            replicas: Replicas::default(),
            inflicted: Inflicted::new(latency_max),
            clock,
            shared,
            plan,
            steps: 0,
            looked_at: Duration::ZERO,
            healed_within: Duration::ZERO,
        })
    }

    /// Runs to the end.
    pub(super) fn run(&mut self) -> Result<(), Failure> {
        self.until("the topic is made", SETUP_MAX, |it| {
            it.shared.lock().topics_made
                && it.machines.iter().all(|m| m.process() == Process::Serving)
        })?;
        self.enter(Phase::Unrest);
        self.unrest()?;
        self.heal()?;
        self.enter(Phase::Healed);
        let since = self.now();
        self.until("all is well", self.scenario.recovery_max, |it| it.unwell().is_none())?;
        self.healed_within = self.now() - since;
        self.enter(Phase::Reading);
        while !self.step()? {
            if self.now() - since > self.scenario.recovery_max * 2 {
                return Err(self.dissatisfied("clients are done").into());
            }
        }
        Ok(())
    }

    pub(super) fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    fn enter(&mut self, phase: Phase) {
        self.trace.line(format_args!("{phase:?}"));
        self.shared.lock().phase = phase;
    }

    /// One tick of everything; whether all clients are done.
    fn step(&mut self) -> Result<bool, Failure> {
        let done = self.sim.step()?;
        self.steps += 1;
        let now = self.now();
        self.clock.set(now);
        self.trace.set_now(now);
        for tree in self.ensemble.observe() {
            self.rules.on_change(&tree, &self.trace)?;
        }
        self.restart_due()?;
        if now - self.looked_at >= LOOK_EVERY {
            self.look()?;
        }
        match self.shared.lock().faults_seen.first() {
            Some(seen) => Err(seen.clone().into()),
            None => Ok(done),
        }
    }

    fn until(
        &mut self,
        what: &str,
        at_most: Duration,
        mut is_so: impl FnMut(&mut Director) -> bool,
    ) -> Result<(), Failure> {
        let deadline = self.now() + at_most;
        loop {
            self.step()?;
            if self.steps.is_multiple_of(STEPS_PER_LOOK) && is_so(self) {
                return Ok(());
            }
            if self.now() >= deadline {
                return Err(self.dissatisfied(what).into());
            }
        }
    }

    fn dissatisfied(&mut self, what: &str) -> String {
        let unwell = self.unwell().unwrap_or_else(|| "all is well otherwise".to_owned());
        format!("I20: not in time: {what}; {unwell}")
    }

    /// Load and faults.
    fn unrest(&mut self) -> Result<(), Failure> {
        let since = self.now();
        let mut plan = std::mem::take(&mut self.plan);
        loop {
            self.step()?;
            self.inflict_due()?;
            let passed = self.now() - since;
            for planned in std::mem::take(&mut plan) {
                if planned.at > passed || !self.inflict(planned.fault, planned.lasts)? {
                    plan.push(planned);
                }
            }
            if passed >= self.scenario.unrest && plan.is_empty() && !self.inflicted.is_pending() {
                return Ok(());
            }
            if passed >= self.scenario.unrest + POSTPONED_MAX {
                let left_out = u32::try_from(plan.len()).unwrap_or(u32::MAX);
                if left_out > 0 {
                    self.trace.line(format_args!("nobody could be met by {plan:?}"));
                    self.inflicted.counts.insert("left out", left_out);
                }
                return Ok(());
            }
        }
    }

    /// Why the cluster is not as it has to be; `None` if it is.
    pub(super) fn unwell(&self) -> Option<String> {
        for machine in &self.machines {
            let process = machine.process();
            if process != Process::Serving {
                return Some(format!("{} is {process:?}", machine.name));
            }
        }
        let listed = match self.rules.listed() {
            Ok(listed) => listed,
            Err(why) => return Some(why),
        };
        for partition in &listed {
            let name = format!("{}-{}", partition.topic, partition.partition);
            if partition.node.leader.is_none() {
                return Some(format!("{name} has no leader: {:?}", partition.node));
            }
            let settled = self.rules.is_up_to_date(&partition.node);
            if !partition.is_whole() || !partition.node.elr.is_empty() || !settled {
                let replicas = &partition.replicas;
                return Some(format!("{name} of {replicas:?} is {:?}", partition.node));
            }
        }
        let notes = self.shared.lock();
        let (done, all) = (notes.producers_done, self.scenario.producers);
        (notes.phase >= Phase::Healed && done < all)
            .then(|| format!("{done} of {all} producers have all answers"))
    }

    /// Looks at all disks.
    pub(super) fn look(&mut self) -> Result<(), Failure> {
        self.looked_at = self.now();
        let acknowledged = self.shared.lock().acknowledged.clone();
        self.replicas.look(&self.machines, &self.rules, &acknowledged)?;
        Ok(())
    }

    /// A process that has ended by itself is started again.
    fn restart_due(&mut self) -> Result<(), Failure> {
        for machine in self.machines.clone() {
            match machine.process() {
                Process::Ended(_) => {
                    self.kill(&machine);
                    let at = self.now() + SUPERVISOR_PAUSE;
                    self.inflicted.starts.insert(machine.id, at);
                    *self.inflicted.counts.entry("ended by itself").or_default() += 1;
                }
                Process::Stopped | Process::Dead => {
                    let at = self.inflicted.starts.get(&machine.id);
                    if at.is_some_and(|at| *at <= self.now()) {
                        self.boot(&machine);
                    }
                }
                Process::Starting | Process::Serving | Process::Stopping => {}
            }
        }
        Ok(())
    }

    /// The end: histories and disks.
    pub(super) fn judge(mut self) -> Result<Outcome, Failure> {
        self.look()?;
        let notes = std::mem::take(&mut *self.shared.lock());
        let ends = notes.ends.clone();
        self.replicas.check_end(&self.machines, &self.rules, &ends)?;
        let mut outcome = verdict::judge(notes)?;
        for machine in &self.machines {
            let (name, print) = (&machine.name, machine.disk().fingerprint());
            self.trace.line(format_args!("the disk of {name} is {print:016x}"));
        }
        outcome.elections = self.rules.elections;
        outcome.controllers = self.rules.controller_epoch();
        outcome.looks = self.replicas.looks;
        outcome.faults = std::mem::take(&mut self.inflicted.counts);
        outcome.healed_within = self.healed_within;
        Ok(outcome)
    }
}

fn draw_manners(random: &mut SmallRng) -> Manners {
    let good = Manners { session_timeout: Duration::from_secs(6), ..Manners::GOOD };
    match random.random_range(0..4) {
        0 => good,
        // Worse than an image of the whole tree could ever be read over.
        1 => Manners { lost_replies: 0.02, breaks: 0.005, ..Manners::BAD },
        _ => Manners {
            delay_max: Duration::from_millis(random.random_range(2..30)),
            lag_max: Duration::from_millis(random.random_range(5..200)),
            lost_replies: 0.01,
            breaks: 0.002,
            coalesced: 0.3,
            ..good
        },
    }
}

/// Registers the clients; answers their names.
fn add_clients(
    sim: &mut turmoil::Sim<'static>,
    scenario: &Arc<Scenario>,
    links: &Links,
    shared: &Shared,
    trace: &Trace,
) -> Vec<String> {
    let mut names = Vec::new();
    let mut client = |name: String| {
        names.push(name.clone());
        let seed = scenario.seed.wrapping_mul(1_009).wrapping_add(names.len() as u64);
        let files = SimulatedDisk::new(seed).files();
        Client {
            name,
            env: world::env_on(seed, files, links.clone()),
            scenario: Arc::clone(scenario),
            shared: shared.clone(),
            trace: trace.clone(),
        }
    };
    let admin = client("admin".to_owned());
    sim.client("admin", load::create_topic(admin));
    let operator = client("operator".to_owned());
    sim.client("operator", load::turn_acked(operator));
    for number in 0..scenario.producers {
        let name = format!("producer-{number}");
        sim.client(name.clone(), load::produce(client(name), number));
    }
    let follower = client("follower".to_owned());
    sim.client("follower", consumers::follow(follower, 0));
    for number in 1..=scenario.members {
        let name = format!("member-{number}");
        sim.client(name.clone(), consumers::join(client(name), number));
    }
    let reader = client("reader".to_owned());
    sim.client("reader", consumers::read_all(reader));
    names
}
