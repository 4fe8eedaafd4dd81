//! One segment: a file of batches and its indexes.

use std::io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use klamm_protocol::records::{BatchHeader, EndTxnMarker, HEADER_LEN, NO_TIMESTAMP};

use crate::files::{Disk, Place, SegmentFile};
use crate::index::{Entry, Index, OffsetEntry, TimeEntry};
use crate::names::{INDEX_SUFFIX, LOG_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX};
use crate::transactions::{AbortedTransaction, marker_at};

/// Bytes that a scan of headers reads at once.
const SCAN_BYTES: usize = 4096;

/// A timestamp and the last offset of the batch that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimestampOffset {
    pub(crate) timestamp: i64,
    pub(crate) offset: i64,
}

/// Numbers of entries in the files of a segment's indexes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexLens {
    pub(crate) offsets: usize,
    pub(crate) times: usize,
    pub(crate) aborted: usize,
}

pub(crate) struct Indexes {
    pub(crate) offsets: Index<OffsetEntry>,
    pub(crate) times: Index<TimeEntry>,
}

impl Indexes {
    pub(crate) fn in_memory(offsets: &[OffsetEntry], times: &[TimeEntry]) -> Indexes {
        Indexes { offsets: Index::in_memory(offsets), times: Index::in_memory(times) }
    }

    pub(crate) fn in_files(place: &Place, base_offset: i64, lens: IndexLens) -> Indexes {
        let offsets = SegmentFile::lazy(place, base_offset, INDEX_SUFFIX);
        let times = SegmentFile::lazy(place, base_offset, TIME_INDEX_SUFFIX);
        Indexes {
            offsets: Index::in_file(offsets, lens.offsets),
            times: Index::in_file(times, lens.times),
        }
    }
}

/// The aborted transactions of a segment whose file has `len` entries; a file without any is none.
pub(crate) fn aborted_in_file(
    place: &Place,
    base_offset: i64,
    len: usize,
) -> Index<AbortedTransaction> {
    Index::in_file(SegmentFile::lazy(place, base_offset, TXN_INDEX_SUFFIX), len)
}

/// Decides which batches of a segment get index entries, as they come; the same for appending and
/// for rebuilding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Indexer {
    pub(crate) base_offset: i64,
    pub(crate) interval_bytes: u32,
    /// Position of the last offset entry.
    pub(crate) last_position: u64,
    /// Timestamp of the last time entry.
    pub(crate) last_timestamp: i64,
    /// The greatest timestamp so far.
    pub(crate) max: TimestampOffset,
}

impl Indexer {
    pub(crate) fn new(base_offset: i64, interval_bytes: u32) -> Indexer {
        Indexer {
            base_offset,
            interval_bytes,
            last_position: 0,
            last_timestamp: NO_TIMESTAMP,
            max: TimestampOffset { timestamp: NO_TIMESTAMP, offset: base_offset },
        }
    }

    /// An indexer that goes on where `indexes` end.
    pub(crate) fn resume(
        base_offset: i64,
        interval_bytes: u32,
        indexes: &Indexes,
    ) -> io::Result<Indexer> {
        let mut indexer = Indexer::new(base_offset, interval_bytes);
        if let Some(last) = indexes.offsets.last()? {
            indexer.last_position = u64::from(last.position);
        }
        if let Some(last) = indexes.times.last()? {
            indexer.last_timestamp = last.timestamp;
            indexer.max = TimestampOffset {
                timestamp: last.timestamp,
                offset: base_offset + i64::from(last.offset),
            };
        }
        Ok(indexer)
    }

    /// Takes note of the batch at `position` and adds entries where they are due.
    pub(crate) fn add(&mut self, indexes: &Indexes, header: &BatchHeader, position: u64) {
        if header.max_timestamp > self.max.timestamp {
            self.max =
                TimestampOffset { timestamp: header.max_timestamp, offset: header.last_offset() };
        }
        if position - self.last_position > u64::from(self.interval_bytes) {
            self.add_offset(indexes, header.last_offset(), position);
            self.add_time(indexes);
        }
    }

    fn add_offset(&mut self, indexes: &Indexes, last_offset: i64, position: u64) {
        self.last_position = position;
        if let (Some(offset), Ok(position)) = (self.relative(last_offset), u32::try_from(position))
        {
            indexes.offsets.push(OffsetEntry { offset, position });
        }
    }

    /// Adds an entry for the greatest timestamp so far, unless the last entry has it.
    pub(crate) fn add_time(&mut self, indexes: &Indexes) {
        if self.max.timestamp <= self.last_timestamp {
            return;
        }
        self.last_timestamp = self.max.timestamp;
        if let Some(offset) = self.relative(self.max.offset) {
            indexes.times.push(TimeEntry { timestamp: self.max.timestamp, offset });
        }
    }

    /// `offset` less the base. It fits in what Klamm writes; a damaged header may say anything,
    /// and gets no entry.
    fn relative(&self, offset: i64) -> Option<u32> {
        u32::try_from(offset.checked_sub(self.base_offset)?).ok()
    }
}

/// A file of batches; shared by the log and its readers.
pub(crate) struct Segment {
    pub(crate) base_offset: i64,
    /// Who holds it may be reading from it.
    pub(crate) file: Arc<SegmentFile>,
    interval_bytes: u32,
    indexes: Arc<Indexes>,
    /// Transactions whose abort marker lies here; right since the log was opened.
    aborted: Arc<Index<AbortedTransaction>>,
    /// Takes the place of `indexes` where those turned out to be missing or wrong.
    rebuilt: OnceLock<Indexes>,
    checked: OnceLock<()>,
    size: AtomicU64,
    end_offset: AtomicI64,
    max_timestamp: AtomicI64,
    max_timestamp_offset: AtomicI64,
}

impl Segment {
    /// A segment that is appended to; its indexes are in memory and right.
    pub(crate) fn active(
        file: Arc<SegmentFile>,
        indexes: Indexes,
        aborted: Index<AbortedTransaction>,
        indexer: &Indexer,
        size: u64,
        end_offset: i64,
    ) -> Segment {
        Segment {
            base_offset: indexer.base_offset,
            file,
            interval_bytes: indexer.interval_bytes,
            indexes: Arc::new(indexes),
            aborted: Arc::new(aborted),
            rebuilt: OnceLock::new(),
            checked: OnceLock::from(()),
            size: AtomicU64::new(size),
            end_offset: AtomicI64::new(end_offset),
            max_timestamp: AtomicI64::new(indexer.max.timestamp),
            max_timestamp_offset: AtomicI64::new(indexer.max.offset),
        }
    }

    /// A segment that is complete; its index files have these numbers of entries.
    pub(crate) fn sealed(
        place: &Place,
        base_offset: i64,
        interval_bytes: u32,
        size: u64,
        end_offset: i64,
        index_lens: IndexLens,
        aborted: Index<AbortedTransaction>,
    ) -> Segment {
        Segment {
            base_offset,
            file: Arc::new(SegmentFile::lazy(place, base_offset, LOG_SUFFIX)),
            interval_bytes,
            indexes: Arc::new(Indexes::in_files(place, base_offset, index_lens)),
            aborted: Arc::new(aborted),
            rebuilt: OnceLock::new(),
            checked: OnceLock::new(),
            size: AtomicU64::new(size),
            end_offset: AtomicI64::new(end_offset),
            max_timestamp: AtomicI64::new(NO_TIMESTAMP),
            max_timestamp_offset: AtomicI64::new(base_offset),
        }
    }

    /// This segment, complete and durable, with its indexes in their files.
    pub(crate) fn with_index_files(&self, place: &Place) -> Segment {
        let lens = self.index_lens();
        self.file.hand_over();
        Segment {
            base_offset: self.base_offset,
            file: Arc::clone(&self.file),
            interval_bytes: self.interval_bytes,
            indexes: Arc::new(Indexes::in_files(place, self.base_offset, lens)),
            aborted: Arc::new(aborted_in_file(place, self.base_offset, lens.aborted)),
            rebuilt: OnceLock::new(),
            checked: OnceLock::new(),
            size: AtomicU64::new(self.size()),
            end_offset: AtomicI64::new(self.end_offset()),
            max_timestamp: AtomicI64::new(NO_TIMESTAMP),
            max_timestamp_offset: AtomicI64::new(self.base_offset),
        }
    }

    /// The same segment under a new identity, so that who reads the old one is told apart (R16).
    pub(crate) fn reincarnate(&self) -> Segment {
        let max_timestamp = self.max_timestamp.load(Ordering::Relaxed);
        let max_timestamp_offset = self.max_timestamp_offset.load(Ordering::Relaxed);
        Segment {
            base_offset: self.base_offset,
            file: Arc::new(self.file.reincarnate()),
            interval_bytes: self.interval_bytes,
            indexes: Arc::clone(&self.indexes),
            aborted: Arc::clone(&self.aborted),
            rebuilt: OnceLock::new(),
            checked: self.checked.clone(),
            size: AtomicU64::new(self.size()),
            end_offset: AtomicI64::new(self.end_offset()),
            max_timestamp: AtomicI64::new(max_timestamp),
            max_timestamp_offset: AtomicI64::new(max_timestamp_offset),
        }
    }

    /// Opens all files, which others are about to take the names of.
    pub(crate) fn keep_open(&self) -> io::Result<()> {
        self.file.keep_open()?;
        self.indexes.offsets.keep_open()?;
        self.indexes.times.keep_open()?;
        self.aborted.keep_open()
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// The offset after the last record.
    pub(crate) fn end_offset(&self) -> i64 {
        self.end_offset.load(Ordering::Acquire)
    }

    /// Shows readers what was appended; only the holder of the log may call it.
    pub(crate) fn publish(&self, size: u64, end_offset: i64, max: TimestampOffset) {
        self.max_timestamp_offset.store(max.offset, Ordering::Relaxed);
        self.max_timestamp.store(max.timestamp, Ordering::Relaxed);
        self.end_offset.store(end_offset, Ordering::Release);
        self.size.store(size, Ordering::Release);
    }

    /// The indexes as they were given.
    pub(crate) fn own_indexes(&self) -> &Indexes {
        &self.indexes
    }

    /// Transactions whose abort marker lies in the segment, in the order of the markers.
    pub(crate) fn aborted(&self) -> &Index<AbortedTransaction> {
        &self.aborted
    }

    /// How many entries its indexes have.
    pub(crate) fn index_lens(&self) -> IndexLens {
        let Indexes { offsets, times } = &*self.indexes;
        IndexLens { offsets: offsets.len(), times: times.len(), aborted: self.aborted.len() }
    }

    /// The indexes, after a look at whether they are those of this file; rebuilt where not.
    pub(crate) fn indexes(&self) -> io::Result<&Indexes> {
        if self.indexes.offsets.is_in_memory() {
            return Ok(&self.indexes);
        }
        if let Some(rebuilt) = self.rebuilt.get() {
            return Ok(rebuilt);
        }
        if self.checked.get().is_some() {
            return Ok(&self.indexes);
        }
        if self.index_is_plausible() {
            self.checked.get_or_init(|| ());
            return Ok(&self.indexes);
        }
        tracing::warn!(file = %self.file.path().display(), "index missing or wrong, rebuilt");
        let rebuilt = self.rebuild()?;
        Ok(self.rebuilt.get_or_init(|| rebuilt))
    }

    /// As [`Segment::indexes`], with the patience of `disk`: a first look at the files takes some.
    fn indexes_as(&self, disk: Disk) -> io::Result<&Indexes> {
        let looked = self.indexes.offsets.is_in_memory()
            || self.checked.get().is_some()
            || self.rebuilt.get().is_some();
        if disk == Disk::Never && !looked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.indexes()
    }

    fn index_is_plausible(&self) -> bool {
        let Indexes { offsets, times } = &*self.indexes;
        if offsets.len() == 0 {
            // A batch that begins past the interval would have an entry; a complete segment has its
            // greatest timestamp in the time index.
            return self.size() == 0
                || (times.len() > 0 && self.needs_no_entry(0, self.interval_bytes.into()));
        }
        let Ok(Some(last)) = offsets.last() else {
            return false;
        };
        let position = u64::from(last.position);
        let batch = HeaderScan::new(&self.file, position, self.size()).next();
        let found = batch.is_ok_and(|batch| {
            batch.is_some_and(|(_, header)| {
                header.last_offset() == self.base_offset + i64::from(last.offset)
            })
        });
        // The interval may have been another one then.
        found && self.needs_no_entry(position, u64::MAX)
    }

    /// Whether the batches from `start` on begin at most `interval` after it, and have no timestamp
    /// past the time index: its last entry is there only if a checkpoint followed the segment's end.
    fn needs_no_entry(&self, start: u64, interval: u64) -> bool {
        let Ok(last) = self.indexes.times.last() else {
            return false;
        };
        let latest = last.map_or(NO_TIMESTAMP, |last| last.timestamp);
        let mut scan = HeaderScan::new(&self.file, start, self.size());
        loop {
            match scan.next() {
                Ok(Some((position, header)))
                    if position - start <= interval && header.max_timestamp <= latest => {}
                Ok(None) => return true,
                Ok(Some(_)) | Err(_) => return false,
            }
        }
    }

    fn rebuild(&self) -> io::Result<Indexes> {
        let indexes = Indexes::in_memory(&[], &[]);
        let mut indexer = Indexer::new(self.base_offset, self.interval_bytes);
        let mut scan = HeaderScan::new(&self.file, 0, self.size());
        while let Some((position, header)) = scan.next()? {
            indexer.add(&indexes, &header, position);
        }
        indexer.add_time(&indexes);
        Ok(indexes)
    }

    /// The greatest timestamp of the segment; [`NO_TIMESTAMP`] where no record has one.
    pub(crate) fn max_timestamp(&self) -> io::Result<TimestampOffset> {
        if self.indexes.offsets.is_in_memory() {
            return Ok(TimestampOffset {
                timestamp: self.max_timestamp.load(Ordering::Relaxed),
                offset: self.max_timestamp_offset.load(Ordering::Relaxed),
            });
        }
        let last = self.indexes()?.times.last()?;
        Ok(last.map_or(
            TimestampOffset { timestamp: NO_TIMESTAMP, offset: self.base_offset },
            |last| TimestampOffset {
                timestamp: last.timestamp,
                offset: self.base_offset + i64::from(last.offset),
            },
        ))
    }

    /// The first batch that ends at or after `offset`, and where it is.
    pub(crate) fn locate(&self, offset: i64) -> io::Result<Option<(u64, BatchHeader)>> {
        self.locate_as(Disk::Wait, offset)
    }

    fn locate_as(&self, disk: Disk, offset: i64) -> io::Result<Option<(u64, BatchHeader)>> {
        let start = self.position_before(disk, offset)?;
        let mut scan = HeaderScan::new(&self.file, start, self.size()).with(disk);
        while let Some((position, header)) = scan.next()? {
            if header.last_offset() >= offset {
                return Ok(Some((position, header)));
            }
        }
        Ok(None)
    }

    /// Where a search for `offset` begins: the start of a batch at or before it.
    fn position_before(&self, disk: Disk, offset: i64) -> io::Result<u64> {
        let relative = offset - self.base_offset;
        let offsets = &self.indexes_as(disk)?.offsets;
        let found = offsets.last_where(disk, |entry| i64::from(entry.offset) <= relative)?;
        Ok(found.map_or(0, |entry| u64::from(entry.position)))
    }

    /// The range of whole batches from the one that holds `offset` on, with nothing at or past
    /// `upper_bound` and at most `max_bytes`; with `min_one` the first batch may be larger.
    /// `None` where the segment ends before `offset`.
    pub(crate) fn slice(
        &self,
        disk: Disk,
        offset: i64,
        max_bytes: u64,
        upper_bound: i64,
        min_one: bool,
    ) -> io::Result<Option<Slice>> {
        let Some((start, first)) = self.locate_as(disk, offset)? else {
            return Ok(None);
        };
        let first_end = start + first.size() as u64;
        let base_offset = first.base_offset;
        let mut slice = Slice { start, end: start, base_offset, end_offset: base_offset };
        if first.last_offset() >= upper_bound || (first.size() as u64 > max_bytes && !min_one) {
            return Ok(Some(slice));
        }
        slice.end = first_end;
        slice.end_offset = first.next_offset();
        let limit = start.saturating_add(max_bytes);
        // Published in the other order: all bytes below this size are of records below this end.
        let size = self.size();
        let end_offset = self.end_offset();
        if upper_bound >= end_offset && limit >= size {
            slice.end = size;
            slice.end_offset = end_offset;
            return Ok(Some(slice));
        }
        let (resume, resume_offset) = self.resume_at(disk, first_end, limit, upper_bound)?;
        slice.end = resume;
        slice.end_offset = slice.end_offset.max(resume_offset);
        let mut scan = HeaderScan::new(&self.file, resume, size).with(disk);
        while let Some((position, header)) = scan.next()? {
            let end = position + header.size() as u64;
            if end > limit || header.last_offset() >= upper_bound {
                break;
            }
            slice.end = end;
            slice.end_offset = header.next_offset();
        }
        Ok(Some(slice))
    }

    /// Where the search for the end of a range goes on: a batch start at or after `from` that is
    /// still within both bounds, and an offset that nothing before it reaches.
    fn resume_at(
        &self,
        disk: Disk,
        from: u64,
        limit: u64,
        upper_bound: i64,
    ) -> io::Result<(u64, i64)> {
        let relative = upper_bound.saturating_sub(self.base_offset);
        let found = self.indexes_as(disk)?.offsets.last_where(disk, |entry| {
            u64::from(entry.position) <= limit && i64::from(entry.offset) < relative
        })?;
        Ok(match found {
            Some(entry) if u64::from(entry.position) > from => {
                (u64::from(entry.position), self.base_offset + i64::from(entry.offset))
            }
            _ => (from, self.base_offset),
        })
    }

    /// Where a search for `timestamp` begins.
    pub(crate) fn position_before_time(&self, timestamp: i64) -> io::Result<u64> {
        let found =
            self.indexes()?.times.last_where(Disk::Wait, |entry| entry.timestamp < timestamp)?;
        match found {
            Some(entry) => {
                self.position_before(Disk::Wait, self.base_offset + i64::from(entry.offset))
            }
            None => Ok(0),
        }
    }

    pub(crate) fn scan(&self, position: u64) -> HeaderScan<'_> {
        HeaderScan::new(&self.file, position, self.size())
    }
}

/// Bytes of a segment's file, whole batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Of the first batch.
    pub(crate) base_offset: i64,
    /// No record of these bytes is at or past it.
    pub(crate) end_offset: i64,
}

/// Reads the headers of the batches in a file, one after the other.
pub(crate) struct HeaderScan<'a> {
    file: &'a SegmentFile,
    disk: Disk,
    position: u64,
    end: u64,
    buffer: [u8; SCAN_BYTES],
    buffer_start: u64,
    buffered: usize,
}

impl HeaderScan<'_> {
    /// Headers from `position` to before `end`, both between two batches.
    pub(crate) fn new(file: &SegmentFile, position: u64, end: u64) -> HeaderScan<'_> {
        let buffer = [0; SCAN_BYTES];
        let disk = Disk::Wait;
        HeaderScan { file, disk, position, end, buffer, buffer_start: 0, buffered: 0 }
    }

    /// The same with another patience.
    fn with(mut self, disk: Disk) -> Self {
        self.disk = disk;
        self
    }

    /// The next batch's position and header.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, BatchHeader)>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        let header = BatchHeader::parse(self.header_bytes()?)
            .map_err(|error| self.damaged(&error.to_string()))?;
        self.position += header.size() as u64;
        if self.position > self.end {
            return Err(self.damaged("a batch goes on past the end of the segment"));
        }
        Ok(Some((position, header)))
    }

    /// What a batch that the scan has found says, if it is a marker.
    pub(crate) fn marker(
        &self,
        position: u64,
        header: &BatchHeader,
    ) -> io::Result<Option<EndTxnMarker>> {
        marker_at(header, position, |bytes, at| self.file.read_exact_at(bytes, at))
    }

    fn header_bytes(&mut self) -> io::Result<&[u8]> {
        let within = self.position.wrapping_sub(self.buffer_start);
        let ends = within.saturating_add(HEADER_LEN as u64);
        if within >= self.buffered as u64 || ends > self.buffered as u64 {
            self.fill()?;
        }
        let at = usize::try_from(self.position - self.buffer_start).expect("within the buffer");
        Ok(&self.buffer[at..self.buffered.min(at + HEADER_LEN)])
    }

    fn fill(&mut self) -> io::Result<()> {
        let want = usize::try_from(self.end - self.position).unwrap_or(usize::MAX).min(SCAN_BYTES);
        self.buffer_start = self.position;
        self.buffered = 0;
        self.file.read_exact_as(self.disk, &mut self.buffer[..want], self.position)?;
        self.buffered = want;
        Ok(())
    }

    fn damaged(&self, why: &str) -> io::Error {
        let path = self.file.path();
        let text = format!("{} at byte {}: {why}", path.display(), self.position);
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}

/// Number of whole entries in an index file of this length; `None` where its length is no multiple.
pub(crate) fn index_len<E: Entry>(bytes: u64) -> Option<usize> {
    let bytes = usize::try_from(bytes).ok()?;
    bytes.is_multiple_of(E::BYTES).then_some(bytes / E::BYTES)
}
