//! A plain connection: whole frames out, whole frames in.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use klamm_protocol::frame::{self, RequestHeader};
use klamm_protocol::{ApiKey, Request};

/// Longest wait for an answer.
const ANSWER_WAIT: Duration = Duration::from_secs(20);
/// Wait for an answer that one of the brokers is known to owe.
const OWED_WAIT: Duration = Duration::from_secs(1);
/// How long to listen for an answer that should not come.
const SILENCE: Duration = Duration::from_millis(250);
/// Longest answer that is believed.
const FRAME_MAX: usize = 256 << 20;

/// The name that every connection gives itself.
pub(crate) const CLIENT_ID: &str = "oracle";

/// What came back.
pub(crate) enum Received {
    /// A frame, without its length.
    Frame(Bytes),
    /// The end of the connection.
    Closed,
    /// Nothing for a while.
    Nothing,
}

pub(crate) struct Connection {
    stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    pub(crate) fn open(address: &str) -> Result<Connection, String> {
        let stream = TcpStream::connect(address).map_err(|e| format!("{address}: {e}"))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        Ok(Connection { stream, correlation_id: 0 })
    }

    /// Sends a request; `None` where this version cannot carry it.
    pub(crate) fn send<R: Request>(&mut self, version: i16, request: &R) -> Option<i32> {
        self.correlation_id += 1;
        let header = RequestHeader {
            api_key: R::KEY,
            api_version: version,
            correlation_id: self.correlation_id,
            client_id: CLIENT_ID.to_owned(),
        };
        let encoded = frame::encode_request(&header, request).ok()?;
        self.send_bytes(&encoded.bytes);
        Some(self.correlation_id)
    }

    /// Sends bytes as they are. A connection that is gone shows when its answer is awaited.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// A request's header, behind a length for `body_len` more bytes.
    pub(crate) fn header_bytes(
        &mut self,
        key: ApiKey,
        version: i16,
        flexible_header: bool,
        body_len: usize,
    ) -> Vec<u8> {
        self.correlation_id += 1;
        let mut header = Vec::new();
        header.extend_from_slice(&key.as_i16().to_be_bytes());
        header.extend_from_slice(&version.to_be_bytes());
        header.extend_from_slice(&self.correlation_id.to_be_bytes());
        header.extend_from_slice(&(CLIENT_ID.len() as i16).to_be_bytes());
        header.extend_from_slice(CLIENT_ID.as_bytes());
        if flexible_header {
            header.push(0);
        }
        let mut bytes = ((header.len() + body_len) as u32).to_be_bytes().to_vec();
        bytes.append(&mut header);
        bytes
    }

    pub(crate) fn receive(&mut self) -> Received {
        self.receive_within(ANSWER_WAIT)
    }

    pub(crate) fn receive_owed(&mut self) -> Received {
        self.receive_within(OWED_WAIT)
    }

    pub(crate) fn receive_briefly(&mut self) -> Received {
        self.receive_within(SILENCE)
    }

    fn receive_within(&mut self, wait: Duration) -> Received {
        if self.stream.set_read_timeout(Some(wait)).is_err() {
            return Received::Closed;
        }
        match self.frame() {
            Ok(bytes) => Received::Frame(bytes),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                Received::Nothing
            }
            Err(_) => Received::Closed,
        }
    }

    fn frame(&mut self) -> io::Result<Bytes> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix)?;
        let len = frame::frame_len(prefix, FRAME_MAX).map_err(io::Error::other)?;
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body)?;
        Ok(Bytes::from(body))
    }
}
