//! A broker's way into the tree (R1): the tree is ours, the broker is in it.

use std::collections::BTreeMap;

use thiserror::Error;
use uuid::Uuid;

use crate::nodes::broker::{EpochNode, RegistrationNode};
use crate::nodes::cluster::{ClusterNode, FORMAT};
use crate::nodes::controller::ControllerEpochNode;
use crate::nodes::features::FeaturesNode;
use crate::nodes::producer_ids::ProducerIdsNode;
use crate::nodes::{DecodeError, NodeKey, SKELETON, Versioned, decode, encode};
use crate::tree::{MultiError, Op, Tree, TreeError};

/// Times that a compare-and-set is tried again after an unclear answer.
const TRIES_MAX: usize = 5;
/// Where the brokers are that are there.
const BROKERS_FOLDER: &str = "/brokers/ids";

/// Why a broker is not in the tree.
#[derive(Debug, Error)]
pub enum RegistrationError {
    /// The home failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A node is not readable, or from the future.
    #[error(transparent)]
    Node(#[from] DecodeError),
    /// Somebody else's tree.
    #[error(
        "the tree is not Klamm's: there is no /klamm, but there is {found}; \
         use an empty tree, or a chroot of its own"
    )]
    ForeignTree {
        /// One node that is there.
        found: String,
    },
    /// A broker's own tree was on its way here when the move was broken off.
    #[error(
        "the tree of cluster {id} has not been moved here completely: start the broker again that \
         has it on its disk"
    )]
    Incomplete {
        /// Whose tree it is to be.
        id: String,
    },
    /// Another broker keeps committed offsets in another place.
    #[error(
        "broker {other} runs with offsets.storage={theirs} and this one has {own}: all brokers of a \
         cluster keep committed offsets in the same place; stop all of them to change it"
    )]
    OffsetsElsewhere {
        /// The other one.
        other: String,
        /// Its `offsets.storage`.
        theirs: &'static str,
        /// That of this one.
        own: &'static str,
    },
    /// Another broker has registered under this id since it was read.
    #[error("broker id {id} was registered by another process in the meantime")]
    Overtaken {
        /// The id.
        id: i32,
    },
}

impl From<MultiError> for RegistrationError {
    fn from(failed: MultiError) -> RegistrationError {
        RegistrationError::Tree(failed.error)
    }
}

/// Reads `/klamm`; sets the tree up with `new_cluster_id` when it is empty. To be called first in a
/// session: what is read after it is not older than what any earlier session saw.
///
/// # Errors
/// [`RegistrationError::ForeignTree`], a format from the future, or the home's.
pub async fn open_cluster(
    tree: &dyn Tree,
    new_cluster_id: &str,
) -> Result<ClusterNode, RegistrationError> {
    let path = NodeKey::Cluster.path();
    for _ in 0..TRIES_MAX {
        match tree.catch_up().await {
            Err(error) if error.is_unclear() => continue,
            caught_up => caught_up?,
        }
        if let Some(node) = tree.find(&path).await? {
            let node: ClusterNode = decode(&path, &node.data)?;
            let id = node.cluster_id.clone();
            return if node.incomplete {
                Err(RegistrationError::Incomplete { id })
            } else {
                Ok(node)
            };
        }
        refuse_foreign(tree).await?;
        let cluster_id = new_cluster_id.to_owned();
        let node = ClusterNode { format: FORMAT, cluster_id, incomplete: false };
        match tree.multi(set_up(&node)).await {
            Ok(_) => return Ok(node),
            Err(failed) if failed.error.is_unclear() || failed.error.is_conflict() => {}
            Err(failed) => return Err(failed.into()),
        }
    }
    Err(TreeError::ConnectionLoss.into())
}

/// # Errors
/// [`RegistrationError::ForeignTree`] where there are nodes, but no `/klamm`.
pub(crate) async fn refuse_foreign(tree: &dyn Tree) -> Result<(), RegistrationError> {
    let children = tree.children("/").await?;
    if children.iter().any(|name| name == "klamm") {
        // Set up by another broker since it was looked for: the next look finds it.
        return Ok(());
    }
    match children.into_iter().find(|name| name != "zookeeper") {
        Some(name) => Err(RegistrationError::ForeignTree { found: format!("/{name}") }),
        None => Ok(()),
    }
}

fn set_up(node: &ClusterNode) -> Vec<Op> {
    let mut ops = vec![Op::create(NodeKey::Cluster.path(), encode(node))];
    ops.extend(SKELETON.iter().map(|path| Op::create(*path, "")));
    let epoch = encode(&ControllerEpochNode::default());
    let producer_ids = encode(&ProducerIdsNode::default());
    let features = FeaturesNode { features: BTreeMap::new(), epoch: 0 };
    ops.push(Op::create(NodeKey::ControllerEpoch.path(), epoch));
    ops.push(Op::create(NodeKey::ProducerIds.path(), producer_ids));
    ops.push(Op::create(NodeKey::Features.path(), encode(&features)));
    ops
}

/// The broker's last registration.
///
/// # Errors
/// When the node cannot be read.
pub async fn last_registration(
    tree: &dyn Tree,
    id: i32,
) -> Result<Option<Versioned<EpochNode>>, RegistrationError> {
    let path = NodeKey::BrokerEpoch(id).path();
    let Some(node) = tree.find(&path).await? else { return Ok(None) };
    Ok(Some(Versioned { value: decode(&path, &node.data)?, version: node.stat.version }))
}

/// The broker's last registration, when none of epoch `attempted` can follow it any more: a process
/// that was killed between sending one and hearing of it may have left it on its way, and its pair
/// must not be forgotten while it may still come (R2). An unchanged write takes its version from it.
///
/// # Errors
/// When the node cannot be read or written.
pub async fn settled_registration(
    tree: &dyn Tree,
    id: i32,
    attempted: &[i64],
) -> Result<Option<Versioned<EpochNode>>, RegistrationError> {
    for _ in 0..TRIES_MAX {
        // Without any registration the broker has confirmed nothing that could be forgotten.
        let Some(last) = last_registration(tree, id).await? else { return Ok(None) };
        if !attempted.contains(&(last.epoch + 1)) {
            return Ok(Some(last));
        }
        let unchanged = encode(&last.value);
        let set = Op::set(NodeKey::BrokerEpoch(id).path(), unchanged, last.version);
        match tree.multi(vec![set]).await {
            Ok(_) => return Ok(Some(Versioned { version: last.version + 1, ..last })),
            Err(failed) if failed.error.is_unclear() || failed.error.is_conflict() => {}
            Err(failed) => return Err(failed.into()),
        }
    }
    Err(TreeError::ConnectionLoss.into())
}

/// One registration to be made.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The broker.
    pub id: i32,
    /// What it says of itself.
    pub node: RegistrationNode,
    /// Its next epoch, by [`crate::restart::next_epoch`].
    pub epoch: EpochNode,
    /// Version at which its last registration was read; `None`: there was none.
    pub expected: Option<i32>,
    /// Earlier processes on this broker's own data directory, which its lock proves to be gone.
    pub earlier_incarnations: Vec<Uuid>,
}

impl Registration {
    fn ops(&self) -> Vec<Op> {
        let epochs = NodeKey::BrokerEpoch(self.id).path();
        let epoch = encode(&self.epoch);
        vec![
            Op::create_ephemeral(NodeKey::Broker(self.id).path(), encode(&self.node)),
            match self.expected {
                Some(version) => Op::set(epochs, epoch, version),
                None => Op::create(epochs, epoch),
            },
        ]
    }
}

/// Registers a broker: its ephemeral node and its epoch in one step. Where another session still holds
/// the id, waits until it is gone, unless it was an earlier process on the same data directory: that
/// one's node is deleted.
///
/// # Errors
/// [`RegistrationError`].
pub async fn register(
    tree: &dyn Tree,
    registration: &Registration,
) -> Result<(), RegistrationError> {
    let path = NodeKey::Broker(registration.id).path();
    let mut watcher = tree.watch(&[&path]).await?;
    let mut unclear = 0;
    loop {
        match tree.multi(registration.ops()).await {
            Ok(_) => return Ok(()),
            Err(failed) if failed.error.is_unclear() && unclear < TRIES_MAX => unclear += 1,
            Err(failed) if failed.error.is_conflict() => {}
            Err(failed) => return Err(failed.into()),
        }
        match standing(tree, registration).await? {
            Standing::Registered => return Ok(()),
            Standing::Free => {}
            Standing::Overtaken => {
                return Err(RegistrationError::Overtaken { id: registration.id });
            }
            Standing::OwnPast { version } => drop_own_past(tree, &path, version).await?,
            Standing::Held => {
                if watcher.next().await.is_none() {
                    return Err(TreeError::SessionExpired.into());
                }
            }
        }
    }
}

/// The values of `offsets.storage`.
fn offsets_storage(in_tree: bool) -> &'static str {
    if in_tree { "zookeeper" } else { "kafka" }
}

/// Whether all other brokers that are registered keep committed offsets where this one does. Of two
/// that come at the same time at least one finds the other, if each looks once it is registered.
///
/// # Errors
/// [`RegistrationError::OffsetsElsewhere`], or the home's.
pub async fn agree_on_offsets(
    tree: &dyn Tree,
    id: i32,
    in_tree: bool,
) -> Result<(), RegistrationError> {
    let own = id.to_string();
    for other in tree.children(BROKERS_FOLDER).await?.into_iter().filter(|name| *name != own) {
        let path = crate::tree::path::join(BROKERS_FOLDER, &other);
        let Some(node) = tree.find(&path).await? else { continue };
        let node: RegistrationNode = decode(&path, &node.data)?;
        if node.offsets_in_tree != in_tree {
            let (theirs, own) = (offsets_storage(node.offsets_in_tree), offsets_storage(in_tree));
            return Err(RegistrationError::OffsetsElsewhere { other, theirs, own });
        }
    }
    Ok(())
}

enum Standing {
    Registered,
    Free,
    Overtaken,
    OwnPast { version: i32 },
    Held,
}

/// What the tree says of a registration that was tried.
async fn standing(
    tree: &dyn Tree,
    registration: &Registration,
) -> Result<Standing, RegistrationError> {
    let epoch = last_registration(tree, registration.id).await?;
    let path = NodeKey::Broker(registration.id).path();
    let holder = tree.find(&path).await?;
    let done = epoch.as_ref().is_some_and(|epoch| epoch.value == registration.epoch);
    if done && holder.as_ref().is_some_and(|node| node.stat.owner == Some(tree.session())) {
        return Ok(Standing::Registered);
    }
    if epoch.as_ref().map(|epoch| epoch.version) != registration.expected {
        return Ok(Standing::Overtaken);
    }
    let Some(holder) = holder else { return Ok(Standing::Free) };
    let node: RegistrationNode = decode(&path, &holder.data)?;
    if registration.earlier_incarnations.contains(&node.incarnation) {
        return Ok(Standing::OwnPast { version: holder.stat.version });
    }
    Ok(Standing::Held)
}

async fn drop_own_past(tree: &dyn Tree, path: &str, version: i32) -> Result<(), TreeError> {
    match tree.delete(path, Some(version)).await {
        Err(error) if !error.is_conflict() && !error.is_unclear() => Err(error),
        _ => Ok(()),
    }
}

/// Tells the cluster that the broker is about to stop: it gets no new leadership, and what others can
/// lead is moved.
///
/// # Errors
/// When the tree cannot be written, or the registration is not the broker's own any more.
pub async fn begin_shutdown(tree: &dyn Tree, id: i32, epoch: i64) -> Result<(), RegistrationError> {
    for _ in 0..TRIES_MAX {
        let current = last_registration(tree, id).await?;
        let Some(current) = current.filter(|current| current.epoch == epoch) else {
            return Err(RegistrationError::Overtaken { id });
        };
        if current.shutting_down {
            return Ok(());
        }
        let next = EpochNode { shutting_down: true, ..current.value };
        let set = Op::set(NodeKey::BrokerEpoch(id).path(), encode(&next), current.version);
        match tree.multi(vec![set]).await {
            Ok(_) => return Ok(()),
            Err(failed) if failed.error.is_unclear() || failed.error.is_conflict() => {}
            Err(failed) => return Err(failed.into()),
        }
    }
    Err(TreeError::ConnectionLoss.into())
}
