//! One session with an ensemble.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use klamm_env::{Clock, Loop};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use zookeeper_client::{Client, CreateMode as ZkMode, Error, MultiWriter};

use super::answers::{
    failure, is_from_leader, is_interruption, multi_failure, op_result, read_failure, stat_of,
};
use super::home::NodeAccess;
use super::watches::{self, Pump, outermost};
use crate::lease::Lease;
use crate::tree::state::{check_data, check_limits};
use crate::tree::walk::{Visited, walk};
use crate::tree::{
    CreateMode, MultiError, MultiLimits, Node, Op, OpResult, READS_IN_FLIGHT_MAX, SessionId,
    SessionState, Tree, TreeError, WatchQueue, Watcher, path,
};

/// Times that a read is sent at most; each further time needs a connection that broke.
const READ_TRIES_MAX: usize = 100;
/// Longest sleep of a keeper that waits for nothing in particular.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// One session with a [`super::ZooKeeperHome`].
#[derive(Debug)]
pub struct ZooKeeperTree {
    shared: Arc<Shared>,
    on: Loop,
}

/// What the session's tasks have in common.
pub(super) struct Shared {
    id: SessionId,
    /// Gone once the session is closed or over.
    client: Mutex<Option<Client>>,
    clock: Arc<dyn Clock>,
    lease: Mutex<Lease>,
    state: watch::Sender<SessionState>,
    watches: Mutex<Vec<Weak<WatchQueue>>>,
    in_flight: Semaphore,
    /// `zookeeper.max.in.flight.requests`.
    in_flight_max: usize,
    access: NodeAccess,
}

impl ZooKeeperTree {
    pub(super) fn new(shared: Arc<Shared>, on: Loop) -> ZooKeeperTree {
        ZooKeeperTree { shared, on }
    }

    /// Ends the session as its owner's silence would, at once: for tests.
    ///
    /// # Panics
    /// When the ensemble does not let a second connection into the session.
    #[cfg(any(test, feature = "conformance"))]
    pub async fn expire(&self, servers: &str) {
        let Ok(client) = self.shared.client() else { return };
        let info = client.session().clone();
        drop(client);
        let takeover = Client::connector().with_session(info).connect(servers).await;
        let takeover = takeover.expect("a live session lets its owner in");
        let mut states = takeover.state_watcher();
        drop(takeover);
        while !states.changed().await.is_terminated() {}
    }

    async fn write(&self, ops: Vec<Op>) -> Result<Vec<OpResult>, MultiError> {
        check_limits(&ops, MultiLimits::ZOOKEEPER)?;
        for (index, op) in ops.iter().enumerate() {
            check(op).map_err(|error| MultiError::at(index, error))?;
        }
        let _permit = self.shared.turn().await?;
        let client = self.shared.client()?;
        let sent = self.shared.clock.boot_time();
        let mut writer = client.new_multi_writer();
        for (index, op) in ops.iter().enumerate() {
            add(&mut writer, op, self.shared.access)
                .map_err(|error| MultiError::at(index, failure(&error, op)))?;
        }
        let answer = writer.commit().await;
        if !ops.is_empty() && is_from_leader(&answer) {
            self.shared.renew(sent);
        }
        let results = answer.map_err(|error| multi_failure(&error, &ops))?;
        let each = results.iter().zip(&ops);
        Ok(each.map(|(result, op)| op_result(result, op, self.shared.id)).collect())
    }

    async fn watch_now(&self, roots: &[&str]) -> Result<Watcher, TreeError> {
        roots.iter().try_for_each(|root| path::check(root))?;
        let (queue, watcher) = WatchQueue::new(self.shared.id, roots);
        self.shared.add_watch(queue.clone());
        let roots: Vec<String> = outermost(roots).into_iter().map(str::to_owned).collect();
        let sources = watches::set(&self.shared, &roots).await?;
        let abandoned = queue.upgrade().expect("the watcher holds its queue").abandoned();
        let pump = Pump { shared: Arc::downgrade(&self.shared), queue, abandoned, roots };
        self.on.spawn(pump.run(sources));
        Ok(watcher)
    }

    async fn get_now(&self, path: &str) -> Result<(Node, bool), TreeError> {
        path::check(path)?;
        let get = async |client: Client| client.get_data(path).await;
        let (data, stat) = self.shared.read(path, get).await?;
        let node = Node { data: Bytes::from(data), stat: stat_of(&stat) };
        Ok((node, stat.num_children > 0))
    }

    async fn children_now(&self, path: &str) -> Result<Vec<String>, TreeError> {
        path::check(path)?;
        let list = async |client: Client| client.list_children(path).await;
        let mut names = self.shared.read(path, list).await?;
        names.sort_unstable();
        Ok(names)
    }

    /// A node and its children's names; `None` where it has gone. Most nodes have no children, and say
    /// so themselves.
    async fn visit(&self, path: String) -> Result<Option<Visited>, TreeError> {
        let visited = async {
            let (node, is_parent) = self.get_now(&path).await?;
            let names = if is_parent { self.children_now(&path).await? } else { Vec::new() };
            Ok((node, names))
        };
        match visited.await {
            Ok((node, children)) => Ok(Some(Visited { path, node, children })),
            Err(TreeError::NoNode { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn close_now(&self) {
        let Some(client) = self.shared.lock_client().take() else { return };
        let (mut states, patience) = (client.state_watcher(), client.session_timeout());
        drop(client);
        // Without a connection the ensemble ends the session by itself, about as late.
        let closed = async { while !states.changed().await.is_terminated() {} };
        let _ = tokio::time::timeout(patience, closed).await;
        self.shared.end();
    }
}

fn check(op: &Op) -> Result<(), TreeError> {
    path::check(op.path())?;
    match op {
        Op::Create { data, .. } | Op::Set { data, .. } => check_data(data),
        Op::Delete { path, .. } if path == "/" => Err(TreeError::NotEmpty { path: path.clone() }),
        Op::Delete { .. } | Op::Check { .. } => Ok(()),
    }
}

fn add(writer: &mut MultiWriter<'_>, op: &Op, access: NodeAccess) -> Result<(), Error> {
    match op {
        Op::Check { path, expected } => writer.add_check_version(path, expected.unwrap_or(-1)),
        Op::Create { path, data, mode } => {
            let mode = match mode {
                CreateMode::Persistent => ZkMode::Persistent,
                CreateMode::Ephemeral => ZkMode::Ephemeral,
            };
            writer.add_create(path, data, &mode.with_acls(access.of(path)))
        }
        Op::Set { path, data, expected } => writer.add_set_data(path, data, *expected),
        Op::Delete { path, expected } => writer.add_delete(path, *expected),
    }
}

impl Shared {
    pub(super) fn new(
        client: Client,
        clock: Arc<dyn Clock>,
        lease: Lease,
        in_flight_max: usize,
        access: NodeAccess,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            id: SessionId(client.session_id().0),
            client: Mutex::new(Some(client)),
            clock,
            lease: Mutex::new(lease),
            state: watch::Sender::new(SessionState::Connected),
            watches: Mutex::default(),
            in_flight: Semaphore::new(in_flight_max),
            in_flight_max,
            access,
        })
    }

    /// Waits until something may be written (R5, R10).
    async fn turn(&self) -> Result<SemaphorePermit<'_>, TreeError> {
        let permit = self.in_flight.acquire().await.map_err(|_| TreeError::SessionExpired)?;
        let mut states = self.state.subscribe();
        loop {
            states.mark_unchanged();
            match self.state_now() {
                SessionState::Connected => return Ok(permit),
                SessionState::Lost => return Err(TreeError::SessionLost),
                SessionState::Expired => return Err(TreeError::SessionExpired),
                SessionState::Suspended => {}
            }
            states.changed().await.map_err(|_| TreeError::SessionExpired)?;
        }
    }

    /// Reads, again after every interruption: a read does no harm twice.
    pub(super) async fn read<T, F: Future<Output = Result<T, Error>>>(
        &self,
        path: &str,
        ask: impl Fn(Client) -> F,
    ) -> Result<T, TreeError> {
        let _permit = self.in_flight.acquire().await.map_err(|_| TreeError::SessionExpired)?;
        for _ in 0..READ_TRIES_MAX {
            match ask(self.client()?).await {
                Ok(found) => return Ok(found),
                Err(error) if is_interruption(&error) => {}
                Err(error) => return Err(read_failure(&error, path)),
            }
        }
        Err(TreeError::ConnectionLoss)
    }

    pub(super) fn client(&self) -> Result<Client, TreeError> {
        self.lock_client().clone().ok_or(TreeError::SessionExpired)
    }

    fn state_now(&self) -> SessionState {
        self.lease().state(self.clock.boot_time())
    }

    pub(super) fn access(&self) -> NodeAccess {
        self.access
    }

    /// How long nothing is due.
    pub(super) fn sleep(&self) -> Duration {
        let now = self.clock.boot_time();
        let lease = self.lease();
        let lost_at = lease.lost_at().filter(|at| *at > now);
        let at = [lost_at, lease.probe_at()].into_iter().flatten().min();
        at.map_or(SLEEP_MAX, |at| at.saturating_sub(now)).min(SLEEP_MAX)
    }

    pub(super) fn probe_due(&self) -> bool {
        self.lease().probe_due(self.clock.boot_time())
    }

    pub(super) fn on_probe_sent(&self) -> Duration {
        let now = self.clock.boot_time();
        self.lease().on_probe_sent(now);
        now
    }

    /// The leader has answered what was sent at `sent`.
    pub(super) fn renew(&self, sent: Duration) {
        self.lease().on_probe_answered(sent);
        self.publish();
    }

    pub(super) fn on_disconnected(&self) {
        self.lease().on_disconnected();
        self.publish();
    }

    pub(super) fn on_reconnected(&self) {
        self.lease().on_reconnected(self.clock.boot_time());
        self.publish();
    }

    /// The session is over; what waits for its watchers is dropped with it (R6).
    pub(super) fn end(&self) {
        self.lease().on_expired();
        self.lock_client().take();
        let watches = std::mem::take(&mut *self.watches());
        watches.iter().filter_map(Weak::upgrade).for_each(|watch| watch.close());
        self.publish();
    }

    pub(super) fn publish(&self) {
        let now = self.state_now();
        self.state.send_if_modified(|state| std::mem::replace(state, now) != now);
    }

    fn add_watch(&self, queue: Weak<WatchQueue>) {
        let mut watches = self.watches();
        watches.retain(|watch| watch.strong_count() > 0);
        watches.push(queue);
    }

    fn lock_client(&self) -> MutexGuard<'_, Option<Client>> {
        self.client.lock().expect("no panic while the client is locked")
    }

    fn lease(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().expect("no panic while the lease is locked")
    }

    fn watches(&self) -> MutexGuard<'_, Vec<Weak<WatchQueue>>> {
        self.watches.lock().expect("no panic while the watches are locked")
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Tree for ZooKeeperTree {
    fn session(&self) -> SessionId {
        self.shared.id
    }

    fn state(&self) -> watch::Receiver<SessionState> {
        self.shared.state.subscribe()
    }

    fn state_now(&self) -> SessionState {
        self.shared.state_now()
    }

    fn get<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Node, TreeError>> {
        async move { self.get_now(path).await.map(|(node, _)| node) }.boxed()
    }

    fn children<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Vec<String>, TreeError>> {
        self.children_now(path).boxed()
    }

    fn subtree<'a>(
        &'a self,
        root: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(String, Node)>, TreeError>> {
        walk(root, self.reads_in_flight_max(), move |path| self.visit(path)).boxed()
    }

    /// No more than are let onto the connection: what waits there is served in the order in which it
    /// came, so a request of somebody else waits for so many reads of a call and no more.
    fn reads_in_flight_max(&self) -> usize {
        self.shared.in_flight_max.min(READS_IN_FLIGHT_MAX)
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
