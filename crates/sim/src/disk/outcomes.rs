//! Everything that one power loss may leave, decided as far as somebody looks.
//!
//! At a crash point each file has some contents that may be left of it, and each directory some
//! sets of names. Which of them it is stays open until it is read: the length of a file first, its
//! content when that is read, a directory with the first name that is looked for. Disks that differ
//! only in what nobody reads are thus one, and every other difference is tried.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::content::{DirContent, FileChange, FileContent, apply_name, sectors};
use super::{Inode, InodeId, SimulatedDisk};

/// More contents of one file, or sets of names of one directory, are not explored but refused: let
/// less be unsynced at once.
pub const OUTCOMES_MAX: usize = 1 << 17;

type Names = BTreeMap<String, InodeId>;

/// A disk at the moment at which the power fails.
pub struct CrashPoint {
    inodes: BTreeMap<InodeId, Inode>,
    next_inode: InodeId,
    boots: u64,
    disks: f64,
}

/// What may be left of a file, by length and content; all of `range` is still possible.
#[derive(Clone)]
pub(super) struct OpenFile {
    contents: Arc<Vec<Vec<u8>>>,
    range: Range<usize>,
}

/// What may be left of a directory.
#[derive(Clone)]
pub(super) struct OpenDir(Arc<Vec<Names>>);

/// The decisions of one try, repeated up to the last one in the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Choices {
    /// What was taken, of how many.
    taken: Vec<(usize, usize)>,
    made: usize,
    /// Decides instead.
    drawn: Option<SmallRng>,
}

impl SimulatedDisk {
    /// The disk as it is now, to try all that a power loss would leave of it.
    ///
    /// # Errors
    /// When there are more than [`OUTCOMES_MAX`] for one file or directory.
    pub fn crash_point(&self) -> Result<CrashPoint, TooManyOutcomes> {
        let state = self.state();
        let mut disks = 1.0;
        let mut inodes = BTreeMap::new();
        for (id, inode) in &state.inodes {
            let left = match inode {
                Inode::File(file) => {
                    let contents = contents(file)?;
                    disks *= contents.len() as f64;
                    Inode::File(FileContent::open(contents))
                }
                Inode::Dir(dir) => {
                    let names = sets_of_names(dir)?;
                    disks *= names.len() as f64;
                    Inode::Dir(DirContent::open(names))
                }
            };
            inodes.insert(*id, left);
        }
        Ok(CrashPoint { inodes, next_inode: state.next_inode, boots: state.boots, disks })
    }
}

/// A power loss could leave more than [`OUTCOMES_MAX`] of a file or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} outcomes or more: let less be unsynced at once")]
pub struct TooManyOutcomes(usize);

/// Any subset of the changes, writes in sectors, and then any length that the file had since.
fn contents(file: &FileContent) -> Result<Vec<Vec<u8>>, TooManyOutcomes> {
    let mut contents = BTreeSet::from([file.durable.clone()]);
    let mut lens = BTreeSet::from([file.durable.len()]);
    let mut len = file.durable.len();
    for change in &file.pending {
        len = change.len_after(len);
        lens.insert(len);
        for part in parts(change) {
            add_applied(&mut contents, |content| part.apply(content))?;
        }
    }
    let mut all = BTreeSet::new();
    for content in contents {
        for len in &lens {
            let mut cut = content.clone();
            cut.resize(*len, 0);
            all.insert((*len, cut));
        }
        check_count(all.len())?;
    }
    Ok(all.into_iter().map(|(_, content)| content).collect())
}

/// What survives of a change on its own.
fn parts(change: &FileChange) -> Vec<FileChange> {
    match change {
        FileChange::SetLen(_) => vec![change.clone()],
        FileChange::Write { offset, bytes } => sectors(*offset, bytes.len())
            .map(|part| FileChange::Write {
                offset: offset + part.start,
                bytes: bytes[part].to_vec(),
            })
            .collect(),
    }
}

fn sets_of_names(dir: &DirContent) -> Result<Vec<Names>, TooManyOutcomes> {
    let mut sets = BTreeSet::from([dir.durable.clone()]);
    for change in &dir.pending {
        add_applied(&mut sets, |names| apply_name(names, change))?;
    }
    Ok(sets.into_iter().collect())
}

/// Each of `all` as it is, and with `change`.
fn add_applied<T: Clone + Ord>(
    all: &mut BTreeSet<T>,
    change: impl Fn(&mut T),
) -> Result<(), TooManyOutcomes> {
    let changed: Vec<T> = all
        .iter()
        .map(|one| {
            let mut one = one.clone();
            change(&mut one);
            one
        })
        .collect();
    all.extend(changed);
    check_count(all.len())
}

fn check_count(count: usize) -> Result<(), TooManyOutcomes> {
    if count > OUTCOMES_MAX { Err(TooManyOutcomes(count)) } else { Ok(()) }
}

impl CrashPoint {
    /// How many different disks the power loss may leave.
    pub fn disks(&self) -> f64 {
        self.disks
    }

    /// Calls `look` for every disk that the power loss may leave, where those that it cannot tell
    /// apart are one; answers how many it could. It must do the same whenever it reads the same.
    ///
    /// # Errors
    /// The first of `look`.
    ///
    /// # Panics
    /// When `look` does not repeat.
    pub fn explore<E>(
        &self,
        mut look: impl FnMut(Arc<SimulatedDisk>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut choices = Choices::default();
        let mut count = 0;
        loop {
            let disk = self.disk(choices);
            look(Arc::clone(&disk))?;
            count += 1;
            choices = std::mem::take(&mut disk.state().choices);
            if !choices.go_on() {
                return Ok(count);
            }
        }
    }

    /// Calls `look` for `count` disks that the power loss may leave, drawn by `seed`.
    ///
    /// # Errors
    /// The first of `look`.
    pub fn sample<E>(
        &self,
        count: u64,
        seed: u64,
        mut look: impl FnMut(Arc<SimulatedDisk>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut random = SmallRng::seed_from_u64(seed);
        (0..count).try_for_each(|_| {
            let drawn = Some(SmallRng::seed_from_u64(random.random()));
            look(self.disk(Choices { drawn, ..Choices::default() }))
        })
    }

    fn disk(&self, choices: Choices) -> Arc<SimulatedDisk> {
        let disk = SimulatedDisk::new(0);
        let mut state = disk.state();
        state.inodes = self.inodes.clone();
        state.next_inode = self.next_inode;
        state.boots = self.boots + 1;
        state.choices = choices;
        drop(state);
        disk
    }
}

impl FileContent {
    /// What is left is open; where there is one possibility only, it is decided.
    fn open(mut contents: Vec<Vec<u8>>) -> FileContent {
        if contents.len() == 1 {
            let durable = contents.pop().expect("one");
            return FileContent { cached: durable.clone(), durable, ..FileContent::default() };
        }
        let range = 0..contents.len();
        let open = Some(OpenFile { contents: Arc::new(contents), range });
        FileContent { open, ..FileContent::default() }
    }

    /// Its length, which is decided now.
    pub(super) fn decide_len(&mut self, choices: &mut Choices) -> usize {
        let Some(open) = &mut self.open else {
            return self.cached.len();
        };
        let possible = &open.contents[open.range.clone()];
        let lens: BTreeSet<usize> = possible.iter().map(Vec::len).collect();
        let lens: Vec<usize> = lens.into_iter().collect();
        let len = lens[choices.choose(lens.len())];
        let start = open.contents.partition_point(|content| content.len() < len);
        let end = open.contents.partition_point(|content| content.len() <= len);
        open.range = start..end;
        len
    }

    /// Its content, which is decided now.
    pub(super) fn decide(&mut self, choices: &mut Choices) {
        if self.open.is_none() {
            return;
        }
        self.decide_len(choices);
        if let Some(OpenFile { contents, range }) = self.open.take() {
            self.durable.clone_from(&contents[range.start + choices.choose(range.len())]);
            self.cached.clone_from(&self.durable);
        }
    }
}

impl DirContent {
    fn open(mut sets: Vec<Names>) -> DirContent {
        if sets.len() == 1 {
            let durable = sets.pop().expect("one");
            return DirContent { cached: durable.clone(), durable, ..DirContent::default() };
        }
        DirContent { open: Some(OpenDir(Arc::new(sets))), ..DirContent::default() }
    }

    /// Its names, which are decided now.
    pub(super) fn decide(&mut self, choices: &mut Choices) {
        if let Some(OpenDir(sets)) = self.open.take() {
            self.durable.clone_from(&sets[choices.choose(sets.len())]);
            self.cached.clone_from(&self.durable);
        }
    }
}

impl Choices {
    /// One of `of` possibilities.
    fn choose(&mut self, of: usize) -> usize {
        if of == 1 {
            return 0;
        }
        if let Some(random) = &mut self.drawn {
            return random.random_range(0..of);
        }
        if self.made == self.taken.len() {
            self.taken.push((0, of));
        }
        let (taken, known) = self.taken[self.made];
        assert_eq!(known, of, "the same disk was read in another way");
        self.made += 1;
        taken
    }

    /// Whether there is another try; it differs in the last decision that has something left.
    fn go_on(&mut self) -> bool {
        self.taken.truncate(self.made);
        self.made = 0;
        while let Some((taken, of)) = self.taken.last_mut() {
            *taken += 1;
            if taken < of {
                return true;
            }
            self.taken.pop();
        }
        false
    }
}

impl std::fmt::Debug for CrashPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CrashPoint").field("disks", &self.disks).finish_non_exhaustive()
    }
}
