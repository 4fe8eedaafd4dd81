//! A connection to another broker of the cluster, on its inter-broker listener: one request at a
//! time, in the newest version that this build knows. Brokers of one cluster serve each other's
//! versions; one that does not answers UNSUPPORTED_VERSION, and whoever asked tries again later.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use klamm_cluster::Image;
use klamm_cluster::nodes::broker::Endpoint;
use klamm_env::{Env, Stream};
use klamm_protocol::frame::{RequestHeader, decode_response, encode_request, frame_len};
use klamm_protocol::{ApiKey, DecodeError, EncodeError, Request};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Memory for an answer is taken in steps of this much, as its bytes come.
const ANSWER_STEP_BYTES: usize = 1024 * 1024;

/// Why another broker gave no answer. The connection is of no use any more.
#[derive(Debug, Error)]
pub(crate) enum PeerError {
    /// It cannot be reached.
    #[error("broker {broker} at {address}: {error}")]
    Connect {
        /// Whom.
        broker: i32,
        /// Where.
        address: String,
        /// What the system said.
        error: io::Error,
    },
    /// The connection ended. Whether the request was carried out is not known.
    #[error("broker {broker}: {error}")]
    Lost {
        /// Whose.
        broker: i32,
        /// What the system said.
        error: io::Error,
    },
    /// No answer in time. Whether the request was carried out is not known.
    #[error("broker {broker}: no answer to {api} within {after:?}")]
    Late {
        /// Whose.
        broker: i32,
        /// What was asked.
        api: ApiKey,
        /// How long it was waited for.
        after: Duration,
    },
    /// The request cannot be expressed.
    #[error("{api}: {error}")]
    Encode {
        /// What was to be asked.
        api: ApiKey,
        /// What is wrong with it.
        error: EncodeError,
    },
    /// The answer is nonsense.
    #[error("broker {broker} answers {api} with nonsense: {error}")]
    Decode {
        /// Whose.
        broker: i32,
        /// What was asked.
        api: ApiKey,
        /// What is wrong with it.
        error: DecodeError,
    },
}

impl PeerError {
    /// The broker is there, and what it says is not the protocol.
    pub(crate) fn is_nonsense(&self) -> bool {
        match self {
            PeerError::Decode { .. } => true,
            PeerError::Lost { error, .. } => error.kind() == io::ErrorKind::InvalidData,
            PeerError::Connect { .. } | PeerError::Late { .. } | PeerError::Encode { .. } => false,
        }
    }
}

fn nonsensical(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Where brokers reach broker `id`: on the listener that it names for them.
pub(crate) fn inter_broker_endpoint(image: &Image, id: i32) -> Option<&Endpoint> {
    let broker = image.broker(id)?;
    broker.endpoint(&broker.inter_broker_listener)
}

/// A connection to a broker.
pub(crate) struct Peer {
    broker: i32,
    client_id: String,
    stream: Box<dyn Stream>,
    answer_bytes_max: usize,
    next_correlation_id: i32,
}

/// How to speak to other brokers.
#[derive(Clone, Debug)]
pub(crate) struct PeerSettings {
    /// Names this broker to the other.
    pub client_id: String,
    /// Longest wait for a connection, and for an answer beyond what a request asks the other to
    /// wait: `replica.socket.timeout.ms`.
    pub timeout: Duration,
    /// Longest answer in bytes.
    pub answer_bytes_max: usize,
}

impl Peer {
    /// Connects to broker `id`.
    ///
    /// # Errors
    /// [`PeerError::Connect`].
    pub(crate) async fn connect(
        env: &Env,
        broker: i32,
        endpoint: &Endpoint,
        settings: &PeerSettings,
    ) -> Result<Peer, PeerError> {
        let Endpoint { host, port, .. } = endpoint;
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let address = format!("{bracketed}:{port}");
        let connected = timeout(settings.timeout, env.network.connect(&address)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = connected.map_err(|error| PeerError::Connect { broker, address, error })?;
        Ok(Peer {
            broker,
            client_id: settings.client_id.clone(),
            stream,
            answer_bytes_max: settings.answer_bytes_max,
            next_correlation_id: 1,
        })
    }

    /// Asks, and waits no longer than `patience` for the answer.
    ///
    /// # Errors
    /// [`PeerError`]; the connection is to be dropped then.
    pub(crate) async fn call<R: Request>(
        &mut self,
        request: &R,
        patience: Duration,
    ) -> Result<R::Response, PeerError> {
        let (api, version) = (R::KEY, R::VERSION_MAX);
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id = correlation_id.wrapping_add(1);
        let header = RequestHeader {
            api_key: api,
            api_version: version,
            correlation_id,
            client_id: self.client_id.clone(),
        };
        let encoded =
            encode_request(&header, request).map_err(|error| PeerError::Encode { api, error })?;
        let broker = self.broker;
        let exchanged = timeout(patience, self.exchange(&encoded.bytes)).await;
        let late = |_| PeerError::Late { broker, api, after: patience };
        let answer = exchanged.map_err(late)?;
        let answer = answer.map_err(|error| PeerError::Lost { broker, error })?;
        let nonsense = |error| PeerError::Decode { broker, api, error };
        let (answered, response) = decode_response::<R>(version, answer).map_err(nonsense)?;
        if answered != correlation_id {
            let reason = format!("answer {answered} where {correlation_id} was due");
            return Err(PeerError::Lost { broker, error: nonsensical(reason) });
        }
        Ok(response)
    }

    async fn exchange(&mut self, request: &[u8]) -> io::Result<Bytes> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).await?;
        let len = frame_len(prefix, self.answer_bytes_max).map_err(nonsensical)?;
        let mut frame = BytesMut::new();
        while frame.len() < len {
            let missing = len - frame.len();
            frame.reserve(missing.min(ANSWER_STEP_BYTES));
            if (&mut self.stream).take(missing as u64).read_buf(&mut frame).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(frame.freeze())
    }
}
