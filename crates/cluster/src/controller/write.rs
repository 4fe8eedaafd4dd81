//! What a decision writes, and how writes are joined into multis.

use std::collections::BTreeSet;

use crate::tree::{MultiLimits, Op};

/// Why something is written; for the log and for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A leader was elected, or there is none.
    Election,
    /// A leader was elected that may lack confirmed records.
    UncleanElection,
    /// Replicas that may lack confirmed records were struck off.
    Exclusion,
    /// `min_isr` or the flush class follows the settings.
    Settings,
    /// A broker's log directory is offline.
    Offline,
    /// A half-made change is completed or removed.
    Repair,
    /// A client or a broker asked for it.
    Request,
}

/// The smallest step that must happen as a whole. A later write of one decision may rely on the
/// earlier ones; a prefix of them is always a state that the next decision completes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Why.
    pub reason: Reason,
    /// Nodes that must be as they were when it was decided, with their versions.
    pub checks: BTreeSet<(String, i32)>,
    /// What changes.
    pub ops: Vec<Op>,
}

impl Write {
    pub(crate) fn new(reason: Reason, ops: Vec<Op>) -> Write {
        Write { reason, checks: BTreeSet::new(), ops }
    }
}

/// Joins writes, in order, into as few multis as `limits` allow. The first operation of each is
/// `fence`; checks stand once.
pub(crate) fn join(writes: &[Write], fence: &Op, limits: MultiLimits) -> Vec<Vec<Op>> {
    let mut multis = Vec::new();
    let mut open = Multi::new(fence);
    for write in writes {
        if open.has_ops && !open.fits(write, limits) {
            multis.push(std::mem::replace(&mut open, Multi::new(fence)).ops);
        }
        open.add(write);
    }
    if open.has_ops {
        multis.push(open.ops);
    }
    multis
}

struct Multi {
    ops: Vec<Op>,
    bytes: usize,
    checked: BTreeSet<String>,
    changed: BTreeSet<String>,
    has_ops: bool,
}

impl Multi {
    fn new(fence: &Op) -> Multi {
        Multi {
            ops: vec![fence.clone()],
            bytes: fence.bytes(),
            checked: BTreeSet::new(),
            changed: BTreeSet::new(),
            has_ops: false,
        }
    }

    fn new_checks<'a>(&'a self, write: &'a Write) -> impl Iterator<Item = Op> + 'a {
        // What this multi itself changes has had its version checked by the change.
        let known = |path: &String| self.checked.contains(path) || self.changed.contains(path);
        let new = write.checks.iter().filter(move |(path, _)| !known(path));
        new.map(|(path, version)| Op::check(path.as_str(), *version))
    }

    fn fits(&self, write: &Write, limits: MultiLimits) -> bool {
        let (mut ops, mut bytes) = (self.ops.len() + write.ops.len(), self.bytes);
        bytes += write.ops.iter().map(Op::bytes).sum::<usize>();
        for check in self.new_checks(write) {
            ops += 1;
            bytes += check.bytes();
        }
        ops <= limits.ops && bytes <= limits.bytes
    }

    fn add(&mut self, write: &Write) {
        let checks: Vec<Op> = self.new_checks(write).collect();
        for op in checks {
            self.checked.insert(op.path().to_owned());
            self.push(op);
        }
        for op in &write.ops {
            self.changed.insert(op.path().to_owned());
            self.push(op.clone());
        }
        self.has_ops = true;
    }

    fn push(&mut self, op: Op) {
        self.bytes += op.bytes();
        self.ops.push(op);
    }
}
