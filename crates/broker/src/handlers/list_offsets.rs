//! ListOffsets: offsets of partitions by time, or by what a negative time stands for.
//!
//! Versions 1 to 11.
//!
//! | timestamp | since | answer |
//! |---|---|---|
//! | -1 | 1 | the end for this reader: high watermark, or last stable offset with read_committed |
//! | -2 | 1 | the first offset |
//! | -3 | 7 | the first record with the greatest timestamp |
//! | -4 | 8 | the first offset on local disks: the same as -2 without remote storage |
//! | -5 | 9 | the last offset in remote storage: -1, there is none |
//! | -6 | 11 | the first offset that waits for remote storage: -1, there is none |
//!
//! A time is answered with the first record that is not older; records that this reader cannot see
//! yet do not count. A leader that was elected a moment ago and has not heard of its followers since
//! does not know what is committed: OFFSET_NOT_AVAILABLE, rather than an end before the one that was
//! told last. A partition that stands twice in the request is answered once, with
//! INVALID_REQUEST; a negative time that the version does not know is UNSUPPORTED_VERSION for that partition.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use klamm_env::threads::run_blocking;
use klamm_log::{LogReader, ReadError, TimestampAndOffset};
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use tracing::warn;

use crate::partition::{Offsets, Partition};
use crate::request::{Answer, RequestContext};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const GREATEST_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_REMOTE: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// `replica_id` of a consumer; others see the log's end.
const CONSUMER: i32 = -1;
/// `isolation_level` of read_committed.
const READ_COMMITTED: i8 = 1;
/// The first version with leader epochs in answers.
const EPOCHS_SINCE: i16 = 4;
/// The first version with OFFSET_NOT_AVAILABLE.
const NOT_AVAILABLE_SINCE: i16 = 5;

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: ListOffsetsRequest,
) -> Answer<ListOffsetsResponse> {
    let twice = duplicates(&request);
    let view = View { replica_id: request.replica_id, isolation_level: request.isolation_level };
    let mut searches = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for (topic_at, topic) in request.topics.into_iter().enumerate() {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        let mut answered = BTreeSet::new();
        for asked in &topic.partitions {
            let at = partitions.len();
            if !answered.insert(asked.partition_index) {
                continue;
            }
            let found = if twice.contains(&(topic.name.clone(), asked.partition_index)) {
                Err(ErrorCode::InvalidRequest)
            } else {
                find(ctx, &topic.name, asked, view).await
            };
            let found = found.map(|found| match found {
                Found::Offset(offset) => Some(offset),
                Found::Nothing => None,
                Found::Search(search) => {
                    searches.push((topic_at, at, search));
                    None
                }
            });
            partitions.push(answer(ctx.api_version, asked.partition_index, found));
        }
        topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
    }
    let mut response = ListOffsetsResponse { topics, ..Default::default() };
    if searches.is_empty() {
        return Answer::Now(response);
    }
    let (threads, version) = (Arc::clone(&ctx.broker.env.threads), ctx.api_version);
    Answer::Later(Box::pin(async move {
        for (topic_at, at, search) in searches {
            let place = &mut response.topics[topic_at].partitions[at];
            let found = run_blocking(&*threads, move || search.run()).await;
            *place = answer(version, place.partition_index, found);
        }
        response
    }))
}

/// What the asker may see.
#[derive(Clone, Copy)]
struct View {
    replica_id: i32,
    isolation_level: i8,
}

impl View {
    fn end(self, offsets: &Offsets) -> i64 {
        match self.replica_id {
            CONSUMER if self.isolation_level == READ_COMMITTED => offsets.last_stable,
            CONSUMER => offsets.high_watermark,
            _ => offsets.log_end,
        }
    }
}

enum Found {
    Offset(TimestampAndOffset),
    Nothing,
    /// To be looked for in the log, off the loop.
    Search(Search),
}

/// A look-up by time.
struct Search {
    partition: Arc<Partition>,
    reader: LogReader,
    timestamp: i64,
    end: i64,
}

impl Search {
    fn run(self) -> Result<Option<TimestampAndOffset>, ErrorCode> {
        let found = match self.timestamp {
            GREATEST_TIMESTAMP => self.reader.max_timestamp(),
            timestamp => self.reader.offset_for_timestamp(timestamp),
        };
        match found {
            Ok(found) => Ok(found.filter(|found| found.offset < self.end)),
            Err(error @ ReadError::Io(_)) => {
                warn!(partition = %self.partition.id(), "look-up by time: {error}");
                Err(ErrorCode::KafkaStorageError)
            }
            Err(error) => Err(error.code()),
        }
    }
}

async fn find(
    ctx: &RequestContext,
    topic: &str,
    asked: &ListOffsetsPartition,
    view: View,
) -> Result<Found, ErrorCode> {
    let timestamp = asked.timestamp;
    if !knows(ctx.api_version, timestamp) {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let partition = ctx.partition(topic, asked.partition_index)?;
    let leader_epoch = partition.check_epoch(asked.current_leader_epoch)?;
    let reader = partition.open().await?.clone();
    let offsets = partition.offsets();
    if view.replica_id == CONSUMER && timestamp != EARLIEST && !partition.knows_what_is_committed()
    {
        let coded = ctx.api_version >= NOT_AVAILABLE_SINCE;
        let old = ErrorCode::LeaderNotAvailable;
        return Err(if coded { ErrorCode::OffsetNotAvailable } else { old });
    }
    let found = |offset, leader_epoch| {
        Found::Offset(TimestampAndOffset { timestamp: -1, offset, leader_epoch })
    };
    Ok(match timestamp {
        LATEST => found(view.end(&offsets), leader_epoch),
        EARLIEST | EARLIEST_LOCAL => found(offsets.log_start, first_epoch(&reader, &offsets)),
        LATEST_REMOTE | EARLIEST_PENDING_UPLOAD => Found::Nothing,
        _ => {
            let end = view.end(&offsets);
            Found::Search(Search { partition, reader, timestamp, end })
        }
    })
}

/// The epoch of the first record; -1 where there is none.
fn first_epoch(reader: &LogReader, offsets: &Offsets) -> i32 {
    let epochs = reader.epochs();
    let first = epochs.entries().first();
    first.filter(|entry| entry.start_offset <= offsets.log_start).map_or(-1, |entry| entry.epoch)
}

/// Whether a version knows a timestamp: points in time always, negative ones since they were added.
fn knows(version: i16, timestamp: i64) -> bool {
    match timestamp {
        0.. | LATEST | EARLIEST => true,
        GREATEST_TIMESTAMP => version >= 7,
        EARLIEST_LOCAL => version >= 8,
        LATEST_REMOTE => version >= 9,
        EARLIEST_PENDING_UPLOAD => version >= 11,
        _ => false,
    }
}

fn duplicates(request: &ListOffsetsRequest) -> HashSet<(String, i32)> {
    let mut seen = HashSet::new();
    let mut twice = HashSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let key = (topic.name.as_str(), partition.partition_index);
            if !seen.insert(key) {
                twice.insert((topic.name.clone(), partition.partition_index));
            }
        }
    }
    twice
}

fn answer(
    version: i16,
    partition_index: i32,
    found: Result<Option<TimestampAndOffset>, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let nothing = ListOffsetsPartitionResponse {
        partition_index,
        error_code: found.err().unwrap_or(ErrorCode::None).as_i16(),
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
    };
    match found {
        Ok(Some(found)) => ListOffsetsPartitionResponse {
            timestamp: found.timestamp,
            offset: found.offset,
            leader_epoch: if version >= EPOCHS_SINCE { found.leader_epoch } else { -1 },
            ..nothing
        },
        _ => nothing,
    }
}
