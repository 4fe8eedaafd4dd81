//! The machine's file systems.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};

use crate::files::{
    DirEntry, File, Files, Lock, Metadata, OpenMode, Space, Volume, is_out_of_descriptors,
};

#[derive(Default)]
pub(crate) struct SystemFiles {
    pub(crate) open: OpenCount,
    /// What the process may have beyond files and connections.
    room: AtomicU64,
}

impl Files for SystemFiles {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::ReadWrite => {
                options.write(true);
            }
            OpenMode::Create => {
                options.write(true).create(true).truncate(false);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        let file = options.open(path)?;
        Ok(Arc::new(SystemFile { file, _counted: self.open.add() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirEntry { name, is_dir: entry.file_type()?.is_dir() });
            }
        }
        entries.sort_unstable();
        Ok(entries)
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        match fs::metadata(path) {
            Ok(found) => {
                let modified = found.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                Ok(Some(Metadata {
                    len: if found.is_dir() { 0 } else { found.len() },
                    is_dir: found.is_dir(),
                    modified_ms: i64::try_from(modified.as_millis()).unwrap_or(i64::MAX),
                }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all().map_err(of_a_sync)
    }

    fn volume(&self, dir: &Path) -> io::Result<Arc<dyn Volume>> {
        let dir = fs::File::open(dir)?;
        let is_fuse = rustix::fs::fstatfs(&dir)?.f_type == FUSE;
        Ok(Arc::new(SystemVolume { dir, is_fuse }))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Box::new(SystemLock { _file: file }))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn boot_id(&self) -> String {
        fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_default()
    }

    fn raise_descriptor_limit(&self) -> Option<u64> {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
            Ok(()) => maximum,
            Err(_) => current,
        }
    }

    fn count_descriptors(&self) {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let open = fs::read_dir("/proc/self/fd").map(Iterator::count);
        let (Some(limit), Ok(open)) = (limit, open) else { return };
        // One of them reads the list.
        let others = (open as u64).saturating_sub(1 + self.open.now());
        self.room.store(limit.saturating_sub(others), Ordering::Relaxed);
    }

    fn descriptors_left(&self) -> Option<u64> {
        match self.room.load(Ordering::Relaxed) {
            0 => None,
            room => Some(room.saturating_sub(self.open.now())),
        }
    }
}

#[derive(Debug)]
struct SystemFile {
    file: fs::File,
    _counted: Counted,
}

/// Open files and connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenCount(Arc<AtomicU64>);

impl OpenCount {
    /// One more, until that is dropped.
    pub(super) fn add(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.0))
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of them.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicU64>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl File for SystemFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut parts = [IoSliceMut::new(buffer)];
        match rustix::io::preadv2(&self.file, &mut parts, offset, ReadWriteFlags::NOWAIT) {
            // Not every file system can tell what is in memory.
            Err(Errno::OPNOTSUPP) => self.file.read_at(buffer, offset),
            read => Ok(read?),
        }
    }

    fn will_need(&self, offset: u64, len: u64) {
        // A file system without read-ahead refuses; the read itself will do.
        let _ = rustix::fs::fadvise(&self.file, offset, NonZeroU64::new(len), Advice::WillNeed);
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn write_vectored_all_at(&self, parts: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        let mut rest: Vec<IoSlice<'_>> = parts.to_vec();
        let mut rest = rest.as_mut_slice();
        while !rest.is_empty() {
            let batch = rest.len().min(VECTORS_MAX);
            let written = match rustix::io::pwritev(&self.file, &rest[..batch], offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            offset += written as u64;
            IoSlice::advance_slices(&mut rest, written);
            while rest.first().is_some_and(|part| part.is_empty()) {
                rest = &mut rest[1..];
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        let keep_size = rustix::fs::FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, keep_size, 0, len) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
            done => Ok(done?),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().map_err(of_a_sync)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

/// A server behind a file system may answer a sync with anything: no failed sync may look like one
/// that was not tried for want of a descriptor.
fn of_a_sync(error: io::Error) -> io::Error {
    if is_out_of_descriptors(&error) { io::Error::other(error.to_string()) } else { error }
}

/// `IOV_MAX` on Linux.
const VECTORS_MAX: usize = 1024;

/// Type of a file system that a process serves (`FUSE_SUPER_MAGIC`).
const FUSE: rustix::fs::FsWord = 0x6573_5546;

struct SystemVolume {
    dir: fs::File,
    /// `syncfs` then writes pages back to the process that serves the files and answers success, but
    /// never asks it to sync them.
    is_fuse: bool,
}

impl Volume for SystemVolume {
    fn sync_all(&self) -> io::Result<()> {
        if self.is_fuse {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(rustix::fs::syncfs(&self.dir)?)
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::fstatvfs(&self.dir)?;
        Ok(Space {
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }
}

struct SystemLock {
    _file: fs::File,
}

impl Lock for SystemLock {}
