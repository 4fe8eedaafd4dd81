//! Makes the faults happen, and says of each whether it did.
//!
//! While something is down, cut or stopped, every partition has to make progress: a broker comes back,
//! and a way is mended, only after a record that was sent since then was acknowledged everywhere. (But
//! where nobody is left who could, and where the restart is part of the fault.) A fault begins when it
//! is complete: what was sent before may have come through.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use klamm_ensemble::Mode;
use rand::Rng as _;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rustix::process::Signal;
use tokio::time::Instant;

use crate::broker::{BROKERS_PORT, Limits};
use crate::eyes;
use crate::fault::Kind;
use crate::network::{self, BROKERS, Place, Way, both};
use crate::recording::Pause;
use crate::stage::{CHROOT, Stage, by_leads, led_by, within};

/// How long ways stay cut at the least: longer than a follower may lag.
const CUT: Duration = Duration::from_secs(4);
/// How long the ensemble has no quorum at the least: longer than a session.
const NO_QUORUM: Duration = Duration::from_secs(4);
/// The longest wait for a ZooKeeper server to be as it should.
const SERVER_MAX: Duration = Duration::from_secs(60);

/// What became of a fault.
pub(crate) struct Happened {
    pub(crate) kind: Kind,
    pub(crate) whom: String,
    /// Whether it took effect.
    pub(crate) fired: bool,
    /// Time without acknowledgements of the partitions that the victim led, and of the others.
    pub(crate) led: Vec<Duration>,
    pub(crate) others: Vec<Duration>,
    /// The longest of them, and whose.
    pub(crate) longest: Option<(i32, Pause)>,
    /// From the end of the fault until every replica was in sync again.
    pub(crate) healed: Duration,
    /// What applications were told meanwhile.
    pub(crate) errors: Vec<String>,
}

/// A fault that is over.
struct Done {
    whom: String,
    fired: bool,
    /// The partitions that the victim led.
    led: BTreeSet<i32>,
    pauses: BTreeMap<i32, Pause>,
}

impl Stage {
    /// Makes one happen to a whole cluster, and waits until it is whole again.
    pub(crate) async fn inject(&mut self, kind: Kind) -> Result<Happened, String> {
        let since = Instant::now();
        let done = match kind {
            Kind::KillLeader => self.kill_leader().await,
            Kind::KillFollower => self.kill_follower().await,
            Kind::KillController => self.kill_controller().await,
            Kind::KillCoordinator => self.kill_coordinator().await,
            Kind::KillQuick => self.kill_quick().await,
            Kind::KillAll => self.kill_all().await,
            Kind::Freeze => self.freeze().await,
            Kind::Stop => self.stop_one().await,
            Kind::Rolling => self.rolling().await,
            Kind::CutOneWay => self.cut_brokers(false).await,
            Kind::CutTwoWay => self.cut_brokers(true).await,
            Kind::CutEnsemble => self.cut_ensemble().await,
            Kind::Isolate => self.isolate().await,
            Kind::Server => self.server().await,
            Kind::Quorum => self.quorum().await,
            Kind::Wipe => self.wipe().await,
        };
        let done = done.map_err(|error| format!("{}: {error}", kind.name()))?;
        let healed = self.heal().await.map_err(|error| format!("{}: {error}", kind.name()))?;
        let progress = self.all_progress(Instant::now()).await;
        progress.map_err(|error| format!("{}: {error}", kind.name()))?;
        let longest = done.pauses.iter().max_by_key(|(_, pause)| pause.time);
        let longest = longest.map(|(partition, pause)| (*partition, *pause));
        let (led, others): (Vec<_>, Vec<_>) =
            done.pauses.into_iter().partition(|(partition, _)| done.led.contains(partition));
        let times =
            |pauses: Vec<(i32, Pause)>| pauses.into_iter().map(|(_, pause)| pause.time).collect();
        let errors = self.recording.borrow().errors_since(since);
        Ok(Happened {
            kind,
            whom: done.whom,
            fired: done.fired,
            led: times(led),
            others: times(others),
            longest,
            healed,
            errors: errors.into_iter().map(|error| error.text).collect(),
        })
    }

    async fn kill_leader(&mut self) -> Result<Done, String> {
        let victim = by_leads(&self.leaders().await?, true);
        let leads = !led_by(&self.leaders().await?, victim).is_empty();
        self.kill(victim, leads, false).await
    }

    async fn kill_follower(&mut self) -> Result<Done, String> {
        let leaders = self.leaders().await?;
        let victim = by_leads(&leaders, false);
        let follows = led_by(&leaders, victim).len() < leaders.len();
        self.kill(victim, follows, false).await
    }

    async fn kill_controller(&mut self) -> Result<Done, String> {
        let controller = eyes::controller(&self.ensemble, CHROOT).await;
        let victim = controller.ok_or("nobody is the controller")?;
        self.kill(victim, true, false).await
    }

    async fn kill_coordinator(&mut self) -> Result<Done, String> {
        let group = self.group.clone().ok_or("there is no group to have a coordinator")?;
        let coordinator = self.eyes.coordinator(&group).await;
        let victim = coordinator.ok_or("nobody is the coordinator")?;
        self.kill(victim, true, false).await
    }

    async fn kill_quick(&mut self) -> Result<Done, String> {
        let victim = self.any_broker();
        self.kill(victim, true, true).await
    }

    /// Kills a broker; it comes back at once, or when the others have taken over.
    async fn kill(&mut self, victim: i32, has_role: bool, quick: bool) -> Result<Done, String> {
        let led = led_by(&self.leaders().await?, victim);
        let was_alive = self.broker_mut(victim).kill().await;
        let at = Instant::now();
        let mut fired = was_alive && has_role;
        if quick {
            fired &= eyes::registered(&self.ensemble, CHROOT).await.contains(&victim);
            self.start(victim).await?;
            self.progress(at).await?;
        } else {
            self.progress(at).await?;
            self.unregistered(victim).await?;
            self.start(victim).await?;
        }
        Ok(self.since(at, format!("broker {victim}"), fired, led))
    }

    async fn kill_all(&mut self) -> Result<Done, String> {
        let mut fired = true;
        for id in BROKERS {
            fired &= self.broker_mut(id).kill().await;
        }
        let at = Instant::now();
        self.start_all().await?;
        self.progress(at).await?;
        let all = self.leaders().await?.into_keys().collect();
        Ok(self.since(at, "all brokers".to_owned(), fired, all))
    }

    async fn freeze(&mut self) -> Result<Done, String> {
        let victim = by_leads(&self.leaders().await?, true);
        let led = led_by(&self.leaders().await?, victim);
        self.broker_mut(victim).signal(Signal::STOP);
        let at = Instant::now();
        let waited = async {
            self.unregistered(victim).await?;
            self.progress(at).await
        };
        let waited = waited.await;
        // Its session may end sooner after the stop than its time-out is long: what it said last was
        // said before.
        let fired = waited.is_ok() && is_stopped(self.broker_mut(victim).pid());
        self.broker_mut(victim).signal(Signal::CONT);
        waited?;
        self.registered(victim).await?;
        Ok(self.since(at, format!("broker {victim}"), fired, led))
    }

    async fn stop_one(&mut self) -> Result<Done, String> {
        let victim = by_leads(&self.leaders().await?, true);
        let led = led_by(&self.leaders().await?, victim);
        let at = Instant::now();
        self.restart_in_order(victim).await?;
        Ok(self.pauses_since(at, format!("broker {victim}"), true, led))
    }

    async fn rolling(&mut self) -> Result<Done, String> {
        let at = Instant::now();
        for id in BROKERS {
            self.restart_in_order(id).await?;
            self.heal().await?;
        }
        let all = self.leaders().await?.into_keys().collect();
        Ok(self.pauses_since(at, "one after the other".to_owned(), true, all))
    }

    /// Stops a broker, and starts it when the others have taken over.
    async fn restart_in_order(&mut self, id: i32) -> Result<(), String> {
        self.broker_mut(id).stop().await?;
        self.progress(Instant::now()).await?;
        self.start(id).await?;
        self.progress(Instant::now()).await
    }

    async fn cut_brokers(&mut self, two_way: bool) -> Result<Done, String> {
        let mut brokers = BROKERS;
        brokers.shuffle(&mut self.random);
        let [from, to, _] = brokers;
        let led = led_by(&self.leaders().await?, from);
        let ways = if two_way {
            both(Place::Broker(from), Place::Broker(to)).to_vec()
        } else {
            vec![Way { from: Place::Broker(from), to: Place::Broker(to) }]
        };
        let whom = format!("{from} {} {to}", if two_way { "and" } else { "to" });
        self.while_cut(&ways, whom, led, &[(from, broker_address(to))], None).await
    }

    async fn cut_ensemble(&mut self) -> Result<Done, String> {
        let victim = self.any_broker();
        let led = led_by(&self.leaders().await?, victim);
        let [out, back] = both(Place::Broker(victim), Place::Ensemble);
        let (ways, how) = match self.random.random_range(0..3) {
            0 => (vec![out], "to the ensemble"),
            1 => (vec![back], "from the ensemble"),
            _ => (vec![out, back], "and the ensemble"),
        };
        let probe = [(victim, self.server_address())];
        let whom = format!("broker {victim} {how}");
        self.while_cut(&ways, whom, led, &probe, Some(victim)).await
    }

    async fn isolate(&mut self) -> Result<Done, String> {
        let victim = by_leads(&self.leaders().await?, true);
        let led = led_by(&self.leaders().await?, victim);
        let mut ways = both(Place::Broker(victim), Place::Ensemble).to_vec();
        let mut probes = vec![(victim, self.server_address())];
        for other in BROKERS.into_iter().filter(|other| *other != victim) {
            ways.extend(both(Place::Broker(victim), Place::Broker(other)));
            probes.push((victim, broker_address(other)));
        }
        self.while_cut(&ways, format!("broker {victim}"), led, &probes, Some(victim)).await
    }

    /// Cuts ways, waits for progress (and for the end of a session, where that has to follow), and
    /// mends them whatever came of it.
    async fn while_cut(
        &mut self,
        ways: &[Way],
        whom: String,
        led: BTreeSet<i32>,
        probes: &[(i32, SocketAddr)],
        loses_session: Option<i32>,
    ) -> Result<Done, String> {
        let all_pass = |wanted: bool| {
            let passes = |(from, to): &(i32, SocketAddr)| network::reaches(*from, *to);
            probes.iter().try_fold(true, |all, probe| passes(probe).map(|it| all && it == wanted))
        };
        let failed = |error: std::io::Error| error.to_string();
        let passed_before = all_pass(true).map_err(failed)?;
        network::cut(ways).map_err(failed)?;
        let at = Instant::now();
        let waited = self.wait_while_cut(at, loses_session).await;
        let none_passes = all_pass(false);
        network::mend(ways).map_err(failed)?;
        waited?;
        let fired = passed_before && none_passes.map_err(failed)?;
        if let Some(victim) = loses_session {
            self.registered(victim).await?;
        }
        Ok(self.pauses_since(at, whom, fired, led))
    }

    async fn wait_while_cut(&mut self, at: Instant, loses: Option<i32>) -> Result<(), String> {
        if let Some(victim) = loses {
            self.unregistered(victim).await?;
        }
        self.progress(at).await?;
        // How long something lasts is part of the fault.
        tokio::time::sleep_until(at + CUT).await;
        self.progress(Instant::now()).await
    }

    async fn server(&mut self) -> Result<Done, String> {
        let count = self.ensemble.servers().len();
        let server = self.random.random_range(0..count);
        self.ensemble.server_mut(server).kill();
        let at = Instant::now();
        let serving = within("the other servers serve", self.ensemble.serving()).await?;
        serving.map_err(|error| error.to_string())?;
        let fired = self.ensemble.servers()[server].mode().await == Mode::NotServing;
        self.progress(at).await?;
        self.start_server(server).await?;
        Ok(self.pauses_since(at, format!("server {}", server + 1), fired, BTreeSet::new()))
    }

    async fn quorum(&mut self) -> Result<Done, String> {
        let count = self.ensemble.servers().len();
        let stays = self.random.random_range(0..count);
        let killed: Vec<usize> = (0..count).filter(|server| *server != stays).collect();
        for server in &killed {
            self.ensemble.server_mut(*server).kill();
        }
        let at = Instant::now();
        let left = &self.ensemble.servers()[stays];
        let gone = left.wait_for(SERVER_MAX, |mode| mode == Mode::NotServing).await;
        let fired = gone.is_ok();
        // What is acknowledged by all in sync needs no session (R5).
        let waited = self.wait_without_quorum(at).await;
        for server in killed {
            self.start_server(server).await?;
        }
        waited?;
        let whom = format!("all but server {}", stays + 1);
        Ok(self.pauses_since(at, whom, fired, BTreeSet::new()))
    }

    async fn wait_without_quorum(&mut self, at: Instant) -> Result<(), String> {
        self.progress(at).await?;
        // How long something lasts is part of the fault.
        tokio::time::sleep_until(at + NO_QUORUM).await;
        self.progress(Instant::now()).await
    }

    async fn start_server(&mut self, server: usize) -> Result<(), String> {
        let failed = |error: std::io::Error| error.to_string();
        self.ensemble.server_mut(server).restart().map_err(failed)?;
        within("the server serves", self.ensemble.serving()).await?.map_err(failed)
    }

    /// KIP-903: the disk is empty and the session is not over when the broker is back.
    async fn wipe(&mut self) -> Result<Done, String> {
        let victim = self.any_broker();
        let led = led_by(&self.leaders().await?, victim);
        let was_alive = self.broker_mut(victim).kill().await;
        let at = Instant::now();
        self.broker_mut(victim).wipe().map_err(|error| error.to_string())?;
        self.broker_mut(victim).spawn().map_err(|error| error.to_string())?;
        let is_listed = eyes::registered(&self.ensemble, CHROOT).await.contains(&victim);
        let fired = was_alive && is_listed && at.elapsed() < Limits::SHORT.session;
        self.broker_mut(victim).ready().await?;
        self.progress(at).await?;
        Ok(self.since(at, format!("broker {victim}"), fired, led))
    }

    fn any_broker(&mut self) -> i32 {
        *BROKERS.choose(&mut self.random).expect("three brokers")
    }

    fn server_address(&self) -> SocketAddr {
        self.ensemble.servers()[0].address().parse().expect("an address of ours")
    }

    /// A fault that began at `at`: how long each partition took to acknowledge what was sent since.
    fn since(&self, at: Instant, whom: String, fired: bool, led: BTreeSet<i32>) -> Done {
        let pauses = self.recording.borrow().next_acknowledged(at);
        Done { whom, fired, led, pauses }
    }

    /// Something that need not stop anything at once, begun at `at`: the longest pause of each
    /// partition.
    fn pauses_since(&self, at: Instant, whom: String, fired: bool, led: BTreeSet<i32>) -> Done {
        let mut pauses = self.recording.borrow().longest_pauses(at);
        for (partition, next) in self.recording.borrow().next_acknowledged(at) {
            pauses.entry(partition).and_modify(|pause| *pause = next.max(*pause)).or_insert(next);
        }
        Done { whom, fired, led, pauses }
    }
}

/// Where brokers reach a broker.
fn broker_address(id: i32) -> SocketAddr {
    let address = format!("{}:{BROKERS_PORT}", network::broker_host(id));
    address.parse().expect("an address of ours")
}

/// Whether a process is stopped.
fn is_stopped(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && line.contains("T (stopped)"))
}
