//! What a file or a directory holds, and what of it a power loss leaves.

use std::collections::BTreeMap;
use std::ops::Range;

use rand::Rng;
use rand::rngs::SmallRng;

use super::InodeId;
use super::outcomes::{OpenDir, OpenFile};

/// What a disk writes as one.
const SECTOR_BYTES: usize = 512;

#[derive(Clone, Default)]
pub(super) struct FileContent {
    /// What the page cache shows.
    pub(super) cached: Vec<u8>,
    /// What a power loss leaves at least.
    pub(super) durable: Vec<u8>,
    /// What was done since, oldest first.
    pub(super) pending: Vec<FileChange>,
    /// What a power loss has left, where that is not decided yet.
    pub(super) open: Option<OpenFile>,
}

#[derive(Clone)]
pub(super) enum FileChange {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Clone, Default)]
pub(super) struct DirContent {
    pub(super) cached: BTreeMap<String, InodeId>,
    pub(super) durable: BTreeMap<String, InodeId>,
    pub(super) pending: Vec<NameChange>,
    pub(super) open: Option<OpenDir>,
}

#[derive(Clone)]
pub(super) enum NameChange {
    Add(String, InodeId),
    Remove(String),
    Rename { from: String, to: String, inode: InodeId },
}

/// How much of what was not synced a power loss leaves.
#[derive(Clone, Copy)]
pub(super) enum Survival {
    Nothing,
    Everything,
    /// Everything before some moment.
    Prefix,
    /// Each part with this chance of 100.
    Some(u32),
}

impl FileChange {
    pub(super) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            FileChange::Write { offset, bytes } => write_into(content, *offset, bytes),
            FileChange::SetLen(len) => content.resize(*len, 0),
        }
    }

    /// Length that a file of `len` bytes has after it.
    pub(super) fn len_after(&self, len: usize) -> usize {
        match self {
            FileChange::Write { offset, bytes } => len.max(offset + bytes.len()),
            FileChange::SetLen(len) => *len,
        }
    }
}

/// The parts of a write of `len` bytes at `offset` that lie in one sector each.
pub(super) fn sectors(offset: usize, len: usize) -> impl Iterator<Item = Range<usize>> {
    let end_of = move |at: usize| len.min(at + SECTOR_BYTES - (offset + at) % SECTOR_BYTES);
    let first = (len > 0).then(|| 0..end_of(0));
    std::iter::successors(first, move |part| (part.end < len).then(|| part.end..end_of(part.end)))
}

pub(super) fn write_into(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

impl FileContent {
    pub(super) fn crash(&mut self, survival: Survival, random: &mut SmallRng) {
        let pending = std::mem::take(&mut self.pending);
        let count = match survival {
            Survival::Nothing => 0,
            Survival::Prefix => random.random_range(0..=pending.len()),
            Survival::Everything | Survival::Some(_) => pending.len(),
        };
        let mut lens = vec![self.durable.len()];
        let mut len = self.durable.len();
        for change in &pending {
            len = change.len_after(len);
            lens.push(len);
        }
        for change in &pending[..count] {
            match survival {
                Survival::Some(chance) => self.apply_some(change, chance, random),
                _ => change.apply(&mut self.durable),
            }
        }
        // The length is a change of its own: zeros where it is ahead, a cut where it is behind.
        if matches!(survival, Survival::Some(_)) && random.random_bool(0.5) {
            let len = lens[random.random_range(0..lens.len())];
            self.durable.resize(len, 0);
        }
        self.cached.clone_from(&self.durable);
    }

    fn apply_some(&mut self, change: &FileChange, chance: u32, random: &mut SmallRng) {
        let mut survives = || random.random_range(0..100) < chance;
        match change {
            FileChange::SetLen(_) => {
                if survives() {
                    change.apply(&mut self.durable);
                }
            }
            FileChange::Write { offset, bytes } => {
                for part in sectors(*offset, bytes.len()) {
                    if survives() {
                        write_into(&mut self.durable, offset + part.start, &bytes[part]);
                    }
                }
            }
        }
    }
}

impl DirContent {
    pub(super) fn crash(&mut self, survival: Survival, random: &mut SmallRng) {
        let pending = std::mem::take(&mut self.pending);
        let count = match survival {
            Survival::Nothing => 0,
            Survival::Prefix => random.random_range(0..=pending.len()),
            Survival::Everything | Survival::Some(_) => pending.len(),
        };
        for change in &pending[..count] {
            let survives = match survival {
                Survival::Some(chance) => random.random_range(0..100) < chance,
                _ => true,
            };
            if survives {
                apply_name(&mut self.durable, change);
            }
        }
        self.cached.clone_from(&self.durable);
    }
}

pub(super) fn apply_name(names: &mut BTreeMap<String, InodeId>, change: &NameChange) {
    match change {
        NameChange::Add(name, inode) => {
            names.insert(name.clone(), *inode);
        }
        NameChange::Remove(name) => {
            names.remove(name);
        }
        NameChange::Rename { from, to, inode } => {
            // The old name may be another file's by now, where changes in between did not survive.
            if names.get(from) == Some(inode) {
                names.remove(from);
            }
            names.insert(to.clone(), *inode);
        }
    }
}
