//! The aborted transactions of a segment as recovery finds them: from their file where that can be
//! believed, from the segment's markers where not.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use klamm_env::files::OpenMode;
use klamm_protocol::records::ControlType;

use super::producers::{apply_segments, load_snapshot};
use crate::checkpoint::{read_file, replace_file_unsynced};
use crate::files::Place;
use crate::names::TXN_INDEX_SUFFIX;
use crate::segment::Segment;
use crate::transactions::{AbortedTransaction, decode_aborted, encode_aborted};

/// Where to look for the aborted transactions of `segment`.
pub(super) struct Sources<'a> {
    pub(super) place: &'a Place,
    /// The segments before it.
    pub(super) before: &'a [Arc<Segment>],
    pub(super) snapshots: &'a BTreeSet<i64>,
    pub(super) segment: &'a Segment,
    /// Markers from here on do not count.
    pub(super) limit: i64,
    /// Another index of the segment is missing: that this one is says nothing.
    pub(super) lacks_an_index: bool,
}

/// What was found.
pub(super) struct Aborted {
    pub(super) entries: Vec<AbortedTransaction>,
    /// They are not those of the file.
    pub(super) is_rebuilt: bool,
}

impl Sources<'_> {
    /// The aborted transactions whose markers lie in the segment below the limit.
    pub(super) fn load(&self) -> io::Result<Aborted> {
        let path = self.place.segment_path(self.segment.base_offset, TXN_INDEX_SUFFIX);
        let content = match read_file(&*self.place.files, &path) {
            // Too long to be one.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Some(vec![0]),
            other => other?,
        };
        match content {
            None if !self.lacks_an_index => {
                return Ok(Aborted { entries: Vec::new(), is_rebuilt: false });
            }
            None => {}
            Some(bytes) => {
                if let Ok(mut entries) = decode_aborted(&bytes, self.segment.base_offset) {
                    let is_complete = self.limit == self.segment.end_offset();
                    let below = entries.partition_point(|entry| entry.last_offset < self.limit);
                    let is_whole = below == entries.len() || !is_complete;
                    entries.truncate(below);
                    if is_whole && self.has_marker_of(entries.last())? {
                        return Ok(Aborted { entries, is_rebuilt: false });
                    }
                }
                tracing::warn!(path = %path.display(), "damaged index of aborted transactions");
            }
        }
        Ok(Aborted { entries: self.rebuild()?, is_rebuilt: true })
    }

    fn has_marker_of(&self, last: Option<&AbortedTransaction>) -> io::Result<bool> {
        let Some(last) = last else { return Ok(true) };
        let found = self.segment.locate(last.last_offset).and_then(|found| {
            let Some((position, header)) = found else { return Ok(false) };
            let marker = self.segment.scan(position).marker(position, &header)?;
            let aborts = marker.is_some_and(|marker| marker.control_type == ControlType::Abort);
            Ok(aborts
                && header.producer_id == last.producer_id
                && header.last_offset() == last.last_offset)
        });
        unless_damaged(found)
    }

    /// From the producers at the segment's base and the headers since.
    fn rebuild(&self) -> io::Result<Vec<AbortedTransaction>> {
        let base = self.segment.base_offset;
        let first = self.before.first().map_or(base, |first| first.base_offset);
        let (mut producers, from) = load_snapshot(self.place, self.snapshots, base)?;
        let from = from.unwrap_or(first);
        unless_damaged(apply_segments(&mut producers, self.before, from, base, 0))?;
        let mut entries = Vec::new();
        let mut scan = self.segment.scan(0);
        let mut add_all = || -> io::Result<()> {
            while let Some((position, header)) = scan.next()? {
                if header.last_offset() >= self.limit {
                    return Ok(());
                }
                if header.has_producer_id() {
                    let marker = scan.marker(position, &header)?;
                    let ended = producers.apply(&header, marker, 0);
                    let aborted = ended.filter(|ended| ended.is_aborted);
                    entries.extend(aborted.map(|ended| ended.entry));
                }
            }
            Ok(())
        };
        unless_damaged(add_all())?;
        Ok(entries)
    }
}

/// What cannot be read past damage ends a search, and is told to who reads it.
fn unless_damaged<T: Default>(result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            Ok(T::default())
        }
        other => other,
    }
}

/// How far a file is trusted that is as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// It is durable.
    Disk,
    /// Only the page cache may have it.
    PageCache,
    /// After a failed sync not even that helps: it is written anew (R23).
    Nothing,
}

/// Makes the file of the segment at `base` what `entries` are, for good. Without entries there is no
/// file. Answers how many entries it has.
pub(super) fn restore_file(
    place: &Place,
    base: i64,
    entries: &[AbortedTransaction],
    trust: Trust,
) -> io::Result<usize> {
    let path = place.segment_path(base, TXN_INDEX_SUFFIX);
    let found = match read_file(&*place.files, &path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Some(Vec::new()),
        other => other?,
    };
    let bytes = encode_aborted(entries);
    match found {
        None if entries.is_empty() => {}
        Some(_) if entries.is_empty() => {
            place.remove(&path)?;
            place.files.sync_dir(&place.dir)?;
        }
        Some(found) if found == bytes && trust == Trust::Disk => {}
        Some(found) if found == bytes && trust == Trust::PageCache => {
            place.files.open(&path, OpenMode::ReadWrite)?.sync_data()?;
        }
        _ => {
            replace_file_unsynced(&*place.files, &path, &bytes, |file| file.sync_data())?;
            place.files.sync_dir(&place.dir)?;
        }
    }
    Ok(entries.len())
}
