//! From a frame to its answer: header, version check, decode, handler, encode. Once for all APIs.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use klamm_env::network::FileSlice;
use klamm_protocol::frame::{self, RequestHeader};
use klamm_protocol::{ApiKey, Encode, EncodeError, Encoded, Message, Reader, Response, api};

use crate::broker::Broker;
use crate::handlers;
use crate::request::{Answer, ConnectionInfo, RequestContext};

/// An answer ready for the socket.
pub(crate) struct Frame {
    /// Length, header and body, with a gap wherever bytes of a file belong.
    pub encoded: Encoded,
    /// What fills the gaps, in order; each gap's length is the sum of its pieces. Holding a piece
    /// holds off a truncation of its file.
    pub pieces: Vec<FileSlice>,
}

/// What becomes of one request.
pub(crate) enum Outcome {
    /// Answered.
    Ready(Frame),
    /// Answered later, in its turn.
    Waiting(BoxFuture<'static, Result<Frame, String>>),
    /// Not answered.
    Silent,
    /// The connection ends, for this reason.
    Close(String),
}

/// A handler's result on its way to the wire.
pub(crate) trait Reply: Send + 'static {
    /// Encodes it behind its header.
    fn into_frame(self, header: &ReplyHeader) -> Result<Frame, EncodeError>;
}

/// What the header of an answer needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyHeader {
    /// Of the request.
    pub api_key: ApiKey,
    /// Of the request.
    pub api_version: i16,
    /// Of the request.
    pub correlation_id: i32,
}

impl ReplyHeader {
    /// Encodes `body` behind this header.
    pub(crate) fn encode(&self, body: &impl Encode) -> Result<Encoded, EncodeError> {
        frame::encode_response(self.api_key, self.api_version, self.correlation_id, body)
    }
}

impl<R: Response + Send + 'static> Reply for R {
    fn into_frame(self, header: &ReplyHeader) -> Result<Frame, EncodeError> {
        Ok(Frame { encoded: header.encode(&self)?, pieces: Vec::new() })
    }
}

/// Runs one request up to the point from which the next one of its connection may run.
pub(crate) async fn dispatch(
    broker: &Arc<Broker>,
    connection: &Arc<ConnectionInfo>,
    bytes: Bytes,
) -> Outcome {
    let (header, reader) = match frame::decode_request(bytes) {
        Ok(decoded) => decoded,
        Err(error) => return Outcome::Close(format!("unreadable request header: {error}")),
    };
    let served = api::find_any(header.api_key).is_some_and(|row| row.serves(header.api_version));
    if !served {
        return unserved(&header);
    }
    let reply = ReplyHeader {
        api_key: header.api_key,
        api_version: header.api_version,
        correlation_id: header.correlation_id,
    };
    let ctx = RequestContext {
        broker: Arc::clone(broker),
        api_version: header.api_version,
        client_id: header.client_id.into(),
        connection: Arc::clone(connection),
    };
    serve(&ctx, reply, reader).await
}

/// Decodes, handles and encodes; a failure to decode closes the connection as in Kafka. The reader
/// goes before the handler runs, so that only the request holds on to the frame.
macro_rules! run {
    ($ctx:expr, $reply:expr, $reader:expr, $api:ident) => {{
        let mut reader = $reader;
        let request = Message::decode_start(&mut reader, $ctx.api_version);
        drop(reader);
        match request {
            Ok(request) => finish(handlers::$api::handle($ctx, request).await, $reply),
            Err(error) => Outcome::Close(format!(
                "unreadable {:?} request, version {}: {error}",
                $reply.api_key, $reply.api_version
            )),
        }
    }};
}

/// The table of handlers. What a row of `klamm_protocol::api` has and this has not cannot be.
macro_rules! rare_apis {
    ($($key:ident => $api:ident,)*) => {
        /// All but the two that must not pay for the size of the others' futures.
        async fn serve_rare(ctx: &RequestContext, reply: ReplyHeader, reader: Reader) -> Outcome {
            match reply.api_key {
                $(ApiKey::$key => run!(ctx, reply, reader, $api),)*
                other => Outcome::Close(format!("{other:?} has no handler")),
            }
        }

        #[cfg(test)]
        const RARE_APIS: &[ApiKey] = &[$(ApiKey::$key,)*];
    };
}

rare_apis! {
    AlterConfigs => alter_configs,
    AlterPartitionReassignments => alter_partition_reassignments,
    ApiVersions => api_versions,
    AskController => ask_controller,
    CreatePartitions => create_partitions,
    CreateTopics => create_topics,
    DeleteGroups => delete_groups,
    DeleteRecords => delete_records,
    DeleteTopics => delete_topics,
    DescribeCluster => describe_cluster,
    DescribeConfigs => describe_configs,
    DescribeGroups => describe_groups,
    DescribeLogDirs => describe_log_dirs,
    DescribeTopicPartitions => describe_topic_partitions,
    ElectLeaders => elect_leaders,
    FindCoordinator => find_coordinator,
    Heartbeat => heartbeat,
    IncrementalAlterConfigs => incremental_alter_configs,
    InitProducerId => init_producer_id,
    JoinGroup => join_group,
    LeaveGroup => leave_group,
    ListGroups => list_groups,
    ListOffsets => list_offsets,
    ListPartitionReassignments => list_partition_reassignments,
    Metadata => metadata,
    OffsetCommit => offset_commit,
    OffsetDelete => offset_delete,
    OffsetFetch => offset_fetch,
    OffsetForLeaderEpoch => offset_for_leader_epoch,
    SyncGroup => sync_group,
}

async fn serve(ctx: &RequestContext, reply: ReplyHeader, reader: Reader) -> Outcome {
    match reply.api_key {
        ApiKey::Produce => run!(ctx, reply, reader, produce),
        ApiKey::Fetch => run!(ctx, reply, reader, fetch),
        _ => Box::pin(serve_rare(ctx, reply, reader)).await,
    }
}

fn finish<R: Reply>(answer: Answer<R>, reply: ReplyHeader) -> Outcome {
    match answer {
        Answer::Now(response) => match encode(response, &reply) {
            Ok(frame) => Outcome::Ready(frame),
            Err(reason) => Outcome::Close(reason),
        },
        Answer::Later(response) => {
            Outcome::Waiting(Box::pin(async move { encode(response.await, &reply) }))
        }
        Answer::Silent => Outcome::Silent,
        Answer::Close(reason) => Outcome::Close(reason),
    }
}

fn encode<R: Reply>(response: R, reply: &ReplyHeader) -> Result<Frame, String> {
    response.into_frame(reply).map_err(|error| {
        format!(
            "{:?} answer, version {}, cannot be encoded: {error}",
            reply.api_key, reply.api_version
        )
    })
}

/// A version or an API that is not served. Only ApiVersions has an answer for it, in the form that
/// every client reads; anything else ends the connection, as in Kafka.
fn unserved(header: &RequestHeader) -> Outcome {
    if header.api_key != ApiKey::ApiVersions {
        return Outcome::Close(format!(
            "{:?} version {} is not served",
            header.api_key, header.api_version
        ));
    }
    let reply = ReplyHeader {
        api_key: ApiKey::ApiVersions,
        api_version: 0,
        correlation_id: header.correlation_id,
    };
    match encode(handlers::api_versions::unsupported_version(), &reply) {
        Ok(frame) => Outcome::Ready(frame),
        Err(reason) => Outcome::Close(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_served_api_has_a_handler() {
        for row in api::SERVED.iter().chain(api::INTERNAL) {
            let often = matches!(row.key, ApiKey::Produce | ApiKey::Fetch);
            assert!(often || RARE_APIS.contains(&row.key), "{:?}", row.key);
        }
        assert_eq!(RARE_APIS.len() + 2, api::SERVED.len() + api::INTERNAL.len());
    }
}
