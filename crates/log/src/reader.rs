//! Reading a log without a lock.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use klamm_env::files::File;
use klamm_env::network::FileSlice;

use crate::epochs::EpochCache;
use crate::error::ReadError;
use crate::files::Disk;
use crate::segment::Segment;

/// The segments of a log, oldest first, never none. Replaced as a whole when one comes or goes.
pub(crate) struct View {
    pub(crate) segments: Vec<Arc<Segment>>,
}

impl View {
    /// Place of the segment that holds `offset`, or would.
    pub(crate) fn place_of(&self, offset: i64) -> usize {
        self.segments.partition_point(|segment| segment.base_offset <= offset).saturating_sub(1)
    }
}

/// What the log and its readers share.
pub(crate) struct Shared {
    pub(crate) view: ArcSwap<View>,
    pub(crate) epochs: ArcSwap<EpochCache>,
    pub(crate) log_start_offset: AtomicI64,
    pub(crate) log_end_offset: AtomicI64,
}

/// Reads one log. Cheap to clone; holds no lock and blocks no appends. What it reads it reads
/// from the page cache or the disk on the calling thread.
#[derive(Clone)]
pub struct LogReader {
    pub(crate) shared: Arc<Shared>,
}

/// What is asked of a log, as [`LogReader::read`] says.
#[derive(Clone, Copy)]
struct Range {
    offset: i64,
    max_bytes: u64,
    upper_bound: i64,
    min_one_batch: bool,
}

/// Whole batches of a log.
#[derive(Clone, Debug, Default)]
pub struct LogSlice {
    /// Where the bytes are; `None` where there are none. Holding it holds off truncation (R16).
    pub file: Option<FileSlice>,
    /// Base offset of the first batch; the asked offset where there is none.
    pub base_offset: i64,
}

impl LogSlice {
    /// Number of bytes.
    pub fn len(&self) -> u64 {
        self.file.as_ref().map_or(0, |slice| slice.len)
    }

    /// Whether there is no batch.
    pub fn is_empty(&self) -> bool {
        self.file.is_none()
    }

    /// The bytes, copied from the page cache or the disk.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn read(&self) -> io::Result<Bytes> {
        let Some(slice) = &self.file else {
            return Ok(Bytes::new());
        };
        let len = usize::try_from(slice.len).expect("a slice is smaller than a segment");
        let mut bytes = vec![0; len];
        slice.file.read_exact_at(&mut bytes, slice.offset)?;
        Ok(bytes.into())
    }
}

impl LogReader {
    /// First offset that may be read.
    pub fn log_start_offset(&self) -> i64 {
        self.shared.log_start_offset.load(Ordering::Acquire)
    }

    /// The offset that the next record gets.
    pub fn log_end_offset(&self) -> i64 {
        self.shared.log_end_offset.load(Ordering::Acquire)
    }

    /// The leader epochs of the log.
    pub fn epochs(&self) -> Arc<EpochCache> {
        self.shared.epochs.load_full()
    }

    /// As [`EpochCache::end_offset_for`].
    pub fn end_offset_for_epoch(&self, epoch: i32) -> (i32, i64) {
        self.shared.epochs.load().end_offset_for(epoch, self.log_end_offset())
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.shared.view.load().segments.iter().map(|segment| segment.size()).sum()
    }

    /// Whole batches from the one that holds `offset` on: those that end below `upper_bound` (high
    /// watermark, last stable offset or [`i64::MAX`]), at most `max_bytes` of them; with
    /// `min_one_batch` the first one even if it is larger. A slice lies within one segment, so it
    /// may be shorter than what there is.
    ///
    /// # Errors
    /// When the log does not hold `offset` (its end is fine and gives nothing), or the disk fails.
    pub fn read(
        &self,
        offset: i64,
        max_bytes: u64,
        upper_bound: i64,
        min_one_batch: bool,
    ) -> Result<LogSlice, ReadError> {
        let range = Range { offset, max_bytes, upper_bound, min_one_batch };
        self.with_view(|view| self.read_view(view, Disk::Wait, range))
    }

    /// As [`LogReader::read`] where all that it has to look at is in memory; `None` where the disk
    /// would have to be waited for. For event loops.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn try_read(
        &self,
        offset: i64,
        max_bytes: u64,
        upper_bound: i64,
        min_one_batch: bool,
    ) -> Result<Option<LogSlice>, ReadError> {
        let range = Range { offset, max_bytes, upper_bound, min_one_batch };
        match self.with_view(|view| self.read_view(view, Disk::Never, range)) {
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            read => read.map(Some),
        }
    }

    /// Reads from the segments of one moment; again where retention or the cleaner removed a file
    /// of an older moment before it was first opened.
    pub(crate) fn with_view<T>(
        &self,
        read: impl Fn(&View) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        loop {
            let view = self.shared.view.load();
            match read(&view) {
                Err(ReadError::Io(error))
                    if error.kind() == io::ErrorKind::NotFound
                        && !Arc::ptr_eq(&view, &self.shared.view.load()) => {}
                other => return other,
            }
        }
    }

    fn read_view(&self, view: &View, disk: Disk, range: Range) -> Result<LogSlice, ReadError> {
        let Range { offset, max_bytes, upper_bound, min_one_batch } = range;
        let log_start_offset = self.log_start_offset();
        let log_end_offset = self.log_end_offset();
        if offset < log_start_offset || offset > log_end_offset {
            return Err(ReadError::OffsetOutOfRange { offset, log_start_offset, log_end_offset });
        }
        let upper_bound = upper_bound.min(log_end_offset);
        let nothing = LogSlice { file: None, base_offset: offset };
        if offset >= upper_bound {
            return Ok(nothing);
        }
        for segment in &view.segments[view.place_of(offset)..] {
            let found = segment.slice(disk, offset, max_bytes, upper_bound, min_one_batch)?;
            let Some(found) = found else {
                continue;
            };
            if found.start == found.end {
                return Ok(nothing);
            }
            let file = Arc::new(segment.file.pin_as(disk)?) as Arc<dyn File>;
            let file = FileSlice { file, offset: found.start, len: found.end - found.start };
            return Ok(LogSlice { file: Some(file), base_offset: found.base_offset });
        }
        Ok(nothing)
    }
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogReader")
            .field("log_start_offset", &self.log_start_offset())
            .field("log_end_offset", &self.log_end_offset())
            .finish_non_exhaustive()
    }
}
