//! DeleteRecords: moves the first readable offset of partitions up.
//!
//! Versions 0 to 2. Offset -1 means the high watermark; beyond it is OFFSET_OUT_OF_RANGE. Internal
//! topics are INVALID_TOPIC_EXCEPTION, topics without `delete` in their cleanup policy
//! POLICY_VIOLATION. The new start is stored before the answer; the files go with the next round
//! of retention.

use std::sync::Arc;

use klamm_protocol::ErrorCode;
use klamm_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use tracing::warn;

use crate::data_dir::DataDir;
use crate::request::{Answer, RequestContext};

/// The offset that stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: DeleteRecordsRequest,
) -> Answer<DeleteRecordsResponse> {
    let mut changed: Vec<Arc<DataDir>> = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let deleted = delete(ctx, &topic.name, asked, &mut changed).await;
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark: deleted.unwrap_or(-1),
                error_code: deleted.err().unwrap_or(ErrorCode::None).as_i16(),
            });
        }
        topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
    }
    let response = DeleteRecordsResponse { topics, ..Default::default() };
    if changed.is_empty() {
        return Answer::Now(response);
    }
    let threads = Arc::clone(&ctx.broker.env.threads);
    Answer::Later(Box::pin(async move {
        for dir in changed {
            let store = |dir: &DataDir| dir.log_dir().write_log_start_offsets();
            let stored = dir.run_job(&*threads, store).await;
            if let Err(error) = stored {
                warn!("log start offsets are not stored: {error}");
            }
        }
        response
    }))
}

async fn delete(
    ctx: &RequestContext,
    topic: &str,
    asked: &DeleteRecordsPartition,
    changed: &mut Vec<Arc<DataDir>>,
) -> Result<i64, ErrorCode> {
    let partition = ctx.partition(topic, asked.partition_index)?;
    if ctx.broker.fence.is_lost() {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    if partition.is_internal() {
        return Err(ErrorCode::InvalidTopicException);
    }
    partition.leader_epoch()?;
    if !ctx.broker.topic_config(topic).cleanup_policy.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    partition.open().await?;
    let moved = match asked.offset {
        HIGH_WATERMARK => partition.advance_log_start(partition.high_watermark())?,
        offset => partition.advance_log_start(offset)?,
    };
    let dir = partition.dir();
    if moved && !changed.iter().any(|known| Arc::ptr_eq(known, dir)) {
        changed.push(Arc::clone(dir));
    }
    Ok(partition.log_start_offset())
}
