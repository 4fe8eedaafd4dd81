//! OffsetForLeaderEpoch: where a leader's epoch ended in the log.
//!
//! Versions 2 to 4. The client's current leader epoch is checked first. An epoch that the log does
//! not know is answered with the largest one below it; where there is none, with -1 and -1.
//! A replica's view and a consumer's differ in nothing until brokers replicate: the end of the
//! newest epoch is the high watermark for consumers, the log's end for replicas.

use klamm_protocol::ErrorCode;
use klamm_protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};

use crate::request::{Answer, RequestContext};

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> Answer<OffsetForLeaderEpochResponse> {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let found = find(ctx, &topic.topic, asked).await;
            partitions.push(found.unwrap_or_else(|code| EpochEndOffset {
                error_code: code.as_i16(),
                partition: asked.partition,
                leader_epoch: -1,
                end_offset: -1,
            }));
        }
        topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions });
    }
    Answer::Now(OffsetForLeaderEpochResponse { topics, ..Default::default() })
}

async fn find(
    ctx: &RequestContext,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<EpochEndOffset, ErrorCode> {
    let partition = ctx.partition(topic, asked.partition)?;
    partition.check_epoch(asked.current_leader_epoch)?;
    let reader = partition.open().await?;
    let (leader_epoch, end_offset) = reader.end_offset_for_epoch(asked.leader_epoch);
    Ok(EpochEndOffset { error_code: 0, partition: asked.partition, leader_epoch, end_offset })
}
