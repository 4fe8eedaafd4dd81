//! Produce: appends one batch to each named partition.
//!
//! Versions 3 to 11; 0 to 2 are advertised only because old librdkafka compresses nothing
//! otherwise, 12 and 13 come with transactions.
//!
//! - acks=1 is answered at the append, acks=-1 when the high watermark has passed the batch, a
//!   duplicate of an idempotent batch like its original; acks=0 not at all, and an error then
//!   closes the connection.
//! - Partitions fail one by one; refused records are named from version 8 on, the current leader
//!   from version 10 on. zstd needs version 7.
//! - A topic with a codec of its own gets the batch in it (`compression.type`).
//! - Clients cannot write to internal topics, except the one that Kafka's own tools use.
//!
//! Known gaps: transactions are not offered. A transactional id or batch is refused with
//! TRANSACTIONAL_ID_AUTHORIZATION_FAILED, which no client tries again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use klamm_log::Origin;
use klamm_protocol::ErrorCode;
use klamm_protocol::compression::Compression;
use klamm_protocol::messages::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData,
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
    TopicProduceResponse,
};
use klamm_protocol::records::{Batch, BatchError, BatchHeader};

use crate::acks::{Ack, wait_all};
use crate::partition::{Appended, Partition, Refusal};
use crate::recompress::recompressed;
use crate::request::{Answer, RequestContext};
use crate::waiters::Signal;

/// The client id with which Kafka's tools may write to internal topics.
const ADMIN_CLIENT_ID: &str = "__admin_client";
/// The first version that may carry zstd.
const ZSTD_SINCE: i16 = 7;
/// The first version that names the current leader.
const LEADER_SINCE: i16 = 10;

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: ProduceRequest,
) -> Answer<ProduceResponse> {
    let acks = request.acks;
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let mut done = Done::default();
    let whole = refused_as_a_whole(&request);
    for topic in request.topic_data {
        done.begin_topic(&topic);
        for part in topic.partition_data {
            let (index, appended) = match whole {
                Some(code) => (part.index, Err(code.into())),
                None => (part.index, append(ctx, &topic.name, part, acks).await),
            };
            done.note(index, appended);
        }
    }
    match acks {
        0 => done.silent(),
        -1 => done.when_acknowledged(ctx, timeout),
        _ => Answer::Now(done.respond(ctx)),
    }
}

/// What is wrong with the request whatever its partitions are.
fn refused_as_a_whole(request: &ProduceRequest) -> Option<ErrorCode> {
    if !matches!(request.acks, -1..=1) {
        return Some(ErrorCode::InvalidRequiredAcks);
    }
    let parts = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    let transactional = request.transactional_id.is_some()
        || parts.filter_map(|part| part.records.as_ref()).any(|records| {
            BatchHeader::parse(records).is_ok_and(|header| header.is_transactional())
        });
    transactional.then_some(ErrorCode::TransactionalIdAuthorizationFailed)
}

async fn append(
    ctx: &RequestContext,
    topic: &str,
    part: PartitionProduceData,
    acks: i16,
) -> Result<(Arc<Partition>, Appended), Refused> {
    let partition = ctx.partition(topic, part.index)?;
    // Nobody would notice that another leader has replaced it (R5); acks=all finds out.
    if acks != -1 && ctx.broker.fence.is_lost() {
        return Err(ErrorCode::NotLeaderOrFollower.into());
    }
    let batch = one_batch(ctx.api_version, part.records)?;
    if partition.is_internal() && &*ctx.client_id != ADMIN_CLIENT_ID {
        return Err(ErrorCode::InvalidTopicException.into());
    }
    partition.open().await?;
    let with_start = |refusal| Refused { log_start_offset: partition.log_start_offset(), refusal };
    if batch.has_producer_id() && batch.producer_epoch < 0 {
        return Err(with_start(ErrorCode::InvalidProducerEpoch.into()));
    }
    let recompressed = recompressed(&batch, &ctx.broker.topic_config(topic));
    let recompressed = recompressed.map_err(|code| with_start(code.into()))?;
    let records = recompressed.unwrap_or_else(|| batch.into_bytes());
    match partition.append(&records, None, Origin::Client, acks == -1) {
        Ok(appended) => Ok((partition, appended)),
        Err(refusal) => Err(with_start(refusal)),
    }
}

/// A refusal and the first offset of the log that refused; -1 where no log was asked.
struct Refused {
    refusal: Refusal,
    log_start_offset: i64,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        Refused { refusal, log_start_offset: -1 }
    }
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Refused {
        Refusal::from(code).into()
    }
}

/// Exactly one batch of the current format, in a codec that the version may carry; its content is
/// checked by the log.
fn one_batch(api_version: i16, records: Option<Bytes>) -> Result<Batch, Refusal> {
    let records = records.filter(|records| !records.is_empty()).ok_or(ErrorCode::InvalidRecord)?;
    let batch = Batch::parse(&records).map_err(|error| match error {
        BatchError::HeaderTruncated { .. }
        | BatchError::Truncated { .. }
        | BatchError::OldMagic { .. } => ErrorCode::InvalidRecord,
        _ => ErrorCode::CorruptMessage,
    })?;
    if batch.bytes().len() < records.len() {
        return Err(ErrorCode::InvalidRecord.into());
    }
    if api_version < ZSTD_SINCE && batch.compression() == Ok(Compression::Zstd) {
        return Err(ErrorCode::UnsupportedCompressionType.into());
    }
    Ok(batch)
}

/// The answer as it grows, and the batches that are not acknowledged yet.
#[derive(Default)]
struct Done {
    response: ProduceResponse,
    pending: Vec<Pending>,
}

/// A batch and its place in the answer.
struct Pending {
    topic: usize,
    part: usize,
    ack: Ack,
}

impl Done {
    fn begin_topic(&mut self, topic: &TopicProduceData) {
        self.response.responses.push(TopicProduceResponse {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partition_responses: Vec::with_capacity(topic.partition_data.len()),
        });
    }

    fn note(&mut self, index: i32, appended: Result<(Arc<Partition>, Appended), Refused>) {
        let topic = self.response.responses.len() - 1;
        let parts = &mut self.response.responses[topic].partition_responses;
        match appended {
            Ok((partition, appended)) => {
                let ack = partition.ack_of(&appended);
                self.pending.push(Pending { topic, part: parts.len(), ack });
                parts.push(PartitionProduceResponse {
                    index,
                    base_offset: appended.base_offset,
                    log_append_time_ms: appended.log_append_time.unwrap_or(-1),
                    log_start_offset: appended.log_start_offset,
                    ..Default::default()
                });
            }
            Err(why) => parts.push(refused(index, why)),
        }
    }

    fn parts(&self) -> impl Iterator<Item = &PartitionProduceResponse> {
        self.response.responses.iter().flat_map(|topic| &topic.partition_responses)
    }

    /// acks=0: the client only learns that something failed.
    fn silent(self) -> Answer<ProduceResponse> {
        match self.parts().find(|part| part.error_code != 0) {
            None => Answer::Silent,
            Some(part) => Answer::Close(format!(
                "a produce request with acks=0 failed: partition {} with error {}",
                part.index, part.error_code
            )),
        }
    }

    fn when_acknowledged(
        mut self,
        ctx: &RequestContext,
        timeout: Duration,
    ) -> Answer<ProduceResponse> {
        self.pending.retain(|pending| pending.ack.outcome() != Some(Ok(())));
        if self.pending.is_empty() {
            return Answer::Now(self.respond(ctx));
        }
        let ctx = ctx.clone();
        Answer::Later(Box::pin(async move {
            let acks: Vec<_> = self.pending.iter().map(|pending| pending.ack.clone()).collect();
            let signal = Signal::on(&ctx.connection.wakes);
            let outcomes = wait_all(&acks, signal, timeout).await;
            for (pending, outcome) in self.pending.iter().zip(outcomes) {
                if let Err(code) = outcome {
                    let parts = &mut self.response.responses[pending.topic].partition_responses;
                    parts[pending.part].error_code = code.as_i16();
                }
            }
            self.respond(&ctx)
        }))
    }

    /// Adds who leads now to every partition that is led elsewhere.
    fn respond(mut self, ctx: &RequestContext) -> ProduceResponse {
        if ctx.api_version < LEADER_SINCE {
            return self.response;
        }
        for topic in &mut self.response.responses {
            for part in &mut topic.partition_responses {
                if part.error_code != ErrorCode::NotLeaderOrFollower.as_i16() {
                    continue;
                }
                let hint = ctx.current_leader(&topic.name, part.index);
                part.current_leader =
                    LeaderIdAndEpoch { leader_id: hint.id, leader_epoch: hint.epoch };
                if let Some((host, port)) = hint.endpoint
                    && self.response.node_endpoints.iter().all(|node| node.node_id != hint.id)
                {
                    let node = NodeEndpoint { node_id: hint.id, host, port, rack: hint.rack };
                    self.response.node_endpoints.push(node);
                }
            }
        }
        self.response
    }
}

/// As Kafka: what a log refuses for its form is answered without the log's start.
fn log_start_offset(why: &Refused) -> i64 {
    match why.refusal.code {
        ErrorCode::CorruptMessage
        | ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::NotLeaderOrFollower
        | ErrorCode::KafkaStorageError => -1,
        _ => why.log_start_offset,
    }
}

fn refused(index: i32, why: Refused) -> PartitionProduceResponse {
    let log_start_offset = log_start_offset(&why);
    let refusal = why.refusal;
    let record_errors = refusal.records.into_iter().map(|record| BatchIndexAndErrorMessage {
        batch_index: record.batch_index,
        batch_index_error_message: Some(record.message),
    });
    PartitionProduceResponse {
        index,
        error_code: refusal.code.as_i16(),
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset,
        record_errors: record_errors.collect(),
        error_message: refusal.message,
        ..Default::default()
    }
}
