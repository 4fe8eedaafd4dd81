//! Moving a tree from one home into another: from the file of a single broker into an ensemble.
//!
//! ```text
//! /klamm {incomplete} -> every lasting node, parents first -> /klamm {complete}
//! ```
//! Until the last step nobody takes the tree for one. A move that was broken off is gone on with: what
//! is there already stays, what differs is written anew. Only whoever holds the old home exclusively may
//! move it, so there is one mover. Ephemeral nodes stay behind: they end with their sessions. Epochs
//! are numbers inside the nodes and come along; versions begin at 0.

use std::collections::BTreeMap;

use bytes::Bytes;
use thiserror::Error;

use crate::nodes::cluster::ClusterNode;
use crate::nodes::{DecodeError, NodeKey, decode, encode};
use crate::registration::{RegistrationError, refuse_foreign};
use crate::tree::{MultiError, MultiLimits, Op, Tree, TreeError};

/// Why a tree was not moved.
#[derive(Debug, Error)]
pub enum MoveError {
    /// One of the homes failed; the move can be tried again.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A node is not readable.
    #[error(transparent)]
    Node(#[from] DecodeError),
    /// The new home holds somebody else's nodes.
    #[error(transparent)]
    Foreign(RegistrationError),
    /// The new home has a tree.
    #[error("there is a tree of cluster {found} already; this one is cluster {own}'s")]
    OtherCluster {
        /// Whose tree is there.
        found: String,
        /// Whose was to be moved.
        own: String,
    },
    /// The old home holds no tree.
    #[error("there is no tree to move")]
    Nothing,
}

impl From<MultiError> for MoveError {
    fn from(failed: MultiError) -> MoveError {
        MoveError::Tree(failed.error)
    }
}

/// What a move found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// So many nodes were written.
    Nodes(usize),
    /// The whole tree was there already.
    Before,
}

/// Moves all lasting nodes of `from` into `to`, which is empty or holds what an earlier move left.
///
/// # Errors
/// [`MoveError`]; `from` is unchanged, and the move may be tried again.
pub async fn move_tree(from: &dyn Tree, to: &dyn Tree) -> Result<Moved, MoveError> {
    let path = NodeKey::Cluster.path();
    let own = from.find(&path).await?.ok_or(MoveError::Nothing)?;
    let own: ClusterNode = decode(&path, &own.data)?;
    to.catch_up().await?;
    let version = match to.find(&path).await? {
        None => begin(to, &path, &own).await?,
        Some(there) => {
            let found: ClusterNode = decode(&path, &there.data)?;
            if found.cluster_id != own.cluster_id {
                let own = own.cluster_id;
                return Err(MoveError::OtherCluster { found: found.cluster_id, own });
            }
            if !found.incomplete {
                return Ok(Moved::Before);
            }
            there.stat.version
        }
    };
    let missing = missing(from, to, &path).await?;
    let count = missing.len();
    for ops in batches(missing, to.max_multi()) {
        to.multi(ops).await?;
    }
    let complete = encode(&ClusterNode { incomplete: false, ..own });
    to.set(&path, complete, Some(version)).await?;
    Ok(Moved::Nodes(count))
}

async fn begin(to: &dyn Tree, path: &str, own: &ClusterNode) -> Result<i32, MoveError> {
    refuse_foreign(to).await.map_err(MoveError::Foreign)?;
    let node = ClusterNode { incomplete: true, ..own.clone() };
    to.multi(vec![Op::create(path, encode(&node))]).await?;
    Ok(0)
}

/// What `to` lacks of `from`, parents first.
async fn missing(from: &dyn Tree, to: &dyn Tree, cluster: &str) -> Result<Vec<Op>, MoveError> {
    let there: BTreeMap<String, (Bytes, i32)> = to
        .subtree("/")
        .await?
        .into_iter()
        .map(|(path, node)| (path, (node.data, node.stat.version)))
        .collect();
    let lasting = from.subtree("/").await?.into_iter().filter(|(path, node)| {
        path != "/" && path != cluster && path != "/zookeeper" && node.stat.owner.is_none()
    });
    let op = |(path, node): (String, crate::tree::Node)| match there.get(&path) {
        Some((data, _)) if *data == node.data => None,
        Some((_, version)) => Some(Op::set(path, node.data, *version)),
        None => Some(Op::create(path, node.data)),
    };
    Ok(lasting.filter_map(op).collect())
}

/// As few multis as the limits allow (R30); each prefix of them is a beginning that can be gone on
/// with.
fn batches(ops: Vec<Op>, limits: MultiLimits) -> Vec<Vec<Op>> {
    let mut batches: Vec<Vec<Op>> = Vec::new();
    let mut bytes = 0;
    for op in ops {
        match batches.last_mut() {
            Some(last) if last.len() < limits.ops && bytes + op.bytes() <= limits.bytes => {
                bytes += op.bytes();
                last.push(op);
            }
            _ => {
                bytes = op.bytes();
                batches.push(vec![op]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use klamm_env::{Env, Loop};
    use tempfile::TempDir;

    use super::*;
    use crate::registration::open_cluster;
    use crate::tree::embedded::EmbeddedHome;
    use crate::tree::{CreateMode, Home as _};

    async fn home() -> (TempDir, EmbeddedHome, Arc<dyn Tree>) {
        let (env, dir) = (Env::real().unwrap(), TempDir::new().unwrap());
        let path = dir.path().join("tree");
        let home = EmbeddedHome::open(&env, path, &Loop::current()).await.unwrap();
        let tree = home.connect().await.unwrap();
        (dir, home, tree)
    }

    async fn lasting(tree: &dyn Tree) -> Vec<(String, Bytes)> {
        let all = tree.subtree("/").await.unwrap().into_iter();
        all.filter(|(_, node)| node.stat.owner.is_none())
            .map(|(path, node)| (path, node.data))
            .collect()
    }

    /// A tree with more than one multi takes, and an ephemeral node.
    async fn worked_in(tree: &dyn Tree) {
        open_cluster(tree, "ours").await.unwrap();
        for n in 0..250 {
            let path = format!("/config/topics/t{n}");
            tree.create(&path, Bytes::from(vec![b'x'; n]), CreateMode::Persistent).await.unwrap();
        }
        let epoch = tree.get("/controller_epoch").await.unwrap();
        for n in 0..3 {
            let set = tree.set("/controller_epoch", epoch.data.clone(), Some(n)).await;
            set.unwrap();
        }
        let ids = Bytes::from_static(b"{}");
        tree.create("/brokers/ids/1", ids, CreateMode::Ephemeral).await.unwrap();
    }

    #[tokio::test]
    async fn hazard_86_what_lasts_comes_along_and_versions_do_not_matter() {
        let ((_a, _one, from), (_b, _two, to)) = (home().await, home().await);
        worked_in(&*from).await;
        assert!(matches!(move_tree(&*from, &*to).await.unwrap(), Moved::Nodes(250..)));
        assert_eq!(lasting(&*to).await, lasting(&*from).await);
        assert!(to.find("/brokers/ids/1").await.unwrap().is_none());
        assert_eq!(open_cluster(&*to, "another").await.unwrap().cluster_id, "ours");
        assert_eq!(move_tree(&*from, &*to).await.unwrap(), Moved::Before);
    }

    #[tokio::test]
    async fn what_was_broken_off_is_not_used_and_gone_on_with() {
        let ((_a, _one, from), (_b, _two, to)) = (home().await, home().await);
        worked_in(&*from).await;
        let own: ClusterNode = decode("/klamm", &from.get("/klamm").await.unwrap().data).unwrap();
        begin(&*to, "/klamm", &own).await.unwrap();
        for ops in
            batches(missing(&*from, &*to, "/klamm").await.unwrap(), to.max_multi()).drain(..1)
        {
            to.multi(ops).await.unwrap();
        }
        to.set("/controller_epoch", Bytes::from_static(b"older"), None)
            .await
            .unwrap_or(crate::tree::Stat { version: 0, owner: None });
        let refused = open_cluster(&*to, "another").await.unwrap_err();
        assert!(matches!(refused, RegistrationError::Incomplete { .. }), "{refused}");
        move_tree(&*from, &*to).await.unwrap();
        assert_eq!(lasting(&*to).await, lasting(&*from).await);
    }

    #[tokio::test]
    async fn other_peoples_trees_are_left_alone() {
        let ((_a, _one, from), (_b, _two, to)) = (home().await, home().await);
        assert!(matches!(move_tree(&*from, &*to).await, Err(MoveError::Nothing)));
        worked_in(&*from).await;
        to.create("/config", Bytes::new(), CreateMode::Persistent).await.unwrap();
        assert!(matches!(move_tree(&*from, &*to).await, Err(MoveError::Foreign(_))));
        to.delete("/config", None).await.unwrap();
        open_cluster(&*to, "theirs").await.unwrap();
        let before = lasting(&*to).await;
        assert!(matches!(move_tree(&*from, &*to).await, Err(MoveError::OtherCluster { .. })));
        assert_eq!(lasting(&*to).await, before);
    }
}
