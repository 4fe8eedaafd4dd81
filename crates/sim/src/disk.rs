//! The simulated disk: it keeps every operation that was not synced, and when the power fails it
//! applies some of them.
//!
//! What may survive is what `docs/format.md` assumes of disks: any subset of the writes of a file
//! in sectors of 512 bytes, a length ahead of or behind the data, any subset of the changes of
//! names in a directory. A sync makes durable what was done before it; one that fails leaves its
//! writes in the page cache and forgets that they are dirty.

mod content;
mod files;
mod outcomes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use klamm_env::Files;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use content::{DirContent, FileContent, NameChange, Survival, apply_name};
use files::{SimulatedFiles, names};
use outcomes::Choices;
pub use outcomes::{CrashPoint, OUTCOMES_MAX, TooManyOutcomes};

type InodeId = u64;
const ROOT: InodeId = 0;

/// A disk that outlives the processes and machines that use it.
pub struct SimulatedDisk {
    state: Mutex<State>,
}

struct State {
    inodes: BTreeMap<InodeId, Inode>,
    next_inode: InodeId,
    locks: BTreeSet<InodeId>,
    random: SmallRng,
    /// Counts deaths of the process; handles of an earlier one are dead.
    generation: u64,
    /// Counts power losses.
    boots: u64,
    /// Changes so far.
    operations: u64,
    /// The power fails before the change with this number.
    dies_at: Option<u64>,
    room: Option<u64>,
    failing_syncs: u32,
    lie: Option<Lie>,
    /// What was decided of that which a crash point left open.
    choices: Choices,
}

/// Syncs that say they were done and were not: tests of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Those of files.
    FileSyncs,
    /// Those of directories.
    DirSyncs,
}

#[derive(Clone)]
enum Inode {
    File(FileContent),
    Dir(DirContent),
}

impl SimulatedDisk {
    /// An empty disk; `seed` decides what survives each power loss.
    pub fn new(seed: u64) -> Arc<SimulatedDisk> {
        let inodes = BTreeMap::from([(ROOT, Inode::Dir(DirContent::default()))]);
        Arc::new(SimulatedDisk {
            state: Mutex::new(State {
                inodes,
                next_inode: ROOT + 1,
                locks: BTreeSet::new(),
                random: SmallRng::seed_from_u64(seed),
                generation: 0,
                boots: 0,
                operations: 0,
                dies_at: None,
                room: None,
                failing_syncs: 0,
                lie: None,
                choices: Choices::default(),
            }),
        })
    }

    /// The file system on this disk, for one process: after [`SimulatedDisk::lose_power`] or
    /// [`SimulatedDisk::kill_process`] all that was opened through it fails.
    pub fn files(self: &Arc<SimulatedDisk>) -> Arc<dyn Files> {
        let generation = self.state().generation;
        Arc::new(SimulatedFiles { disk: Arc::clone(self), generation })
    }

    /// Ends the process that uses the disk; the page cache survives.
    pub fn kill_process(&self) {
        let mut state = self.state();
        state.generation += 1;
        state.locks.clear();
        state.dies_at = None;
    }

    /// Takes the power away: what was not synced survives in part, in whole or not at all.
    pub fn lose_power(&self) {
        self.kill_process();
        let mut state = self.state();
        state.boots += 1;
        state.failing_syncs = 0;
        state.crash();
    }

    /// Takes the power away, and with it all that was not synced.
    pub fn lose_all_unsynced(&self) {
        self.kill_process();
        let mut state = self.state();
        state.boots += 1;
        for inode in state.inodes.values_mut() {
            match inode {
                Inode::File(file) if !file.pending.is_empty() => {
                    file.pending.clear();
                    file.cached.clone_from(&file.durable);
                }
                Inode::Dir(dir) if !dir.pending.is_empty() => {
                    dir.pending.clear();
                    dir.cached.clone_from(&dir.durable);
                }
                _ => {}
            }
        }
    }

    /// Lets every operation fail from the `count`th change on, as if the power were gone; it is
    /// once [`SimulatedDisk::lose_power`] is called.
    pub fn die_after(&self, count: u64) {
        let mut state = self.state();
        state.dies_at = Some(state.operations + count);
    }

    /// Whether every operation fails since [`SimulatedDisk::die_after`].
    pub fn is_dead(&self) -> bool {
        let state = self.state();
        state.dies_at.is_some_and(|dies_at| state.operations >= dies_at)
    }

    /// Takes [`SimulatedDisk::die_after`] back.
    pub fn live_on(&self) {
        self.state().dies_at = None;
    }

    /// Another disk with the same content, synced and not; `seed` decides what survives there.
    pub fn fork(&self, seed: u64) -> Arc<SimulatedDisk> {
        let fork = SimulatedDisk::new(seed);
        let state = self.state();
        let mut copy = fork.state();
        copy.inodes.clone_from(&state.inodes);
        copy.next_inode = state.next_inode;
        copy.boots = state.boots;
        drop(copy);
        fork
    }

    /// Changes of files and names so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Leaves room for this many bytes more; `None` for plenty.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.state().room = bytes;
    }

    /// Lets the next `count` syncs fail.
    pub fn fail_syncs(&self, count: u32) {
        self.state().failing_syncs = count;
    }

    /// Lets some syncs do nothing from now on.
    pub fn set_lie(&self, lie: Option<Lie>) {
        self.state().lie = lie;
    }

    /// Flips one bit of a file, durably.
    ///
    /// # Panics
    /// When there is no such file or bit.
    pub fn flip_bit(&self, path: &Path, bit: usize) {
        let mut state = self.state();
        let inode = state.find(path).expect("a readable disk").expect("the file is there");
        let content = state.file(inode).expect("a file");
        for bytes in [&mut content.cached, &mut content.durable] {
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// A number for what is durable: names and content.
    pub fn fingerprint(&self) -> u64 {
        let state = self.state();
        let mut hash = 0xcbf2_9ce4_8422_2325;
        state.hash_durable(ROOT, &mut hash);
        hash
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedDisk").finish_non_exhaustive()
    }
}

impl State {
    fn file(&mut self, inode: InodeId) -> io::Result<&mut FileContent> {
        match self.inodes.get_mut(&inode) {
            Some(Inode::File(content)) => {
                content.decide(&mut self.choices);
                Ok(content)
            }
            Some(Inode::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// That it is a file; its content stays open.
    fn check_file(&self, inode: InodeId) -> io::Result<()> {
        match self.inodes.get(&inode) {
            Some(Inode::File(_)) => Ok(()),
            Some(Inode::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn file_len(&mut self, inode: InodeId) -> io::Result<usize> {
        match self.inodes.get_mut(&inode) {
            Some(Inode::File(content)) => Ok(content.decide_len(&mut self.choices)),
            Some(Inode::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn dir(&mut self, inode: InodeId) -> io::Result<&mut DirContent> {
        match self.inodes.get_mut(&inode) {
            Some(Inode::Dir(content)) => {
                content.decide(&mut self.choices);
                Ok(content)
            }
            Some(Inode::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn add_inode(&mut self, inode: Inode) -> InodeId {
        let id = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(id, inode);
        id
    }

    /// The inode that the page cache shows at `path`.
    fn find(&mut self, path: &Path) -> io::Result<Option<InodeId>> {
        let mut inode = ROOT;
        for name in names(path)? {
            match self.dir(inode) {
                Ok(dir) => match dir.cached.get(name) {
                    Some(next) => inode = *next,
                    None => return Ok(None),
                },
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(inode))
    }

    /// The directory that `path` lies in, and its last name.
    fn parent<'a>(&mut self, path: &'a Path) -> io::Result<(InodeId, &'a str)> {
        let names = names(path)?;
        let (name, above) = names.split_last().ok_or(io::ErrorKind::InvalidInput)?;
        let mut inode = ROOT;
        for above in above {
            inode = *self.dir(inode)?.cached.get(*above).ok_or(io::ErrorKind::NotFound)?;
        }
        self.dir(inode)?;
        Ok((inode, name))
    }

    fn change_name(&mut self, dir: InodeId, change: NameChange) -> io::Result<()> {
        let content = self.dir(dir)?;
        apply_name(&mut content.cached, &change);
        content.pending.push(change);
        Ok(())
    }

    fn remove_tree(&mut self, dir: InodeId) -> io::Result<()> {
        let entries = self.dir(dir)?.cached.clone();
        for (name, inode) in entries {
            if matches!(self.inodes.get(&inode), Some(Inode::Dir(_))) {
                self.remove_tree(inode)?;
            }
            self.change_name(dir, NameChange::Remove(name))?;
        }
        Ok(())
    }

    fn take_room(&mut self, bytes: usize) -> usize {
        match &mut self.room {
            None => bytes,
            Some(room) => {
                let taken = bytes.min(usize::try_from(*room).unwrap_or(usize::MAX));
                *room -= taken as u64;
                taken
            }
        }
    }

    /// Whether a sync that begins now fails.
    fn sync_fails(&mut self) -> bool {
        let fails = self.failing_syncs > 0;
        self.failing_syncs -= u32::from(fails);
        fails
    }

    fn sync_inode(&mut self, inode: InodeId) -> io::Result<()> {
        let fails = self.sync_fails();
        let lie = self.lie;
        match self.inodes.get_mut(&inode) {
            Some(Inode::File(file)) if lie != Some(Lie::FileSyncs) => {
                for change in std::mem::take(&mut file.pending) {
                    if !fails {
                        change.apply(&mut file.durable);
                    }
                }
            }
            Some(Inode::Dir(dir)) if lie != Some(Lie::DirSyncs) => {
                for change in std::mem::take(&mut dir.pending) {
                    if !fails {
                        apply_name(&mut dir.durable, &change);
                    }
                }
            }
            _ => {}
        }
        if fails { Err(io::Error::other("simulated: the sync failed")) } else { Ok(()) }
    }

    fn crash(&mut self) {
        let whole = self.survival();
        let ids: Vec<InodeId> = self.inodes.keys().copied().collect();
        for id in ids {
            // Most often all files fare alike; sometimes each has a fate of its own.
            let survival =
                if self.random.random_range(0..3) == 0 { self.survival() } else { whole };
            match self.inodes.get_mut(&id) {
                Some(Inode::File(file)) => file.crash(survival, &mut self.random),
                Some(Inode::Dir(dir)) => dir.crash(survival, &mut self.random),
                None => {}
            }
        }
        let mut reachable = BTreeSet::from([ROOT]);
        self.mark(ROOT, &mut reachable);
        self.inodes.retain(|id, _| reachable.contains(id));
    }

    fn survival(&mut self) -> Survival {
        match self.random.random_range(0..10) {
            0..2 => Survival::Nothing,
            2 => Survival::Everything,
            3..5 => Survival::Prefix,
            _ => Survival::Some(self.random.random_range(5..96)),
        }
    }

    fn mark(&self, dir: InodeId, reachable: &mut BTreeSet<InodeId>) {
        if let Some(Inode::Dir(content)) = self.inodes.get(&dir) {
            for inode in content.cached.values() {
                if reachable.insert(*inode) {
                    self.mark(*inode, reachable);
                }
            }
        }
    }

    fn hash_durable(&self, inode: InodeId, hash: &mut u64) {
        match self.inodes.get(&inode) {
            Some(Inode::File(file)) => hash_bytes(&file.durable, hash),
            Some(Inode::Dir(dir)) => {
                for (name, inode) in &dir.durable {
                    hash_bytes(name.as_bytes(), hash);
                    self.hash_durable(*inode, hash);
                }
            }
            None => {}
        }
    }
}

fn hash_bytes(bytes: &[u8], hash: &mut u64) {
    // FNV-1a; the length keeps neighbours apart.
    for byte in bytes.iter().copied().chain(bytes.len().to_be_bytes()) {
        *hash = (*hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
}
