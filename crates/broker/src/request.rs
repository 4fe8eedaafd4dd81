//! What a handler is given and what it gives back.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use klamm_protocol::ErrorCode;
use uuid::Uuid;

use crate::broker::Broker;
use crate::partition::Partition;
use crate::wakes::Wakes;

/// One request, apart from its body.
#[derive(Clone)]
pub(crate) struct RequestContext {
    /// The process that serves it.
    pub broker: Arc<Broker>,
    /// The version of the request and of its answer; one that `klamm_protocol::api` serves.
    pub api_version: i16,
    /// What the client calls itself; empty when it says nothing.
    pub client_id: Arc<str>,
    /// Where it came from.
    pub connection: Arc<ConnectionInfo>,
}

impl RequestContext {
    /// The partition of a topic by name, as far as this broker serves it.
    ///
    /// # Errors
    /// As [`crate::partitions::Partitions::leader`]; NOT_LEADER_OR_FOLLOWER while the broker serves
    /// no data.
    pub(crate) fn partition(&self, topic: &str, index: i32) -> Result<Arc<Partition>, ErrorCode> {
        let found = self.broker.partitions.leader(topic, index)?;
        self.broker.check_served()?;
        Ok(found)
    }

    /// The same by the topic's id.
    ///
    /// # Errors
    /// As [`crate::partitions::Partitions::leader_of_id`], and as above.
    pub(crate) fn partition_of_id(
        &self,
        topic: Uuid,
        index: i32,
    ) -> Result<Arc<Partition>, ErrorCode> {
        let found = self.broker.partitions.leader_of_id(topic, index)?;
        self.broker.check_served()?;
        Ok(found)
    }

    /// The client's address as Kafka writes it in group descriptions: `/127.0.0.1`.
    pub(crate) fn client_host(&self) -> String {
        format!("/{}", self.connection.peer.ip())
    }
}

/// A connection as its handlers see it.
#[derive(Debug)]
pub(crate) struct ConnectionInfo {
    /// Unique in this process.
    pub id: u64,
    /// Who connected.
    pub peer: SocketAddr,
    /// Where it connected to.
    pub listener: Arc<ListenerInfo>,
    /// Of the event loop that it lives on.
    pub wakes: Arc<Wakes>,
    /// Name and version that the client gave in ApiVersions.
    pub software: OnceLock<(String, String)>,
}

/// A listener and what clients are told about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenerInfo {
    /// Kafka's listener name, `PLAINTEXT` unless the configuration says otherwise.
    pub name: String,
    /// Host that clients are sent to.
    pub advertised_host: String,
    /// Port that clients are sent to.
    pub advertised_port: u16,
}

/// What a handler gives back.
///
/// A handler is awaited in its connection's order, up to and including appends, so it never waits
/// for replication, timers or other clients: that goes into [`Answer::Later`].
pub(crate) enum Answer<R> {
    /// The response.
    Now(R),
    /// The response when it is due. Answers still leave in request order. The future owns nothing
    /// of the request's bytes: the memory reserved for them is free as soon as the handler returns.
    /// Dropping it (the connection is gone) undoes nothing that has been done.
    Later(BoxFuture<'static, R>),
    /// Nothing is sent (acks=0).
    Silent,
    /// Nothing is sent and the connection is closed; the reason is for the log.
    Close(String),
}
