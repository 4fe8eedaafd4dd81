//! The machine's files, with every write and sync noted and failing on demand.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};

use klamm_env::files::{DirEntry, Lock, Metadata, OpenMode, Volume};
use klamm_env::{Env, File, Files};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    None,
    Full,
    Write,
    Sync,
}

#[derive(Debug)]
struct Notes {
    log: Vec<&'static str>,
    failure: Failure,
}

#[derive(Clone)]
pub(super) struct Disk {
    real: Arc<dyn Files>,
    notes: Arc<Mutex<Notes>>,
}

impl Disk {
    pub(super) fn new() -> (Env, Disk) {
        let mut env = Env::real().unwrap();
        let notes = Arc::new(Mutex::new(Notes { log: vec![], failure: Failure::None }));
        let disk = Disk { real: Arc::clone(&env.files), notes };
        env.files = Arc::new(disk.clone());
        (env, disk)
    }

    pub(super) fn take_log(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.notes.lock().unwrap().log)
    }

    pub(super) fn fail(&self, failure: Failure) {
        self.notes.lock().unwrap().failure = failure;
    }
}

impl Files for Disk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let real = self.real.open(path, mode)?;
        Ok(Arc::new(NotedFile { real, notes: Arc::clone(&self.notes) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.real.remove_file(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.real.create_dir_all(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.real.remove_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.real.list(dir)
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        self.real.metadata(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let own = dir.ends_with("tree");
        self.notes.lock().unwrap().log.push(if own { "sync dir tree" } else { "sync parent" });
        self.real.sync_dir(dir)
    }

    fn volume(&self, dir: &Path) -> io::Result<Arc<dyn Volume>> {
        self.real.volume(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.real.lock(path)
    }

    fn boot_id(&self) -> String {
        self.real.boot_id()
    }
}

#[derive(Debug)]
struct NotedFile {
    real: Arc<dyn File>,
    notes: Arc<Mutex<Notes>>,
}

impl File for NotedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.real.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut notes = self.notes.lock().unwrap();
        notes.log.push("write");
        // A part of it is written all the same.
        match notes.failure {
            Failure::Full => {
                self.real.write_all_at(&bytes[..bytes.len() / 2], offset)?;
                Err(io::ErrorKind::StorageFull.into())
            }
            Failure::Write => Err(io::Error::other("bad sector")),
            Failure::None | Failure::Sync => self.real.write_all_at(bytes, offset),
        }
    }

    fn write_vectored_all_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.real.write_vectored_all_at(parts, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.real.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.real.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut notes = self.notes.lock().unwrap();
        notes.log.push("sync");
        match notes.failure {
            Failure::Sync => Err(io::Error::other("lost a page")),
            _ => self.real.sync_data(),
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.real.descriptor()
    }
}
