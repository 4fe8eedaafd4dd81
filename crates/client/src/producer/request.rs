//! One batch as a Produce request, and what its answer means.

use std::time::Duration;

use bytes::Bytes;
use klamm_protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData,
};
use klamm_protocol::{ApiKey, ErrorCode};
use uuid::Uuid;

use crate::connection::{Connection, PendingResponse};
use crate::error::{ClientError, check};
use crate::metadata::TopicPartition;

/// From this version on topics go by id.
const PRODUCE_BY_ID_FROM: i16 = 13;

/// An answered batch.
pub(super) struct Appended {
    pub(super) base_offset: i64,
    pub(super) log_append_time_ms: i64,
    pub(super) throttle: Duration,
}

/// The request for one batch.
pub(super) fn produce_request(
    partition: &TopicPartition,
    topic_id: Uuid,
    acks: i16,
    timeout: Duration,
    batch: Bytes,
) -> ProduceRequest {
    let data = PartitionProduceData { index: partition.partition, records: Some(batch) };
    let name = partition.topic.clone();
    let topic = TopicProduceData { name, topic_id, partition_data: vec![data] };
    ProduceRequest {
        transactional_id: None,
        acks,
        timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
        topic_data: vec![topic],
    }
}

/// The newest version that can name the topic.
pub(super) fn version(connection: &Connection, topic_id: Uuid) -> Result<i16, ClientError> {
    let version_max = if topic_id.is_nil() { PRODUCE_BY_ID_FROM - 1 } else { i16::MAX };
    connection.version::<ProduceRequest>(version_max)
}

/// Waits for the answer and reads it.
pub(super) async fn answer(
    pending: PendingResponse<ProduceRequest>,
    partition: &TopicPartition,
) -> Result<Appended, ClientError> {
    let response = pending.response().await?;
    let throttle_ms = u64::try_from(response.throttle_time_ms).unwrap_or(0);
    let answer = only_partition(response).ok_or_else(|| ClientError::Incomplete {
        api: ApiKey::Produce,
        what: partition.to_string(),
    })?;
    let message = answer.error_message.as_deref().or_else(|| {
        let error = answer.record_errors.first()?;
        error.batch_index_error_message.as_deref()
    });
    if answer.error_code != ErrorCode::DuplicateSequenceNumber.as_i16() {
        check(answer.error_code, message, || format!("publishing to {partition}"))?;
    }
    Ok(Appended {
        base_offset: answer.base_offset,
        log_append_time_ms: answer.log_append_time_ms,
        throttle: Duration::from_millis(throttle_ms),
    })
}

fn only_partition(response: ProduceResponse) -> Option<PartitionProduceResponse> {
    response.responses.into_iter().next()?.partition_responses.into_iter().next()
}
