//! A simulated coordination service: a home of the tree with the manners of a ZooKeeper ensemble, and
//! its bad ones.
//!
//! Several servers apply one sequence of commits, each in its own time; a session is served by one of
//! them, sees what that one has applied, and its writes go through the leader. Everything that takes
//! time or may fail is drawn from one seed:
//!
//! | what | by |
//! | --- | --- |
//! | requests, answers and events take time | [`Manners::delay_max`] |
//! | a server trails: its reads are stale, events late | [`Manners::lag_max`], [`SimEnsemble::hold`] |
//! | a reply is lost after the write was applied | [`Manners::lost_replies`], [`SimEnsemble::lose_next_reply`] |
//! | a connection breaks; the session goes on, perhaps elsewhere | [`Manners::breaks`], [`SimEnsemble::reconnect`], [`SimEnsemble::turn`] |
//! | a client is cut off | [`SimEnsemble::cut`] |
//! | changes of one node become one event | [`Manners::coalesced`] |
//! | no quorum | [`SimEnsemble::lose_quorum`] |
//! | a session is over, its ephemeral nodes are still shown by some servers | by lag |
//!
//! [`service`] is the ensemble: synchronous, told the time by its callers. [`session`] is the client,
//! the counterpart of `klamm_cluster::tree::zookeeper`. No task belongs to the ensemble: it moves
//! whenever somebody looks, so it survives the crash of any host.

mod lane;
mod service;
mod session;

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use klamm_cluster::tree::state::TreeState;
use klamm_cluster::tree::{Home, SessionId, Tree, TreeError};
use klamm_env::{Clock, Loop};
use tokio::sync::Notify;

use service::Service;
pub use session::SimTree;

/// How an ensemble behaves when no fault is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// Number of servers.
    pub servers: usize,
    /// Time-out of every session.
    pub session_timeout: Duration,
    /// Longest way of a request, an answer or an event.
    pub delay_max: Duration,
    /// Longest time that a server trails behind the leader.
    pub lag_max: Duration,
    /// Share of writes whose reply is lost, with the connection. Of requests that are on their way
    /// together all are lost with it, so they share one chance, here and below.
    pub lost_replies: f64,
    /// Share of requests that find their connection broken.
    pub breaks: f64,
    /// Share of changes that are not told where an event of the same node still waits.
    pub coalesced: f64,
}

impl Manners {
    /// Quick, and nothing breaks by itself.
    pub const GOOD: Manners = Manners {
        servers: 3,
        session_timeout: Duration::from_secs(6),
        delay_max: Duration::from_millis(2),
        lag_max: Duration::from_millis(5),
        lost_replies: 0.0,
        breaks: 0.0,
        coalesced: 0.0,
    };
    /// Slow, forgetful and often interrupted.
    pub const BAD: Manners = Manners {
        delay_max: Duration::from_millis(50),
        lag_max: Duration::from_millis(500),
        lost_replies: 0.05,
        breaks: 0.05,
        coalesced: 0.5,
        ..Manners::GOOD
    };
}

/// A simulated ensemble; clones are the same one.
#[derive(Clone)]
pub struct SimEnsemble {
    shared: Arc<Shared>,
}

struct Shared {
    service: Mutex<Service>,
    /// Who waits looks again. No `watch`: that wakes several waiters in a random order.
    changed: Notify,
    /// The true time, the same for everybody.
    clock: Arc<dyn Clock>,
    manners: Manners,
}

impl SimEnsemble {
    /// An empty one. `clock` is the time of the simulation, not that of a host whose clock may be
    /// wrong.
    pub fn new(seed: u64, manners: Manners, clock: Arc<dyn Clock>) -> SimEnsemble {
        let service = Mutex::new(Service::new(seed, manners));
        let changed = Notify::new();
        SimEnsemble { shared: Arc::new(Shared { service, changed, clock, manners }) }
    }

    /// The home that `client` connects to; its lease is measured by `clock`, its tasks run on `on`.
    pub fn home(&self, client: &str, clock: Arc<dyn Clock>, on: &Loop) -> SimHome {
        SimHome {
            shared: Arc::clone(&self.shared),
            client: Arc::from(client),
            clock,
            on: on.clone(),
        }
    }

    /// The tree as the leader has it: the truth.
    pub fn truth(&self) -> TreeState {
        self.shared.change(|service, _| service.truth().clone())
    }

    /// The tree after each change since the last call; changes before the first call are not told.
    pub fn observe(&self) -> Vec<TreeState> {
        self.shared.lock().observe()
    }

    /// Cuts a client off, or lets it through again.
    pub fn cut(&self, client: &str, cut: bool) {
        self.shared.change(|service, _| service.cut(client, cut));
    }

    /// Breaks a client's connections; they may come back at once.
    pub fn reconnect(&self, client: &str) {
        self.shared.change(|service, _| service.break_all(client));
    }

    /// As [`SimEnsemble::reconnect`], to other servers.
    pub fn turn(&self, client: &str) {
        self.shared.change(|service, _| service.turn(client));
    }

    /// The next reply to a write of the client is lost.
    pub fn lose_next_reply(&self, client: &str) {
        self.shared.change(|service, _| service.lose_next_reply(client));
    }

    /// The server hears nothing from the leader, or hears it all again.
    pub fn hold(&self, server: usize, held: bool) {
        self.shared.change(|service, now| service.hold(server, held, now));
    }

    /// The server that serves a session.
    pub fn server_of(&self, session: SessionId) -> Option<usize> {
        self.shared.change(|service, _| service.connection(session).map(|c| c.server))
    }

    /// Nothing is decided any more; every connection breaks.
    pub fn lose_quorum(&self) {
        self.shared.change(|service, _| service.lose_quorum());
    }

    /// There is a quorum again. Every session has its whole time-out, as a new leader gives it.
    pub fn regain_quorum(&self) {
        self.shared.change(Service::regain_quorum);
    }

    /// Ends a session as the ensemble does when it hears nothing of it.
    pub fn expire(&self, session: SessionId) {
        self.shared.change(|service, now| service.end(session, now));
    }

    /// Whether every server has applied everything.
    pub async fn settled(&self) {
        self.shared.until(|service| service.is_settled().then_some(())).await;
    }
}

impl Shared {
    /// Brings the ensemble to the present, changes it and wakes who waits.
    fn change<T>(&self, change: impl FnOnce(&mut Service, Duration) -> T) -> T {
        let now = self.clock.monotonic();
        let mut service = self.lock();
        service.advance(now);
        let result = change(&mut service, now);
        drop(service);
        self.changed.notify_waiters();
        result
    }

    /// Waits until `look` finds something.
    async fn until<T>(&self, mut look: impl FnMut(&mut Service) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let now = self.clock.monotonic();
            let (found, moved, due) = {
                let mut service = self.lock();
                let moved = service.advance(now);
                (look(&mut service), moved, service.next_due())
            };
            if moved {
                self.changed.notify_waiters();
            }
            if let Some(found) = found {
                return found;
            }
            let sleep = due.map_or(SLEEP_MAX, |due| due.saturating_sub(now).max(SLEEP_MIN));
            tokio::select! {
                biased;
                () = changed => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// One way over the network.
    async fn travel(&self) {
        let delay = self.lock().draw_delay();
        tokio::time::sleep(delay).await;
    }

    fn lock(&self) -> MutexGuard<'_, Service> {
        self.service.lock().expect("no panic while the ensemble is locked")
    }
}

const SLEEP_MAX: Duration = Duration::from_secs(3600);
/// Timers of the simulation are whole milliseconds.
const SLEEP_MIN: Duration = Duration::from_millis(1);

/// A client's way to a [`SimEnsemble`].
#[derive(Clone)]
pub struct SimHome {
    shared: Arc<Shared>,
    client: Arc<str>,
    clock: Arc<dyn Clock>,
    on: Loop,
}

impl Home for SimHome {
    fn connect(&self) -> BoxFuture<'_, Result<Arc<dyn Tree>, TreeError>> {
        async move {
            let clock = Arc::clone(&self.clock);
            let tree = SimTree::begin(Arc::clone(&self.shared), &self.client, clock, &self.on);
            Ok(Arc::new(tree.await?) as Arc<dyn Tree>)
        }
        .boxed()
    }
}
