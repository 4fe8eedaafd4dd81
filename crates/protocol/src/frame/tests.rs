use bytes::{BufMut, BytesMut};

use super::*;
use crate::codec::Records;
use crate::messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use crate::messages::{ApiVersionsRequest, ApiVersionsResponse, HeartbeatRequest, MetadataRequest};
use crate::writer::Gap;

fn header(api_key: ApiKey, api_version: i16) -> RequestHeader {
    RequestHeader { api_key, api_version, correlation_id: 7, client_id: "me".to_owned() }
}

fn without_len(encoded: Encoded) -> Bytes {
    let len = i32::from_be_bytes(encoded.bytes[..4].try_into().expect("four bytes"));
    assert_eq!(len as usize, encoded.wire_len() - 4);
    encoded.bytes.slice(4..)
}

#[test]
fn a_request_frame_reads_as_it_was_written() {
    for version in [8, 9] {
        let body = MetadataRequest { topics: None, ..Default::default() };
        let sent = header(ApiKey::Metadata, version);
        let frame = without_len(encode_request(&sent, &body).expect("encodes"));
        let (received, mut r) = decode_request(frame).expect("decodes");
        assert_eq!(received, sent);
        assert_eq!(MetadataRequest::decode_whole(&mut r, version), Ok(body));
    }
}

#[test]
fn a_null_client_id_reads_as_empty() {
    let mut frame = BytesMut::new();
    frame.put_i16(12);
    frame.put_i16(0);
    frame.put_i32(1);
    frame.put_i16(-1);
    let (received, r) = decode_request(frame.freeze()).expect("decodes");
    assert_eq!(received.client_id, "");
    assert_eq!(r.remaining(), 0);
}

#[test]
fn a_version_that_nobody_serves_still_has_a_header() {
    let body = ApiVersionsRequest::default();
    let sent = header(ApiKey::ApiVersions, 3);
    let mut frame =
        BytesMut::from(&without_len(encode_request(&sent, &body).expect("encodes"))[..]);
    frame[2..4].copy_from_slice(&99_i16.to_be_bytes());
    let (received, _) = decode_request(frame.freeze()).expect("decodes");
    assert_eq!((received.api_version, received.correlation_id), (99, 7));
}

#[test]
fn an_unknown_key_is_named() {
    let frame = Bytes::from_static(&[0x7f, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff]);
    assert_eq!(decode_request(frame).err(), Some(DecodeError::UnknownApiKey { key: 0x7f00 }));
    let end = decode_request(Bytes::from_static(&[0])).err();
    assert_eq!(end, Some(DecodeError::UnexpectedEnd { needed: 2, remaining: 1 }));
}

#[test]
fn a_response_frame_reads_as_it_was_written() {
    let body = ApiVersionsResponse { error_code: 35, ..Default::default() };
    for version in 0..=4 {
        let frame =
            without_len(encode_response(ApiKey::ApiVersions, version, 9, &body).expect("encodes"));
        let read = decode_response::<ApiVersionsRequest>(version, frame);
        assert_eq!(read, Ok((9, body.clone())));
    }
}

#[test]
fn bytes_after_a_body_are_refused_where_it_must_be_whole() {
    let body = HeartbeatRequest::default();
    let mut frame = BytesMut::from(
        &without_len(encode_request(&header(ApiKey::Heartbeat, 4), &body).expect("encodes"))[..],
    );
    frame.put_u8(0);
    let frame = frame.freeze();
    let (_, mut r) = decode_request(frame.clone()).expect("the header is whole");
    let read = HeartbeatRequest::decode_whole(&mut r, 4);
    assert_eq!(read, Err(DecodeError::TrailingBytes { count: 1 }));
    let (_, mut r) = decode_request(frame).expect("the header is whole");
    assert_eq!(HeartbeatRequest::decode_start(&mut r, 4), Ok(body), "a broker does not mind");
}

fn fetch_response(lens: &[u32]) -> FetchResponse {
    let partitions = lens
        .iter()
        .map(|&len| PartitionData { records: Records::External { len }, ..Default::default() })
        .collect();
    let topic = FetchableTopicResponse { topic: "t".to_owned(), partitions, ..Default::default() };
    FetchResponse { responses: vec![topic], ..Default::default() }
}

#[test]
fn a_gap_stands_where_its_records_would_be() {
    for version in [4, 11, 12, 18] {
        let body = fetch_response(&[3, 0, 5]);
        let encoded = encode_response(ApiKey::Fetch, version, 1, &body).expect("encodes");
        let lens: Vec<u32> = encoded.gaps.iter().map(|gap| gap.len).collect();
        assert_eq!(lens, [3, 5]);
        let mut whole = BytesMut::new();
        let mut from = 0;
        for Gap { at, len } in encoded.gaps.iter().copied() {
            whole.put_slice(&encoded.bytes[from..at]);
            whole.put_bytes(len as u8, len as usize);
            from = at;
        }
        whole.put_slice(&encoded.bytes[from..]);
        assert_eq!(whole.len(), encoded.wire_len());
        let (_, response) =
            decode_response::<crate::messages::FetchRequest>(version, whole.freeze().slice(4..))
                .expect("decodes");
        let records: Vec<_> =
            response.responses[0].partitions.iter().map(|p| p.records.clone()).collect();
        let inline = |bytes: &'static [u8]| Records::Inline(Bytes::from_static(bytes));
        assert_eq!(records, [inline(&[3; 3]), inline(&[]), inline(&[5; 5])]);
    }
}

#[test]
fn a_frame_longer_than_allowed_or_negative_is_refused() {
    assert_eq!(frame_len([0, 0, 0, 9], 9), Ok(9));
    assert_eq!(frame_len([0, 0, 0, 10], 9), Err(FrameLenError::TooLong { len: 10, max: 9 }));
    assert_eq!(frame_len([0xff; 4], 9), Err(FrameLenError::Negative(-1)));
}
