//! One connection, from raw bytes up to whole requests.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use bytes::Bytes;
use klamm_protocol::Request;
use klamm_protocol::frame::{self, RequestHeader};
use klamm_protocol::messages::{ApiVersionsRequest, MetadataRequest};

use super::PATIENCE;

/// A client's end of a connection.
pub(crate) struct Connection {
    stream: TcpStream,
    correlation_id: i32,
    client_id: String,
}

/// `body` behind its length.
pub(crate) fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = i32::try_from(body.len()).expect("a short body").to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the broker listens");
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
        Connection { stream, correlation_id: 0, client_id: "hostile".to_owned() }
    }

    /// Sends bytes as they are. A broker that has closed already may reset the connection.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            let closed = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
            assert!(closed.contains(&error.kind()), "{error}");
        }
    }

    /// Says that nothing more comes.
    pub(crate) fn finish_sending(&mut self) {
        // The broker may have closed it already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next answer, without its length; none when the broker has closed the connection.
    pub(crate) fn receive_raw(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        if !self.fill(&mut length) {
            return None;
        }
        let length = usize::try_from(i32::from_be_bytes(length)).expect("a positive length");
        let mut body = vec![0; length];
        self.fill(&mut body).then(|| body.into())
    }

    /// Whether all of `bytes` came before the end.
    fn fill(&mut self, bytes: &mut [u8]) -> bool {
        match self.stream.read_exact(bytes) {
            Ok(()) => true,
            Err(error) => {
                let closed =
                    [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
                assert!(closed.contains(&error.kind()), "neither answered nor closed: {error}");
                false
            }
        }
    }

    /// The broker closes the connection without another answer.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self) {
        let answer = self.receive_raw();
        assert!(answer.is_none(), "answered instead of closed: {answer:?}");
    }

    /// A header of our own making before a body of our own making.
    pub(crate) fn send_body(&mut self, key: i16, version: i16, flexible: bool, body: &[u8]) {
        self.correlation_id += 1;
        let mut bytes = key.to_be_bytes().to_vec();
        bytes.extend_from_slice(&version.to_be_bytes());
        bytes.extend_from_slice(&self.correlation_id.to_be_bytes());
        bytes.extend_from_slice(&[0, 1, b'h']);
        if flexible {
            bytes.push(0);
        }
        bytes.extend_from_slice(body);
        self.send_raw(&framed(&bytes));
    }

    /// Sends a request without waiting for its answer.
    pub(crate) fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.correlation_id += 1;
        let header = RequestHeader {
            api_key: R::KEY,
            api_version: version,
            correlation_id: self.correlation_id,
            client_id: self.client_id.clone(),
        };
        let encoded = frame::encode_request(&header, request);
        self.send_raw(&encoded.expect("a request that its version can carry").bytes);
    }

    /// The answer to the request that was sent `behind` requests ago.
    #[track_caller]
    pub(crate) fn receive_behind<R: Request>(&mut self, version: i16, behind: i32) -> R::Response {
        self.try_receive::<R>(version, behind).expect("an answer, not the end")
    }

    /// The same, or none when the connection has ended.
    #[track_caller]
    pub(crate) fn try_receive<R: Request>(
        &mut self,
        version: i16,
        behind: i32,
    ) -> Option<R::Response> {
        let frame = self.receive_raw()?;
        let (id, response) =
            frame::decode_response::<R>(version, frame).expect("a well-formed answer");
        assert_eq!(id, self.correlation_id - behind, "answers come in order");
        Some(response)
    }

    /// Sends a request and waits for its answer.
    #[track_caller]
    pub(crate) fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request);
        self.receive_behind::<R>(version, 0)
    }

    /// It is served.
    #[track_caller]
    pub(crate) fn assert_alive(&mut self) {
        let versions = self.call(2, &ApiVersionsRequest::default());
        assert_eq!(versions.error_code, 0);
        let metadata = self.call(1, &MetadataRequest { topics: Some(vec![]), ..metadata() });
        assert_eq!(metadata.brokers.len(), 1);
    }
}

fn metadata() -> MetadataRequest {
    MetadataRequest { allow_auto_topic_creation: true, ..MetadataRequest::default() }
}
