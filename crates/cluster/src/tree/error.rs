//! What can go wrong with a tree.

use thiserror::Error;

/// Why an operation failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TreeError {
    /// The node, or the parent of a node to be created, is not there.
    #[error("there is no node {path}")]
    NoNode {
        /// Node asked for.
        path: String,
    },
    /// The node to be created is there already.
    #[error("node {path} exists already")]
    NodeExists {
        /// Node to be created.
        path: String,
    },
    /// The node has another version.
    #[error("node {path} is not at version {expected}")]
    BadVersion {
        /// Node.
        path: String,
        /// The version that it should have had.
        expected: i32,
    },
    /// The node to be deleted has children.
    #[error("node {path} has children")]
    NotEmpty {
        /// Node to be deleted.
        path: String,
    },
    /// A child of an ephemeral node was to be created.
    #[error("node {path} is ephemeral and can have no children")]
    NoChildrenForEphemerals {
        /// The ephemeral parent.
        path: String,
    },
    /// No node can have this path.
    #[error("{path:?} is no path of a node: {reason}")]
    InvalidPath {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More than the home takes at once.
    #[error("{what} of {size} are more than the {max} that fit")]
    TooLarge {
        /// What was measured.
        what: &'static str,
        /// How much it was.
        size: usize,
        /// How much is allowed.
        max: usize,
    },
    /// Nothing was written: the disk is full, or a quota is used up.
    #[error("the disk of the tree is full")]
    StorageFull,
    /// Nothing was done: the node's access list does not let this session.
    #[error("access to node {path} is denied; it belongs to somebody with other credentials")]
    AccessDenied {
        /// Node.
        path: String,
    },
    /// No session could be begun.
    #[error("no session with the tree: {reason}")]
    Unavailable {
        /// Which servers were tried, and what they said.
        reason: String,
    },
    /// Nothing was written: the session's lease has run out (R4, R5). It may come back.
    #[error("nothing is written: the tree's leader has not answered for too long")]
    SessionLost,
    /// The session is over.
    #[error("the session with the tree is over")]
    SessionExpired,
    /// No answer came: **the operation may or may not have happened** (R27).
    #[error("the connection to the tree was lost; the outcome is unknown")]
    ConnectionLoss,
}

impl TreeError {
    /// Whether the operation may have happened all the same.
    pub fn is_unclear(&self) -> bool {
        matches!(self, TreeError::ConnectionLoss)
    }

    /// Whether another writer's change came first.
    pub fn is_conflict(&self) -> bool {
        matches!(
            self,
            TreeError::NoNode { .. }
                | TreeError::NodeExists { .. }
                | TreeError::BadVersion { .. }
                | TreeError::NotEmpty { .. }
        )
    }
}

/// Why a multi failed as a whole.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{error}")]
pub struct MultiError {
    /// The first operation that failed; `None` when it was not about one of them.
    pub index: Option<usize>,
    /// What was wrong with it.
    #[source]
    pub error: TreeError,
}

impl MultiError {
    /// Operation `index` failed.
    pub fn at(index: usize, error: TreeError) -> MultiError {
        MultiError { index: Some(index), error }
    }
}

impl From<TreeError> for MultiError {
    fn from(error: TreeError) -> MultiError {
        MultiError { index: None, error }
    }
}
