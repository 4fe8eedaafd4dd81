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
use crate::segment::{Segment, Slice};
use crate::transactions::{AbortedTransaction, collect_aborted};

/// The segments of a log, oldest first, never none. Replaced as a whole when one comes or goes.
pub(crate) struct View {
    pub(crate) segments: Vec<Arc<Segment>>,
}

impl View {
    /// Place of the segment that holds `offset`, or would.
    pub(crate) fn place_of(&self, offset: i64) -> usize {
        self.segments.partition_point(|segment| segment.base_offset <= offset).saturating_sub(1)
    }

    /// Aborted transactions that overlap the offsets from `from` to before `upper`, by first offset.
    fn aborted(&self, disk: Disk, from: i64, upper: i64) -> io::Result<Vec<AbortedTransaction>> {
        let mut found = Vec::new();
        for segment in &self.segments[self.place_of(from)..] {
            if collect_aborted(disk, segment.aborted(), from, upper, &mut found)? {
                break;
            }
        }
        found.sort_by_key(|aborted| (aborted.first_offset, aborted.last_offset));
        Ok(found)
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

/// Whole batches and the aborted transactions that they may be of.
pub type Committed = (LogSlice, Vec<AbortedTransaction>);

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

/// None where the disk would have had to be waited for.
fn or_none<T>(read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        read => read.map(Some),
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
        or_none(self.with_view(|view| self.read_view(view, Disk::Never, range)))
    }

    /// As [`LogReader::read`] up to the last stable offset, with the aborted transactions that the
    /// batches may be of: those that overlap the range from `offset` to the end of the slice, by
    /// first offset. One may have begun before `offset`; where nothing is read there are none.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn read_committed(
        &self,
        offset: i64,
        max_bytes: u64,
        last_stable_offset: i64,
        min_one_batch: bool,
    ) -> Result<Committed, ReadError> {
        let range = Range { offset, max_bytes, upper_bound: last_stable_offset, min_one_batch };
        self.with_view(|view| self.read_view_committed(view, Disk::Wait, range))
    }

    /// As [`LogReader::read_committed`] where all that it has to look at is in memory; `None` where
    /// the disk would have to be waited for. For event loops.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn try_read_committed(
        &self,
        offset: i64,
        max_bytes: u64,
        last_stable_offset: i64,
        min_one_batch: bool,
    ) -> Result<Option<Committed>, ReadError> {
        let range = Range { offset, max_bytes, upper_bound: last_stable_offset, min_one_batch };
        or_none(self.with_view(|view| self.read_view_committed(view, Disk::Never, range)))
    }

    /// Aborted transactions that overlap the offsets from `from` to before `upper`, by first offset.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn aborted_transactions(
        &self,
        from: i64,
        upper: i64,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        self.with_view(|view| Ok(view.aborted(Disk::Wait, from, upper)?))
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
        let found = self.find(view, disk, range)?;
        Self::slice(disk, range.offset, found)
    }

    /// Both of one moment: compaction drops a transaction from the index with its last batch.
    fn read_view_committed(
        &self,
        view: &View,
        disk: Disk,
        range: Range,
    ) -> Result<Committed, ReadError> {
        let found = self.find(view, disk, range)?;
        let aborted = match &found {
            Some((_, found)) => view.aborted(disk, range.offset, found.end_offset)?,
            None => Vec::new(),
        };
        Ok((Self::slice(disk, range.offset, found)?, aborted))
    }

    /// The bytes that a read is to answer, and their segment.
    fn find<'a>(
        &self,
        view: &'a View,
        disk: Disk,
        range: Range,
    ) -> Result<Option<(&'a Segment, Slice)>, ReadError> {
        let Range { offset, max_bytes, upper_bound, min_one_batch } = range;
        let log_start_offset = self.log_start_offset();
        let log_end_offset = self.log_end_offset();
        if offset < log_start_offset || offset > log_end_offset {
            return Err(ReadError::OffsetOutOfRange { offset, log_start_offset, log_end_offset });
        }
        let upper_bound = upper_bound.min(log_end_offset);
        if offset >= upper_bound {
            return Ok(None);
        }
        for segment in &view.segments[view.place_of(offset)..] {
            let found = segment.slice(disk, offset, max_bytes, upper_bound, min_one_batch)?;
            let Some(found) = found else {
                continue;
            };
            return Ok((found.start < found.end).then_some((&**segment, found)));
        }
        Ok(None)
    }

    fn slice(
        disk: Disk,
        offset: i64,
        found: Option<(&Segment, Slice)>,
    ) -> Result<LogSlice, ReadError> {
        let Some((segment, found)) = found else {
            return Ok(LogSlice { file: None, base_offset: offset });
        };
        let file = Arc::new(segment.file.pin_as(disk)?) as Arc<dyn File>;
        let file = FileSlice { file, offset: found.start, len: found.end - found.start };
        Ok(LogSlice { file: Some(file), base_offset: found.base_offset })
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
