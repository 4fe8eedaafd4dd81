//! The producers of a log at some offset: the newest snapshot and the batches since.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use crate::checkpoint::read_file;
use crate::files::Place;
use crate::names::SNAPSHOT_SUFFIX;
use crate::producers::ProducerState;
use crate::reader::View;
use crate::segment::Segment;
use crate::snapshot;

/// The newest sound snapshot at or below `limit`, and its offset.
pub(super) fn load_snapshot(
    place: &Place,
    snapshots: &BTreeSet<i64>,
    limit: i64,
) -> io::Result<(ProducerState, Option<i64>)> {
    for offset in snapshots.range(..=limit).rev() {
        let path = place.segment_path(*offset, SNAPSHOT_SUFFIX);
        let bytes = read_file(&*place.files, &path)?;
        match bytes.as_deref().and_then(snapshot::decode) {
            Some(producers) => return Ok((producers, Some(*offset))),
            None => tracing::warn!(path = %path.display(), "damaged producer snapshot is ignored"),
        }
    }
    Ok((ProducerState::default(), None))
}

/// Applies the batches from `from` to before `limit` of complete segments.
pub(super) fn apply_segments(
    producers: &mut ProducerState,
    segments: &[Arc<Segment>],
    from: i64,
    limit: i64,
    now_ms: i64,
) -> io::Result<()> {
    let first = segments.partition_point(|segment| segment.end_offset() <= from);
    for segment in &segments[first..] {
        let Some((position, _)) = segment.locate(from)? else {
            continue;
        };
        let mut scan = segment.scan(position);
        while let Some((position, header)) = scan.next()? {
            if header.base_offset >= limit {
                return Ok(());
            }
            if header.has_producer_id() && header.base_offset >= from {
                producers.apply(&header, scan.marker(position, &header)?, now_ms);
            }
        }
    }
    Ok(())
}

/// The producers as of `end`, from the newest snapshot and the batches since.
pub(crate) fn load_producers(
    place: &Place,
    view: &View,
    snapshots: &BTreeSet<i64>,
    end: i64,
    now_ms: i64,
) -> io::Result<ProducerState> {
    let (mut producers, from) = load_snapshot(place, snapshots, end)?;
    let from = from.unwrap_or(view.segments[0].base_offset);
    apply_segments(&mut producers, &view.segments, from, end, now_ms)?;
    Ok(producers)
}
