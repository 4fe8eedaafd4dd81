//! Files of segments, opened when they are first needed.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arc_swap::Guard;
use klamm_env::Files;
use klamm_env::files::{File, OpenMode};

use crate::config::LogConfig;
use crate::dir::LogDir;
use crate::names::offset_file;
use crate::open_files::{Handle, OpenFiles, Slot, is_short};

/// Where the files of a partition are.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) dir: Arc<Path>,
    pub(crate) open_files: Arc<OpenFiles>,
}

impl Place {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn segment_path(&self, base_offset: i64, suffix: &str) -> PathBuf {
        self.dir.join(offset_file(base_offset, suffix))
    }

    /// Removes a file; one that is missing is no error.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        match self.files.remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Sets aside what a new segment may become, where the settings ask for it. The file's length stays
/// what is written to it: a crash leaves nothing behind that is not a batch.
pub(crate) fn preallocate(dir: &LogDir, config: &LogConfig, file: &dyn File) -> io::Result<()> {
    if !config.preallocate {
        return Ok(());
    }
    let bytes = u64::from(config.segment_bytes);
    if !dir.has_room(bytes) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    match file.preallocate(bytes) {
        // Then the file grows as it is written to.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        done => done,
    }
}

/// Frees what was set aside for a segment and is not needed.
pub(crate) fn free_preallocated(file: &dyn File, path: &Path, size: u64) {
    if let Err(error) = file.set_len(size) {
        tracing::warn!(file = %path.display(), "what was set aside for it stays: {error}");
    }
}

/// A file of a segment. It opens when it is used; [`OpenFiles`] closes it when others need the place.
pub(crate) struct SegmentFile {
    place: Place,
    base_offset: i64,
    suffix: &'static str,
    slot: Arc<Slot>,
    /// What keeps the file open although it is not in use.
    kept: OnceLock<Arc<Handle>>,
}

impl SegmentFile {
    /// The file at that place, not yet opened.
    pub(crate) fn lazy(place: &Place, base_offset: i64, suffix: &'static str) -> SegmentFile {
        let slot = Slot::new(&place.open_files, None);
        let kept = OnceLock::new();
        SegmentFile { place: place.clone(), base_offset, suffix, slot, kept }
    }

    /// The file at that place, which `handle` has open. It stays open until it is handed over.
    pub(crate) fn opened(
        place: &Place,
        base_offset: i64,
        suffix: &'static str,
        handle: Arc<dyn File>,
    ) -> SegmentFile {
        let slot = Slot::new(&place.open_files, Some(handle));
        let kept = OnceLock::new();
        SegmentFile { place: place.clone(), base_offset, suffix, slot, kept }
    }

    /// The open file.
    pub(crate) fn handle(&self) -> io::Result<Arc<dyn File>> {
        Ok(Arc::clone(&held(&self.open()?).0))
    }

    fn open(&self) -> io::Result<Guard<Option<Arc<Handle>>>> {
        self.slot.get(is_short(&*self.place.files), || {
            self.place.files.open(&self.path(), OpenMode::ReadWrite)
        })
    }

    /// The file as one reader uses it: open, and known to a truncation, until that is dropped.
    pub(crate) fn pin(self: &Arc<Self>) -> io::Result<PinnedFile> {
        Ok(PinnedFile { handle: Arc::clone(held(&self.open()?)), _file: Arc::clone(self) })
    }

    /// As [`SegmentFile::pin`], with the patience of `disk`.
    pub(crate) fn pin_as(self: &Arc<Self>, disk: Disk) -> io::Result<PinnedFile> {
        if disk == Disk::Never && self.slot.get_open().is_none() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.pin()
    }

    /// Opens the file for as long as this lives: its name is about to be another file's.
    pub(crate) fn keep_open(&self) -> io::Result<()> {
        let handle = Arc::clone(held(&self.open()?));
        self.kept.get_or_init(|| handle);
        Ok(())
    }

    /// The file is durable, and nobody but readers needs it open any more.
    pub(crate) fn hand_over(&self) {
        self.slot.hand_over();
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.place.segment_path(self.base_offset, self.suffix)
    }

    /// The same file under a new identity: who holds the old one is told apart.
    pub(crate) fn reincarnate(&self) -> SegmentFile {
        SegmentFile {
            place: self.place.clone(),
            base_offset: self.base_offset,
            suffix: self.suffix,
            slot: Arc::clone(&self.slot),
            kept: self.kept.clone(),
        }
    }
}

/// What a guard of [`Slot::get`] holds.
fn held(open: &Guard<Option<Arc<Handle>>>) -> &Arc<Handle> {
    open.as_ref().expect("an open file was asked for")
}

impl fmt::Debug for SegmentFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SegmentFile({})", self.path().display())
    }
}

impl SegmentFile {
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        held(&self.open()?).0.read_exact_at(buffer, offset)
    }

    /// As [`SegmentFile::read_exact_at`], with the patience of `disk`.
    pub(crate) fn read_exact_as(
        &self,
        disk: Disk,
        mut buffer: &mut [u8],
        mut offset: u64,
    ) -> io::Result<()> {
        if disk == Disk::Wait {
            return self.read_exact_at(buffer, offset);
        }
        let open = self.slot.get_open().ok_or(io::ErrorKind::WouldBlock)?;
        while !buffer.is_empty() {
            match held(&open).0.read_cached_at(buffer, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    offset += read as u64;
                    buffer = &mut buffer[read..];
                }
            }
        }
        Ok(())
    }

    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        held(&self.open()?).0.set_len(len)
    }
}

/// Whether a read may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// It takes as long as it takes.
    Wait,
    /// `WouldBlock` where something is not in memory, or the file is not open.
    Never,
}

/// A segment's file that a read or a send is under way from.
#[derive(Debug)]
pub(crate) struct PinnedFile {
    handle: Arc<Handle>,
    /// Truncation counts who holds it.
    _file: Arc<SegmentFile>,
}

impl File for PinnedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.handle.0.read_at(buffer, offset)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.handle.0.read_cached_at(buffer, offset)
    }

    fn will_need(&self, offset: u64, len: u64) {
        self.handle.0.will_need(offset, len);
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.handle.0.write_all_at(bytes, offset)
    }

    fn write_vectored_all_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.handle.0.write_vectored_all_at(parts, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.handle.0.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.handle.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.handle.0.sync_data()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.handle.0.descriptor()
    }
}
