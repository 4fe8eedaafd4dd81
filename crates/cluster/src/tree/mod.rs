//! A tree of versioned nodes with sessions, watches and compare-and-set.
//!
//! One trait, several homes: [`embedded`] keeps the tree in a file, [`zookeeper`] in an ensemble, and
//! the simulator serves the same trait. The suite `conformance` says what every home has to do.
//!
//! A [`Tree`] is *one session*: what it watches, what it has read and the ephemeral nodes that it
//! created belong together and end together. After [`SessionState::Expired`] a new one comes from
//! [`Home::connect`] and starts from nothing (CLUSTER.md R6).

pub mod embedded;
mod error;
pub mod path;
pub mod state;
mod walk;
mod watcher;
pub mod zookeeper;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::watch;

pub use error::{MultiError, TreeError};
pub use watcher::{EventKind, WATCH_EVENTS_MAX, WatchEvent, WatchQueue, Watcher};

/// Bytes of one node's data at most; ZooKeeper's `jute.maxbuffer` is 1 MiB by default.
pub const NODE_BYTES_MAX: usize = 512 * 1024;
/// Bytes of one multi at most, paths and data together (R30).
pub const MULTI_BYTES_MAX: usize = 512 * 1024;
/// Operations in one multi at most (R30).
pub const MULTI_OPS_MAX: usize = 100;
/// Reads that one call has under way at a time at most, where the home sets no lower bound.
pub const READS_IN_FLIGHT_MAX: usize = 128;

/// What a home takes in one multi.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MultiLimits {
    /// Operations at most.
    pub ops: usize,
    /// Bytes of paths and data at most.
    pub bytes: usize,
}

impl MultiLimits {
    /// What ZooKeeper takes with its default settings.
    pub const ZOOKEEPER: MultiLimits = MultiLimits { ops: MULTI_OPS_MAX, bytes: MULTI_BYTES_MAX };
}

/// Names one session; never used twice by a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub i64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// How a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Requests are answered.
    Connected,
    /// The connection is gone, the session may still live. Nothing new is written (R10).
    Suspended,
    /// Two thirds of the session's time-out have passed without an answer (R4); others may already
    /// have been told that this session is over.
    Lost,
    /// Over for good; its ephemeral nodes are gone or about to go.
    Expired,
}

/// What is known about a node besides its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Number of times the data was set since the node was created. A token for compare-and-set and
    /// nothing else: it starts at 0 again when the node, or the whole tree, is made anew.
    pub version: i32,
    /// The session that an ephemeral node ends with.
    pub owner: Option<SessionId>,
}

/// A node as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its content.
    pub data: Bytes,
    /// Version and owner.
    pub stat: Stat,
}

/// How long a node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateMode {
    /// Until it is deleted.
    Persistent,
    /// Until it is deleted or its session ends. It can have no children.
    Ephemeral,
}

/// One step of a multi.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Fails unless the node is there with this version.
    Check {
        /// Node.
        path: String,
        /// Version it must have; `None`: any.
        expected: Option<i32>,
    },
    /// Makes a node under an existing parent.
    Create {
        /// Node.
        path: String,
        /// Its content.
        data: Bytes,
        /// How long it lives.
        mode: CreateMode,
    },
    /// Replaces a node's content.
    Set {
        /// Node.
        path: String,
        /// Its new content.
        data: Bytes,
        /// Version it must have; `None`: any.
        expected: Option<i32>,
    },
    /// Removes a node without children.
    Delete {
        /// Node.
        path: String,
        /// Version it must have; `None`: any.
        expected: Option<i32>,
    },
}

impl Op {
    /// [`Op::Check`] of a version.
    pub fn check(path: impl Into<String>, version: i32) -> Op {
        Op::Check { path: path.into(), expected: Some(version) }
    }

    /// [`Op::Create`] of a persistent node.
    pub fn create(path: impl Into<String>, data: impl Into<Bytes>) -> Op {
        Op::Create { path: path.into(), data: data.into(), mode: CreateMode::Persistent }
    }

    /// [`Op::Create`] of an ephemeral node.
    pub fn create_ephemeral(path: impl Into<String>, data: impl Into<Bytes>) -> Op {
        Op::Create { path: path.into(), data: data.into(), mode: CreateMode::Ephemeral }
    }

    /// [`Op::Set`] at a version.
    pub fn set(path: impl Into<String>, data: impl Into<Bytes>, expected: i32) -> Op {
        Op::Set { path: path.into(), data: data.into(), expected: Some(expected) }
    }

    /// [`Op::Delete`] at a version.
    pub fn delete(path: impl Into<String>, expected: i32) -> Op {
        Op::Delete { path: path.into(), expected: Some(expected) }
    }

    /// Whether it makes a node that ends with the session.
    pub fn is_ephemeral(&self) -> bool {
        matches!(self, Op::Create { mode: CreateMode::Ephemeral, .. })
    }

    /// The node it is about.
    pub fn path(&self) -> &str {
        match self {
            Op::Check { path, .. }
            | Op::Create { path, .. }
            | Op::Set { path, .. }
            | Op::Delete { path, .. } => path,
        }
    }

    /// Bytes that it counts for in [`MultiLimits`].
    pub fn bytes(&self) -> usize {
        let data = match self {
            Op::Create { data, .. } | Op::Set { data, .. } => data.len(),
            Op::Check { .. } | Op::Delete { .. } => 0,
        };
        self.path().len() + data + OP_OVERHEAD_BYTES
    }
}

/// Headers, lengths and access rights that ZooKeeper sends with each operation.
const OP_OVERHEAD_BYTES: usize = 64;

/// What one step of a multi did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// The check held.
    Checked,
    /// The node is there now.
    Created(Stat),
    /// The node has this version now.
    Set(Stat),
    /// The node is gone.
    Deleted,
}

/// Where a tree lives.
pub trait Home: Send + Sync + 'static {
    /// Begins a session.
    fn connect(&self) -> BoxFuture<'_, Result<Arc<dyn Tree>, TreeError>>;
}

/// One session with a tree.
///
/// Writes are atomic and totally ordered. Reads see every write that this session has had confirmed,
/// and may trail what others wrote. A watch stands before the call that set it returns; an event
/// arrives at its watcher before a read of the same session can show the change that it is about, or
/// soon after: never act on an event, read again.
pub trait Tree: Send + Sync + 'static {
    /// Which session this is.
    fn session(&self) -> SessionId;

    /// How the session is, and every change of that.
    fn state(&self) -> watch::Receiver<SessionState>;

    /// How the session is at this very moment. A thread that was stopped for a while learns here what
    /// [`Tree::state`] tells only once the task behind it has run (R4).
    fn state_now(&self) -> SessionState {
        *self.state().borrow()
    }

    /// Reads a node.
    fn get<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Node, TreeError>>;

    /// The names of a node's children, sorted.
    fn children<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Vec<String>, TreeError>>;

    /// Does all of `ops` in order, or nothing. While the session is suspended it waits for the
    /// connection; once the session is lost it is refused, with nothing written.
    fn multi(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<Vec<OpResult>, MultiError>>;

    /// Makes what this session reads from now on no older than this moment: a write that changes
    /// nothing, as only a write goes through the tree's leader. In a new session the first read may
    /// otherwise be older than what the last session saw (R6).
    fn catch_up(&self) -> BoxFuture<'_, Result<(), TreeError>> {
        let nothing = Op::Check { path: "/".to_owned(), expected: None };
        Box::pin(async move {
            self.multi(vec![nothing]).await.map(|_| ()).map_err(|failed| failed.error)
        })
    }

    /// Watches the nodes at and below each of `roots`, whether they exist yet or not, until the
    /// watcher is dropped or the session ends.
    fn watch<'a>(&'a self, roots: &'a [&'a str]) -> BoxFuture<'a, Result<Watcher, TreeError>>;

    /// What fits into one multi.
    fn max_multi(&self) -> MultiLimits;

    /// Ends the session; its ephemeral nodes are gone when this returns.
    fn close(&self) -> BoxFuture<'_, ()>;

    /// Reads that one call may have under way at a time, at least 1: whoever else asks something in
    /// this session waits for so many.
    fn reads_in_flight_max(&self) -> usize {
        READS_IN_FLIGHT_MAX
    }

    /// A node with all below it, parents first, siblings by name; nothing where there is no such node.
    /// No moment of the tree: each node as it was when it was read, and one that came or went meanwhile
    /// may be there or not. Who has set a watch before is told of all that.
    fn subtree<'a>(
        &'a self,
        root: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(String, Node)>, TreeError>> {
        walk::walk(root, self.reads_in_flight_max(), move |path| walk::visit(self, path)).boxed()
    }

    /// As [`Tree::find`] of each of `paths`, in their order, many under way at a time.
    fn find_all<'a>(
        &'a self,
        paths: &'a [String],
    ) -> BoxFuture<'a, Result<Vec<Option<Node>>, TreeError>> {
        let finds = stream::iter(paths).map(move |path| self.find(path));
        finds.buffered(self.reads_in_flight_max()).try_collect().boxed()
    }

    /// A node, or `None` where there is none.
    fn find<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Node>, TreeError>> {
        Box::pin(async move {
            match self.get(path).await {
                Ok(node) => Ok(Some(node)),
                Err(TreeError::NoNode { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    /// One [`Op::Create`] by itself.
    fn create<'a>(
        &'a self,
        path: &'a str,
        data: Bytes,
        mode: CreateMode,
    ) -> BoxFuture<'a, Result<Stat, TreeError>> {
        Box::pin(single(self, Op::Create { path: path.to_owned(), data, mode }))
    }

    /// One [`Op::Set`] by itself.
    fn set<'a>(
        &'a self,
        path: &'a str,
        data: Bytes,
        expected: Option<i32>,
    ) -> BoxFuture<'a, Result<Stat, TreeError>> {
        Box::pin(single(self, Op::Set { path: path.to_owned(), data, expected }))
    }

    /// One [`Op::Delete`] by itself.
    fn delete<'a>(
        &'a self,
        path: &'a str,
        expected: Option<i32>,
    ) -> BoxFuture<'a, Result<(), TreeError>> {
        let op = Op::Delete { path: path.to_owned(), expected };
        Box::pin(async move { self.multi(vec![op]).await.map(|_| ()).map_err(|e| e.error) })
    }
}

async fn single<T: Tree + ?Sized>(tree: &T, op: Op) -> Result<Stat, TreeError> {
    let results = tree.multi(vec![op]).await.map_err(|failed| failed.error)?;
    match results.as_slice() {
        [OpResult::Created(stat) | OpResult::Set(stat)] => Ok(*stat),
        other => panic!("one create or set was answered by {other:?}"),
    }
}
