//! One partition: its segments in order, and everything that speaks of their batches.

use std::io;
use std::path::Path;

use bytes::Bytes;
use klamm_env::Files;
use klamm_env::files::{File, OpenMode};
use klamm_protocol::records::{
    Batch, BatchHeader, EndTxnMarker, HEADER_LEN, NO_TIMESTAMP, RecordError, validate_stored,
};

use crate::checkpoint::{read_file, read_text};
use crate::dir::{HIGH_WATERMARKS, LOG_STARTS, RECOVERY_POINTS};
use crate::index::{Entry, OffsetEntry, TimeEntry};
use crate::names::{
    INDEX_SUFFIX, LOG_SUFFIX, PARTITION_METADATA, SNAPSHOT_SUFFIX, TIME_INDEX_SUFFIX, offset_file,
    offset_of_file, uuid_from_base64,
};
use crate::transactions::marker_of;

use super::aborted::Transactions;
use super::entries::Entries;
use super::state::{Epochs, Snapshots};
use super::{Known, Verified};

/// Verifies the partition in `dir`.
pub(super) fn verify_partition(
    files: &dyn Files,
    dir: &Path,
    known: Known,
    batch_decompressed_bytes_max: usize,
) -> io::Result<Verified> {
    let mut verified = Verified::of(dir);
    verify_topic_id(files, dir, &mut verified)?;
    let names: Vec<String> = files.list(dir)?.into_iter().map(|entry| entry.name).collect();
    let offsets = |suffix: &str| -> Vec<i64> {
        names.iter().filter_map(|name| offset_of_file(name, suffix)).collect()
    };
    let snapshots = Snapshots::read(files, dir, &offsets(SNAPSHOT_SUFFIX), &mut verified)?;
    let epochs = Epochs::read(files, dir, known, &mut verified)?;
    let bases = offsets(LOG_SUFFIX);
    let mut walk = Walk {
        files,
        dir,
        batch_decompressed_bytes_max,
        snapshots,
        epochs,
        transactions: Transactions::new(known),
        last_base: bases.last().copied(),
        next_offset: bases.first().copied().unwrap_or(0),
        epoch: -1,
        whole: true,
        verified,
    };
    for base in &bases {
        walk.segment(*base)?;
    }
    let Walk { snapshots, next_offset, whole, mut verified, .. } = walk;
    if whole {
        snapshots.end(next_offset, &mut verified);
        let first = bases.first().copied();
        verify_known(dir, known, first, next_offset, &mut verified);
    }
    Ok(verified)
}

fn verify_topic_id(files: &dyn Files, dir: &Path, verified: &mut Verified) -> io::Result<()> {
    let path = dir.join(PARTITION_METADATA);
    let text = match read_text(files, &path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Some(String::new()),
        other => other?,
    };
    let Some(text) = text else {
        verified.add(&path, 0, "not there");
        return Ok(());
    };
    let id = text.lines().find_map(|line| line.strip_prefix("topic_id:"));
    if id.and_then(|id| uuid_from_base64(id.trim())).is_none() {
        verified.add(&path, 0, "no topic id");
    }
    Ok(())
}

/// What the checkpoints say must lie within the log, which begins with segment `first`.
fn verify_known(dir: &Path, known: Known, first: Option<i64>, end: i64, verified: &mut Verified) {
    let above = dir.parent().unwrap_or(dir);
    let offsets = [
        (RECOVERY_POINTS, "recovery point", known.recovery_point),
        (LOG_STARTS, "log start", known.log_start_offset),
        (HIGH_WATERMARKS, "high watermark", known.high_watermark),
    ];
    for (name, what, offset) in offsets {
        let Some(offset) = offset else { continue };
        // A log without segments begins at its start.
        if offset < 0 || first.is_some() && offset > end {
            let reason = format!("{what} {offset} is not within the log, which ends at {end}");
            verified.add(&above.join(name), 0, reason);
        }
    }
    let start = known.log_start_offset.unwrap_or(0);
    if first.is_none()
        && let Some(point) = known.recovery_point.filter(|point| *point > start)
    {
        let reason = format!("recovery point {point} of a log without segments");
        verified.add(&above.join(RECOVERY_POINTS), 0, reason);
    }
}

/// What is carried from batch to batch.
struct Walk<'a> {
    files: &'a dyn Files,
    dir: &'a Path,
    batch_decompressed_bytes_max: usize,
    snapshots: Snapshots,
    epochs: Epochs,
    transactions: Transactions,
    last_base: Option<i64>,
    next_offset: i64,
    epoch: i32,
    /// Every segment was read to its end.
    whole: bool,
    verified: Verified,
}

impl Walk<'_> {
    fn segment(&mut self, base: i64) -> io::Result<()> {
        let path = self.dir.join(offset_file(base, LOG_SUFFIX));
        if base < self.next_offset {
            let end = self.next_offset;
            let reason = format!("the segment begins at {base}, the one before ends at {end}");
            self.verified.add(&path, 0, reason);
        }
        let mut offsets = self.entries::<OffsetEntry>(base, INDEX_SUFFIX)?;
        let mut times = self.entries::<TimeEntry>(base, TIME_INDEX_SUFFIX)?;
        let mut aborted =
            self.transactions.begin_segment(self.files, self.dir, base, &mut self.verified)?;
        let file = self.files.open(&path, OpenMode::Read)?;
        let len = file.len()?;
        self.verified.segments += 1;
        self.next_offset = base;
        let (mut position, mut greatest) = (0, NO_TIMESTAMP);
        while position < len {
            let Some(size) = self.size(&*file, &path, position, len)? else {
                self.whole = false;
                self.transactions.see_damage();
                return Ok(());
            };
            let batch = self.batch(&*file, &path, base, position, size)?;
            let header = batch.map(|(header, _)| header);
            self.verified.batches += 1;
            offsets.see(base, position, header.as_ref(), &mut self.verified);
            if let Some((header, marker)) = &batch {
                self.transactions.see(&mut aborted, header, *marker, &mut self.verified);
                times.see(base, greatest, header, &mut self.verified);
                greatest = greatest.max(header.max_timestamp);
                self.snapshots.see(header, &mut self.verified);
                self.epochs.see(header, &mut self.verified);
                self.next_offset = self.next_offset.max(header.next_offset());
            } else {
                // Which entry of the time index was its is not known.
                times.give_up();
                self.transactions.see_damage();
                self.whole = false;
            }
            position += size as u64;
        }
        offsets.end(&mut self.verified);
        times.end(base, &mut self.verified);
        let log_end_offset = (self.last_base == Some(base)).then_some(self.next_offset);
        aborted.end(log_end_offset, &mut self.verified);
        Ok(())
    }

    fn entries<E: Entry>(&mut self, base: i64, suffix: &str) -> io::Result<Entries<E>> {
        let path = self.dir.join(offset_file(base, suffix));
        let bytes = read_file(self.files, &path)?.unwrap_or_default();
        Ok(Entries::new(path, bytes, &mut self.verified))
    }

    /// Bytes of the batch at `position`; `None` where that cannot be known, or they are not there.
    fn size(
        &mut self,
        file: &dyn File,
        path: &Path,
        position: u64,
        len: u64,
    ) -> io::Result<Option<usize>> {
        let left = len - position;
        let mut header = [0; HEADER_LEN];
        let header = &mut header[..usize::try_from(left).unwrap_or(HEADER_LEN).min(HEADER_LEN)];
        file.read_exact_at(header, position)?;
        let reason = match BatchHeader::parse(header) {
            Ok(header) if header.size() as u64 <= left => return Ok(Some(header.size())),
            Ok(header) => format!("a batch of {} bytes is cut off after {left}", header.size()),
            Err(error) => error.to_string(),
        };
        self.verified.add(path, position, reason);
        Ok(None)
    }

    /// The header of the batch at `position` if the batch is sound, and what it says if it is a
    /// marker.
    fn batch(
        &mut self,
        file: &dyn File,
        path: &Path,
        base: i64,
        position: u64,
        size: usize,
    ) -> io::Result<Option<(BatchHeader, Option<EndTxnMarker>)>> {
        let mut bytes = vec![0; size];
        file.read_exact_at(&mut bytes, position)?;
        let bytes = Bytes::from(bytes);
        let header = match validate_stored(&bytes) {
            Ok(header) => header,
            Err(error) => {
                self.verified.add(path, position, error);
                return Ok(None);
            }
        };
        if let Some(reason) = self.order_fault(base, &header) {
            self.verified.add(path, position, reason);
            return Ok(None);
        }
        self.epoch = header.partition_leader_epoch;
        match self.records(&bytes) {
            Ok(None) => {}
            Ok(Some(reason)) => self.verified.add(path, position, reason),
            Err(error) => self.verified.add(path, position, format!("records: {error}")),
        }
        let marker = header.is_control().then(|| marker_of(&bytes)).flatten();
        Ok(Some((header, marker)))
    }

    fn order_fault(&self, base: i64, header: &BatchHeader) -> Option<String> {
        let (offset, next) = (header.base_offset, self.next_offset);
        if offset < next {
            return Some(format!("offset {offset} comes after {}", next - 1));
        }
        if header.last_offset() - base > i64::from(i32::MAX) {
            return Some(format!("offset {offset} is too far from the segment's base"));
        }
        let (found, epoch) = (header.partition_leader_epoch, self.epoch);
        (found < epoch).then(|| format!("epoch {found} comes after {epoch}"))
    }

    /// What the records of a batch have that its header does not say.
    fn records(&mut self, bytes: &Bytes) -> Result<Option<String>, RecordError> {
        // Validated before.
        let Ok(batch) = Batch::parse(bytes) else { return Ok(None) };
        // Compaction leaves the header of a producer's last batch.
        if batch.records_count == 0 && batch.payload().is_empty() {
            return Ok(None);
        }
        let (first, last) = (batch.base_offset, batch.last_offset());
        let mut next = first;
        let dense = i64::from(batch.records_count) == last - first + 1;
        for record in batch.records(self.batch_decompressed_bytes_max)? {
            let offset = record?.offset;
            self.verified.records += 1;
            if offset < next || offset > last || dense && offset != next {
                return Ok(Some(format!(
                    "a record has offset {offset} in a batch from {first} to {last}"
                )));
            }
            next = offset + 1;
        }
        Ok(None)
    }
}
