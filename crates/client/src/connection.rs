//! One TCP connection to a broker.
//!
//! Requests are written in the order they are submitted; answers come back in the same order, so
//! that several may be under way. One task writes and reads; it ends, and with it the socket, when
//! every handle is gone, when the broker hangs up, or when an answer is late.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use klamm_env::{Env, Stream};
use klamm_protocol::frame::{
    RequestHeader, decode_response, decode_response_header, encode_request, frame_len,
};
use klamm_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use klamm_protocol::{ApiKey, ErrorCode, Message, Request};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::ClientConfig;
use crate::error::ClientError;

/// Memory for an answer is taken in steps of this much, as its bytes come.
const ANSWER_STEP_BYTES: usize = 1024 * 1024;

type Answer = Result<Bytes, ClientError>;

/// A connection whose versions have been negotiated; clones share it.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

struct Shared {
    address: String,
    client_id: String,
    request_timeout: Duration,
    versions: BTreeMap<i16, (i16, i16)>,
    next_correlation_id: AtomicI32,
    outgoing: mpsc::Sender<Outgoing>,
    give_up: Arc<Notify>,
}

struct Outgoing {
    frame: Bytes,
    waiter: Option<Waiter>,
}

struct Waiter {
    correlation_id: i32,
    answer: oneshot::Sender<Answer>,
}

type Waiters = Mutex<VecDeque<Waiter>>;

/// An answer to come. May be dropped: the answer is then read and thrown away.
pub struct PendingResponse<R> {
    shared: Arc<Shared>,
    answer: oneshot::Receiver<Answer>,
    version: i16,
    timeout: Duration,
    deadline: Instant,
    request: PhantomData<fn() -> R>,
}

impl Connection {
    /// Connects to `address` and asks for the versions that the broker serves.
    pub async fn connect(
        env: &Env,
        config: &ClientConfig,
        address: &str,
    ) -> Result<Self, ClientError> {
        let failed = |reason: String| ClientError::Connect { address: address.to_owned(), reason };
        let attempt = async {
            let mut stream =
                env.network.connect(address).await.map_err(|error| failed(error.to_string()))?;
            let versions = negotiate(&mut stream, config, address).await?;
            Ok((stream, versions))
        };
        let (stream, versions) =
            timeout(config.connect_timeout, attempt).await.map_err(|_| {
                failed(format!("no answer within {} ms", config.connect_timeout.as_millis()))
            })??;
        let (outgoing, queue) = mpsc::channel(config.requests_queued_max);
        let give_up = Arc::new(Notify::new());
        let driver = Driver {
            address: address.to_owned(),
            response_bytes_max: config.response_bytes_max,
            waiters: Waiters::default(),
        };
        tokio::spawn(driver.run(stream, queue, Arc::clone(&give_up)));
        let shared = Shared {
            address: address.to_owned(),
            client_id: config.client_id.clone(),
            request_timeout: config.request_timeout,
            versions,
            next_correlation_id: AtomicI32::new(1),
            outgoing,
            give_up,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Whom this is a connection to.
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.shared.outgoing.is_closed()
    }

    /// The newest version of `R` that broker and client both know, at most `version_max`.
    pub fn version<R: Request>(&self, version_max: i16) -> Result<i16, ClientError> {
        let served = self.shared.versions.get(&R::KEY.as_i16());
        served
            .map(|(min, max)| (R::VERSION_MIN.max(*min), R::VERSION_MAX.min(*max).min(version_max)))
            .filter(|(min, max)| min <= max)
            .map(|(_, max)| max)
            .ok_or_else(|| ClientError::NoCommonVersion {
                address: self.shared.address.clone(),
                api: R::KEY,
            })
    }

    /// Asks in the newest common version, and waits for the answer.
    pub async fn request<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        let version = self.version::<R>(i16::MAX)?;
        self.submit(request, version, Duration::ZERO).await?.response().await
    }

    /// As [`request`](Self::request), in a version of at most `version_max`.
    pub async fn request_at_most<R: Request>(
        &self,
        request: &R,
        version_max: i16,
    ) -> Result<R::Response, ClientError> {
        let version = self.version::<R>(version_max)?;
        self.submit(request, version, Duration::ZERO).await?.response().await
    }

    /// Queues a request. Those submitted one after the other are written in that order. `patience`
    /// is what the broker may take on purpose, beyond the usual time.
    pub async fn submit<R: Request>(
        &self,
        request: &R,
        version: i16,
        patience: Duration,
    ) -> Result<PendingResponse<R>, ClientError> {
        let timeout = self.shared.request_timeout + patience;
        let deadline = Instant::now() + timeout;
        let (sender, answer) = oneshot::channel();
        let (correlation_id, frame) = self.encode(request, version)?;
        let waiter = Some(Waiter { correlation_id, answer: sender });
        self.enqueue(Outgoing { frame, waiter }).await?;
        let shared = Arc::clone(&self.shared);
        Ok(PendingResponse { shared, answer, version, timeout, deadline, request: PhantomData })
    }

    /// Queues a request that is not answered: Produce with `acks=0`.
    pub async fn submit_unanswered<R: Request>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<(), ClientError> {
        let (_, frame) = self.encode(request, version)?;
        self.enqueue(Outgoing { frame, waiter: None }).await
    }

    fn encode<R: Request>(&self, request: &R, version: i16) -> Result<(i32, Bytes), ClientError> {
        let correlation_id = self.shared.next_correlation_id.fetch_add(1, Ordering::Relaxed);
        let client_id = self.shared.client_id.clone();
        let header =
            RequestHeader { api_key: R::KEY, api_version: version, correlation_id, client_id };
        let encoded = encode_request(&header, request)
            .map_err(|source| ClientError::Encode { api: R::KEY, source })?;
        Ok((correlation_id, encoded.bytes))
    }

    async fn enqueue(&self, outgoing: Outgoing) -> Result<(), ClientError> {
        self.shared.outgoing.send(outgoing).await.map_err(|_| self.shared.closed())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

impl Shared {
    fn closed(&self) -> ClientError {
        ClientError::Disconnected {
            address: self.address.clone(),
            reason: "the connection is closed".to_owned(),
        }
    }
}

impl<R: Request> PendingResponse<R> {
    /// The answer. One that is late ends the connection, since all later answers wait behind it.
    pub async fn response(mut self) -> Result<R::Response, ClientError> {
        let Ok(answer) = timeout_at(self.deadline, &mut self.answer).await else {
            self.shared.give_up.notify_one();
            return Err(ClientError::TimedOut {
                what: format!("{} at {}", R::KEY, self.shared.address),
                after_ms: u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
                last: None,
            });
        };
        let frame = answer.map_err(|_| self.shared.closed())??;
        let (_, response) = decode_response::<R>(self.version, frame)
            .map_err(|source| ClientError::Decode { api: R::KEY, source })?;
        Ok(response)
    }
}

struct Driver {
    address: String,
    response_bytes_max: usize,
    waiters: Waiters,
}

impl Driver {
    async fn run(
        self,
        stream: Box<dyn Stream>,
        queue: mpsc::Receiver<Outgoing>,
        give_up: Arc<Notify>,
    ) {
        let (reader, writer) = tokio::io::split(stream);
        let ended = tokio::select! {
            biased;
            written = self.write_all(writer, queue) => written,
            read = self.read_all(reader) => read,
            () = give_up.notified() => Err(io::Error::other("an answer was late")),
        };
        let reason = match ended {
            Ok(()) => "the connection is closed".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                "the broker closed it".to_owned()
            }
            Err(error) => error.to_string(),
        };
        tracing::debug!(address = self.address, reason, "connection ended");
        let waiters = self.waiters.into_inner().expect("no holder of the lock panics");
        for waiter in waiters {
            let address = self.address.clone();
            let lost = ClientError::Disconnected { address, reason: reason.clone() };
            // Nobody waits for an answer that its asker has dropped.
            let _ = waiter.answer.send(Err(lost));
        }
    }

    async fn write_all(
        &self,
        mut writer: impl AsyncWrite + Unpin,
        mut queue: mpsc::Receiver<Outgoing>,
    ) -> io::Result<()> {
        while let Some(Outgoing { frame, waiter }) = queue.recv().await {
            if let Some(waiter) = waiter {
                self.waiters.lock().expect("no holder of the lock panics").push_back(waiter);
            }
            writer.write_all(&frame).await?;
            writer.flush().await?;
        }
        Ok(())
    }

    async fn read_all(&self, mut reader: impl AsyncRead + Unpin) -> io::Result<()> {
        loop {
            let frame = read_frame(&mut reader, self.response_bytes_max).await?;
            let waiter = self.waiters.lock().expect("no holder of the lock panics").pop_front();
            let waiter = waiter.ok_or_else(|| io::Error::other("an answer to no request"))?;
            let correlation_id = frame.first_chunk().copied().map(i32::from_be_bytes);
            if correlation_id != Some(waiter.correlation_id) {
                let expected = waiter.correlation_id;
                let reason = format!("answer {correlation_id:?} where {expected} was due");
                return Err(io::Error::other(reason));
            }
            let _ = waiter.answer.send(Ok(frame));
        }
    }
}

async fn read_frame(reader: &mut (impl AsyncRead + Unpin), len_max: usize) -> io::Result<Bytes> {
    let mut prefix = [0; 4];
    reader.read_exact(&mut prefix).await?;
    let len = frame_len(prefix, len_max).map_err(io::Error::other)?;
    let mut frame = BytesMut::new();
    while frame.len() < len {
        let missing = len - frame.len();
        frame.reserve(missing.min(ANSWER_STEP_BYTES));
        if reader.take(missing as u64).read_buf(&mut frame).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(frame.freeze())
}

/// Asks for the broker's versions. A broker that does not know the newest form of the question
/// answers in the oldest, with the forms that it knows.
async fn negotiate(
    stream: &mut Box<dyn Stream>,
    config: &ClientConfig,
    address: &str,
) -> Result<BTreeMap<i16, (i16, i16)>, ClientError> {
    let mut version = ApiVersionsRequest::VERSION_MAX;
    let mut response = ask_versions(stream, config, address, version).await?;
    if response.error_code == ErrorCode::UnsupportedVersion.as_i16() {
        version = version_after_refusal(&response);
        response = ask_versions(stream, config, address, version).await?;
    }
    crate::error::check(response.error_code, None, || format!("versions of {address}"))?;
    let range = |api: klamm_protocol::messages::api_versions::ApiVersion| {
        (api.api_key, (api.min_version, api.max_version))
    };
    Ok(response.api_keys.into_iter().map(range).collect())
}

fn version_after_refusal(response: &ApiVersionsResponse) -> i16 {
    let own = ApiKey::ApiVersions.as_i16();
    let served = response.api_keys.iter().find(|api| api.api_key == own);
    served.map_or(0, |api| api.max_version.clamp(0, ApiVersionsRequest::VERSION_MAX))
}

async fn ask_versions(
    stream: &mut Box<dyn Stream>,
    config: &ClientConfig,
    address: &str,
    version: i16,
) -> Result<ApiVersionsResponse, ClientError> {
    let api = ApiKey::ApiVersions;
    let request = ApiVersionsRequest {
        client_software_name: env!("CARGO_PKG_NAME").to_owned(),
        client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let header = RequestHeader {
        api_key: api,
        api_version: version,
        correlation_id: 0,
        client_id: config.client_id.clone(),
    };
    let frame = encode_request(&header, &request)
        .map_err(|source| ClientError::Encode { api, source })?
        .bytes;
    let lost = |error: io::Error| ClientError::Disconnected {
        address: address.to_owned(),
        reason: error.to_string(),
    };
    stream.write_all(&frame).await.map_err(lost)?;
    stream.flush().await.map_err(lost)?;
    let answer = read_frame(stream, config.response_bytes_max).await.map_err(lost)?;
    let unreadable = |source| ClientError::Decode { api, source };
    let (_, mut body) = decode_response_header(api, version, answer).map_err(unreadable)?;
    let body = body.rest();
    let refused = body.first_chunk() == Some(&ErrorCode::UnsupportedVersion.as_i16().to_be_bytes());
    let form = if refused { 0 } else { version };
    ApiVersionsResponse::from_bytes(body, form).map_err(unreadable)
}
