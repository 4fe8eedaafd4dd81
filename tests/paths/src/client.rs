//! A bare connection: what a client does must not change from run to run.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use klamm_protocol::frame::{self, RequestHeader};
use klamm_protocol::messages::ApiVersionsRequest;
use klamm_protocol::{ErrorCode, Request};

use crate::Outcome;

/// Longest wait for an answer: reaching it is a failure. The broker runs some fifty times slower
/// while it is counted.
const PATIENCE: Duration = Duration::from_secs(60);
const CLIENT_ID: &str = "paths";

/// A client's end of a connection.
pub(crate) struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Outcome<Client> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream, answer: Vec::new() })
    }

    /// A request that the broker answers whatever else it does.
    pub(crate) fn ping(&mut self) -> Outcome<()> {
        let response = self.call(2, &ApiVersionsRequest::default())?;
        is_ok(response.error_code)
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn call<R: Request>(&mut self, version: i16, request: &R) -> Outcome<R::Response> {
        self.send(&encoded(version, request)?)?;
        self.receive::<R>(version)
    }

    /// Sends frames in one call.
    pub(crate) fn send(&mut self, frames: &[u8]) -> Outcome<()> {
        Ok(self.stream.write_all(frames)?)
    }

    /// The next answer.
    pub(crate) fn receive<R: Request>(&mut self, version: i16) -> Outcome<R::Response> {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len)?;
        self.answer.resize(usize::try_from(i32::from_be_bytes(len))?, 0);
        self.stream.read_exact(&mut self.answer)?;
        let answer = Bytes::copy_from_slice(&self.answer);
        let (_, response) = frame::decode_response::<R>(version, answer)?;
        Ok(response)
    }
}

/// A request's frame. Answers come in order, so that all may have one correlation id.
pub(crate) fn encoded<R: Request>(version: i16, request: &R) -> Outcome<Bytes> {
    let header = RequestHeader {
        api_key: R::KEY,
        api_version: version,
        correlation_id: 1,
        client_id: CLIENT_ID.to_owned(),
    };
    Ok(frame::encode_request(&header, request)?.bytes)
}

pub(crate) fn is_ok(error_code: i16) -> Outcome<()> {
    match ErrorCode::from_i16(error_code) {
        Some(ErrorCode::None) => Ok(()),
        Some(error) => Err(format!("the broker answers {error:?}").into()),
        None => Err(format!("the broker answers error {error_code}").into()),
    }
}
