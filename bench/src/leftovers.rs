//! Folders of data that nobody needs any more.
//!
//! ext4 gives an inode out again only some minutes after its deletion, and until then looks past it for
//! each new file: 10,000 folders with three files each are made in 0.8 s, and in 11 and 22 s where as
//! many have just been deleted, with no broker at all. What one run leaves behind would be paid for by the
//! next one. So files are emptied at once, which gives their space back, and deleted at the very end.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Result;

/// Where they wait for the end.
pub(crate) struct Leftovers {
    dir: PathBuf,
    /// The name of the next one, unless it is taken.
    next: AtomicUsize,
}

impl Leftovers {
    /// Keeps them in `dir`, beside those of a session that did not come to its end.
    pub(crate) fn new(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        Ok(Self { dir, next: AtomicUsize::new(0) })
    }

    /// Takes a folder out of the way, if it is there.
    pub(crate) fn put(&self, folder: &Path) -> Result<()> {
        if !folder.exists() {
            return Ok(());
        }
        let kept = loop {
            let kept = self.dir.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
            if !kept.exists() {
                break kept;
            }
        };
        fs::rename(folder, &kept)
            .and_then(|()| empty(&kept))
            .map_err(|e| format!("{}: {e}", folder.display()))
    }

    /// Deletes them all.
    pub(crate) fn clear(self) -> Result<()> {
        fs::remove_dir_all(&self.dir).map_err(|e| format!("{}: {e}", self.dir.display()))
    }
}

fn empty(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            empty(&entry.path())?;
        } else if entry.metadata()?.len() > 0 {
            fs::File::create(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_emptied_at_once_and_deleted_at_the_end() {
        let scratch = std::env::temp_dir().join(format!("klamm-leftovers-{}", std::process::id()));
        let (data, kept) = (scratch.join("data"), scratch.join("kept"));
        let leftovers = Leftovers::new(kept.clone()).unwrap();
        for _ in 0..2 {
            fs::create_dir_all(data.join("t-0")).unwrap();
            fs::write(data.join("t-0/log"), "x").unwrap();
            leftovers.put(&data).unwrap();
            assert!(!data.exists());
        }
        leftovers.put(&data).unwrap();
        for count in ["0", "1"] {
            assert_eq!(fs::metadata(kept.join(count).join("t-0/log")).unwrap().len(), 0);
        }
        leftovers.clear().unwrap();
        fs::remove_dir(&scratch).unwrap();
    }
}
