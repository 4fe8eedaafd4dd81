//! How faults are inflicted and healed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use klamm_cluster::Member;
use rand::Rng;

use super::director::Director;
use super::machine::{Machine, Process};
use super::plan::Fault;
use super::rules::Listed;
use super::{Failure, machine_name};

/// Changes of a disk within which its power fails.
const OPERATIONS_MAX: u64 = 200;
/// The power fails after this time, where the changes do not come.
const DYING_MAX: Duration = Duration::from_secs(2);
/// Latency of a slow network.
const SLOW_LATENCY_MAX: Duration = Duration::from_millis(400);

/// What is broken at the moment.
pub(super) struct Inflicted {
    /// Faults by kind.
    pub(super) counts: BTreeMap<&'static str, u32>,
    /// When machines are switched on again, or processes started.
    pub(super) starts: BTreeMap<i32, Duration>,
    /// What ends by itself, and when.
    lasting: Vec<(Duration, Lasting)>,
    dying: Option<Dying>,
    /// Machines without power: their ways are cut.
    dark: Vec<i32>,
    latency_max: Duration,
}

/// A fault that takes something back at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lasting {
    Ways(Vec<(IpAddr, IpAddr)>),
    Client(String),
    Quorum,
    Server(usize),
    Latency,
}

/// A machine whose power is about to fail.
struct Dying {
    broker: i32,
    at: Duration,
    lasts: Duration,
}

impl Inflicted {
    pub(super) fn new(latency_max: Duration) -> Inflicted {
        Inflicted {
            counts: BTreeMap::new(),
            starts: BTreeMap::new(),
            lasting: Vec::new(),
            dying: None,
            dark: Vec::new(),
            latency_max,
        }
    }

    /// Whether a fault was begun that has not happened yet.
    pub(super) fn is_pending(&self) -> bool {
        self.dying.is_some()
    }

    fn has(&self, lasting: &Lasting) -> bool {
        self.lasting.iter().any(|(_, other)| other == lasting)
    }
}

impl Director {
    /// Inflicts a fault; `false` where there is nobody whom it could meet now.
    pub(super) fn inflict(&mut self, fault: Fault, lasts: Duration) -> Result<bool, Failure> {
        let done = match fault {
            Fault::Kill => match self.victim() {
                Some(victim) => {
                    self.crash(&[victim], lasts)?;
                    true
                }
                None => false,
            },
            Fault::KillAll => {
                let all = self.running();
                let any = !all.is_empty();
                if any {
                    self.crash(&all, lasts)?;
                }
                any
            }
            Fault::PowerLoss => self.doom(lasts)?,
            Fault::PowerLossAll => {
                let is_durable = self.listed()?.iter().all(Listed::is_durable);
                if is_durable {
                    self.lose_all_power(lasts)?;
                }
                is_durable
            }
            Fault::Wipe => self.wipe(lasts)?,
            Fault::Stop => self.stop(lasts),
            Fault::Cut => self.cut(lasts, true),
            Fault::CutOneWay => self.cut(lasts, false),
            Fault::Isolate => self.isolate(lasts),
            Fault::EnsembleBlink | Fault::EnsembleCut => self.cut_from_ensemble(lasts),
            Fault::EnsembleDown => self.last(lasts, Lasting::Quorum),
            Fault::EnsembleLag => {
                let server = self.random.random_range(0..3);
                self.last(lasts, Lasting::Server(server))
            }
            Fault::EnsembleMove | Fault::EnsembleReply => self.disturb_session(fault),
            Fault::Slow => self.last(lasts, Lasting::Latency),
        };
        if done {
            self.trace.line(format_args!("fault {fault:?} for {lasts:?}"));
            *self.inflicted.counts.entry(fault.word()).or_default() += 1;
        }
        Ok(done)
    }

    /// Ends what has lasted long enough, and lets the power fail where it is time.
    pub(super) fn inflict_due(&mut self) -> Result<(), Failure> {
        let now = self.now();
        if let Some(Dying { broker, at, lasts }) = self.inflicted.dying.take() {
            let machine = self.machine(broker);
            if machine.disk().is_dead() || at <= now {
                self.lose_power(&[machine], lasts)?;
            } else {
                self.inflicted.dying = Some(Dying { broker, at, lasts });
            }
        }
        let over = |(until, _): &mut (Duration, Lasting)| *until <= now;
        let over: Vec<_> = self.inflicted.lasting.extract_if(.., over).collect();
        over.into_iter().for_each(|(_, lasting)| self.end(lasting));
        Ok(())
    }

    /// Ends all faults.
    pub(super) fn heal(&mut self) -> Result<(), Failure> {
        let lasting = std::mem::take(&mut self.inflicted.lasting);
        lasting.into_iter().for_each(|(_, lasting)| self.end(lasting));
        let now = self.now();
        for machine in &self.machines {
            self.inflicted.starts.insert(machine.id, now);
        }
        self.look()
    }

    /// Begins what [`Director::end`] takes back; `false` if it lasts already.
    fn last(&mut self, lasts: Duration, lasting: Lasting) -> bool {
        if self.inflicted.has(&lasting) {
            return false;
        }
        match &lasting {
            Lasting::Ways(ways) => ways.iter().for_each(|(from, to)| self.links.cut(*from, *to)),
            Lasting::Client(name) => self.ensemble.cut(name, true),
            Lasting::Quorum => self.ensemble.lose_quorum(),
            Lasting::Server(server) => self.ensemble.hold(*server, true),
            Lasting::Latency => self.sim.set_max_message_latency(SLOW_LATENCY_MAX),
        }
        let until = self.now() + lasts;
        self.inflicted.lasting.push((until, lasting));
        true
    }

    fn end(&mut self, lasting: Lasting) {
        self.trace.line(format_args!("over: {lasting:?}"));
        match lasting {
            Lasting::Ways(ways) => ways.iter().for_each(|(from, to)| self.links.mend(*from, *to)),
            Lasting::Client(name) => self.ensemble.cut(&name, false),
            Lasting::Quorum => self.ensemble.regain_quorum(),
            Lasting::Server(server) => self.ensemble.hold(server, false),
            Lasting::Latency => self.sim.set_max_message_latency(self.inflicted.latency_max),
        }
    }

    fn machine(&self, broker: i32) -> Arc<Machine> {
        let found = self.machines.iter().find(|machine| machine.id == broker);
        Arc::clone(found.expect("brokers are counted from 1"))
    }

    /// Machines with a process that can be killed.
    fn running(&self) -> Vec<Arc<Machine>> {
        let doomed = self.inflicted.dying.as_ref().map(|dying| dying.broker);
        let runs = |machine: &&Arc<Machine>| {
            let process = machine.process();
            matches!(process, Process::Starting | Process::Serving) && doomed != Some(machine.id)
        };
        self.machines.iter().filter(runs).cloned().collect()
    }

    /// A running broker: often the leader of some partition or the controller.
    fn victim(&mut self) -> Option<Arc<Machine>> {
        let running = self.running();
        let important = match self.random.random_range(0..4) {
            0 => self.controller(),
            1 => {
                let listed = self.rules.listed().unwrap_or_default();
                let leaders: Vec<_> = listed.iter().filter_map(|p| p.node.leader).collect();
                (!leaders.is_empty()).then(|| leaders[self.random.random_range(0..leaders.len())])
            }
            _ => None,
        };
        let chosen = running.iter().find(|machine| Some(machine.id) == important);
        if let Some(chosen) = chosen {
            return Some(Arc::clone(chosen));
        }
        (!running.is_empty())
            .then(|| Arc::clone(&running[self.random.random_range(0..running.len())]))
    }

    fn controller(&self) -> Option<i32> {
        let node = self.rules.tree.get("/controller")?;
        let path = "/controller";
        let node: klamm_cluster::nodes::controller::ControllerNode =
            klamm_cluster::nodes::decode(path, &node.data).ok()?;
        Some(node.broker_id)
    }

    /// Ends the software of a machine without warning.
    pub(super) fn kill(&mut self, machine: &Arc<Machine>) {
        self.sim.crash(machine.name.clone());
        machine.died();
    }

    /// Starts the software of a machine.
    pub(super) fn boot(&mut self, machine: &Arc<Machine>) {
        self.inflicted.starts.remove(&machine.id);
        if let Some(at) = self.inflicted.dark.iter().position(|dark| *dark == machine.id) {
            self.inflicted.dark.remove(at);
            let own = self.addresses[&machine.name];
            for other in self.others(own) {
                self.links.mend(own, other);
                self.links.mend(other, own);
                // Nobody knows its connections any more.
                self.links.reset(own, other);
            }
        }
        self.sim.bounce(machine.name.clone());
    }

    fn crash(&mut self, victims: &[Arc<Machine>], lasts: Duration) -> Result<(), Failure> {
        for machine in victims {
            self.kill(machine);
            self.inflicted.starts.insert(machine.id, self.now() + lasts);
        }
        self.look()
    }

    /// One machine's power fails, in the middle of some work or between two where all may be lost
    /// that is not durable.
    fn doom(&mut self, lasts: Duration) -> Result<bool, Failure> {
        if self.inflicted.dying.is_some() {
            return Ok(false);
        }
        let Some(victim) = self.victim() else { return Ok(false) };
        let listed = self.listed()?;
        let not_durable = || listed.iter().filter(|partition| !partition.is_durable());
        if !not_durable().all(|partition| self.is_whole(partition)) {
            // Whom else that costs may be another one soon.
            let is_spare = not_durable().all(|partition| self.is_spare(partition, victim.id));
            if is_spare {
                self.lose_power(&[victim], lasts)?;
            }
            return Ok(is_spare);
        }
        if self.random.random_range(0..4) > 0 {
            victim.disk().die_after(self.random.random_range(1..OPERATIONS_MAX));
        }
        let at = self.now() + DYING_MAX.mul_f64(self.random.random_range(0.1..1.0));
        self.inflicted.dying = Some(Dying { broker: victim.id, at, lasts });
        Ok(true)
    }

    fn lose_all_power(&mut self, lasts: Duration) -> Result<(), Failure> {
        self.inflicted.dying = None;
        let all = self.machines.clone();
        self.lose_power(&all, lasts)
    }

    /// Takes the power of machines away. They fall silent: nobody is told that a connection is over.
    fn lose_power(&mut self, victims: &[Arc<Machine>], lasts: Duration) -> Result<(), Failure> {
        for machine in victims {
            let own = self.addresses[&machine.name];
            if !self.inflicted.dark.contains(&machine.id) {
                self.inflicted.dark.push(machine.id);
                for other in self.others(own) {
                    self.links.cut(own, other);
                    self.links.cut(other, own);
                }
            }
            self.kill(machine);
            self.replicas.note_dark(machine.id, self.rules.broker_epoch(machine.id));
            machine.disk().lose_power();
            self.inflicted.starts.insert(machine.id, self.now() + lasts);
            let print = machine.disk().fingerprint();
            self.trace.line(format_args!("{} has no power, disk {print:016x}", machine.name));
        }
        self.look()
    }

    /// Puts an empty disk into a machine whose past others still have.
    fn wipe(&mut self, lasts: Duration) -> Result<bool, Failure> {
        let Some(victim) = self.victim() else { return Ok(false) };
        let is_spare = |partition: &Listed| self.is_spare(partition, victim.id);
        if self.inflicted.dying.is_some() || !self.listed()?.iter().all(is_spare) {
            return Ok(false);
        }
        self.kill(&victim);
        self.replicas.note_wiped(victim.id, self.rules.broker_epoch(victim.id));
        victim.wipe();
        self.inflicted.starts.insert(victim.id, self.now() + lasts);
        self.look()?;
        Ok(true)
    }

    fn listed(&self) -> Result<Vec<Listed>, Failure> {
        Ok(self.rules.listed()?)
    }

    /// Whether all replicas are in sync, with all that they confirmed: any of them may forget it,
    /// whatever becomes of the ISR meanwhile.
    fn is_whole(&self, partition: &Listed) -> bool {
        let has_all = |member: &Member| !self.replicas.is_excused(partition, *member);
        partition.is_whole() && partition.node.isr.iter().all(has_all)
    }

    /// Whether somebody else holds everything that was confirmed: `broker` may forget it now.
    fn is_spare(&self, partition: &Listed, broker: i32) -> bool {
        let mut members = partition.node.isr.iter().chain(&partition.node.elr);
        members.any(|member| member.id != broker && !self.replicas.is_excused(partition, *member))
    }

    fn stop(&mut self, lasts: Duration) -> bool {
        let mut serving = self.running();
        serving.retain(|machine| machine.process() == Process::Serving);
        if serving.is_empty() {
            return false;
        }
        let victim = &serving[self.random.random_range(0..serving.len())];
        victim.ask_to_stop();
        self.inflicted.starts.insert(victim.id, self.now() + lasts);
        true
    }

    /// Cuts two brokers from each other.
    fn cut(&mut self, lasts: Duration, both: bool) -> bool {
        let ids: Vec<i32> = self.machines.iter().map(|machine| machine.id).collect();
        let from = ids[self.random.random_range(0..ids.len())];
        let others: Vec<i32> = ids.into_iter().filter(|id| *id != from).collect();
        let to = others[self.random.random_range(0..others.len())];
        let (from, to) = (self.address(from), self.address(to));
        let mut ways = vec![(from, to)];
        if both {
            ways.push((to, from));
        }
        self.last(lasts, Lasting::Ways(ways))
    }

    /// Cuts a broker from all other brokers.
    fn isolate(&mut self, lasts: Duration) -> bool {
        let Some(victim) = self.victim() else { return false };
        let own = self.address(victim.id);
        let others = self.machines.iter().filter(|machine| machine.id != victim.id);
        let others = others.map(|machine| self.address(machine.id));
        let ways = others.flat_map(|other| [(own, other), (other, own)]).collect();
        self.last(lasts, Lasting::Ways(ways))
    }

    fn cut_from_ensemble(&mut self, lasts: Duration) -> bool {
        let Some(victim) = self.victim() else { return false };
        self.last(lasts, Lasting::Client(victim.name.clone()))
    }

    fn disturb_session(&mut self, fault: Fault) -> bool {
        let Some(victim) = self.victim() else { return false };
        match fault {
            Fault::EnsembleReply => self.ensemble.lose_next_reply(&victim.name),
            _ if self.random.random_bool(0.5) => self.ensemble.turn(&victim.name),
            _ => self.ensemble.reconnect(&victim.name),
        }
        true
    }

    fn address(&self, broker: i32) -> IpAddr {
        self.addresses[&machine_name(broker)]
    }

    fn others(&self, own: IpAddr) -> Vec<IpAddr> {
        self.addresses.values().copied().filter(|address| *address != own).collect()
    }
}
