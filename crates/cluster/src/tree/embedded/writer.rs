//! The one task that changes an embedded tree: gathers, applies, syncs, shows, answers.

use std::sync::{Arc, Weak};

use klamm_env::Threads;
use klamm_env::threads::run_blocking;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use super::store::{AppendError, Store};
use super::{Committed, Shared};
use crate::tree::state::{Change, TreeState};
use crate::tree::{EventKind, MultiError, Op, OpResult, SessionId, TreeError};

/// Operations gathered for one sync at most, unless one multi alone has more.
const GROUP_OPS_MAX: usize = 16 * 1024;

type Answer = Result<Vec<OpResult>, MultiError>;

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Task {
    Multi { session: SessionId, ops: Vec<Op>, reply: oneshot::Sender<Answer> },
    End { session: SessionId, done: oneshot::Sender<()> },
}

pub(super) struct Writer {
    shared: Weak<Shared>,
    /// What the tree will be once everything gathered is on disk.
    state: TreeState,
    store: Option<Store>,
    threads: Arc<dyn Threads>,
}

/// Tasks that share one sync.
#[derive(Default)]
struct Group {
    changes: Vec<Change>,
    events: Vec<(EventKind, Arc<str>)>,
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
    ended: Vec<(SessionId, oneshot::Sender<()>)>,
}

impl Writer {
    pub(super) fn new(
        shared: Weak<Shared>,
        state: TreeState,
        store: Store,
        threads: Arc<dyn Threads>,
    ) -> Writer {
        Writer { shared, state, store: Some(store), threads }
    }

    pub(super) async fn run(mut self, mut tasks: mpsc::Receiver<Task>) {
        while let Some(first) = tasks.recv().await {
            let Some(shared) = self.shared.upgrade() else { return };
            let before = self.state.clone();
            let group = self.gather(&shared, first, &mut tasks);
            match self.write(&group.changes).await {
                Ok(()) => self.show(&shared, group),
                Err(lack @ (AppendError::Full | AppendError::Short)) => {
                    warn!("{lack}: a change of the tree is refused");
                    self.state = before;
                    self.refuse(&shared, group);
                }
                Err(AppendError::Failed(failure)) => {
                    error!(%failure, "the tree cannot be written any more; its sessions end");
                    // Dropped replies say that the outcome is unknown.
                    shared.lock().fail();
                    return;
                }
            }
        }
    }

    fn gather(&mut self, shared: &Shared, first: Task, tasks: &mut mpsc::Receiver<Task>) -> Group {
        let mut group = Group::default();
        let mut next = Some(first);
        let mut ops_gathered = 0;
        while let Some(task) = next {
            match task {
                Task::Multi { session, ops, reply } => {
                    ops_gathered += ops.len();
                    let alive = shared.lock().sessions.contains_key(&session)
                        && !group.ended.iter().any(|(ended, _)| *ended == session);
                    let answer =
                        if alive { self.apply(session, &ops, &mut group) } else { expired() };
                    group.answers.push((reply, answer));
                }
                Task::End { session, done } => {
                    group.events.extend(self.state.end_session(session));
                    group.ended.push((session, done));
                }
            }
            next = if ops_gathered < GROUP_OPS_MAX { tasks.try_recv().ok() } else { None };
        }
        group
    }

    fn apply(&mut self, session: SessionId, ops: &[Op], group: &mut Group) -> Answer {
        let applied = self.state.apply(session, ops)?;
        group.changes.extend(applied.changes);
        group.events.extend(applied.events);
        Ok(applied.results)
    }

    async fn write(&mut self, changes: &[Change]) -> Result<(), AppendError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut store = self.store.take().expect("put back below");
        let changes = changes.to_vec();
        let state = self.state.clone();
        let (store, result) = run_blocking(&*self.threads, move || {
            let result = store.append(&changes);
            if result.is_ok() && store.is_overgrown() {
                store.compact(&state);
            }
            (store, result)
        })
        .await;
        self.store = Some(store);
        result
    }

    fn show(&self, shared: &Shared, group: Group) {
        let mut committed = shared.lock();
        committed.state = self.state.clone();
        committed.notify(&group.events);
        end_all(&mut committed, group.ended);
        drop(committed);
        for (reply, answer) in group.answers {
            // Nobody waits any more: the change stands all the same.
            let _ = reply.send(answer);
        }
    }

    /// Nothing was written. What failed by itself keeps its own error; sessions end all the same.
    fn refuse(&mut self, shared: &Shared, group: Group) {
        let mut events = Vec::new();
        for (session, _) in &group.ended {
            events.extend(self.state.end_session(*session));
        }
        let mut committed = shared.lock();
        committed.state = self.state.clone();
        committed.notify(&events);
        end_all(&mut committed, group.ended);
        drop(committed);
        for (reply, answer) in group.answers {
            let _ = reply.send(answer.and(Err(TreeError::StorageFull.into())));
        }
    }
}

fn expired() -> Answer {
    Err(TreeError::SessionExpired.into())
}

fn end_all(committed: &mut Committed, ended: Vec<(SessionId, oneshot::Sender<()>)>) {
    for (session, done) in ended {
        committed.end(session);
        let _ = done.send(());
    }
}
