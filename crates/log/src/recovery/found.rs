//! The files of a log as they were found.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use klamm_env::files::{File, OpenMode};
use uuid::Uuid;

use crate::checkpoint::read_text;
use crate::cleaner::{finish_swap, is_part_of_swap};
use crate::files::Place;
use crate::names::{
    CLEANED_FILE_SUFFIX, DELETED_FILE_SUFFIX, INDEX_SUFFIX, LOG_SUFFIX, PARTITION_METADATA,
    SNAPSHOT_SUFFIX, TEMPORARY_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX, offset_of_file,
    uuid_from_base64, uuid_to_base64,
};

pub(crate) fn read_topic_id(place: &Place) -> io::Result<Option<Uuid>> {
    let text = match read_text(&*place.files, &place.path(PARTITION_METADATA)) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
        other => other?,
    };
    let Some(text) = text else {
        return Ok(None);
    };
    let id = text.lines().find_map(|line| line.strip_prefix("topic_id:"));
    Ok(id.and_then(|id| uuid_from_base64(id.trim())))
}

pub(super) fn write_topic_id(place: &Place, topic_id: Uuid) -> io::Result<Arc<dyn File>> {
    let file = place.files.open(&place.path(PARTITION_METADATA), OpenMode::Create)?;
    let text = format!("version: 0\ntopic_id: {}", uuid_to_base64(topic_id));
    file.set_len(0)?;
    file.write_all_at(text.as_bytes(), 0)?;
    Ok(file)
}

/// The files of a log by what they are.
pub(super) struct Found {
    pub(super) bases: Vec<i64>,
    pub(super) snapshots: BTreeSet<i64>,
    /// Segments that a crash kept from taking the place of others.
    swaps: Vec<i64>,
}

impl Found {
    /// Lists the directory and removes what unfinished work left behind.
    pub(super) fn list(place: &Place) -> io::Result<Found> {
        let names: Vec<String> =
            place.files.list(&place.dir)?.into_iter().map(|entry| entry.name).collect();
        let bases: Vec<i64> =
            names.iter().filter_map(|name| offset_of_file(name, LOG_SUFFIX)).collect();
        let (mut snapshots, mut swaps) = (BTreeSet::new(), Vec::new());
        for name in &names {
            let orphan = [INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX].iter().any(|suffix| {
                let base = offset_of_file(name, suffix);
                base.is_some_and(|base| bases.binary_search(&base).is_err())
            });
            let leftover = [DELETED_FILE_SUFFIX, CLEANED_FILE_SUFFIX, TEMPORARY_SUFFIX]
                .iter()
                .any(|suffix| name.ends_with(suffix));
            if orphan || leftover {
                place.remove(&place.path(name))?;
            }
            swaps.extend(is_part_of_swap(name));
            snapshots.extend(offset_of_file(name, SNAPSHOT_SUFFIX));
        }
        Ok(Found { bases, snapshots, swaps })
    }

    /// Puts cleaned segments in their place where that had begun, ours or Apache Kafka's.
    pub(super) fn finish_swaps(self, place: &Place) -> io::Result<Found> {
        if self.swaps.is_empty() {
            return Ok(self);
        }
        for base in &self.swaps {
            finish_swap(place, *base, &self.bases)?;
        }
        Found::list(place)
    }

    /// Removes segments that lie below the log's start and the recovery point: their deletion may
    /// have begun. Snapshots below what is left go with them: what came after them is gone.
    pub(super) fn finish_deletions(mut self, place: &Place, below: i64) -> io::Result<Found> {
        let doomed = self.bases.partition_point(|base| *base <= below).saturating_sub(1);
        for base in self.bases.drain(..doomed) {
            for suffix in [LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX] {
                place.remove(&place.segment_path(base, suffix))?;
            }
        }
        let kept = self.snapshots.split_off(&self.bases.first().copied().unwrap_or(0));
        for snapshot in std::mem::replace(&mut self.snapshots, kept) {
            place.remove(&place.segment_path(snapshot, SNAPSHOT_SUFFIX))?;
        }
        Ok(self)
    }
}
