//! Producer snapshots and leader epochs, held against the batches as those come by.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use klamm_env::Files;
use klamm_protocol::records::BatchHeader;

use crate::checkpoint::{decode_epochs, read_file, read_text};
use crate::epochs::EpochCache;
use crate::names::{LEADER_EPOCHS, SNAPSHOT_SUFFIX, offset_file};
use crate::producers::{BatchMetadata, ProducerEntry};
use crate::snapshot;

use super::{Known, Verified};

/// The snapshots of a log.
pub(super) struct Snapshots {
    by_offset: BTreeMap<i64, Snapshot>,
    /// Snapshot, producer and batch, by the batch's last offset.
    batches: BTreeMap<i64, Vec<(i64, ProducerEntry, BatchMetadata)>>,
}

struct Snapshot {
    path: PathBuf,
    /// The last offset of each producer.
    last_offsets: BTreeMap<i64, i64>,
}

impl Snapshots {
    /// Reads the snapshots at `offsets`.
    pub(super) fn read(
        files: &dyn Files,
        dir: &Path,
        offsets: &[i64],
        verified: &mut Verified,
    ) -> io::Result<Snapshots> {
        let mut found = Snapshots { by_offset: BTreeMap::new(), batches: BTreeMap::new() };
        for offset in offsets {
            let path = dir.join(offset_file(*offset, SNAPSHOT_SUFFIX));
            let Some(bytes) = read_file(files, &path)? else {
                continue;
            };
            let Some(producers) = snapshot::decode(&bytes) else {
                verified.add(&path, 0, "not a snapshot, or its CRC is wrong");
                continue;
            };
            found.add(*offset, path, producers.entries(), verified);
        }
        Ok(found)
    }

    fn add(
        &mut self,
        offset: i64,
        path: PathBuf,
        producers: Vec<&ProducerEntry>,
        verified: &mut Verified,
    ) {
        let mut last_offsets = BTreeMap::new();
        for producer in producers {
            for batch in &producer.batches {
                if batch.last_offset >= offset {
                    let (id, last) = (producer.producer_id, batch.last_offset);
                    verified.add(&path, 0, format!("producer {id} wrote up to {last} already"));
                    continue;
                }
                let of_offset = self.batches.entry(batch.last_offset).or_default();
                let entry = ProducerEntry { batches: Vec::new(), ..producer.clone() };
                of_offset.push((offset, entry, *batch));
                last_offsets.insert(producer.producer_id, batch.last_offset);
            }
        }
        self.by_offset.insert(offset, Snapshot { path, last_offsets });
    }

    /// Takes note of a sound batch. What compaction removed cannot be compared.
    pub(super) fn see(&mut self, header: &BatchHeader, verified: &mut Verified) {
        while let Some(entry) = self.batches.first_entry() {
            if *entry.key() > header.last_offset() {
                break;
            }
            for (snapshot, producer, batch) in entry.remove() {
                if batch.last_offset >= header.base_offset && !is_of(header, &producer, &batch) {
                    let ProducerEntry { producer_id: id, producer_epoch: epoch, .. } = producer;
                    let (last, sequence) = (batch.last_offset, batch.last_sequence);
                    let reason = format!(
                        "producer {id} epoch {epoch} did not write sequence {sequence} at {last}"
                    );
                    verified.add(&self.by_offset[&snapshot].path, 0, reason);
                }
            }
        }
        if !header.has_producer_id() || header.is_control() {
            return;
        }
        // The next snapshot has this batch or a later one of its producer, unless that expired.
        if let Some((_, snapshot)) = self.by_offset.range(header.next_offset()..).next()
            && let Some(last) = snapshot.last_offsets.get(&header.producer_id)
            && *last < header.last_offset()
        {
            let (id, offset) = (header.producer_id, header.last_offset());
            let reason = format!("producer {id} ends at {last}, and wrote up to {offset}");
            verified.add(&snapshot.path, 0, reason);
        }
    }

    /// The log ends at `end`.
    pub(super) fn end(self, end: i64, verified: &mut Verified) {
        for (offset, snapshot) in self.by_offset.range(end.saturating_add(1)..) {
            let reason = format!("a snapshot as of {offset}, past the end of the log at {end}");
            verified.add(&snapshot.path, 0, reason);
        }
    }
}

fn is_of(header: &BatchHeader, producer: &ProducerEntry, batch: &BatchMetadata) -> bool {
    header.producer_id == producer.producer_id
        && header.producer_epoch == producer.producer_epoch
        && header.last_offset() == batch.last_offset
        && header.last_sequence() == batch.last_sequence
}

/// The leader epochs of a log.
pub(super) struct Epochs {
    path: PathBuf,
    stored: Option<EpochCache>,
    known: Known,
}

impl Epochs {
    /// Reads the leader epochs of the log in `dir`.
    pub(super) fn read(
        files: &dyn Files,
        dir: &Path,
        known: Known,
        verified: &mut Verified,
    ) -> io::Result<Epochs> {
        let path = dir.join(LEADER_EPOCHS);
        let text = match read_text(files, &path) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Some(String::new()),
            other => other?,
        };
        let stored = text.as_deref().and_then(decode_epochs);
        if text.is_some() && stored.is_none() {
            verified.add(&path, 0, "not a list of leader epochs");
        }
        Ok(Epochs { path, stored, known })
    }

    /// Takes note of a sound batch. Past the recovery point the file says nothing.
    pub(super) fn see(&self, header: &BatchHeader, verified: &mut Verified) {
        let Some(stored) = &self.stored else {
            return;
        };
        let Known { recovery_point, log_start_offset, .. } = self.known;
        if recovery_point.is_some_and(|point| header.last_offset() >= point) {
            return;
        }
        let (offset, epoch) = (header.base_offset, header.partition_leader_epoch);
        let said = stored.epoch_for_offset(header.last_offset());
        let newest = stored.latest().map(|latest| latest.epoch);
        let wrong = match said {
            Some(said) if said == epoch => false,
            // Without a recovery point, the file may be older than the batch.
            Some(said) => recovery_point.is_some() || Some(said) != newest || epoch < said,
            None => log_start_offset.is_some_and(|start| header.last_offset() >= start),
        };
        if wrong && epoch >= 0 {
            let said = said.map_or("none".to_owned(), |said| said.to_string());
            let reason = format!("the batch at {offset} is of epoch {epoch}, not {said}");
            verified.add(&self.path, 0, reason);
        }
    }
}
