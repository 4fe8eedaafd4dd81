//! A file system in memory: what is written is there, nothing fails.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use klamm_env::files::{DirEntry, File, Files, Lock, Metadata, OpenMode, Space, Volume};

type Content = Arc<Mutex<Vec<u8>>>;

/// The files by path; a directory is there if something lies in it or it was made.
#[derive(Default)]
pub struct MemoryFiles {
    files: Mutex<BTreeMap<PathBuf, Content>>,
    dirs: Mutex<BTreeMap<PathBuf, ()>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryFiles {
    /// Another file system with the same content.
    pub fn copy(&self) -> MemoryFiles {
        let files = locked(&self.files);
        let copied = files
            .iter()
            .map(|(path, content)| (path.clone(), Arc::new(Mutex::new(locked(content).clone()))));
        MemoryFiles {
            files: Mutex::new(copied.collect()),
            dirs: Mutex::new(locked(&self.dirs).clone()),
        }
    }

    /// Puts a file there.
    pub fn put(&self, path: &Path, content: &[u8]) {
        locked(&self.files).insert(path.to_owned(), Arc::new(Mutex::new(content.to_vec())));
    }

    /// The paths and contents of all files.
    pub fn all(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = locked(&self.files);
        files.iter().map(|(path, content)| (path.clone(), locked(content).clone())).collect()
    }
}

impl Files for MemoryFiles {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut files = locked(&self.files);
        let content = match (files.get(path), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(content), _) => Arc::clone(content),
            (None, OpenMode::Read | OpenMode::ReadWrite) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                let content = Content::default();
                files.insert(path.to_owned(), Arc::clone(&content));
                content
            }
        };
        Ok(Arc::new(MemoryFile(content)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = locked(&self.files);
        let content = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        locked(&self.files).remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        locked(&self.dirs).insert(path.to_owned(), ());
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        locked(&self.files).retain(|file, _| !file.starts_with(path));
        locked(&self.dirs).retain(|dir, _| !dir.starts_with(path));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut found = BTreeMap::new();
        let mut add = |path: &Path, is_dir: bool| {
            let mut rest = path.strip_prefix(dir).ok()?.components();
            let name = rest.next()?.as_os_str().to_str()?.to_owned();
            found.insert(name, is_dir || rest.next().is_some());
            Some(())
        };
        for path in locked(&self.dirs).keys() {
            let _ = add(path, true);
        }
        for path in locked(&self.files).keys() {
            let _ = add(path, false);
        }
        Ok(found.into_iter().map(|(name, is_dir)| DirEntry { name, is_dir }).collect())
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        if let Some(content) = locked(&self.files).get(path) {
            let len = locked(content).len() as u64;
            return Ok(Some(Metadata { len, is_dir: false, modified_ms: 0 }));
        }
        let is_dir = locked(&self.dirs).keys().any(|dir| dir.starts_with(path));
        Ok(is_dir.then_some(Metadata { len: 0, is_dir: true, modified_ms: 0 }))
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn volume(&self, _dir: &Path) -> io::Result<Arc<dyn Volume>> {
        Ok(Arc::new(MemoryVolume))
    }

    fn lock(&self, _path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        Ok(Some(Box::new(MemoryLock)))
    }

    fn boot_id(&self) -> String {
        "boot".to_owned()
    }
}

struct MemoryFile(Content);

impl std::fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryFile").finish_non_exhaustive()
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = locked(&self.0);
        let rest = content.get(place(offset)?..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut content = locked(&self.0);
        let (at, end) = (place(offset)?, place(offset)? + bytes.len());
        if content.len() < end {
            content.resize(end, 0);
        }
        content[at..end].copy_from_slice(bytes);
        Ok(())
    }

    fn write_vectored_all_at(&self, parts: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        for part in parts {
            self.write_all_at(part, offset)?;
            offset += part.len() as u64;
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(locked(&self.0).len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        locked(&self.0).resize(place(len)?, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

struct MemoryVolume;

impl Volume for MemoryVolume {
    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        Ok(Space { available: 1 << 40, total: 1 << 40 })
    }
}

struct MemoryLock;

impl Lock for MemoryLock {}
