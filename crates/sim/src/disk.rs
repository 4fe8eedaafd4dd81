//! The simulated disk: it keeps every operation that was not synced, and when the power fails it
//! applies some of them.
//!
//! What may survive is what `docs/format.md` assumes of disks: any subset of the writes of a file
//! in sectors of 512 bytes, a length ahead of or behind the data, any subset of the changes of
//! names in a directory. A sync makes durable what was done before it; one that fails leaves its
//! writes in the page cache and forgets that they are dirty.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use klamm_env::Files;
use klamm_env::files::{DirEntry, File, Lock, Metadata, OpenMode, Space, Volume};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// What a disk writes as one.
const SECTOR_BYTES: usize = 512;
/// Size of the disk where no room is set.
const DISK_BYTES: u64 = 1 << 40;
/// When all files were last changed: 2026-01-01T00:00:00Z, in milliseconds.
const MODIFIED_MS: i64 = 1_767_225_600_000;

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
}

/// Syncs that say they were done and were not: tests of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Those of files.
    FileSyncs,
    /// Those of directories.
    DirSyncs,
}

enum Inode {
    File(FileContent),
    Dir(DirContent),
}

#[derive(Default)]
struct FileContent {
    /// What the page cache shows.
    cached: Vec<u8>,
    /// What a power loss leaves at least.
    durable: Vec<u8>,
    /// What was done since, oldest first.
    pending: Vec<FileChange>,
}

enum FileChange {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Default)]
struct DirContent {
    cached: BTreeMap<String, InodeId>,
    durable: BTreeMap<String, InodeId>,
    pending: Vec<NameChange>,
}

#[derive(Clone)]
enum NameChange {
    Add(String, InodeId),
    Remove(String),
    Rename { from: String, to: String, inode: InodeId },
}

/// How much of what was not synced a power loss leaves.
#[derive(Clone, Copy)]
enum Survival {
    Nothing,
    Everything,
    /// Everything before some moment.
    Prefix,
    /// Each part with this chance of 100.
    Some(u32),
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

    /// Lets every operation fail from the `count`th change on, as if the power were gone; it is
    /// once [`SimulatedDisk::lose_power`] is called.
    pub fn die_after(&self, count: u64) {
        let mut state = self.state();
        state.dies_at = Some(state.operations + count);
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
            Some(Inode::File(content)) => Ok(content),
            Some(Inode::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn dir(&mut self, inode: InodeId) -> io::Result<&mut DirContent> {
        match self.inodes.get_mut(&inode) {
            Some(Inode::Dir(content)) => Ok(content),
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

impl FileChange {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            FileChange::Write { offset, bytes } => write_into(content, *offset, bytes),
            FileChange::SetLen(len) => content.resize(*len, 0),
        }
    }
}

fn write_into(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

impl FileContent {
    fn crash(&mut self, survival: Survival, random: &mut SmallRng) {
        let pending = std::mem::take(&mut self.pending);
        let count = match survival {
            Survival::Nothing => 0,
            Survival::Prefix => random.random_range(0..=pending.len()),
            Survival::Everything | Survival::Some(_) => pending.len(),
        };
        let mut lens = vec![self.durable.len()];
        let mut len = self.durable.len();
        for change in &pending {
            len = match change {
                FileChange::Write { offset, bytes } => len.max(offset + bytes.len()),
                FileChange::SetLen(len) => *len,
            };
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
                let mut at = 0;
                while at < bytes.len() {
                    let within = (offset + at) % SECTOR_BYTES;
                    let end = bytes.len().min(at + SECTOR_BYTES - within);
                    if survives() {
                        write_into(&mut self.durable, offset + at, &bytes[at..end]);
                    }
                    at = end;
                }
            }
        }
    }
}

impl DirContent {
    fn crash(&mut self, survival: Survival, random: &mut SmallRng) {
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

fn apply_name(names: &mut BTreeMap<String, InodeId>, change: &NameChange) {
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

/// The names that `path` goes through; relative paths begin at the root as well.
fn names(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                names.push(name.to_str().ok_or(io::ErrorKind::InvalidInput)?)
            }
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
    }
    Ok(names)
}

/// The disk as one process sees it.
#[derive(Clone)]
struct SimulatedFiles {
    disk: Arc<SimulatedDisk>,
    generation: u64,
}

impl SimulatedFiles {
    /// The disk, if this process still lives and the power is on.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        let dead = state.dies_at.is_some_and(|dies_at| state.operations >= dies_at);
        if dead || state.generation != self.generation {
            return Err(io::Error::other("simulated: the power is gone"));
        }
        Ok(state)
    }

    /// The disk, for a change of it.
    fn change(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state()?;
        state.operations += 1;
        Ok(state)
    }
}

impl Files for SimulatedFiles {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let found = self.state()?.find(path)?;
        let inode = match (found, mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => inode,
            (None, OpenMode::Read | OpenMode::ReadWrite) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                let mut state = self.change()?;
                let (dir, name) = state.parent(path)?;
                let inode = state.add_inode(Inode::File(FileContent::default()));
                state.change_name(dir, NameChange::Add(name.to_owned(), inode))?;
                inode
            }
        };
        self.state()?.file(inode)?;
        Ok(Arc::new(SimulatedFile { files: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        let inode = state.find(from)?.ok_or(io::ErrorKind::NotFound)?;
        let (from_dir, from) = state.parent(from)?;
        let (to_dir, to) = state.parent(to)?;
        let (from, to) = (from.to_owned(), to.to_owned());
        if from_dir == to_dir {
            return state.change_name(from_dir, NameChange::Rename { from, to, inode });
        }
        state.change_name(to_dir, NameChange::Add(to, inode))?;
        state.change_name(from_dir, NameChange::Remove(from))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        let inode = state.find(path)?.ok_or(io::ErrorKind::NotFound)?;
        state.file(inode)?;
        let (dir, name) = state.parent(path)?;
        state.change_name(dir, NameChange::Remove(name.to_owned()))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut dir = ROOT;
        for name in names(path)? {
            let known = self.state()?.dir(dir)?.cached.get(name).copied();
            dir = match known {
                Some(known) => known,
                None => {
                    let mut state = self.change()?;
                    let inode = state.add_inode(Inode::Dir(DirContent::default()));
                    state.change_name(dir, NameChange::Add(name.to_owned(), inode))?;
                    inode
                }
            };
        }
        self.state()?.dir(dir).map(drop)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        let inode = state.find(path)?.ok_or(io::ErrorKind::NotFound)?;
        state.remove_tree(inode)?;
        let (dir, name) = state.parent(path)?;
        state.change_name(dir, NameChange::Remove(name.to_owned()))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut state = self.state()?;
        let inode = state.find(dir)?.ok_or(io::ErrorKind::NotFound)?;
        let entries = state.dir(inode)?.cached.clone();
        let entries = entries.into_iter().map(|(name, inode)| {
            let is_dir = matches!(state.inodes.get(&inode), Some(Inode::Dir(_)));
            DirEntry { name, is_dir }
        });
        Ok(entries.collect())
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        let mut state = self.state()?;
        let Some(inode) = state.find(path)? else {
            return Ok(None);
        };
        Ok(state.inodes.get(&inode).map(|inode| match inode {
            Inode::File(file) => {
                let len = file.cached.len() as u64;
                Metadata { len, is_dir: false, modified_ms: MODIFIED_MS }
            }
            Inode::Dir(_) => Metadata { len: 0, is_dir: true, modified_ms: MODIFIED_MS },
        }))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        let inode = state.find(dir)?.ok_or(io::ErrorKind::NotFound)?;
        state.dir(inode)?;
        state.sync_inode(inode)
    }

    fn volume(&self, _dir: &Path) -> io::Result<Arc<dyn Volume>> {
        Ok(Arc::new(SimulatedVolume(self.clone())))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.open(path, OpenMode::Create)?;
        let mut state = self.state()?;
        let inode = state.find(path)?.ok_or(io::ErrorKind::NotFound)?;
        if !state.locks.insert(inode) {
            return Ok(None);
        }
        Ok(Some(Box::new(SimulatedLock { files: self.clone(), inode })))
    }

    fn boot_id(&self) -> String {
        format!("boot-{}", self.disk.state().boots)
    }
}

struct SimulatedFile {
    files: SimulatedFiles,
    inode: InodeId,
}

impl fmt::Debug for SimulatedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimulatedFile({})", self.inode)
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl File for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.files.state()?;
        let content = &state.file(self.inode)?.cached;
        let rest = content.get(place(offset)?..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.files.change()?;
        let taken = state.take_room(bytes.len());
        let written = FileChange::Write { offset: place(offset)?, bytes: bytes[..taken].to_vec() };
        let content = state.file(self.inode)?;
        if taken > 0 {
            written.apply(&mut content.cached);
            content.pending.push(written);
        }
        if taken < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn write_vectored_all_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.write_all_at(&bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.files.state()?.file(self.inode)?.cached.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.files.change()?;
        let content = state.file(self.inode)?;
        let change = FileChange::SetLen(place(len)?);
        change.apply(&mut content.cached);
        content.pending.push(change);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.files.change()?.sync_inode(self.inode)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

struct SimulatedVolume(SimulatedFiles);

impl Volume for SimulatedVolume {
    fn sync_all(&self) -> io::Result<()> {
        let mut state = self.0.change()?;
        let ids: Vec<InodeId> = state.inodes.keys().copied().collect();
        ids.into_iter().try_for_each(|id| state.sync_inode(id))
    }

    fn space(&self) -> io::Result<Space> {
        let available = self.0.state()?.room.unwrap_or(DISK_BYTES);
        Ok(Space { available, total: DISK_BYTES })
    }
}

struct SimulatedLock {
    files: SimulatedFiles,
    inode: InodeId,
}

impl Lock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut state = self.files.disk.state();
        if state.generation == self.files.generation {
            state.locks.remove(&self.inode);
        }
    }
}

#[cfg(test)]
mod tests;
