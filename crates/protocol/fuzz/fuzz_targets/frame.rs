//! A whole request frame as a broker reads it: header, then body.
#![no_main]

#[path = "../allocations.rs"]
mod allocations;

use klamm_protocol::frame::{decode_request, decode_response_header};
use klamm_protocol::messages::RequestBody;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let frame: Vec<u8> = input.to_vec();
    allocations::assert_bounded(input.len(), || {
        let Ok((header, mut r)) = decode_request(frame.into()) else { return };
        let _ = RequestBody::decode(header.api_key, header.api_version, &mut r);
        let _ = decode_response_header(header.api_key, header.api_version, r.rest());
    });
});
