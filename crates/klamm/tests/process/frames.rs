//! Frames that are none, headers that are none, versions that nobody serves.

use klamm_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use klamm_protocol::{ApiKey, ErrorCode, Message, Reader, api};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

use crate::broker_process::{BrokerProcess, framed};

/// Counts that no request holds, at the start of a body.
const WILD_COUNTS: [&[u8]; 6] = [
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x80, 0x00, 0x00, 0x00],
    &[0xff, 0xff, 0xff, 0xfe],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0x07],
    &[0xff, 0xff, 0xff, 0xff, 0xff],
];

/// Growth that a broker is allowed under attack, in KiB.
const GROWTH_KIB: u64 = 64 * 1024;

fn broker() -> (tempfile::TempDir, BrokerProcess) {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = BrokerProcess::start(dir.path());
    (dir, broker)
}

#[test]
fn a_truncated_frame_ends_its_own_connection_only() {
    let (_dir, broker) = broker();
    let mut other = broker.connect();
    for cut in [&[0][..], &[0, 0, 0], &[0, 0, 0, 20], &[0, 0, 0, 20, 0, 18, 0, 0, 1]] {
        let mut client = broker.connect();
        client.send_raw(cut);
        client.finish_sending();
        client.assert_closed();
        other.assert_alive();
    }
    broker.assert_serves();
}

#[test]
fn a_frame_length_that_cannot_be_ends_the_connection() {
    let (_dir, broker) = broker();
    for length in [i32::MAX, 104_857_601, -1, -2, i32::MIN, 0] {
        let mut client = broker.connect();
        client.send_raw(&length.to_be_bytes());
        client.assert_closed();
    }
    broker.assert_serves();
}

#[test]
fn what_is_no_kafka_ends_the_connection() {
    let (_dir, broker) = broker();
    let mut noise = vec![0; 4096];
    SmallRng::seed_from_u64(7).fill_bytes(&mut noise);
    noise[0] = 0x7f;
    let tls_hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    for bytes in [b"GET / HTTP/1.1\r\nHost: klamm\r\n\r\n", &tls_hello[..], &noise, &[0xff; 64]] {
        let mut client = broker.connect();
        client.send_raw(bytes);
        client.assert_closed();
    }
    broker.assert_serves();
}

#[test]
fn an_unknown_api_ends_the_connection() {
    let (_dir, broker) = broker();
    let served = |key: &i16| ApiKey::from_i16(*key).is_some_and(|key| api::find(key).is_some());
    let unserved = (-2..120).chain([i16::MIN, i16::MAX]).filter(|key| !served(key));
    for key in unserved {
        let mut client = broker.connect();
        client.send_body(key, 0, false, &[0; 32]);
        client.assert_closed();
    }
    broker.assert_serves();
}

#[test]
fn an_unserved_version_of_a_known_api_ends_the_connection() {
    let (_dir, broker) = broker();
    for row in api::SERVED.iter().filter(|row| row.key != ApiKey::ApiVersions) {
        for version in [row.min - 1, row.max + 1, -1, i16::MAX, i16::MIN] {
            let mut client = broker.connect();
            let flexible = row.key.is_flexible(version);
            client.send_body(row.key.as_i16(), version, flexible, &[0; 32]);
            client.assert_closed();
        }
    }
    broker.assert_serves();
}

#[test]
fn api_versions_in_an_unknown_version_is_answered_in_the_oldest_form() {
    let (_dir, broker) = broker();
    for version in [5, 99, i16::MAX] {
        let mut client = broker.connect();
        // A body of the future is not looked at.
        client.send_body(18, version, true, &[0xee; 7]);
        let answer = client.receive_raw().expect("an answer");
        let mut reader = Reader::new(answer);
        assert_eq!(reader.i32(), Ok(1), "the correlation id, without tagged fields");
        let response = ApiVersionsResponse::decode_whole(&mut reader, 0).expect("version 0");
        assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.as_i16());
        let [range] = &response.api_keys[..] else { panic!("{response:?}") };
        assert_eq!((range.api_key, range.min_version, range.max_version), (18, 0, 4));
        // The client asks again on the same connection.
        let again = ApiVersionsRequest {
            client_software_name: "hostile".to_owned(),
            client_software_version: "1.0".to_owned(),
        };
        assert_eq!(client.call(4, &again).error_code, 0);
    }
}

#[test]
fn a_header_whose_strings_and_tags_lie_ends_the_connection() {
    let (_dir, broker) = broker();
    let metadata = |version: i16| [&[0, 3][..], &version.to_be_bytes(), &[0, 0, 0, 1]].concat();
    let cases = [
        // A client id longer than the frame, of negative length, and not UTF-8.
        [&metadata(1)[..], &[0x7f, 0xff, b'x']].concat(),
        [&metadata(1)[..], &[0x80, 0x00, b'x']].concat(),
        [&metadata(1)[..], &[0xff, 0xfe]].concat(),
        // Tagged fields: wild count, wild length, a varint without an end.
        [&metadata(12)[..], &[0, 1, b'h', 0xff, 0xff, 0xff, 0xff, 0x0f]].concat(),
        [&metadata(12)[..], &[0, 1, b'h', 1, 0, 0xff, 0xff, 0xff, 0xff, 0x07]].concat(),
        [&metadata(12)[..], &[0, 1, b'h', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]].concat(),
        // Headers that stop.
        vec![0],
        vec![0, 3, 0],
        vec![0, 3, 0, 1, 0, 0],
        metadata(1),
        [&metadata(12)[..], &[0, 1, b'h']].concat(),
    ];
    for case in cases {
        let mut client = broker.connect();
        client.send_raw(&framed(&case));
        client.assert_closed();
    }
    broker.assert_serves();
}

#[test]
fn wild_array_counts_allocate_nothing() {
    let (_dir, broker) = broker();
    let mut other = broker.connect();
    let before = broker.resident_kib();
    for row in api::SERVED {
        for version in [row.min, row.max] {
            for count in WILD_COUNTS {
                // Behind nothing, and behind what could be empty strings and small numbers.
                for lead in [0, 2, 4, 10] {
                    let body = [&vec![0; lead][..], count, &[0; 24]].concat();
                    let mut client = broker.connect();
                    let flexible = row.key.is_flexible(version);
                    client.send_body(row.key.as_i16(), version, flexible, &body);
                    client.finish_sending();
                    // Some of these are requests after all; then the end comes after the answer.
                    while client.receive_raw().is_some() {}
                }
            }
        }
        other.assert_alive();
    }
    let growth = broker.resident_kib().saturating_sub(before);
    assert!(growth < GROWTH_KIB, "{growth} KiB more than before");
    broker.assert_serves();
}

#[test]
fn bytes_behind_a_request_are_not_looked_at() {
    let (_dir, broker) = broker();
    let mut client = broker.connect();
    // As Kafka: the body of ApiVersions 0 is empty, what follows is nobody's.
    client.send_body(18, 0, false, &[1, 2, 3]);
    assert!(client.receive_raw().is_some());
    client.assert_alive();
    broker.assert_serves();
}
