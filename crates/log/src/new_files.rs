//! Small files of new logs that nobody has synced yet. They stay open until then, since a closed file
//! forgets its write-back error (hazard 83); but only so many of a directory, since each is a
//! descriptor: a further one is synced at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use klamm_env::File;

/// Files held open at most. Under `flush=os` nothing may sync them for minutes.
const HELD_MAX: usize = 1024;

/// Counts those of one log directory.
#[derive(Debug, Default)]
pub(crate) struct NewFiles {
    held: Arc<AtomicUsize>,
}

/// A file that is open until its log is synced.
#[derive(Debug)]
pub(crate) struct NewFile {
    pub(crate) file: Arc<dyn File>,
    held: Arc<AtomicUsize>,
}

impl NewFiles {
    /// Holds `file` until it is synced; `None` where it was synced instead.
    pub(crate) fn hold(&self, file: Arc<dyn File>) -> io::Result<Option<NewFile>> {
        let new = NewFile { file, held: Arc::clone(&self.held) };
        if self.held.fetch_add(1, Ordering::Relaxed) < HELD_MAX {
            return Ok(Some(new));
        }
        new.file.sync_data()?;
        Ok(None)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, IoSlice};
    use std::os::fd::BorrowedFd;

    use super::*;

    /// Counts its syncs, and can do nothing else.
    #[derive(Debug, Default)]
    struct Synced(AtomicUsize);

    impl File for Synced {
        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Err(ErrorKind::Unsupported.into())
        }

        fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Err(ErrorKind::Unsupported.into())
        }

        fn write_vectored_all_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
            Err(ErrorKind::Unsupported.into())
        }

        fn len(&self) -> io::Result<u64> {
            Ok(0)
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            Err(ErrorKind::Unsupported.into())
        }

        fn sync_data(&self) -> io::Result<()> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }

        fn descriptor(&self) -> Option<BorrowedFd<'_>> {
            None
        }
    }

    #[test]
    fn hazard_83_a_new_file_stays_open_or_is_synced() {
        let new_files = NewFiles::default();
        let file = Arc::new(Synced::default());
        let hold = || new_files.hold(Arc::clone(&file) as Arc<dyn File>).expect("synced");
        let mut held: Vec<_> = (0..HELD_MAX).map(|_| hold().expect("room")).collect();
        assert_eq!(file.0.load(Ordering::Relaxed), 0);
        assert!(hold().is_none());
        assert!(hold().is_none());
        assert_eq!(file.0.load(Ordering::Relaxed), 2, "what is not held is durable");
        held.pop();
        assert!(hold().is_some(), "room again");
    }
}
