//! Settings that producer, consumer and admin share.

use std::time::Duration;

/// How to reach a cluster, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Brokers to ask first, each `host:port`; any one of them is enough.
    pub bootstrap: Vec<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// The longest that a connection may take to be made.
    pub connect_timeout: Duration,
    /// The longest that an answer may take; those that wait on purpose get longer.
    pub request_timeout: Duration,
    /// The longest that a call may take with all its retries.
    pub call_timeout: Duration,
    /// The largest answer that is accepted, in bytes.
    pub response_bytes_max: usize,
    /// Requests that may wait on one connection to be written.
    pub requests_queued_max: usize,
    /// Metadata older than this is asked for anew.
    pub metadata_age_max: Duration,
    /// The pause before a first retry; doubles with each up to `retry_backoff_max`.
    pub retry_backoff: Duration,
    /// The longest pause before a retry.
    pub retry_backoff_max: Duration,
    /// Whether asking for an unknown topic may create it, where the broker allows that.
    pub allow_auto_topic_creation: bool,
}

impl ClientConfig {
    /// Kafka's usual settings for the brokers at `bootstrap`.
    pub fn new(bootstrap: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            bootstrap: bootstrap.into_iter().map(Into::into).collect(),
            client_id: "klamm".to_owned(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_secs(60),
            response_bytes_max: 128 * 1024 * 1024,
            requests_queued_max: 128,
            metadata_age_max: Duration::from_secs(300),
            retry_backoff: Duration::from_millis(50),
            retry_backoff_max: Duration::from_secs(1),
            allow_auto_topic_creation: true,
        }
    }
}
