//! File systems.
//!
//! What a call promises after a power loss is said at the call; `docs/format.md` lists what Klamm
//! assumes of disks.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

/// How [`Files::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Existing file, for reading.
    Read,
    /// Existing file, for reading and writing.
    ReadWrite,
    /// For reading and writing, created empty when missing.
    Create,
    /// For reading and writing, `AlreadyExists` when present.
    CreateNew,
}

/// What [`Files::metadata`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Length in bytes; 0 for a directory.
    pub len: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Last modification, milliseconds since 1970.
    pub modified_ms: i64,
}

/// One entry of [`Files::list`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// File name; names that are not UTF-8 are left out of listings.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// Free and total bytes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that an unprivileged process may still write.
    pub available: u64,
    /// Size of the file system.
    pub total: u64,
}

/// Directories and files.
pub trait Files: Send + Sync + 'static {
    /// Opens a file. A created file's *name* is durable only after [`Files::sync_dir`] of its folder.
    ///
    /// # Errors
    /// As the operating system's `open`.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Renames over whatever is there; durable after [`Files::sync_dir`] of both folders.
    ///
    /// # Errors
    /// As `rename(2)`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; durable after [`Files::sync_dir`].
    ///
    /// # Errors
    /// `NotFound`, or as `unlink(2)`.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory and the missing ones above it; durable after [`Files::sync_dir`] of each parent.
    ///
    /// # Errors
    /// As `mkdir(2)`; an existing directory is no error.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with all that is in it.
    ///
    /// # Errors
    /// `NotFound`, or as `rmdir(2)`.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The entries of a directory, sorted by name.
    ///
    /// # Errors
    /// As `readdir(3)`.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// What is at `path`, or `None` where there is nothing.
    ///
    /// # Errors
    /// As `stat(2)`, apart from a missing entry.
    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>>;

    /// Makes the names in `dir` durable.
    ///
    /// # Errors
    /// As `fsync(2)`; the directory is then not to be trusted by this process any more.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// The file system that `dir` lies on.
    ///
    /// # Errors
    /// As `open(2)`.
    fn volume(&self, dir: &Path) -> io::Result<Arc<dyn Volume>>;

    /// An exclusive lock on the file at `path` (created when missing) until the guard is dropped or
    /// the process ends; `None` when another process holds it.
    ///
    /// # Errors
    /// As `open(2)` and `flock(2)`.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;

    /// Names this boot of the machine: while it is unchanged, the page cache has survived.
    fn boot_id(&self) -> String;

    /// How many descriptors this process may have, after its soft limit was raised to the hard one
    /// as far as the system lets it; `None` where there is no limit (the simulator).
    fn raise_descriptor_limit(&self) -> Option<u64> {
        None
    }

    /// Counts the descriptors of this process, all that are neither a file nor a connection of this
    /// environment; those come and go, and are counted as they do.
    fn count_descriptors(&self) {}

    /// How many descriptors are left, by the last [`Files::count_descriptors`] and what was opened and
    /// closed since; `None` before that, or where there is no limit.
    fn descriptors_left(&self) -> Option<u64> {
        None
    }
}

/// The error of an opening that finds no descriptor: for those who leave the last ones to others.
pub fn out_of_descriptors() -> io::Error {
    Errno::MFILE.into()
}

/// One open file. Reads and writes are positioned, so that threads can share it.
pub trait File: Send + Sync + Debug + 'static {
    /// Reads up to `buffer.len()` bytes at `offset`; 0 at the end of the file.
    ///
    /// # Errors
    /// As `pread(2)`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// As [`File::read_at`], of what is in memory only: for event loops, which must not wait for a
    /// disk. May read less than is in memory.
    ///
    /// # Errors
    /// `WouldBlock` when the first byte is not in memory, else as `pread(2)`.
    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_at(buffer, offset)
    }

    /// Says that these bytes are read next, so that the disk can begin. Nothing waits for them, but
    /// the call may block where many reads are queued. A hint: what fails shows in the read.
    fn will_need(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// As `pwrite(2)`; a part may have been written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Writes all of `parts` one after the other from `offset`.
    ///
    /// # Errors
    /// As `pwritev(2)`; a part may have been written.
    fn write_vectored_all_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// As `fstat(2)`.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// As `fstat(2)`.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts or extends with zeros.
    ///
    /// # Errors
    /// As `ftruncate(2)`.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Sets room aside for the first `len` bytes; content and length stay as they are. What is set
    /// aside past the end comes free when the file is cut, even to the length that it has.
    ///
    /// # Errors
    /// As `fallocate(2)`; `Unsupported` where the file system knows no such thing.
    fn preallocate(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes content and length durable.
    ///
    /// # Errors
    /// As `fdatasync(2)`. What was not durable before may be lost for good: a second call that
    /// succeeds proves nothing.
    fn sync_data(&self) -> io::Result<()>;

    /// The descriptor for `sendfile`; `None` where there is none (the simulator).
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// Reads exactly `buffer.len()` bytes at `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before, else as [`File::read_at`].
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            let n = self.read_at(&mut buffer[done..], offset + done as u64)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            done += n;
        }
        Ok(())
    }
}

/// A file system as a whole.
pub trait Volume: Send + Sync + 'static {
    /// Makes everything written to this file system durable, strangers' files included.
    ///
    /// # Errors
    /// As `syncfs(2)`: an error of any file since the volume was opened, once. `Unsupported` where
    /// there is no such call.
    fn sync_all(&self) -> io::Result<()>;

    /// Free and total bytes.
    ///
    /// # Errors
    /// As `statvfs(3)`.
    fn space(&self) -> io::Result<Space>;
}

/// Whether a file could not be opened because the process or the system has no descriptor left.
/// Only opening fails so: nothing is wrong with the disk, and it passes.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].contains(&errno(error))
}

/// As [`is_out_of_descriptors`], or for want of memory. A sync may fail so as well, and is then a
/// failed sync: to be asked only where none was tried.
pub fn is_shortage(error: &io::Error) -> bool {
    is_out_of_descriptors(error) || errno(error) == Errno::NOMEM
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Keeps a lock of [`Files::lock`] until it is dropped.
pub trait Lock: Send + Sync {}
