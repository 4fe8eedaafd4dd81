//! The disk as one process sees it.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Component, Path};
use std::sync::{Arc, MutexGuard};

use klamm_env::Files;
use klamm_env::files::{DirEntry, File, Lock, Metadata, OpenMode, Space, Volume};

use super::content::{DirContent, FileChange, FileContent, NameChange};
use super::{Inode, InodeId, ROOT, SimulatedDisk, State};

/// Size of the disk where no room is set.
const DISK_BYTES: u64 = 1 << 40;
/// When all files were last changed: 2026-01-01T00:00:00Z, in milliseconds.
const MODIFIED_MS: i64 = 1_767_225_600_000;

/// The names that `path` goes through; relative paths begin at the root as well.
pub(super) fn names(path: &Path) -> io::Result<Vec<&str>> {
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
pub(super) struct SimulatedFiles {
    pub(super) disk: Arc<SimulatedDisk>,
    pub(super) generation: u64,
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
        self.state()?.check_file(inode)?;
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
        state.check_file(inode)?;
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
        let is_dir = state.check_file(inode).is_err();
        let len = if is_dir { 0 } else { state.file_len(inode)? as u64 };
        Ok(Some(Metadata { len, is_dir, modified_ms: MODIFIED_MS }))
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
        Ok(self.files.state()?.file_len(self.inode)? as u64)
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
