//! The tree in a file of its own: the home of a broker without a ZooKeeper ensemble.
//!
//! The nodes are in memory; every change of a persistent one is in a journal, synced before anybody
//! sees it: what one process has read, a crash never takes back. Changes that wait while a sync runs
//! share the next one. Ephemeral nodes are not written at all: a session ends with the process at the
//! latest. Bytes on disk: `docs/format.md`; why not a ready-made store:
//! `docs/decisions/0002-embedded-tree.md`.

mod format;
mod store;
mod writer;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use klamm_env::threads::run_blocking;
use klamm_env::{Env, Loop};
use tokio::sync::{mpsc, oneshot, watch};

use super::state::{TreeState, check_limits};
use super::{
    EventKind, Home, MultiError, MultiLimits, Node, Op, OpResult, SessionId, SessionState, Tree,
    TreeError, WatchQueue, Watcher, path,
};
use store::Store;
pub use store::StoreError;
use writer::{Task, Writer};

/// What one multi may hold here: enough to elect leaders for 100,000 partitions at once.
pub const EMBEDDED_LIMITS: MultiLimits = MultiLimits { ops: 1_000_000, bytes: 64 * 1024 * 1024 };
/// Writes that wait for the journal at most; one more waits to be taken.
const QUEUE_MAX: usize = 1024;

/// A tree in a directory. The data directory's lock keeps other processes out.
#[derive(Clone, Debug)]
pub struct EmbeddedHome {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    committed: Mutex<Committed>,
    queue: mpsc::Sender<Task>,
    sessions_made: AtomicI64,
}

/// What everybody may see.
#[derive(Debug, Default)]
struct Committed {
    state: TreeState,
    watches: Vec<Weak<WatchQueue>>,
    sessions: BTreeMap<SessionId, watch::Sender<SessionState>>,
    /// The disk has failed: no session can begin any more.
    failed: bool,
}

impl EmbeddedHome {
    /// Opens the tree in `dir`, which is made with the first write when it is missing. Writes are
    /// gathered on `on`.
    ///
    /// # Errors
    /// [`StoreError`]: the disk fails, or what is there is damaged.
    pub async fn open(env: &Env, dir: PathBuf, on: &Loop) -> Result<EmbeddedHome, StoreError> {
        let files = Arc::clone(&env.files);
        let (store, state) = run_blocking(&*env.threads, move || Store::open(files, dir)).await?;
        let (queue, tasks) = mpsc::channel(QUEUE_MAX);
        let committed = Committed { state: state.clone(), ..Committed::default() };
        let shared = Arc::new(Shared {
            committed: Mutex::new(committed),
            queue,
            sessions_made: AtomicI64::new(0),
        });
        let weak = Arc::downgrade(&shared);
        on.spawn(Writer::new(weak, state, store, Arc::clone(&env.threads)).run(tasks));
        Ok(EmbeddedHome { shared })
    }

    /// Ends a session as its owner's silence would: for tests.
    pub async fn expire(&self, session: SessionId) {
        self.shared.end(session).await;
    }
}

impl Home for EmbeddedHome {
    fn connect(&self) -> BoxFuture<'_, Result<Arc<dyn Tree>, TreeError>> {
        ready(self.shared.connect()).boxed()
    }
}

impl Shared {
    fn connect(self: &Arc<Self>) -> Result<Arc<dyn Tree>, TreeError> {
        let session = SessionId(self.sessions_made.fetch_add(1, Ordering::Relaxed) + 1);
        let mut committed = self.lock();
        if committed.failed {
            return Err(TreeError::ConnectionLoss);
        }
        let sender = watch::Sender::new(SessionState::Connected);
        let state = sender.subscribe();
        committed.sessions.insert(session, sender);
        Ok(Arc::new(EmbeddedTree { shared: Arc::clone(self), session, state }))
    }

    fn lock(&self) -> MutexGuard<'_, Committed> {
        self.committed.lock().expect("no panic while the tree is locked")
    }

    async fn end(&self, session: SessionId) {
        let (done, ended) = oneshot::channel();
        if self.queue.send(Task::End { session, done }).await.is_ok() {
            // An error means that the disk has failed, which ends every session.
            let _ = ended.await;
        }
    }
}

impl Committed {
    fn notify(&mut self, events: &[(EventKind, Arc<str>)]) {
        self.watches.retain(|watch| {
            let Some(watch) = watch.upgrade() else { return false };
            events.iter().for_each(|(kind, path)| watch.offer(*kind, path));
            true
        });
    }

    fn end(&mut self, session: SessionId) {
        if let Some(state) = self.sessions.remove(&session) {
            state.send_replace(SessionState::Expired);
        }
        self.watches.retain(|watch| match watch.upgrade() {
            Some(watch) if watch.session() == session => {
                watch.close();
                false
            }
            Some(_) => true,
            None => false,
        });
    }

    fn fail(&mut self) {
        self.failed = true;
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        sessions.into_iter().for_each(|session| self.end(session));
    }
}

/// One session with an [`EmbeddedHome`]. It ends with [`Tree::close`] or with the process.
#[derive(Debug)]
struct EmbeddedTree {
    shared: Arc<Shared>,
    session: SessionId,
    state: watch::Receiver<SessionState>,
}

impl EmbeddedTree {
    fn read<T>(
        &self,
        path: &str,
        pick: impl FnOnce(&TreeState) -> Option<T>,
    ) -> Result<T, TreeError> {
        path::check(path)?;
        let committed = self.shared.lock();
        if !committed.sessions.contains_key(&self.session) {
            return Err(TreeError::SessionExpired);
        }
        pick(&committed.state).ok_or_else(|| TreeError::NoNode { path: path.to_owned() })
    }

    fn watch_now(&self, roots: &[&str]) -> Result<Watcher, TreeError> {
        roots.iter().try_for_each(|root| path::check(root))?;
        let mut committed = self.shared.lock();
        if !committed.sessions.contains_key(&self.session) {
            return Err(TreeError::SessionExpired);
        }
        let (watch, watcher) = WatchQueue::new(self.session, roots);
        committed.watches.push(watch);
        Ok(watcher)
    }

    async fn write(&self, ops: Vec<Op>) -> Result<Vec<OpResult>, MultiError> {
        check_limits(&ops, EMBEDDED_LIMITS)?;
        let (reply, answer) = oneshot::channel();
        let task = Task::Multi { session: self.session, ops, reply };
        if self.shared.queue.send(task).await.is_err() {
            return Err(TreeError::SessionExpired.into());
        }
        answer.await.unwrap_or(Err(TreeError::ConnectionLoss.into()))
    }
}

impl Tree for EmbeddedTree {
    fn session(&self) -> SessionId {
        self.session
    }

    fn state(&self) -> watch::Receiver<SessionState> {
        self.state.clone()
    }

    fn state_now(&self) -> SessionState {
        *self.state.borrow()
    }

    fn get<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Node, TreeError>> {
        ready(self.read(path, |state| state.get(path))).boxed()
    }

    fn children<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Vec<String>, TreeError>> {
        ready(self.read(path, |state| state.children(path))).boxed()
    }

    fn subtree<'a>(
        &'a self,
        root: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(String, Node)>, TreeError>> {
        let state = self.read(root, |state| Some(state.clone()));
        ready(state.map(|state| state.subtree(root))).boxed()
    }

    fn multi(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<Vec<OpResult>, MultiError>> {
        self.write(ops).boxed()
    }

    fn watch<'a>(&'a self, roots: &'a [&'a str]) -> BoxFuture<'a, Result<Watcher, TreeError>> {
        ready(self.watch_now(roots)).boxed()
    }

    fn max_multi(&self) -> MultiLimits {
        EMBEDDED_LIMITS
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.shared.end(self.session).boxed()
    }
}

#[cfg(test)]
mod tests;
