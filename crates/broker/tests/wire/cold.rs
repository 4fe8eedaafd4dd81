//! Fetches of what is not in memory.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use klamm_env::Env;
use klamm_env::files::{DirEntry, File, Files, Lock, Metadata, OpenMode, Volume};
use tempfile::TempDir;

use crate::broker::start_in;
use crate::socket::{batch, records};

const PAGE: u64 = 4096;
/// More than a segment holds.
const RECORDS: usize = 100;
/// What the threads of the event loops are called.
const LOOP: &str = "klamm-net";

/// Pages in memory by file: those that were read. And the reads for which a loop waited.
#[derive(Debug, Default)]
struct Disk {
    pages: Mutex<BTreeSet<(PathBuf, u64)>>,
    waited: Mutex<Vec<String>>,
    read: Mutex<Vec<String>>,
}

struct ColdFiles {
    inner: Arc<dyn Files>,
    disk: Arc<Disk>,
}

impl Files for ColdFiles {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.inner.open(path, mode)?;
        if path.extension().is_none_or(|extension| extension != "log" && extension != "index") {
            return Ok(file);
        }
        Ok(Arc::new(ColdFile { file, path: path.to_owned(), disk: Arc::clone(&self.disk) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.list(dir)
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        self.inner.metadata(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn volume(&self, dir: &Path) -> io::Result<Arc<dyn Volume>> {
        self.inner.volume(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.inner.lock(path)
    }

    fn boot_id(&self) -> String {
        self.inner.boot_id()
    }
}

#[derive(Debug)]
struct ColdFile {
    file: Arc<dyn File>,
    path: PathBuf,
    disk: Arc<Disk>,
}

impl ColdFile {
    fn pages(&self, offset: u64, len: usize) -> impl Iterator<Item = (PathBuf, u64)> {
        let last = (offset + (len as u64).max(1) - 1) / PAGE;
        (offset / PAGE..=last).map(|page| (self.path.clone(), page))
    }

    fn is_in_memory(&self, offset: u64, len: usize) -> bool {
        let pages = self.disk.pages.lock().expect("no panic");
        self.pages(offset, len).all(|page| pages.contains(&page))
    }
}

impl File for ColdFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        let what = format!("{} at {offset} on {thread}", self.path.display());
        if thread.starts_with(LOOP) && !self.is_in_memory(offset, buffer.len()) {
            self.disk.waited.lock().expect("no panic").push(what.clone());
        }
        self.disk.read.lock().expect("no panic").push(what);
        self.disk.pages.lock().expect("no panic").extend(self.pages(offset, buffer.len()));
        self.file.read_at(buffer, offset)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.is_in_memory(offset, buffer.len()) {
            true => self.file.read_at(buffer, offset),
            false => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn write_vectored_all_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.file.write_vectored_all_at(parts, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        // Without one, sending reads, which is seen here.
        None
    }
}

#[test]
fn no_event_loop_waits_for_the_disk_that_a_fetch_needs() {
    let root = TempDir::new().expect("a directory");
    let dir = root.path().join("data").display().to_string();
    let disk = Arc::new(Disk::default());
    let cold = || {
        let mut env = Env::real().expect("an environment");
        env.files = Arc::new(ColdFiles { inner: Arc::clone(&env.files), disk: Arc::clone(&disk) });
        start_in(env, &dir, &[])
    };
    let broker = cold();
    // Small batches, which are copied, and large ones, which are sent from their file.
    broker.topic("t", 1, &[("segment.bytes", "1048576")]);
    let mut socket = broker.connect();
    let values = [vec![1; 100], vec![2; 30_000]];
    for n in 0..RECORDS {
        let produced = socket.produce("t", 0, -1, batch(&[&values[n % 2]]));
        assert_eq!(produced.error_code, 0);
    }
    drop(socket);
    broker.stop();
    // Sealed segments with index files that nobody has looked at.
    let broker = cold();
    disk.pages.lock().expect("no panic").clear();
    let mut socket = broker.connect();
    let mut next = 0_i64;
    while next < RECORDS as i64 {
        let found = records(&socket.fetch("t", 0, next, 1000));
        assert!(!found.is_empty(), "at {next}");
        for (offset, value) in &found {
            assert_eq!(*offset, next);
            assert_eq!(value, &values[next as usize % 2]);
            next += 1;
        }
    }
    assert_eq!(*disk.waited.lock().expect("no panic"), Vec::<String>::new());
    assert!(!disk.read.lock().expect("no panic").is_empty(), "nothing was cold");
}
