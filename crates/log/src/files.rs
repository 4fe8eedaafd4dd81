//! Files of segments, opened when they are first needed.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use klamm_env::Files;
use klamm_env::files::{File, OpenMode};

use crate::names::offset_file;

/// Where the files of a partition are.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) dir: Arc<Path>,
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

/// A file of a segment. It opens when first used and stays open until dropped.
pub(crate) struct SegmentFile {
    place: Place,
    base_offset: i64,
    suffix: &'static str,
    handle: OnceLock<Arc<dyn File>>,
}

impl SegmentFile {
    /// The file at that place, not yet opened.
    pub(crate) fn lazy(place: &Place, base_offset: i64, suffix: &'static str) -> SegmentFile {
        SegmentFile { place: place.clone(), base_offset, suffix, handle: OnceLock::new() }
    }

    /// The file at that place, which `handle` has open.
    pub(crate) fn opened(
        place: &Place,
        base_offset: i64,
        suffix: &'static str,
        handle: Arc<dyn File>,
    ) -> SegmentFile {
        let file = SegmentFile::lazy(place, base_offset, suffix);
        file.handle.get_or_init(|| handle);
        file
    }

    /// The open file.
    pub(crate) fn handle(&self) -> io::Result<&Arc<dyn File>> {
        if let Some(handle) = self.handle.get() {
            return Ok(handle);
        }
        let opened = self.place.files.open(&self.path(), OpenMode::ReadWrite)?;
        Ok(self.handle.get_or_init(|| opened))
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
            handle: self.handle.clone(),
        }
    }
}

impl fmt::Debug for SegmentFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SegmentFile({})", self.path().display())
    }
}

impl File for SegmentFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.handle()?.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.handle()?.write_all_at(bytes, offset)
    }

    fn write_vectored_all_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.handle()?.write_vectored_all_at(parts, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.handle()?.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.handle()?.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.handle()?.sync_data()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        // A file that cannot be opened shows its error when it is read.
        self.handle().ok()?.descriptor()
    }
}
