//! Appending, as a leader and as a follower.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use klamm_env::files::{File, OpenMode, is_out_of_descriptors, is_shortage};
use klamm_protocol::records::{
    BatchHeader, EndTxnMarker, HEADER_LEN, set_base_offset, set_leader_epoch, set_log_append_time,
    validate_stored,
};

use crate::error::AppendError;
use crate::files::{SegmentFile, free_preallocated, preallocate};
use crate::index::{Entry, Index, OffsetEntry, TimeEntry};
use crate::log::{Active, Log, is_full};
use crate::names::{INDEX_SUFFIX, LOG_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX};
use crate::open_files::make_room;
use crate::producers::Verdict;
use crate::segment::{IndexLens, Indexer, Indexes, Segment};
use crate::transactions::marker_of;
use crate::validate::{Rules, set_max_timestamp, validate_produced};

/// Who appends; decides what is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A producer: everything is checked.
    Client,
    /// A coordinator of this broker: its records are its own affair.
    Coordinator,
}

/// What [`Log::append_as_leader`] needs besides the records.
#[derive(Clone, Copy, Debug)]
pub struct LeaderAppend {
    /// The epoch that this broker leads in.
    pub leader_epoch: i32,
    /// The wall clock.
    pub now_ms: i64,
    /// Who appends.
    pub origin: Origin,
}

/// What was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub first_offset: i64,
    /// Offset of the last record.
    pub last_offset: i64,
    /// The timestamp that all records got, where the topic's type is LogAppendTime.
    pub log_append_time: Option<i64>,
    /// First offset of the log.
    pub log_start_offset: i64,
    /// The log held the batch already, at these offsets. It is acknowledged like the first time:
    /// when the log is durable and replicated up to `last_offset` (hazard 81).
    pub duplicate: bool,
}

/// A checked batch that is about to be written.
pub(super) struct NewBatch {
    pub(super) header: BatchHeader,
    /// What it says, if it is a marker.
    pub(super) marker: Option<EndTxnMarker>,
}

impl NewBatch {
    /// The batch with this header that `bytes` begin with.
    fn new(header: BatchHeader, bytes: &[u8]) -> NewBatch {
        let marker = header.is_control().then(|| marker_of(&bytes[..header.size()])).flatten();
        NewBatch { header, marker }
    }
}

impl Log {
    /// Appends one batch: checks it, gives it offsets and epoch, writes it. The bytes are not
    /// copied, unless their timestamps change.
    ///
    /// # Errors
    /// When the batch is refused, the disk is full, or the log is offline. The log is unchanged.
    pub fn append_as_leader(
        &mut self,
        records: &[u8],
        append: LeaderAppend,
    ) -> Result<Appended, AppendError> {
        let LeaderAppend { leader_epoch, now_ms, origin } = append;
        self.check_online()?;
        self.check_epoch(leader_epoch)?;
        let mut header =
            validate_produced(records, &Rules { config: &self.config, origin, now_ms })?;
        if header.has_producer_id() {
            let sequenced = origin == Origin::Client;
            if let Verdict::Duplicate(original) = self.producers.check(&header, sequenced)? {
                return Ok(Appended {
                    first_offset: original.first_offset(),
                    last_offset: original.last_offset,
                    log_append_time: Some(original.timestamp),
                    log_start_offset: self.log_start_offset(),
                    duplicate: true,
                });
            }
        }
        header.base_offset = self.next_offset;
        header.partition_leader_epoch = leader_epoch;
        let restamped = self.restamped(records, &mut header, now_ms);
        let batch = restamped.as_deref().unwrap_or(records);
        let mut head = [0; HEADER_LEN];
        let (given, rest) = batch.split_at(HEADER_LEN);
        head.copy_from_slice(given);
        set_base_offset(&mut head, self.next_offset);
        set_leader_epoch(&mut head, leader_epoch);
        self.write(&[&head, rest], &[NewBatch::new(header, batch)], now_ms)?;
        Ok(Appended {
            first_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_append_time: self.config.log_append_time.then_some(now_ms),
            log_start_offset: self.log_start_offset(),
            duplicate: false,
        })
    }

    /// The batch anew, where its timestamps are not those of the bytes: they are under the checksum.
    fn restamped(&self, records: &[u8], header: &mut BatchHeader, now_ms: i64) -> Option<Vec<u8>> {
        if self.config.log_append_time {
            header.max_timestamp = now_ms;
            let mut batch = records.to_vec();
            set_log_append_time(&mut batch, now_ms);
            return Some(batch);
        }
        let given = BatchHeader::parse(records).expect("validated");
        (given.max_timestamp != header.max_timestamp).then(|| {
            let mut batch = records.to_vec();
            set_max_timestamp(&mut batch, header.max_timestamp);
            batch
        })
    }

    /// Appends batches that the leader of `leader_epoch` sent, with offsets and epochs; all or none.
    ///
    /// # Errors
    /// When a batch is damaged, does not continue the log or is of a later epoch than the leader, the
    /// disk is full, or the log is offline. The log is unchanged.
    pub fn append_as_follower(
        &mut self,
        records: &[u8],
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        self.check_online()?;
        let mut batches: Vec<NewBatch> = Vec::new();
        let mut rest = records;
        let mut next_offset = self.next_offset;
        let mut epoch = self.latest_epoch().unwrap_or(-1);
        while !rest.is_empty() {
            let header = validate_stored(rest)?;
            if header.base_offset < next_offset {
                return Err(AppendError::OffsetsOutOfOrder {
                    offset: header.base_offset,
                    log_end_offset: next_offset,
                });
            }
            if header.partition_leader_epoch < epoch {
                let stale = header.partition_leader_epoch;
                return Err(AppendError::StaleLeaderEpoch { epoch: stale, latest: epoch });
            }
            epoch = header.partition_leader_epoch;
            if epoch > leader_epoch {
                return Err(AppendError::EpochAboveLeaders { epoch, leader_epoch });
            }
            next_offset = header.next_offset();
            batches.push(NewBatch::new(header, rest));
            rest = &rest[header.size()..];
        }
        let first_offset =
            batches.first().map_or(self.next_offset, |batch| batch.header.base_offset);
        self.write(&[records], &batches, now_ms)?;
        Ok(Appended {
            first_offset,
            last_offset: next_offset - 1,
            log_append_time: None,
            log_start_offset: self.log_start_offset(),
            duplicate: false,
        })
    }

    fn check_epoch(&self, epoch: i32) -> Result<(), AppendError> {
        match self.latest_epoch() {
            Some(latest) if latest > epoch => Err(AppendError::StaleLeaderEpoch { epoch, latest }),
            _ => Ok(()),
        }
    }

    /// Writes checked batches, in parts one after the other, at the end of the log and takes note
    /// of them.
    fn write(
        &mut self,
        parts: &[&[u8]],
        batches: &[NewBatch],
        now_ms: i64,
    ) -> Result<(), AppendError> {
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else {
            return Ok(());
        };
        let (first, last) = (&first.header, &last.header);
        let max = self.config.segment_bytes;
        let size: usize = parts.iter().map(|part| part.len()).sum();
        if size as u64 > u64::from(max) {
            return Err(AppendError::LargerThanSegment { size, max });
        }
        if !self.dir.has_room(size as u64) {
            return Err(AppendError::DiskFull);
        }
        if self.must_roll(size as u64, batches, now_ms) {
            self.roll(first.base_offset.min(self.next_offset), now_ms)?;
        }
        if last.last_offset() - self.active.segment.base_offset > i64::from(i32::MAX) {
            let (offset, log_end_offset) = (first.base_offset, self.next_offset);
            return Err(AppendError::OffsetsOutOfOrder { offset, log_end_offset });
        }
        self.write_aborted(batches)?;
        let position = self.active.size;
        let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        if let Err(error) = self.active.handle.write_vectored_all_at(&slices, position) {
            return Err(self.undo_write(error));
        }
        self.note(batches, position, now_ms);
        Ok(())
    }

    /// Takes back what a failed write left behind (hazard 41).
    pub(super) fn undo_write(&mut self, error: io::Error) -> AppendError {
        if !is_full(&error) {
            return self.poison(&error).into();
        }
        let undone = self.active.handle.set_len(self.active.size);
        match undone.and_then(|()| self.take_back_aborted()) {
            Ok(()) => AppendError::DiskFull,
            Err(error) => self.poison(&error).into(),
        }
    }

    /// Updates indexes, epochs and producers for batches that were written at `position`, and
    /// shows them to readers.
    fn note(&mut self, batches: &[NewBatch], mut position: u64, now_ms: i64) {
        let segment = Arc::clone(&self.active.segment);
        for NewBatch { header, marker } in batches {
            self.active.indexer.add(segment.own_indexes(), header, position);
            self.active.first_timestamp.get_or_insert(header.max_timestamp);
            position += header.size() as u64;
            if header.partition_leader_epoch >= 0 {
                self.assign_epoch(header.partition_leader_epoch, header.base_offset);
            }
            if header.has_producer_id()
                && let Some(ended) = self.producers.apply(header, *marker, now_ms)
                && ended.is_aborted
            {
                segment.aborted().push(ended.entry);
            }
            self.next_offset = header.next_offset();
        }
        self.sync.bytes += position - self.active.size;
        self.active.size = position;
        segment.publish(position, self.next_offset, self.active.indexer.max);
        self.shared.log_end_offset.store(self.next_offset, Ordering::Release);
    }

    fn must_roll(&self, bytes: u64, batches: &[NewBatch], now_ms: i64) -> bool {
        let Active { segment, size, .. } = &self.active;
        let last_offset =
            batches.last().map_or(self.next_offset, |batch| batch.header.last_offset());
        if last_offset - segment.base_offset > i64::from(i32::MAX) {
            return true;
        }
        if *size == 0 {
            return false;
        }
        let max_timestamp =
            batches.iter().map(|batch| batch.header.max_timestamp).max().unwrap_or(-1);
        let waited = match self.active.first_timestamp {
            Some(first) if first >= 0 && max_timestamp >= 0 => max_timestamp.saturating_sub(first),
            _ => now_ms.saturating_sub(self.active.created_ms),
        };
        let index_bytes = self.config.segment_index_bytes as usize;
        let indexes = segment.own_indexes();
        size + bytes > u64::from(self.config.segment_bytes)
            || waited > self.config.roll_ms()
            || (indexes.offsets.len() + 1) * OffsetEntry::BYTES > index_bytes
            || (indexes.times.len() + 2) * TimeEntry::BYTES > index_bytes
    }

    /// Begins a new segment at `base_offset`, the end of the log.
    pub(crate) fn roll(&mut self, base_offset: i64, now_ms: i64) -> Result<(), AppendError> {
        if base_offset == self.active.segment.base_offset {
            // Only an empty segment can be overtaken by a follower's offsets.
            return Ok(());
        }
        make_room(&*self.place.files, &self.place.open_files).map_err(AppendError::Shortage)?;
        match self.sync_names() {
            Ok(()) => {}
            Err(error) if is_out_of_descriptors(&error) => {
                return Err(AppendError::Shortage(error));
            }
            Err(error) => return Err(self.poison(&error).into()),
        }
        let active = match self.create_segment(base_offset, now_ms) {
            Ok(active) => active,
            Err(error) if is_full(&error) || is_shortage(&error) => {
                return match self.remove_segment_files(base_offset) {
                    Ok(()) if is_full(&error) => Err(AppendError::DiskFull),
                    Ok(()) => Err(AppendError::Shortage(error)),
                    Err(error) => Err(self.poison(&error).into()),
                };
            }
            Err(error) => return Err(self.poison(&error).into()),
        };
        self.install(active);
        Ok(())
    }

    /// A segment's name is durable before the next one has one. Otherwise a power loss could leave
    /// the later of the two, and the log would begin there.
    fn sync_names(&mut self) -> io::Result<()> {
        if self.sync.names > self.sync.names_synced {
            self.dir.sync_folder(&self.place.dir)?;
            self.sync.names_synced = self.sync.names;
        }
        Ok(())
    }

    fn install(&mut self, active: Active) {
        let sealed = std::mem::replace(&mut self.active, active);
        self.seal(sealed);
        let mut segments = self.shared.view.load().segments.clone();
        segments.push(Arc::clone(&self.active.segment));
        self.swap_view(segments);
    }

    /// Completes the indexes of a segment that is no longer appended to.
    fn seal(&mut self, mut sealed: Active) {
        sealed.indexer.add_time(sealed.segment.own_indexes());
        if self.config.preallocate {
            let path = sealed.segment.file.path();
            free_preallocated(&*sealed.handle, &path, sealed.size);
        }
        self.sync.sealed(sealed);
    }

    pub(crate) fn create_segment(&self, base_offset: i64, now_ms: i64) -> io::Result<Active> {
        let place = &self.place;
        for suffix in [INDEX_SUFFIX, TIME_INDEX_SUFFIX] {
            let path = place.segment_path(base_offset, suffix);
            place.files.open(&path, OpenMode::Create)?.set_len(0)?;
        }
        // Most segments have none.
        place.remove(&place.segment_path(base_offset, TXN_INDEX_SUFFIX))?;
        let path = place.segment_path(base_offset, LOG_SUFFIX);
        let handle = place.files.open(&path, OpenMode::Create)?;
        // A leftover that recovery did not know of must not show through.
        handle.set_len(0)?;
        preallocate(&self.dir, &self.config, &*handle)?;
        Ok(self.new_active(base_offset, handle, now_ms))
    }

    fn new_active(&self, base_offset: i64, handle: Arc<dyn File>, now_ms: i64) -> Active {
        let opened = SegmentFile::opened(&self.place, base_offset, LOG_SUFFIX, Arc::clone(&handle));
        let indexer = Indexer::new(base_offset, self.config.index_interval_bytes);
        let indexes = Indexes::in_memory(&[], &[]);
        let (opened, aborted) = (Arc::new(opened), Index::in_memory(&[]));
        let segment = Segment::active(opened, indexes, aborted, &indexer, 0, base_offset);
        Active {
            segment: Arc::new(segment),
            handle,
            indexer,
            size: 0,
            first_timestamp: None,
            created_ms: now_ms,
            written: IndexLens::default(),
        }
    }

    fn remove_segment_files(&self, base_offset: i64) -> io::Result<()> {
        for suffix in [LOG_SUFFIX, TIME_INDEX_SUFFIX, INDEX_SUFFIX] {
            self.place.remove(&self.place.segment_path(base_offset, suffix))?;
        }
        Ok(())
    }
}
