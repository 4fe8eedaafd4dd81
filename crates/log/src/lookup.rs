//! Offsets by timestamp, for ListOffsets.

use std::io;

use klamm_protocol::records::{
    Batch, BatchHeader, NO_TIMESTAMP, RecordTime, RecordTimes, TimestampType,
};

use crate::error::ReadError;
use crate::reader::{LogReader, View};
use crate::segment::Segment;

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampAndOffset {
    /// The record's timestamp.
    pub timestamp: i64,
    /// The record's offset.
    pub offset: i64,
    /// Leader epoch of its batch.
    pub leader_epoch: i32,
}

impl LogReader {
    /// The first record with a timestamp of `timestamp` or later; `None` where there is none.
    /// Reads and may decompress a batch: not for an event loop.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn offset_for_timestamp(
        &self,
        timestamp: i64,
    ) -> Result<Option<TimestampAndOffset>, ReadError> {
        self.with_view(|view| self.find_timestamp(view, timestamp))
    }

    fn find_timestamp(
        &self,
        view: &View,
        timestamp: i64,
    ) -> Result<Option<TimestampAndOffset>, ReadError> {
        let log_start_offset = self.log_start_offset();
        for segment in &view.segments[view.place_of(log_start_offset)..] {
            if segment.max_timestamp()?.timestamp < timestamp {
                continue;
            }
            let mut scan = segment.scan(segment.position_before_time(timestamp)?);
            while let Some((position, header)) = scan.next()? {
                if header.max_timestamp < timestamp || header.last_offset() < log_start_offset {
                    continue;
                }
                let wanted = |record: &RecordTime| {
                    record.timestamp >= timestamp && record.offset >= log_start_offset
                };
                if let Some(found) = first_record(segment, position, &header, wanted)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The first record that has the greatest timestamp of the log; `None` where no record has
    /// one. Reads and may decompress a batch: not for an event loop.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn max_timestamp(&self) -> Result<Option<TimestampAndOffset>, ReadError> {
        self.with_view(|view| self.find_max_timestamp(view))
    }

    fn find_max_timestamp(&self, view: &View) -> Result<Option<TimestampAndOffset>, ReadError> {
        let log_start_offset = self.log_start_offset();
        let mut latest = None;
        for segment in &view.segments[view.place_of(log_start_offset)..] {
            let max = segment.max_timestamp()?;
            let known = latest.map_or(NO_TIMESTAMP, |(_, timestamp)| timestamp);
            if max.timestamp > known && max.offset >= log_start_offset {
                latest = Some((segment, max.timestamp));
            }
        }
        let Some((segment, timestamp)) = latest else {
            return Ok(None);
        };
        let offset = segment.max_timestamp()?.offset;
        let Some((position, header)) = segment.locate(offset)? else {
            return Ok(None);
        };
        let found = first_record(segment, position, &header, |record| {
            record.timestamp == timestamp && record.offset >= log_start_offset
        })?;
        // A producer may have claimed a timestamp that none of its records has.
        Ok(found.or(Some(TimestampAndOffset {
            timestamp,
            offset: header.last_offset(),
            leader_epoch: header.partition_leader_epoch,
        })))
    }
}

fn first_record(
    segment: &Segment,
    position: u64,
    header: &BatchHeader,
    wanted: impl Fn(&RecordTime) -> bool,
) -> Result<Option<TimestampAndOffset>, ReadError> {
    let leader_epoch = header.partition_leader_epoch;
    let mut bytes = vec![0; header.size()];
    segment.file.read_exact_at(&mut bytes, position)?;
    let damaged = |why: String| {
        let path = segment.file.path();
        let text = format!("{} at byte {position}: {why}", path.display());
        ReadError::Io(io::Error::new(io::ErrorKind::InvalidData, text))
    };
    let batch = Batch::parse(&bytes.into()).map_err(|error| damaged(error.to_string()))?;
    if header.timestamp_type() == TimestampType::LogAppendTime && header.is_control() {
        return Ok(None);
    }
    // With `record.validation=header` records may be anything: those after one that cannot be read
    // have no timestamps. They are read as a stream: a small batch may decompress to very much.
    let payload = batch.payload();
    let found = RecordTimes::new(batch.header(), &payload).find(wanted);
    Ok(found.map(|record| TimestampAndOffset {
        timestamp: record.timestamp,
        offset: record.offset,
        leader_epoch,
    }))
}
