//! One session with the simulated ensemble, as its client sees it.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, pending};
use klamm_cluster::lease::Lease;
use klamm_cluster::tree::state::{TreeState, check_limits};
use klamm_cluster::tree::{
    MultiError, MultiLimits, Node, Op, OpResult, SessionId, SessionState, Tree, TreeError,
    WatchQueue, Watcher, path,
};
use klamm_env::{Clock, Loop};
use tokio::sync::watch;

use super::lane::{Lane, Place};
use super::service::{Attached, Connection, Service};
use super::{SLEEP_MAX, SLEEP_MIN, Shared};

/// Pause between two attempts to connect.
const RETRY: Duration = Duration::from_millis(20);

/// One session with a [`super::SimHome`].
pub struct SimTree {
    core: Arc<Core>,
}

struct Core {
    ensemble: Arc<Shared>,
    client: Arc<str>,
    id: SessionId,
    /// The host's clock, which may be wrong.
    clock: Arc<dyn Clock>,
    lease: Mutex<Lease>,
    state: watch::Sender<SessionState>,
    way: Way,
    watches: Mutex<Vec<Weak<WatchQueue>>>,
}

/// The way of a session's requests. Any number of them is on it; they leave each stretch in the order
/// in which they were made.
#[derive(Default)]
struct Way {
    /// Waiting for a connection.
    sending: Lane,
    /// To the server, and there until it is this one's turn.
    serving: Lane,
    /// Until the server has applied what the session has written.
    applying: Lane,
    /// Back to the client.
    answering: Lane,
    /// The commit after the session's last write.
    written: AtomicU64,
}

impl Way {
    /// Requests that have been sent and not answered, the one that asks among them.
    fn in_flight(&self) -> usize {
        (self.serving.len() + self.applying.len() + self.answering.len()).max(1)
    }
}

impl SimTree {
    pub(super) async fn begin(
        ensemble: Arc<Shared>,
        client: &Arc<str>,
        clock: Arc<dyn Clock>,
        on: &Loop,
    ) -> Result<SimTree, TreeError> {
        let patience = ensemble.clock.monotonic() + ensemble.manners.session_timeout;
        let (sent, id) = loop {
            let sent = clock.boot_time();
            ensemble.travel().await;
            if let Some(id) = ensemble.change(|service, now| service.begin(client, now)) {
                break (sent, id);
            }
            if ensemble.clock.monotonic() >= patience {
                let reason = "no simulated server has answered".to_owned();
                return Err(TreeError::Unavailable { reason });
            }
            tokio::time::sleep(RETRY).await;
        };
        ensemble.travel().await;
        let lease = Lease::new(ensemble.manners.session_timeout, sent);
        let core = Arc::new(Core {
            ensemble,
            client: Arc::clone(client),
            id,
            clock,
            lease: Mutex::new(lease),
            state: watch::Sender::new(SessionState::Connected),
            way: Way::default(),
            watches: Mutex::default(),
        });
        on.spawn(Keeper::new(&core).run());
        Ok(SimTree { core })
    }

    async fn write(&self, ops: Vec<Op>) -> Result<Vec<OpResult>, MultiError> {
        check_limits(&ops, MultiLimits::ZOOKEEPER)?;
        let sending = self.core.way.sending.enter();
        sending.first().await;
        self.core.turn().await?;
        let sent = self.core.clock.boot_time();
        let answer = self.core.send(sending, &ops).await?;
        self.core.renew(sent);
        answer
    }

    async fn read<T>(&self, read: impl Fn(&TreeState) -> T) -> Result<T, TreeError> {
        loop {
            let sending = self.core.way.sending.enter();
            sending.first().await;
            let connection = self.core.connected().await?;
            if let Some(found) = self.core.read_over(sending, connection, &read).await {
                return Ok(found);
            }
        }
    }

    async fn watch_now(&self, roots: &[&str]) -> Result<Watcher, TreeError> {
        roots.iter().try_for_each(|root| path::check(root))?;
        let sending = self.core.way.sending.enter();
        sending.first().await;
        let connection = self.core.connected().await?;
        let (queue, watcher) = WatchQueue::new(self.core.id, roots);
        self.core.lock_watches().push(queue.clone());
        let set = |service: &mut Service| service.add_watch(self.core.id, queue);
        self.core.ask(sending, connection, set).await;
        Ok(watcher)
    }

    async fn close_now(&self) {
        let Core { id, ensemble, way, .. } = &*self.core;
        let sending = way.sending.enter();
        sending.first().await;
        if let Some(connection) = self.core.connection() {
            let serving = sending.go_over(&way.serving);
            ensemble.travel().await;
            serving.first().await;
            let last = ensemble.change(|service, now| {
                service.end(*id, now);
                service.write(*id, &[], now).1
            });
            let applying = serving.go_over(&way.applying);
            applying.first().await;
            let applied =
                |service: &mut Service| service.has_applied(connection, last).then_some(());
            ensemble.until(applied).await;
        }
        self.core.end();
    }
}

impl Core {
    fn connection(&self) -> Option<Connection> {
        self.ensemble.lock().connection(self.id)
    }

    fn is_over(&self) -> bool {
        self.state_now() == SessionState::Expired
    }

    /// The connection, once there is one.
    async fn connected(&self) -> Result<Connection, TreeError> {
        let look = |service: &mut Service| {
            if self.is_over() {
                return Some(Err(TreeError::SessionExpired));
            }
            service.connection(self.id).map(Ok)
        };
        self.ensemble.until(look).await
    }

    /// Waits until something may be written (R5, R10).
    async fn turn(&self) -> Result<(), TreeError> {
        let mut states = self.state.subscribe();
        loop {
            states.mark_unchanged();
            match self.state_now() {
                SessionState::Connected if self.connection().is_some() => return Ok(()),
                // The keeper is about to see that.
                SessionState::Connected => {}
                SessionState::Lost => return Err(TreeError::SessionLost),
                SessionState::Expired => return Err(TreeError::SessionExpired),
                SessionState::Suspended => {}
            }
            states.changed().await.map_err(|_| TreeError::SessionExpired)?;
        }
    }

    /// One write, there and back; unclear wherever the connection breaks.
    async fn send(
        &self,
        sending: Place<'_>,
        ops: &[Op],
    ) -> Result<Result<Vec<OpResult>, MultiError>, TreeError> {
        let unclear = TreeError::ConnectionLoss;
        let Some(connection) = self.connection() else { return Err(unclear) };
        let serving = sending.go_over(&self.way.serving);
        self.ensemble.travel().await;
        serving.first().await;
        let sent = self.ensemble.change(|service, now| {
            if self.breaks(service, connection) {
                return None;
            }
            let (answer, number) = service.write(self.id, ops, now);
            self.way.written.store(number, Ordering::Relaxed);
            Some((answer, number))
        });
        let Some((answer, number)) = sent else { return Err(unclear) };
        let applying = serving.go_over(&self.way.applying);
        applying.first().await;
        if !self.applied(connection, number).await {
            return Err(unclear);
        }
        let answering = applying.go_over(&self.way.answering);
        self.ensemble.travel().await;
        answering.first().await;
        let lost = self.ensemble.change(|service, _| {
            let lost = service.loses_reply(self.id, self.way.in_flight())
                || self.breaks(service, connection);
            if lost {
                service.disconnect(self.id);
            }
            lost
        });
        if lost { Err(unclear) } else { Ok(answer) }
    }

    /// Waits until the session's server has applied a commit; false once the connection is gone.
    async fn applied(&self, connection: Connection, number: u64) -> bool {
        let look = |service: &mut Service| {
            if service.connection(self.id) != Some(connection) {
                return Some(false);
            }
            service.has_applied(connection, number).then_some(true)
        };
        self.ensemble.until(look).await
    }

    /// There and back, with what the session's server answers by itself in its turn: once it has
    /// applied what the session wrote before, and before it is told what the session writes next.
    async fn ask<T>(
        &self,
        sending: Place<'_>,
        connection: Connection,
        serve: impl FnOnce(&mut Service) -> T,
    ) -> T {
        let serving = sending.go_over(&self.way.serving);
        self.ensemble.travel().await;
        serving.first().await;
        // Where the connection is gone, `serve` sees that.
        self.applied(connection, self.way.written.load(Ordering::Relaxed)).await;
        let answer = self.ensemble.change(|service, _| serve(service));
        let applying = serving.go_over(&self.way.applying);
        applying.first().await;
        let answering = applying.go_over(&self.way.answering);
        self.ensemble.travel().await;
        answering.first().await;
        answer
    }

    async fn read_over<T>(
        &self,
        sending: Place<'_>,
        connection: Connection,
        read: impl Fn(&TreeState) -> T,
    ) -> Option<T> {
        let serve = |service: &mut Service| {
            (!self.breaks(service, connection)).then(|| service.read(self.id, &read))
        };
        let found = self.ask(sending, connection, serve).await?;
        (self.connection() == Some(connection)).then_some(found)
    }

    /// Whether the connection is gone, or goes now.
    fn breaks(&self, service: &mut Service, connection: Connection) -> bool {
        if service.draw_break(self.way.in_flight()) {
            service.disconnect(self.id);
        }
        service.connection(self.id) != Some(connection)
    }

    fn state_now(&self) -> SessionState {
        self.lease().state(self.clock.boot_time())
    }

    fn renew(&self, sent: Duration) {
        self.lease().on_probe_answered(sent);
        self.publish();
    }

    fn publish(&self) {
        let now = self.state_now();
        self.state.send_if_modified(|state| std::mem::replace(state, now) != now);
    }

    fn end(&self) {
        self.lease().on_expired();
        let watches = std::mem::take(&mut *self.lock_watches());
        watches.iter().filter_map(Weak::upgrade).for_each(|watch| watch.close());
        self.publish();
        // Who waits for the connection looks again.
        self.ensemble.change(|_, _| ());
    }

    fn lease(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().expect("no panic while the lease is locked")
    }

    fn lock_watches(&self) -> MutexGuard<'_, Vec<Weak<WatchQueue>>> {
        self.watches.lock().expect("no panic while the watches are locked")
    }

    /// How long the lease needs nothing.
    fn sleep(&self) -> Duration {
        let now = self.clock.boot_time();
        let lease = self.lease();
        let lost_at = lease.lost_at().filter(|at| *at > now);
        let at = [lost_at, lease.probe_at()].into_iter().flatten().min();
        at.map_or(SLEEP_MAX, |at| at.saturating_sub(now)).max(SLEEP_MIN)
    }
}

/// A probe on its way: when it was sent, and whether the leader has answered it.
type Probe = BoxFuture<'static, (Duration, bool)>;

/// The client's own task: connects again, probes, publishes, until the session is over.
struct Keeper {
    core: Weak<Core>,
    /// The connection as this task last saw it.
    known: Option<Connection>,
    alone_since: Duration,
    retry_at: Duration,
    probe: Option<Probe>,
}

impl Keeper {
    fn new(core: &Arc<Core>) -> Keeper {
        let (alone_since, retry_at) = (Duration::ZERO, Duration::ZERO);
        let known = core.connection();
        Keeper { core: Arc::downgrade(core), known, alone_since, retry_at, probe: None }
    }

    async fn run(mut self) {
        let Some(ensemble) = self.core.upgrade().map(|core| Arc::clone(&core.ensemble)) else {
            return;
        };
        loop {
            let mut changed = pin!(ensemble.changed.notified());
            changed.as_mut().enable();
            let Some(core) = self.core.upgrade() else { return };
            if core.is_over() || !self.stay_connected(&core).await {
                return core.end();
            }
            if self.probe.is_none() && core.lease().probe_due(core.clock.boot_time()) {
                self.probe = Some(send_probe(&core));
            }
            core.publish();
            let sleep = self.sleep(&core);
            // What waits does not keep a session alive that its owner has dropped.
            drop(core);
            let answer = tokio::select! {
                biased;
                answer = answered(&mut self.probe) => answer,
                () = changed => continue,
                () = tokio::time::sleep(sleep) => continue,
            };
            self.probe = None;
            if let ((sent, true), Some(core)) = (answer, self.core.upgrade()) {
                core.renew(sent);
            }
        }
    }

    /// Notices a broken connection and makes another one; `false` once the session is over.
    async fn stay_connected(&mut self, core: &Core) -> bool {
        let now = core.ensemble.clock.monotonic();
        if self.known.is_some() && core.connection() != self.known {
            self.known = None;
            (self.alone_since, self.retry_at) = (now, now);
            core.lease().on_disconnected();
            core.publish();
            tokio::task::yield_now().await;
        }
        if self.known.is_some() || now < self.retry_at {
            return true;
        }
        self.retry_at = now + RETRY;
        match core.ensemble.change(|service, now| service.attach(core.id, &core.client, now)) {
            Attached::Yes(connection) => {
                self.known = Some(connection);
                core.lease().on_reconnected(core.clock.boot_time());
                core.ensemble.lock().tell_missed(core.id);
                true
            }
            Attached::Over => false,
            // A client believes in its session a little longer than anybody else.
            Attached::No => now - self.alone_since < core.ensemble.manners.session_timeout * 7 / 5,
        }
    }

    fn sleep(&self, core: &Core) -> Duration {
        let lease = core.sleep();
        if self.known.is_some() {
            return lease;
        }
        let now = core.ensemble.clock.monotonic();
        lease.min(self.retry_at.saturating_sub(now).max(SLEEP_MIN))
    }
}

async fn answered(probe: &mut Option<Probe>) -> (Duration, bool) {
    match probe {
        Some(probe) => probe.await,
        None => pending().await,
    }
}

fn send_probe(core: &Arc<Core>) -> Probe {
    let sent = core.clock.boot_time();
    core.lease().on_probe_sent(sent);
    let core = Arc::clone(core);
    async move {
        let sending = core.way.sending.enter();
        sending.first().await;
        (sent, core.send(sending, &[]).await.is_ok())
    }
    .boxed()
}

impl Tree for SimTree {
    fn session(&self) -> SessionId {
        self.core.id
    }

    fn state(&self) -> watch::Receiver<SessionState> {
        self.core.state.subscribe()
    }

    fn state_now(&self) -> SessionState {
        self.core.state_now()
    }

    fn get<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Node, TreeError>> {
        async move {
            path::check(path)?;
            let found = self.read(|state| state.get(path)).await?;
            found.ok_or_else(|| TreeError::NoNode { path: path.to_owned() })
        }
        .boxed()
    }

    fn children<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Vec<String>, TreeError>> {
        async move {
            path::check(path)?;
            let found = self.read(|state| state.children(path)).await?;
            found.ok_or_else(|| TreeError::NoNode { path: path.to_owned() })
        }
        .boxed()
    }

    fn multi(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<Vec<OpResult>, MultiError>> {
        self.write(ops).boxed()
    }

    fn watch<'a>(&'a self, roots: &'a [&'a str]) -> BoxFuture<'a, Result<Watcher, TreeError>> {
        self.watch_now(roots).boxed()
    }

    fn max_multi(&self) -> MultiLimits {
        MultiLimits::ZOOKEEPER
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.close_now().boxed()
    }
}
