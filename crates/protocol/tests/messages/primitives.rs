//! The primitives at their edges, and values that a version cannot carry.

use bytes::Bytes;
use klamm_protocol::messages::{
    FetchRequest, MetadataRequest, OffsetCommitValue, OffsetFetchRequest, ProduceRequest,
};
use klamm_protocol::{DecodeError, EncodeError, Message, Reader, Records, Writer};

fn reader(bytes: &'static [u8]) -> Reader {
    Reader::new(Bytes::from_static(bytes))
}

fn written(write: impl FnOnce(&mut Writer)) -> Bytes {
    let mut w = Writer::new();
    write(&mut w);
    w.finish().bytes
}

#[test]
fn varints_come_back_at_their_edges() {
    for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, 0x0fff_ffff, 0x1000_0000, u32::MAX] {
        let bytes = written(|w| w.unsigned_varint(value));
        let mut r = Reader::new(bytes);
        assert_eq!((r.unsigned_varint(), r.remaining()), (Ok(value), 0));
    }
}

#[test]
fn varints_that_do_not_fit_or_end_are_errors() {
    let too_long = Err(DecodeError::VarintTooLong);
    assert_eq!(reader(&[0xff, 0xff, 0xff, 0xff, 0x1f]).unsigned_varint(), too_long);
    assert_eq!(reader(&[0x80, 0x80, 0x80, 0x80, 0x80, 0]).unsigned_varint(), too_long);
    let end = Err(DecodeError::UnexpectedEnd { needed: 1, remaining: 0 });
    assert_eq!(reader(&[0x80]).unsigned_varint(), end);
}

#[test]
fn any_negative_length_is_null() {
    assert_eq!(reader(&[0xff, 0xfe]).nullable_string(false), Ok(None));
    assert_eq!(reader(&[0x80, 0, 0, 0]).nullable_bytes(false), Ok(None));
    assert_eq!(reader(&[0xff, 0xff]).string(false), Err(DecodeError::UnexpectedNull));
    assert_eq!(reader(&[0]).nullable_string(true), Ok(None));
    assert_eq!(reader(&[0]).bytes(true), Err(DecodeError::UnexpectedNull));
}

#[test]
fn malformed_text_is_replaced_as_java_does() {
    let text = reader(&[0, 5, b'a', 0xff, b'b', 0xe2, 0x82]).string(false);
    assert_eq!(text.as_deref(), Ok("a\u{fffd}b\u{fffd}"));
}

#[test]
fn a_string_has_at_most_32767_bytes() {
    let mut longest = written(|w| w.unsigned_varint(0x8000)).to_vec();
    longest.extend([b'x'; 0x7fff]);
    assert_eq!(Reader::new(longest.into()).string(true).map(|s| s.len()), Ok(0x7fff));
    let mut longer = written(|w| w.unsigned_varint(0x8001)).to_vec();
    longer.extend([b'x'; 0x8000]);
    let error = DecodeError::StringTooLong { len: 0x8000 };
    assert_eq!(Reader::new(longer.into()).string(true), Err(error));
    let mut w = Writer::new();
    for flexible in [false, true] {
        let result = w.string(&"x".repeat(0x8000), flexible);
        assert_eq!(result, Err(EncodeError::TooLong { len: 0x8000 }));
    }
}

#[test]
fn byte_fields_share_the_frame() {
    let frame = Bytes::from_static(&[0, 0, 0, 3, 1, 2, 3]);
    let bytes = Reader::new(frame.clone()).bytes(false).expect("three bytes");
    assert_eq!(bytes.as_ptr(), frame[4..].as_ptr());
}

#[test]
fn a_value_that_the_version_would_lose_is_an_error() {
    let request = OffsetFetchRequest { require_stable: true, ..Default::default() };
    let field = "OffsetFetchRequest.require_stable";
    let error = EncodeError::FieldNotInVersion { field, version: 6 };
    assert_eq!(request.to_encoded(6), Err(error));
    assert!(request.to_encoded(7).is_ok());
}

#[test]
fn a_value_that_may_be_dropped_is_dropped() {
    let value = OffsetCommitValue { leader_epoch: 5, ..Default::default() };
    let encoded = value.to_encoded(1).expect("droppable").bytes;
    assert_eq!(OffsetCommitValue::from_bytes(encoded, 1).expect("whole").leader_epoch, -1);
}

#[test]
fn null_where_the_version_has_none_is_an_error() {
    let request = MetadataRequest { topics: None, ..Default::default() };
    let field = "MetadataRequest.topics";
    assert_eq!(request.to_encoded(0), Err(EncodeError::NullNotInVersion { field, version: 0 }));
    assert!(request.to_encoded(1).is_ok());
}

#[test]
fn defaults_are_kafkas() {
    let fetch = FetchRequest::default();
    assert_eq!((fetch.replica_id, fetch.max_bytes, fetch.session_epoch), (-1, i32::MAX, -1));
    assert_eq!(ProduceRequest::default().transactional_id, None);
    assert_eq!(MetadataRequest::default().topics, Some(Vec::new()));
    assert!(Records::default().is_empty());
}
