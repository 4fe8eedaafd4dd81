//! What one power loss may leave: every outcome where they are few, a stated sample beyond that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::content::{FileChange, apply_name, first_sector, write_into};
use super::{Inode, InodeId, SimulatedDisk};

/// Up to this many outcomes of one power loss are all taken.
pub const OUTCOMES_MAX: usize = 1 << 12;

/// What becomes of one change that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It never happened.
    Lost,
    /// It survives.
    Whole,
    /// Of a write that touches several sectors the first one survives.
    FirstSector,
    /// Of a write that makes a file longer the length survives, with zeros.
    LengthOnly,
}

/// A disk at the moment at which the power fails.
pub struct CrashPoint {
    inodes: BTreeMap<InodeId, Inode>,
    next_inode: InodeId,
    boots: u64,
    /// What each unsynced change may come to, in the order of [`CrashPoint::changes`].
    fates: Vec<Vec<Fate>>,
}

impl SimulatedDisk {
    /// The disk as it is now, to try what a power loss would leave of it.
    pub fn crash_point(&self) -> CrashPoint {
        let state = self.state();
        let mut fates = Vec::new();
        for inode in state.inodes.values() {
            match inode {
                Inode::Dir(dir) => fates.extend(dir.pending.iter().map(|_| whole_or_lost())),
                Inode::File(file) => {
                    let mut len = file.durable.len();
                    for change in &file.pending {
                        fates.push(fates_of(change, len));
                        len = change.len_after(len);
                    }
                }
            }
        }
        let (inodes, next_inode) = (state.inodes.clone(), state.next_inode);
        CrashPoint { inodes, next_inode, boots: state.boots, fates }
    }
}

fn whole_or_lost() -> Vec<Fate> {
    vec![Fate::Lost, Fate::Whole]
}

fn fates_of(change: &FileChange, len: usize) -> Vec<Fate> {
    let mut fates = whole_or_lost();
    if let FileChange::Write { offset, bytes } = change {
        if first_sector(*offset, bytes).len() < bytes.len() {
            fates.push(Fate::FirstSector);
        }
        if offset + bytes.len() > len {
            fates.push(Fate::LengthOnly);
        }
    }
    fates
}

impl CrashPoint {
    /// Unsynced changes: those of names and of files.
    pub fn changes(&self) -> usize {
        self.fates.len()
    }

    /// Whether its outcomes are so many that [`CrashPoint::outcomes`] is a sample.
    pub fn is_sampled(&self) -> bool {
        let all = self.fates.iter().try_fold(1_usize, |count, fates| {
            count.checked_mul(fates.len()).filter(|count| *count <= OUTCOMES_MAX)
        });
        all.is_none()
    }

    /// The outcomes to try, a fate for each change: all of them up to [`OUTCOMES_MAX`]. Beyond it:
    /// nothing survives, everything, everything before each change, everything but each one (and
    /// each of its other fates), each one alone, everything but each pair, and each pair alone.
    pub fn outcomes(&self) -> Vec<Vec<Fate>> {
        if self.is_sampled() { self.sample() } else { self.every_outcome() }
    }

    fn every_outcome(&self) -> Vec<Vec<Fate>> {
        let mut outcomes = vec![Vec::new()];
        for fates in &self.fates {
            let longer = outcomes.iter().flat_map(|outcome: &Vec<Fate>| {
                fates.iter().map(|fate| outcome.iter().copied().chain([*fate]).collect())
            });
            outcomes = longer.collect();
        }
        outcomes
    }

    fn sample(&self) -> Vec<Vec<Fate>> {
        let count = self.fates.len();
        let mut outcomes = BTreeSet::new();
        for (rest, other) in [(Fate::Lost, Fate::Whole), (Fate::Whole, Fate::Lost)] {
            let all = vec![rest; count];
            for at in 0..count {
                let mut prefix = vec![Fate::Whole; at];
                prefix.resize(count, Fate::Lost);
                outcomes.insert(prefix);
                for fate in &self.fates[at] {
                    let mut one = all.clone();
                    one[at] = *fate;
                    outcomes.insert(one);
                }
                for second in at + 1..count {
                    let mut two = all.clone();
                    (two[at], two[second]) = (other, other);
                    outcomes.insert(two);
                }
            }
            outcomes.insert(all);
        }
        outcomes.into_iter().collect()
    }

    /// The disk that the power loss leaves with this outcome.
    ///
    /// # Panics
    /// When there are fewer fates than changes.
    pub fn disk(&self, outcome: &[Fate]) -> Arc<SimulatedDisk> {
        let disk = SimulatedDisk::new(0);
        let mut state = disk.state();
        state.inodes = self.inodes.clone();
        state.next_inode = self.next_inode;
        state.boots = self.boots + 1;
        let mut fates = outcome.iter();
        let mut next = || *fates.next().expect("a fate for each change");
        for inode in state.inodes.values_mut() {
            match inode {
                Inode::Dir(dir) => {
                    for change in std::mem::take(&mut dir.pending) {
                        if next() == Fate::Whole {
                            apply_name(&mut dir.durable, &change);
                        }
                    }
                    dir.cached.clone_from(&dir.durable);
                }
                Inode::File(file) => {
                    for change in std::mem::take(&mut file.pending) {
                        apply(&change, next(), &mut file.durable);
                    }
                    file.cached.clone_from(&file.durable);
                }
            }
        }
        drop(state);
        disk
    }
}

fn apply(change: &FileChange, fate: Fate, content: &mut Vec<u8>) {
    match (fate, change) {
        (Fate::Lost, _) => {}
        (Fate::FirstSector, FileChange::Write { offset, bytes }) => {
            write_into(content, *offset, first_sector(*offset, bytes));
        }
        (Fate::LengthOnly, FileChange::Write { .. }) => {
            content.resize(change.len_after(content.len()), 0);
        }
        _ => change.apply(content),
    }
}

impl std::fmt::Debug for CrashPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CrashPoint").field("changes", &self.changes()).finish_non_exhaustive()
    }
}
