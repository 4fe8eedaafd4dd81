//! Keeps the event loops off the disk: what the page cache does not hold is read on a thread that
//! may block, before it is sent.
//!
//! A consumer that catches up reads on from where it is. So behind the bytes that are waited for the
//! disk is asked for more, which the next look then finds in memory.

use std::io::{self, ErrorKind};

use klamm_env::network::FileSlice;
use klamm_env::threads::run_blocking;
use klamm_env::{File, Threads};

/// Bytes that are sent after one look. The kernel reads ahead in steps of this order, so that the
/// bytes between the two that are looked at are not missing where both are there.
const LOOK_BYTES: u64 = 256 * 1024;
/// Bytes that one job waits for: a hop to its thread and back is paid once for all of them.
const WAIT_BYTES: u64 = 1024 * 1024;
/// Bytes that the disk is asked for together with them.
const AHEAD_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes that a job reads at once.
const READ_BYTES: usize = 64 * 1024;

/// Waits, off the loop, until the first bytes of `slice` are in memory; answers how many of them may
/// be sent before the next look.
///
/// # Errors
/// When the disk fails.
pub(crate) async fn fetch_next(threads: &dyn Threads, slice: &FileSlice) -> io::Result<u64> {
    let chunk = slice.len.min(LOOK_BYTES);
    if !is_in_memory(&*slice.file, slice.offset, chunk)? {
        let mut slice = slice.clone();
        slice.len = slice.len.min(WAIT_BYTES);
        run_blocking(threads, move || read_in(&slice)).await?;
    }
    Ok(chunk)
}

/// Looks at the first and the last byte.
fn is_in_memory(file: &dyn File, offset: u64, len: u64) -> io::Result<bool> {
    for at in [offset, offset + len.saturating_sub(1)] {
        match file.read_cached_at(&mut [0], at) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            looked => looked?,
        };
    }
    Ok(true)
}

/// Reads the slice into the page cache. A file that ends early is told by who sends it.
fn read_in(slice: &FileSlice) -> io::Result<()> {
    slice.file.will_need(slice.offset, AHEAD_BYTES);
    let mut buffer = vec![0; READ_BYTES];
    let (mut at, end) = (slice.offset, slice.offset + slice.len);
    while at < end {
        let step = READ_BYTES.min(usize::try_from(end - at).unwrap_or(READ_BYTES));
        match slice.file.read_at(&mut buffer[..step], at)? {
            0 => break,
            read => at += read as u64,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use klamm_env::Env;
    use std::io::IoSlice;
    use std::os::fd::BorrowedFd;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};
    use std::thread::{self, ThreadId};

    /// A file of which a part is in memory: what has been read.
    #[derive(Debug, Default)]
    struct ColdFile {
        in_memory: AtomicU64,
        asked_for: AtomicU64,
        readers: Mutex<Vec<ThreadId>>,
    }

    const LEN: u64 = 3 * WAIT_BYTES + 10;

    impl File for ColdFile {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            self.readers.lock().expect("no panic").push(thread::current().id());
            let read = (buffer.len() as u64).min(LEN.saturating_sub(offset));
            self.in_memory.fetch_max(offset + read, Ordering::SeqCst);
            Ok(read as usize)
        }

        fn read_cached_at(&self, _: &mut [u8], offset: u64) -> io::Result<usize> {
            match offset < self.in_memory.load(Ordering::SeqCst) {
                true => Ok(1),
                false => Err(ErrorKind::WouldBlock.into()),
            }
        }

        fn will_need(&self, offset: u64, len: u64) {
            self.asked_for.fetch_max(offset + len, Ordering::SeqCst);
        }

        fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Err(ErrorKind::Unsupported.into())
        }

        fn write_vectored_all_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
            Err(ErrorKind::Unsupported.into())
        }

        fn len(&self) -> io::Result<u64> {
            Ok(LEN)
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            Err(ErrorKind::Unsupported.into())
        }

        fn sync_data(&self) -> io::Result<()> {
            Err(ErrorKind::Unsupported.into())
        }

        fn descriptor(&self) -> Option<BorrowedFd<'_>> {
            None
        }
    }

    #[test]
    fn what_is_not_in_memory_is_read_by_another_thread_before_it_is_sent() {
        let env = Env::real().expect("threads");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let file = Arc::new(ColdFile::default());
        let mut rest = FileSlice { file: file.clone(), offset: 0, len: LEN };
        while rest.len > 0 {
            let chunk = runtime.block_on(fetch_next(&*env.threads, &rest)).expect("sound");
            assert!(chunk > 0 && chunk <= LOOK_BYTES);
            assert!(file.in_memory.load(Ordering::SeqCst) >= rest.offset + chunk);
            rest.offset += chunk;
            rest.len -= chunk;
        }
        assert!(file.asked_for.load(Ordering::SeqCst) >= LEN, "the disk is asked ahead");
        let readers = file.readers.lock().expect("no panic");
        assert!(readers.iter().all(|reader| *reader != thread::current().id()));
        // One job for many chunks: four jobs of at most 1 MiB, in steps of 64 KiB.
        assert_eq!(readers.len() as u64, LEN.div_ceil(READ_BYTES as u64));
    }

    #[test]
    fn what_is_in_memory_is_not_read_again() {
        let env = Env::real().expect("threads");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let file = Arc::new(ColdFile::default());
        file.in_memory.store(LEN, Ordering::SeqCst);
        let slice = FileSlice { file: file.clone(), offset: 5, len: LEN - 5 };
        assert_eq!(runtime.block_on(fetch_next(&*env.threads, &slice)).expect("sound"), LOOK_BYTES);
        assert!(file.readers.lock().expect("no panic").is_empty());
    }
}
