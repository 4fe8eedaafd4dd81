//! The content of a tree and what operations do to it: pure, shared by the homes that keep a tree
//! themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use rpds::{RedBlackTreeMapSync as Map, RedBlackTreeSetSync as Set};

use super::{
    CreateMode, EventKind, MultiError, MultiLimits, NODE_BYTES_MAX, Node, Op, OpResult, SessionId,
    Stat, TreeError, path,
};

/// All nodes at one moment. A clone costs nothing; two clones share what they have in common.
#[derive(Clone, Debug)]
pub struct TreeState {
    nodes: Map<Arc<str>, Arc<Entry>>,
    ephemerals: BTreeMap<SessionId, BTreeSet<Arc<str>>>,
}

#[derive(Clone, Debug)]
struct Entry {
    data: Bytes,
    stat: Stat,
    children: Set<Arc<str>>,
}

/// A change of a persistent node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The node is like this now.
    Put {
        /// Node.
        path: Arc<str>,
        /// Its version.
        version: i32,
        /// Its content.
        data: Bytes,
    },
    /// The node is gone.
    Delete {
        /// Node.
        path: Arc<str>,
    },
}

/// What a multi did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// By operation.
    pub results: Vec<OpResult>,
    /// For the watchers.
    pub events: Vec<(EventKind, Arc<str>)>,
    /// What has to be kept beyond the process.
    pub changes: Vec<Change>,
}

impl Default for TreeState {
    fn default() -> Self {
        let mut nodes = Map::new_sync();
        nodes.insert_mut(Arc::from("/"), Arc::new(Entry::new(Bytes::new(), 0, None)));
        TreeState { nodes, ephemerals: BTreeMap::new() }
    }
}

impl Entry {
    fn new(data: Bytes, version: i32, owner: Option<SessionId>) -> Entry {
        Entry { data, stat: Stat { version, owner }, children: Set::new_sync() }
    }
}

impl TreeState {
    /// A node.
    pub fn get(&self, path: &str) -> Option<Node> {
        self.nodes.get(path).map(|entry| entry.node())
    }

    /// The sorted names of a node's children.
    pub fn children(&self, path: &str) -> Option<Vec<String>> {
        let entry = self.nodes.get(path)?;
        Some(entry.children.iter().map(|name| name.to_string()).collect())
    }

    /// A node with all below it, parents before their children.
    pub fn subtree(&self, root: &str) -> Vec<(String, Node)> {
        let named = |(path, entry): (&Arc<str>, &Arc<Entry>)| (path.to_string(), entry.node());
        if root == "/" {
            return self.nodes.iter().map(named).collect();
        }
        // '0' is the character after '/': the range holds exactly what begins with `root/`.
        let (first, end): (Arc<str>, Arc<str>) =
            (Arc::from(format!("{root}/")), Arc::from(format!("{root}0")));
        let own = self.nodes.get_key_value(root);
        own.into_iter().chain(self.nodes.range(first..end)).map(named).collect()
    }

    /// The persistent nodes, parents before their children, the root left out.
    pub fn persistent(&self) -> impl Iterator<Item = Change> + '_ {
        let kept =
            self.nodes.iter().filter(|(path, entry)| entry.stat.owner.is_none() && path.len() > 1);
        kept.map(|(path, entry)| Change::Put {
            path: Arc::clone(path),
            version: entry.stat.version,
            data: entry.data.clone(),
        })
    }

    /// Takes over a change from disk.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn restore(&mut self, change: Change) -> Result<(), String> {
        match change {
            Change::Put { path, version, data } => {
                path::check(&path).map_err(|error| error.to_string())?;
                if let Some(entry) = self.nodes.get_mut(&*path) {
                    let entry = Arc::make_mut(entry);
                    entry.data = data;
                    entry.stat.version = version;
                    return Ok(());
                }
                let parent = path::parent(&path).unwrap_or("/").to_owned();
                if !self.nodes.contains_key(&*parent) {
                    return Err(format!("node {path} has no parent"));
                }
                self.insert(&parent, path, Entry::new(data, version, None));
                Ok(())
            }
            Change::Delete { path } => match self.nodes.get(&*path) {
                Some(entry) if entry.children.is_empty() => {
                    self.remove(&path);
                    Ok(())
                }
                Some(_) => Err(format!("node {path} is deleted with children")),
                None => Err(format!("node {path} is deleted but not there")),
            },
        }
    }

    /// Does all of `ops` in order for `session`, or nothing.
    ///
    /// # Errors
    /// The first operation that failed.
    pub fn apply(&mut self, session: SessionId, ops: &[Op]) -> Result<Applied, MultiError> {
        let before = self.clone();
        let mut applied = Applied::default();
        for (index, op) in ops.iter().enumerate() {
            if let Err(error) = self.apply_one(session, op, &mut applied) {
                *self = before;
                return Err(MultiError::at(index, error));
            }
        }
        Ok(applied)
    }

    /// Removes the ephemeral nodes of a session that is over.
    pub fn end_session(&mut self, session: SessionId) -> Vec<(EventKind, Arc<str>)> {
        let owned = self.ephemerals.remove(&session).unwrap_or_default();
        for path in &owned {
            self.remove(path);
        }
        owned.into_iter().map(|path| (EventKind::Deleted, path)).collect()
    }

    fn apply_one(
        &mut self,
        session: SessionId,
        op: &Op,
        applied: &mut Applied,
    ) -> Result<(), TreeError> {
        path::check(op.path())?;
        let result = match op {
            Op::Check { path, expected } => {
                self.expect(path, *expected)?;
                OpResult::Checked
            }
            Op::Create { path, data, mode } => {
                OpResult::Created(self.create(session, path, data, *mode, applied)?)
            }
            Op::Set { path, data, expected } => {
                OpResult::Set(self.set(path, data, *expected, applied)?)
            }
            Op::Delete { path, expected } => {
                self.delete(path, *expected, applied)?;
                OpResult::Deleted
            }
        };
        applied.results.push(result);
        Ok(())
    }

    fn expect(&self, path: &str, expected: Option<i32>) -> Result<&Arc<Entry>, TreeError> {
        let Some(entry) = self.nodes.get(path) else {
            return Err(TreeError::NoNode { path: path.to_owned() });
        };
        match expected {
            Some(expected) if expected != entry.stat.version => {
                Err(TreeError::BadVersion { path: path.to_owned(), expected })
            }
            _ => Ok(entry),
        }
    }

    fn create(
        &mut self,
        session: SessionId,
        path: &str,
        data: &Bytes,
        mode: CreateMode,
        applied: &mut Applied,
    ) -> Result<Stat, TreeError> {
        check_data(data)?;
        if self.nodes.contains_key(path) {
            return Err(TreeError::NodeExists { path: path.to_owned() });
        }
        let parent = path::parent(path).expect("the root exists").to_owned();
        let above = self.nodes.get(&*parent);
        match above {
            None => return Err(TreeError::NoNode { path: parent }),
            Some(above) if above.stat.owner.is_some() => {
                return Err(TreeError::NoChildrenForEphemerals { path: parent });
            }
            Some(_) => {}
        }
        let owner = (mode == CreateMode::Ephemeral).then_some(session);
        let path: Arc<str> = Arc::from(path);
        self.insert(&parent, Arc::clone(&path), Entry::new(data.clone(), 0, owner));
        match owner {
            Some(owner) => {
                self.ephemerals.entry(owner).or_default().insert(Arc::clone(&path));
            }
            None => applied.changes.push(Change::Put {
                path: Arc::clone(&path),
                version: 0,
                data: data.clone(),
            }),
        }
        applied.events.push((EventKind::Created, path));
        Ok(Stat { version: 0, owner })
    }

    fn set(
        &mut self,
        path: &str,
        data: &Bytes,
        expected: Option<i32>,
        applied: &mut Applied,
    ) -> Result<Stat, TreeError> {
        check_data(data)?;
        self.expect(path, expected)?;
        let (path, _) = self.nodes.get_key_value(path).expect("just found");
        let path = Arc::clone(path);
        let entry = Arc::make_mut(self.nodes.get_mut(&*path).expect("just found"));
        entry.data = data.clone();
        entry.stat.version = entry.stat.version.wrapping_add(1);
        let stat = entry.stat;
        if stat.owner.is_none() {
            let (path, data) = (Arc::clone(&path), data.clone());
            applied.changes.push(Change::Put { path, version: stat.version, data });
        }
        applied.events.push((EventKind::Changed, path));
        Ok(stat)
    }

    fn delete(
        &mut self,
        path: &str,
        expected: Option<i32>,
        applied: &mut Applied,
    ) -> Result<(), TreeError> {
        let entry = self.expect(path, expected)?;
        if !entry.children.is_empty() || path == "/" {
            return Err(TreeError::NotEmpty { path: path.to_owned() });
        }
        let owner = entry.stat.owner;
        let path: Arc<str> = Arc::from(path);
        self.remove(&path);
        match owner {
            Some(owner) => {
                let owned = self.ephemerals.get_mut(&owner).expect("an owner is listed");
                owned.remove(&path);
            }
            None => applied.changes.push(Change::Delete { path: Arc::clone(&path) }),
        }
        applied.events.push((EventKind::Deleted, path));
        Ok(())
    }

    fn insert(&mut self, parent: &str, path: Arc<str>, entry: Entry) {
        let above = Arc::make_mut(self.nodes.get_mut(parent).expect("parents are checked"));
        above.children.insert_mut(Arc::from(path::name(&path)));
        self.nodes.insert_mut(path, Arc::new(entry));
    }

    fn remove(&mut self, path: &str) {
        self.nodes.remove_mut(path);
        let parent = path::parent(path).expect("the root is never removed");
        let above = Arc::make_mut(self.nodes.get_mut(parent).expect("a parent outlives its child"));
        above.children.remove_mut(path::name(path));
    }
}

impl Entry {
    fn node(&self) -> Node {
        Node { data: self.data.clone(), stat: self.stat }
    }
}

/// Refuses data that no node can have.
///
/// # Errors
/// [`TreeError::TooLarge`].
pub fn check_data(data: &Bytes) -> Result<(), TreeError> {
    if data.len() > NODE_BYTES_MAX {
        let (size, max) = (data.len(), NODE_BYTES_MAX);
        return Err(TreeError::TooLarge { what: "bytes of data", size, max });
    }
    Ok(())
}

/// Refuses a multi that does not fit.
///
/// # Errors
/// [`TreeError::TooLarge`].
pub fn check_limits(ops: &[Op], limits: MultiLimits) -> Result<(), TreeError> {
    if ops.len() > limits.ops {
        return Err(TreeError::TooLarge { what: "operations", size: ops.len(), max: limits.ops });
    }
    let size: usize = ops.iter().map(Op::bytes).sum();
    if size > limits.bytes {
        return Err(TreeError::TooLarge { what: "bytes", size, max: limits.bytes });
    }
    Ok(())
}
