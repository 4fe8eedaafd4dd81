//! Frames: a length, a header, a body.
//!
//! The broker's side decodes requests and encodes responses, the client's the other way round. The
//! four bytes of length are read by whoever owns the socket ([`frame_len`] judges them); what is
//! encoded here has them already.

use bytes::Bytes;
use thiserror::Error;

use crate::api_key::ApiKey;
use crate::codec::{Decode, DecodeError, Encode, EncodeError, Message, Request};
use crate::messages::request_header::RequestHeader as WireRequestHeader;
use crate::messages::response_header::ResponseHeader as WireResponseHeader;
use crate::reader::Reader;
use crate::wire::FRAME_LEN_LEN;
use crate::writer::{Encoded, Writer};

/// Room for a frame before it grows: enough for what answers most requests, whose bytes are then
/// allocated once.
const FRAME_CAPACITY: usize = 128;

/// What stands before every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API.
    pub api_key: ApiKey,
    /// The version of header and body; any number, served or not.
    pub api_version: i16,
    /// Repeated in the answer.
    pub correlation_id: i32,
    /// What the client calls itself; empty when it sends null, as in Kafka.
    pub client_id: String,
}

/// A frame's length that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameLenError {
    /// Below zero.
    #[error("a frame of {0} bytes")]
    Negative(i32),
    /// Above what the receiver accepts.
    #[error("a frame of {len} bytes where {max} are allowed")]
    TooLong {
        /// The announced length.
        len: usize,
        /// The most that is accepted.
        max: usize,
    },
}

/// The length of the frame that follows `prefix`.
pub fn frame_len(prefix: [u8; FRAME_LEN_LEN], max: usize) -> Result<usize, FrameLenError> {
    let len = i32::from_be_bytes(prefix);
    let len = usize::try_from(len).map_err(|_| FrameLenError::Negative(len))?;
    if len > max { Err(FrameLenError::TooLong { len, max }) } else { Ok(len) }
}

/// Reads the header of a request; the reader that comes with it stands at the body.
///
/// A version that is not served is no error here: what to answer depends on the API.
pub fn decode_request(frame: Bytes) -> Result<(RequestHeader, Reader), DecodeError> {
    let mut peek = Reader::new(frame.clone());
    let api_key = ApiKey::try_from(peek.i16()?)?;
    let api_version = peek.i16()?;
    let mut r = Reader::new(frame);
    let wire = WireRequestHeader::decode(&mut r, api_key.request_header_version(api_version))?;
    let header = RequestHeader {
        api_key,
        api_version,
        correlation_id: wire.correlation_id,
        client_id: wire.client_id.unwrap_or_default(),
    };
    Ok((header, r))
}

/// A whole request frame, length included.
pub fn encode_request(header: &RequestHeader, body: &impl Encode) -> Result<Encoded, EncodeError> {
    let wire = WireRequestHeader {
        request_api_key: header.api_key.as_i16(),
        request_api_version: header.api_version,
        correlation_id: header.correlation_id,
        client_id: Some(header.client_id.clone()),
    };
    let version = header.api_version;
    encode_frame(&wire, header.api_key.request_header_version(version), body, version)
}

/// A whole response frame, length (with what the gaps will hold) included.
pub fn encode_response(
    api_key: ApiKey,
    api_version: i16,
    correlation_id: i32,
    body: &impl Encode,
) -> Result<Encoded, EncodeError> {
    let wire = WireResponseHeader { correlation_id };
    encode_frame(&wire, api_key.response_header_version(api_version), body, api_version)
}

fn encode_frame(
    header: &impl Encode,
    header_version: i16,
    body: &impl Encode,
    body_version: i16,
) -> Result<Encoded, EncodeError> {
    let mut w = Writer::with_capacity(FRAME_CAPACITY);
    w.i32(0);
    header.encode(&mut w, header_version)?;
    body.encode(&mut w, body_version)?;
    let len = w.wire_len() - FRAME_LEN_LEN;
    w.set_i32(0, i32::try_from(len).map_err(|_| EncodeError::TooLong { len })?);
    Ok(w.finish())
}

/// Reads the header of a response to a request of this API and version; answers the correlation id
/// and a reader that stands at the body.
pub fn decode_response_header(
    api_key: ApiKey,
    api_version: i16,
    frame: Bytes,
) -> Result<(i32, Reader), DecodeError> {
    let mut r = Reader::new(frame);
    let version = api_key.response_header_version(api_version);
    let wire = WireResponseHeader::decode(&mut r, version)?;
    Ok((wire.correlation_id, r))
}

/// Reads a whole response to a request of type `R`.
pub fn decode_response<R: Request>(
    api_version: i16,
    frame: Bytes,
) -> Result<(i32, R::Response), DecodeError> {
    let (correlation_id, mut r) = decode_response_header(R::KEY, api_version, frame)?;
    Ok((correlation_id, R::Response::decode_whole(&mut r, api_version)?))
}

#[cfg(test)]
mod tests;
