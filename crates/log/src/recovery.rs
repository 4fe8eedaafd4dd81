//! Opening a log: what is trusted, what is read and checked, what is cut. The steps are those of
//! `docs/format.md`.

mod aborted;
mod found;
mod producers;
mod scan;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use arc_swap::ArcSwap;
use klamm_env::files::{File, OpenMode};
use klamm_protocol::records::BatchHeader;

use crate::checkpoint::{decode_epochs, invalid, read_file, read_text};
use crate::epochs::EpochCache;
use crate::error::OpenError;
use crate::files::{Place, SegmentFile, preallocate};
use crate::index::{Entry, Index, OffsetEntry, TimeEntry};
use crate::log::{Active, Drain, Log, OpenLog, SyncState, is_full};
use crate::names::{
    INDEX_SUFFIX, LEADER_EPOCHS, LOG_SUFFIX, PARTITION_METADATA, SNAPSHOT_SUFFIX,
    TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX,
};
use crate::producers::ProducerState;
use crate::progress::tell_segments;
use crate::reader::{Shared, View};
use crate::segment::{
    HeaderScan, IndexLens, Indexer, Indexes, Segment, aborted_in_file, index_len,
};
use crate::transactions::{AbortedTransaction, marker_at};

pub(crate) use found::read_topic_id;
pub(crate) use producers::load_producers;

use aborted::{Aborted, Sources, Trust, restore_file};
use found::{Found, write_topic_id};
use producers::{apply_segments, load_snapshot};
use scan::{BatchScan, Scanned};

/// What opening a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// There was no log yet.
    pub created: bool,
    /// Where the recovery began.
    pub recovery_point: i64,
    /// Bytes past the recovery point that were read and checked.
    pub scanned_bytes: u64,
    /// Bytes that were cut from the end.
    pub cut_bytes: u64,
    /// Why they were cut.
    pub cut_reason: Option<String>,
    /// Whole segments that were removed because the one before did not reach them.
    pub removed_segments: usize,
    /// The epochs were read from the whole log because their file was missing or damaged.
    pub epochs_rebuilt: bool,
    /// Something that had been made durable is gone (R2: the directory is not intact).
    pub lost_below_recovery_point: bool,
}

/// Opens or creates a log.
pub(crate) fn open(open: OpenLog) -> Result<(Log, RecoveryReport), OpenError> {
    let dir: Arc<std::path::Path> = open.dir.path().join(open.partition.dir_name()).into();
    let open_files = Arc::clone(open.dir.open_files());
    let place = Place { files: Arc::clone(open.dir.files()), dir, open_files };
    if place.files.metadata(&place.dir)?.is_none() {
        place.files.create_dir_all(&place.dir)?;
        return Ok(create(open, place, true)?);
    }
    match read_topic_id(&place)? {
        Some(found) if found != open.topic_id => {
            return Err(OpenError::OtherTopic { found, expected: open.topic_id });
        }
        Some(_) => {}
        None => {
            // Torn by a crash right after the creation, or of before topic ids.
            write_topic_id(&place, open.topic_id)?.sync_data()?;
            place.files.sync_dir(&place.dir)?;
        }
    }
    let found = Found::list(&place)?;
    let log_start_offset = open.dir.log_start_offset(&open.partition);
    let durable = log_start_offset.min(open.dir.recovery_point(&open.partition));
    let found = found.finish_swaps(&place)?;
    let found = found.finish_deletions(&place, durable)?;
    if found.bases.is_empty() {
        return Ok(create(open, place, false)?);
    }
    Ok(Recovery::new(open, place, found)?.run()?)
}

/// An empty log; it is durable with the first sync.
fn create(open: OpenLog, place: Place, dir_is_new: bool) -> io::Result<(Log, RecoveryReport)> {
    let start = open.dir.log_start_offset(&open.partition);
    let lost = open.dir.recovery_point(&open.partition) > start;
    open.dir.set_recovery_point(&open.partition, start);
    open.dir.set_cleaner_offset(&open.partition, start);
    if lost {
        open.dir.write_recovery_points()?;
    }
    let metadata = write_topic_id(&place, open.topic_id)?;
    for suffix in [INDEX_SUFFIX, TIME_INDEX_SUFFIX] {
        place.files.open(&place.segment_path(start, suffix), OpenMode::Create)?.set_len(0)?;
    }
    let handle = place.files.open(&place.segment_path(start, LOG_SUFFIX), OpenMode::Create)?;
    preallocate(&open.dir, &open.config, &*handle)?;
    let indexer = Indexer::new(start, open.config.index_interval_bytes);
    let state = State {
        indexes: Indexes::in_memory(&[], &[]),
        indexer,
        aborted: Vec::new(),
        handle,
        size: 0,
        written: IndexLens::default(),
        first_timestamp: None,
    };
    let active = state.into_active(&place, start, open.now_ms);
    let epochs = Arc::new(EpochCache::default());
    let mut sync = SyncState::new(start, start, epochs);
    sync.names = 1;
    // Who made a directory that is still empty may have died before its name was synced.
    sync.dir_is_new = true;
    sync.new_files = open.dir.new_files().hold(metadata)?.into_iter().collect();
    let report = RecoveryReport {
        created: dir_is_new,
        recovery_point: start,
        lost_below_recovery_point: lost,
        ..RecoveryReport::default()
    };
    let parts = Parts {
        segments: vec![Arc::clone(&active.segment)],
        active,
        log_start_offset: start,
        next_offset: start,
        producers: ProducerState::default(),
        epochs: EpochCache::default(),
        sync,
    };
    Ok((parts.into_log(open, place), report))
}

/// A segment that recovery has read and that may be appended to.
struct State {
    indexes: Indexes,
    indexer: Indexer,
    /// Transactions whose abort marker lies here.
    aborted: Vec<AbortedTransaction>,
    handle: Arc<dyn File>,
    size: u64,
    written: IndexLens,
    first_timestamp: Option<i64>,
}

impl State {
    fn into_active(self, place: &Place, end_offset: i64, now_ms: i64) -> Active {
        let base_offset = self.indexer.base_offset;
        let handle = Arc::clone(&self.handle);
        let file = Arc::new(SegmentFile::opened(place, base_offset, LOG_SUFFIX, handle));
        let aborted = Index::in_memory(&self.aborted);
        let segment =
            Segment::active(file, self.indexes, aborted, &self.indexer, self.size, end_offset);
        Active {
            segment: Arc::new(segment),
            handle: self.handle,
            indexer: self.indexer,
            size: self.size,
            first_timestamp: self.first_timestamp,
            created_ms: now_ms,
            written: self.written,
        }
    }
}

/// All that makes a log.
struct Parts {
    segments: Vec<Arc<Segment>>,
    active: Active,
    log_start_offset: i64,
    next_offset: i64,
    producers: ProducerState,
    epochs: EpochCache,
    sync: SyncState,
}

impl Parts {
    fn into_log(self, open: OpenLog, place: Place) -> Log {
        let shared = Shared {
            view: ArcSwap::from_pointee(View { segments: self.segments }),
            epochs: ArcSwap::from_pointee(self.epochs),
            log_start_offset: AtomicI64::new(self.log_start_offset),
            log_end_offset: AtomicI64::new(self.next_offset),
        };
        Log {
            dir: open.dir,
            partition: open.partition,
            topic_id: open.topic_id,
            config: open.config,
            place,
            shared: Arc::new(shared),
            active: self.active,
            next_offset: self.next_offset,
            producers: self.producers,
            sync: self.sync,
            drain: Drain::default(),
            swapping: false,
            poisoned: None,
        }
    }
}

/// The recovery of one log.
struct Recovery {
    open: OpenLog,
    place: Place,
    bases: Vec<i64>,
    snapshots: BTreeSet<i64>,
    log_start_offset: i64,
    recovery_point: i64,
    /// Segments below the recovery point, which are not read.
    trusted: Vec<Arc<Segment>>,
    /// Segments that were read, oldest first.
    read: Vec<(State, i64)>,
    epochs: EpochCache,
    stored_epochs: EpochCache,
    producers: ProducerState,
    /// Producers of batches below this offset are known from the snapshot.
    producers_from: i64,
    next_offset: i64,
    names_changed: bool,
    report: RecoveryReport,
}

impl Recovery {
    fn new(open: OpenLog, place: Place, found: Found) -> io::Result<Recovery> {
        let first = found.bases[0];
        let log_start_offset = open.dir.log_start_offset(&open.partition).max(first);
        let recovery_point = open.dir.recovery_point(&open.partition).max(first);
        Ok(Recovery {
            place,
            bases: found.bases,
            snapshots: found.snapshots,
            log_start_offset,
            recovery_point,
            trusted: Vec::new(),
            read: Vec::new(),
            epochs: EpochCache::default(),
            stored_epochs: EpochCache::default(),
            producers: ProducerState::default(),
            producers_from: first,
            next_offset: first,
            names_changed: false,
            report: RecoveryReport { recovery_point, ..RecoveryReport::default() },
            open,
        })
    }

    fn run(mut self) -> io::Result<(Log, RecoveryReport)> {
        let first_read = self.trust_below_recovery_point()?;
        self.load_epochs()?;
        self.load_producers()?;
        self.read_segments(first_read)?;
        self.sync_kept()?;
        self.finish()
    }

    /// Takes the segments that end at or before the recovery point as they are; returns the place
    /// of the first other.
    fn trust_below_recovery_point(&mut self) -> io::Result<usize> {
        let holds = self.bases.partition_point(|base| *base <= self.recovery_point);
        let first_read = holds.saturating_sub(1);
        for at in 0..first_read {
            let (base, end) = (self.bases[at], self.bases[at + 1]);
            let Some(log) = self.len(base, LOG_SUFFIX)? else {
                continue;
            };
            let offsets = self.len(base, INDEX_SUFFIX)?.and_then(index_len::<OffsetEntry>);
            let times = self.len(base, TIME_INDEX_SUFFIX)?.and_then(index_len::<TimeEntry>);
            // Without one of them, none is used; they are rebuilt when first needed.
            let lacks_an_index = offsets.is_none() || times.is_none();
            let (offsets, times) = offsets.zip(times).unwrap_or((0, 0));
            let lens = IndexLens { offsets, times, aborted: 0 };
            let interval = self.open.config.index_interval_bytes;
            let segment =
                |aborted| Segment::sealed(&self.place, base, interval, log, end, lens, aborted);
            let aborted =
                self.aborted_below(end, lacks_an_index, &segment(Index::in_memory(&[])))?;
            let index = match aborted.is_rebuilt {
                true => Index::in_memory(&aborted.entries),
                false => aborted_in_file(&self.place, base, aborted.entries.len()),
            };
            let segment = Arc::new(segment(index));
            if aborted.is_rebuilt {
                match restore_file(&self.place, base, &aborted.entries, Trust::Nothing) {
                    // It stays damaged, and is rebuilt again.
                    Err(error) if is_full(&error) => {}
                    other => drop(other?),
                }
            }
            self.trusted.push(segment);
        }
        self.next_offset = self.bases[first_read];
        Ok(first_read)
    }

    /// The aborted transactions with markers in `segment` below `limit`, which is not past the
    /// recovery point.
    fn aborted_below(
        &self,
        limit: i64,
        lacks_an_index: bool,
        segment: &Segment,
    ) -> io::Result<Aborted> {
        let (place, before) = (&self.place, &self.trusted);
        let snapshots = &self.snapshots;
        Sources { place, before, snapshots, segment, limit, lacks_an_index }.load()
    }

    fn len(&self, base: i64, suffix: &str) -> io::Result<Option<u64>> {
        let found = self.place.files.metadata(&self.place.segment_path(base, suffix))?;
        Ok(found.map(|found| found.len))
    }

    /// Epochs below the recovery point come from their file, or from all batches where it is
    /// missing or damaged (hazard 18).
    fn load_epochs(&mut self) -> io::Result<()> {
        let path = self.place.path(LEADER_EPOCHS);
        let text = match read_text(&*self.place.files, &path) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
            other => other?,
        };
        let stored = text.as_deref().and_then(decode_epochs);
        match stored.filter(|epochs| self.reaches_log_start(epochs)) {
            Some(epochs) => {
                self.stored_epochs = epochs.clone();
                self.epochs = epochs;
                self.epochs.truncate_from_end(self.recovery_point);
            }
            None if self.recovery_point > self.log_start_offset => {
                self.report.epochs_rebuilt = true;
                for segment in &self.trusted {
                    let mut scan = segment.scan(0);
                    while let Some((_, header)) = scan.next()? {
                        assign(&mut self.epochs, &header);
                    }
                }
            }
            None => {}
        }
        self.epochs.truncate_from_start(self.log_start_offset);
        Ok(())
    }

    /// The file may have been written with a later log start, whose own file was not.
    fn reaches_log_start(&self, epochs: &EpochCache) -> bool {
        let first = epochs.entries().first();
        first.map_or(self.recovery_point, |entry| entry.start_offset) <= self.log_start_offset
    }

    /// Producers as of the newest sound snapshot, and what the trusted segments have since.
    fn load_producers(&mut self) -> io::Result<()> {
        let limit = self.recovery_point;
        let (producers, from) = load_snapshot(&self.place, &self.snapshots, limit)?;
        self.producers = producers;
        // The log's start may lie within a batch.
        self.producers_from = from.unwrap_or(self.bases[0]);
        let from = self.producers_from;
        apply_segments(&mut self.producers, &self.trusted, from, limit, self.open.now_ms)
    }

    /// Reads the segments from `first` on and cuts where one does not hold.
    fn read_segments(&mut self, first: usize) -> io::Result<()> {
        for at in first..self.bases.len() {
            let base = self.bases[at];
            tell_segments(&self.open.partition, at - first, self.bases.len() - first);
            if at > first && base != self.next_offset {
                let end = self.next_offset;
                let reason =
                    format!("segment {base} does not continue the log, which ends at {end}");
                self.report.cut_reason.get_or_insert(reason);
                return self.remove_segments_from(at);
            }
            if !self.read_segment(base)? {
                return self.remove_segments_from(at + 1);
            }
        }
        Ok(())
    }

    /// Reads one segment; returns whether all of it holds.
    fn read_segment(&mut self, base: i64) -> io::Result<bool> {
        let path = self.place.segment_path(base, LOG_SUFFIX);
        let handle = self.place.files.open(&path, OpenMode::ReadWrite)?;
        let len = handle.len()?;
        let mut state = self.prepare(base, handle)?;
        let limits = scan::Limits {
            base_offset: base,
            next_offset: base,
            epoch: self.epochs.latest().map_or(-1, |entry| entry.epoch),
            recovery_point: self.recovery_point,
            end: len,
        };
        let mut scan = BatchScan::new(&state.handle, state.size, limits);
        let reason = loop {
            let (position, header) = match scan.next()? {
                Scanned::End => break None,
                Scanned::Damaged(reason) => break Some(reason),
                Scanned::Batch(position, header) => (position, header),
            };
            state.indexer.add(&state.indexes, &header, position);
            state.first_timestamp.get_or_insert(header.max_timestamp);
            assign(&mut self.epochs, &header);
            if header.has_producer_id() && header.base_offset >= self.producers_from {
                let read = |bytes: &mut [u8], at| state.handle.read_exact_at(bytes, at);
                let marker = marker_at(&header, position, read)?;
                let ended = self.producers.apply(&header, marker, self.open.now_ms);
                let aborted = ended.filter(|ended| ended.is_aborted);
                state.aborted.extend(aborted.map(|ended| ended.entry));
            }
            self.next_offset = header.next_offset();
        };
        // What is known from the file may be of batches that are gone.
        state.aborted.retain(|entry| entry.last_offset < self.next_offset);
        state.size = scan.position();
        self.report.scanned_bytes += scan.checked_bytes();
        if self.open.dir.distrusts_page_cache() {
            scan.rewrite_checked()?;
        }
        if let Some(reason) = &reason {
            state.handle.set_len(state.size)?;
            self.report.cut_bytes += len - state.size;
            self.report.cut_reason.get_or_insert_with(|| reason.clone());
        }
        self.read.push((state, self.next_offset));
        Ok(reason.is_none())
    }

    /// A segment with the part of its indexes that lies below the recovery point; `size` is where
    /// reading begins.
    fn prepare(&mut self, base: i64, handle: Arc<dyn File>) -> io::Result<State> {
        let interval = self.open.config.index_interval_bytes;
        let mut state = State {
            indexes: Indexes::in_memory(&[], &[]),
            indexer: Indexer::new(base, interval),
            aborted: Vec::new(),
            handle,
            size: 0,
            written: IndexLens::default(),
            first_timestamp: None,
        };
        // Without epochs or producers as of the recovery point, all headers are read.
        let known = !self.report.epochs_rebuilt && self.producers_from == self.recovery_point;
        if known && base < self.recovery_point {
            self.resume(&mut state)?;
        }
        if base < self.producers_from {
            let end = state.handle.len()?;
            let handle = Arc::clone(&state.handle);
            let file = Arc::new(SegmentFile::opened(&self.place, base, LOG_SUFFIX, handle));
            let offsets = state.indexes.offsets.read(0, state.indexes.offsets.len())?;
            let (indexes, none) = (Indexes::in_memory(&offsets, &[]), Index::in_memory(&[]));
            let segment = Segment::active(file, indexes, none, &state.indexer, end, i64::MAX);
            let lacks_an_index = self.len(base, INDEX_SUFFIX)?.is_none()
                || self.len(base, TIME_INDEX_SUFFIX)?.is_none();
            let aborted = self.aborted_below(self.producers_from, lacks_an_index, &segment)?;
            state.aborted = aborted.entries;
        }
        Ok(state)
    }

    /// Takes the part of a segment's indexes that lies below the recovery point from their files, if
    /// those are sound: reading begins at the last entry.
    fn resume(&self, state: &mut State) -> io::Result<()> {
        let (base, interval) = (state.indexer.base_offset, state.indexer.interval_bytes);
        let Some((offsets, times)) = self.load_indexes(base, &state.handle)? else {
            return Ok(());
        };
        state.written = IndexLens { offsets: offsets.len(), times: times.len(), aborted: 0 };
        state.indexes = Indexes::in_memory(&offsets, &times);
        state.indexer = Indexer::resume(base, interval, &state.indexes)?;
        state.size = state.indexer.last_position;
        if state.size > 0 {
            let end = state.handle.len()?;
            let file =
                SegmentFile::opened(&self.place, base, LOG_SUFFIX, Arc::clone(&state.handle));
            let first = HeaderScan::new(&file, 0, end).next().ok().flatten();
            state.first_timestamp = first.map(|(_, header)| header.max_timestamp);
        }
        Ok(())
    }

    /// The index entries below the recovery point; `None` where they are not those of this file.
    fn load_indexes(
        &self,
        base: i64,
        handle: &Arc<dyn File>,
    ) -> io::Result<Option<(Vec<OffsetEntry>, Vec<TimeEntry>)>> {
        let offsets = self.load_index::<OffsetEntry>(base, INDEX_SUFFIX)?;
        let times = self.load_index::<TimeEntry>(base, TIME_INDEX_SUFFIX)?;
        let (Some(mut offsets), Some(mut times)) = (offsets, times) else {
            return Ok(None);
        };
        let limit = self.recovery_point - base;
        offsets.truncate(offsets.partition_point(|entry| i64::from(entry.offset) < limit));
        times.truncate(times.partition_point(|entry| i64::from(entry.offset) < limit));
        let rising = offsets
            .windows(2)
            .all(|pair| pair[0].offset < pair[1].offset && pair[0].position < pair[1].position)
            && times.windows(2).all(|pair| {
                pair[0].offset <= pair[1].offset && pair[0].timestamp < pair[1].timestamp
            });
        if !rising {
            return Ok(None);
        }
        let Some(last) = offsets.last() else {
            // Reading begins at the start of the file and finds all timestamps itself.
            return Ok(None);
        };
        let mut header = [0; klamm_protocol::records::HEADER_LEN];
        let sound = match handle.read_exact_at(&mut header, u64::from(last.position)) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
            Err(error) => return Err(error),
            Ok(()) => BatchHeader::parse(&header)
                .is_ok_and(|header| header.last_offset() == base + i64::from(last.offset)),
        };
        Ok(sound.then_some((offsets, times)))
    }

    fn load_index<E: Entry>(&self, base: i64, suffix: &str) -> io::Result<Option<Vec<E>>> {
        let path = self.place.segment_path(base, suffix);
        let content = match read_file(&*self.place.files, &path) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
            other => other?,
        };
        Ok(content.map(|bytes| bytes.chunks_exact(E::BYTES).map(E::decode).collect()))
    }

    fn remove_segments_from(&mut self, at: usize) -> io::Result<()> {
        for base in self.bases.drain(at..).rev() {
            let path = self.place.segment_path(base, LOG_SUFFIX);
            let len = self.place.files.metadata(&path)?.map_or(0, |found| found.len);
            self.report.cut_bytes += len;
            self.report.removed_segments += 1;
            self.names_changed = true;
            for suffix in [LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX] {
                self.place.remove(&self.place.segment_path(base, suffix))?;
            }
        }
        Ok(())
    }

    /// Nothing is served that a power loss could still take (hazard 36), and nothing that was cut
    /// can come back.
    fn sync_kept(&mut self) -> io::Result<()> {
        for snapshot in self.snapshots.split_off(&(self.next_offset + 1)) {
            self.place.remove(&self.place.segment_path(snapshot, SNAPSHOT_SUFFIX))?;
            self.names_changed = true;
        }
        if self.recovery_point > self.next_offset {
            self.report.lost_below_recovery_point = true;
            self.recovery_point = self.next_offset;
            self.open.dir.set_recovery_point(&self.open.partition, self.recovery_point);
            self.open.dir.write_recovery_points()?;
        }
        let past = self.next_offset > self.recovery_point;
        // A process that was killed may have cut the log and not synced that.
        let killed = self.open.dir.found().clean_marker.is_none();
        self.restore_aborted(match self.open.dir.distrusts_page_cache() {
            true => Trust::Nothing,
            false if past || killed => Trust::PageCache,
            false => Trust::Disk,
        })?;
        if past || killed || self.report.cut_bytes > 0 {
            for (state, _) in &self.read {
                state.handle.sync_data()?;
            }
        }
        if past || killed || self.names_changed {
            self.place.files.sync_dir(&self.place.dir)?;
            self.open.dir.sync_names()?;
        }
        Ok(())
    }

    /// Makes the indexes of aborted transactions of what was read those of its markers, for good.
    fn restore_aborted(&mut self, trust: Trust) -> io::Result<()> {
        for (state, _) in &mut self.read {
            let base = state.indexer.base_offset;
            state.written.aborted = restore_file(&self.place, base, &state.aborted, trust)?;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<(Log, RecoveryReport)> {
        let now_ms = self.open.now_ms;
        self.epochs.truncate_from_end(self.next_offset);
        self.epochs.truncate_from_start(self.log_start_offset);
        self.producers.expire(now_ms, self.open.config.producer_id_expiration);
        let mut read: Vec<Active> = self
            .read
            .drain(..)
            .map(|(state, end)| state.into_active(&self.place, end, now_ms))
            .collect();
        let mut active =
            read.pop().ok_or_else(|| invalid(&self.place.dir, "no segment can be read"))?;
        for sealed in &mut read {
            sealed.indexer.add_time(sealed.segment.own_indexes());
        }
        active.created_ms = now_ms;
        let mut segments = self.trusted;
        segments.extend(read.iter().chain([&active]).map(|read| Arc::clone(&read.segment)));
        let stored = Arc::new(self.stored_epochs);
        let mut sync = SyncState::new(self.recovery_point, self.next_offset, stored);
        sync.sealed = read;
        // The process before may have been killed between making a name and syncing it.
        sync.names = 1;
        if self.recovery_point == self.bases[0] {
            sync.dir_is_new = true;
            let metadata = self.place.path(PARTITION_METADATA);
            let metadata = self.place.files.open(&metadata, OpenMode::ReadWrite)?;
            sync.new_files = self.open.dir.new_files().hold(metadata)?.into_iter().collect();
        }
        sync.snapshots = self.snapshots;
        sync.bytes = self.report.scanned_bytes;
        let log_start_offset = self.log_start_offset;
        let parts = Parts {
            segments,
            active,
            log_start_offset,
            next_offset: self.next_offset,
            producers: self.producers,
            epochs: self.epochs,
            sync,
        };
        let lost = self.report.lost_below_recovery_point;
        let mut log = parts.into_log(self.open, self.place);
        if log.next_offset < log_start_offset {
            // What is left was deleted already; its offsets are not given out again.
            log.cut_all(log_start_offset)?;
        } else if lost {
            log.reload_producers()?;
        }
        Ok((log, self.report))
    }
}

fn assign(epochs: &mut EpochCache, header: &BatchHeader) {
    if epochs.latest().is_none_or(|last| last.epoch < header.partition_leader_epoch)
        && header.partition_leader_epoch >= 0
    {
        epochs.assign(header.partition_leader_epoch, header.base_offset);
    }
}
