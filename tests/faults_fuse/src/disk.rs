//! A disk in memory that knows what was synced. What a power loss leaves is only that: the bytes and
//! length that a file had at its last sync, and the names that a directory had at its own.

use std::collections::BTreeMap;

/// The number of the root directory.
pub(crate) const ROOT: u64 = 1;

/// What a number stands for.
#[derive(Debug)]
pub(crate) enum Node {
    /// Bytes, and those that are durable.
    File { now: Vec<u8>, durable: Vec<u8> },
    /// Names, and those that are durable.
    Dir { now: BTreeMap<String, u64>, durable: BTreeMap<String, u64> },
}

/// All nodes by number. Nodes without a name stay: the disk lives as long as one test.
#[derive(Debug)]
pub(crate) struct Disk {
    nodes: BTreeMap<u64, Node>,
    /// Files and directories that lost something in a power loss.
    pub(crate) losses: usize,
}

impl Disk {
    pub(crate) fn new() -> Disk {
        Disk { nodes: BTreeMap::from([(ROOT, dir())]), losses: 0 }
    }

    pub(crate) fn node(&self, number: u64) -> Option<&Node> {
        self.nodes.get(&number)
    }

    pub(crate) fn names(&mut self, number: u64) -> Option<&mut BTreeMap<String, u64>> {
        match self.nodes.get_mut(&number)? {
            Node::Dir { now, .. } => Some(now),
            Node::File { .. } => None,
        }
    }

    pub(crate) fn bytes(&mut self, number: u64) -> Option<&mut Vec<u8>> {
        match self.nodes.get_mut(&number)? {
            Node::File { now, .. } => Some(now),
            Node::Dir { .. } => None,
        }
    }

    /// Adds a file or directory under a name that is free.
    pub(crate) fn create(&mut self, parent: u64, name: &str, is_dir: bool) -> Option<u64> {
        let number = self.nodes.keys().next_back().map_or(ROOT, |last| last + 1);
        self.names(parent)?.insert(name.to_owned(), number);
        let file = || Node::File { now: Vec::new(), durable: Vec::new() };
        self.nodes.insert(number, if is_dir { dir() } else { file() });
        Some(number)
    }

    /// Makes a file's bytes or a directory's names durable.
    pub(crate) fn sync(&mut self, number: u64) {
        match self.nodes.get_mut(&number) {
            Some(Node::File { now, durable }) => durable.clone_from(now),
            Some(Node::Dir { now, durable }) => durable.clone_from(now),
            None => {}
        }
    }

    /// Forgets everything that was not synced.
    pub(crate) fn lose_power(&mut self) {
        for node in self.nodes.values_mut() {
            let lost = match node {
                Node::File { now, durable } => {
                    let lost = now != durable;
                    now.clone_from(durable);
                    lost
                }
                Node::Dir { now, durable } => {
                    let lost = now != durable;
                    now.clone_from(durable);
                    lost
                }
            };
            self.losses += usize::from(lost);
        }
    }
}

fn dir() -> Node {
    Node::Dir { now: BTreeMap::new(), durable: BTreeMap::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_synced_is_gone_by_bytes_and_by_name() {
        let mut disk = Disk::new();
        let kept = disk.create(ROOT, "kept", false).expect("the root");
        disk.bytes(kept).expect("a file").extend(b"synced");
        disk.sync(kept);
        disk.sync(ROOT);
        disk.bytes(kept).expect("a file").extend(b" and not");
        let nameless = disk.create(ROOT, "nameless", false).expect("the root");
        disk.sync(nameless);
        disk.lose_power();
        assert_eq!(disk.bytes(kept).expect("a file"), b"synced");
        assert_eq!(disk.names(ROOT).expect("a directory").len(), 1);
        assert_eq!(disk.losses, 2);
    }
}
