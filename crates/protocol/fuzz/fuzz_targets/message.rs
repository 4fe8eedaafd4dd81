//! Every request and response in every version.
//!
//! Input: API key (1 byte; 255 stands for AskController, whose number is larger), version (1 byte; its
//! top bit says response), the body. What decodes is written and decoded again and must be the same.
//! Allocations are held to the bound of `klamm_protocol::reader`.
#![no_main]

#[path = "../allocations.rs"]
mod allocations;

use std::fmt::Debug;

use klamm_protocol::messages::{RequestBody, ResponseBody};
use klamm_protocol::{ApiKey, DecodeError, Encode, Reader, Writer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [key, version, body @ ..] = input else { return };
    let key = match *key {
        u8::MAX => Some(ApiKey::AskController),
        key => ApiKey::from_i16(i16::from(key)),
    };
    let Some(key) = key else { return };
    let body = body.to_vec();
    if version & 0x80 == 0 {
        check(i16::from(*version), body, |version, r| RequestBody::decode(key, version, r));
    } else {
        check(i16::from(version & 0x7f), body, |version, r| ResponseBody::decode(key, version, r));
    }
});

fn check<T: Encode + PartialEq + Debug>(
    version: i16,
    body: Vec<u8>,
    decode: impl Fn(i16, &mut Reader) -> Result<T, DecodeError>,
) {
    let decode_bounded = |bytes: Vec<u8>| {
        let len = bytes.len();
        let mut r = Reader::new(bytes.into());
        allocations::assert_bounded(len, || decode(version, &mut r))
    };
    let Ok(value) = decode_bounded(body) else { return };
    let mut w = Writer::new();
    value.encode(&mut w, version).expect("what was read can be written");
    let again = decode_bounded(w.finish().bytes.to_vec()).expect("what was written can be read");
    // Compared as text: a NaN is not equal to itself.
    assert_eq!(format!("{again:?}"), format!("{value:?}"));
}
