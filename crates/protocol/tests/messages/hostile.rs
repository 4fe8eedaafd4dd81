//! Bytes that nobody meant well: nothing panics, nothing allocates out of proportion.

use bytes::Bytes;
use klamm_protocol::messages::{
    ApiVersionsResponse, DeleteGroupsRequest, FetchRequest, RequestBody, ResponseBody,
};
use klamm_protocol::reader::{ALLOCATION_BASE, ALLOCATION_PER_BYTE};
use klamm_protocol::{ApiKey, DecodeError, Message, Reader, frame};

use super::allocations::allocated_by;
use super::random::{self, Random, messages_and_versions};
use super::schema::Kind;

/// Decodes as a broker or a client would, and checks what it cost.
fn decode(kind: Kind, key: ApiKey, version: i16, bytes: Bytes) -> bool {
    let len = bytes.len();
    let (decoded, allocated) = allocated_by(|| {
        let mut r = Reader::new(bytes);
        match kind {
            Kind::Request => RequestBody::decode(key, version, &mut r).is_ok(),
            _ => ResponseBody::decode(key, version, &mut r).is_ok(),
        }
    });
    let bound = ALLOCATION_BASE + ALLOCATION_PER_BYTE * len;
    assert!(allocated <= bound, "{key} {version}: {allocated} bytes allocated for {len}");
    decoded
}

fn api_messages() -> Vec<(super::schema::Message, i16, ApiKey)> {
    let api = |name: &str| {
        let stem = name.trim_end_matches("Request").trim_end_matches("Response");
        ApiKey::ALL.iter().copied().find(|key| key.name() == stem)
    };
    let all = messages_and_versions().into_iter();
    all.filter(|(message, _)| message.kind != Kind::Data)
        .map(|(message, version)| {
            let key = api(&message.name).expect("an API of this name");
            (message, version, key)
        })
        .collect()
}

#[test]
fn random_bytes_are_an_error_or_a_message() {
    let mut random = Random::new(1);
    for (message, version, key) in api_messages() {
        for _ in 0..300 {
            let len = random.below(80);
            let bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
            decode(message.kind, key, version, bytes.into());
        }
    }
}

#[test]
fn mutated_messages_are_an_error_or_a_message() {
    let mut random = Random::new(2);
    let mut survivors = 0;
    for (message, version, key) in api_messages() {
        for seed in 0..100 {
            let mut bytes = random::message(&mut Random::new(seed), &message, version);
            for _ in 0..=random.below(3) {
                mutate(&mut random, &mut bytes);
            }
            survivors += usize::from(decode(message.kind, key, version, bytes.into()));
        }
    }
    assert!(survivors > 1000, "mutations that leave nothing to decode test little: {survivors}");
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return bytes.push(random.next() as u8);
    }
    let at = random.below(bytes.len());
    match random.below(6) {
        0 => bytes.truncate(at),
        1 => bytes[at] = random.next() as u8,
        2 => bytes[at] = [0, 0x7f, 0x80, 0xff][random.below(4)],
        3 => bytes.insert(at, random.next() as u8),
        4 => drop(bytes.remove(at)),
        _ => {
            let end = bytes.len().min(at + 4);
            bytes[at..end].fill([0x7f, 0xff][random.below(2)]);
        }
    }
}

#[test]
fn a_count_is_compared_with_what_is_there() {
    let two_billion = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let (result, allocated) = allocated_by(|| DeleteGroupsRequest::from_bytes(two_billion, 0));
    let error = DecodeError::CountTooLarge { count: 0x7fff_ffff, remaining: 4 };
    assert_eq!((result, allocated), (Err(error), 0));
}

#[test]
fn empty_strings_by_the_million_stop_at_the_budget() {
    let count = 4_000_000_u32;
    let mut bytes = vec![0_u8; 5 + count as usize];
    let mut at = 0;
    let mut varint = count + 1;
    while varint > 0 {
        bytes[at] = varint as u8 & 0x7f | if varint >= 0x80 { 0x80 } else { 0 };
        varint >>= 7;
        at += 1;
    }
    bytes.truncate(at + count as usize);
    bytes[at..].fill(1);
    bytes.push(0);
    let (result, allocated) = allocated_by(|| DeleteGroupsRequest::from_bytes(bytes.into(), 2));
    assert!(matches!(result, Err(DecodeError::OverBudget { .. })), "{result:?}");
    assert_eq!(allocated, 0);
}

#[test]
fn large_honest_requests_are_within_the_budget() {
    use klamm_protocol::messages::fetch::{FetchPartition, FetchTopic};
    let partitions =
        (0..100_000).map(|partition| FetchPartition { partition, ..Default::default() });
    let topic = FetchTopic { partitions: partitions.collect(), ..Default::default() };
    let request = FetchRequest { topics: vec![topic], ..Default::default() };
    for version in 13..=18 {
        let bytes = request.to_encoded(version).expect("encodes").bytes;
        assert_eq!(FetchRequest::from_bytes(bytes, version), Ok(request.clone()));
    }
}

#[test]
fn tags_that_lie_about_their_length_are_an_error() {
    let tagged = |field: &[u8]| {
        let mut bytes = vec![0, 0, 1, 0, 0, 0, 0];
        bytes.extend(field);
        ApiVersionsResponse::from_bytes(bytes.into(), 3)
    };
    let epoch = [0, 0, 0, 0, 0, 0, 0, 9];
    let read = tagged(&[&[1, 1, 8][..], &epoch].concat()).expect("whole");
    assert_eq!(read.finalized_features_epoch, 9);
    let short = tagged(&[&[1, 1, 7][..], &epoch].concat());
    assert_eq!(short, Err(DecodeError::UnexpectedEnd { needed: 8, remaining: 7 }));
    let long = tagged(&[&[1, 1, 9][..], &epoch, &[0]].concat());
    assert_eq!(long, Err(DecodeError::TrailingBytes { count: 1 }));
    let unknown = tagged(&[1, 77, 3, 1, 2, 3]).expect("skipped");
    assert_eq!(unknown, ApiVersionsResponse::default());
    assert!(tagged(&[1, 77, 4, 1, 2, 3]).is_err());
    assert!(tagged(&[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
}

#[test]
fn random_frames_are_an_error_or_a_request() {
    let mut random = Random::new(3);
    for _ in 0..200_000 {
        let len = random.below(40);
        let mut bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        if let [high, low, ..] = &mut bytes[..] {
            (*high, *low) = (0, *low % 100);
        }
        let (_, allocated) = allocated_by(|| {
            let Ok((header, mut r)) = frame::decode_request(bytes.into()) else { return };
            let _ = RequestBody::decode(header.api_key, header.api_version, &mut r);
        });
        assert!(allocated <= ALLOCATION_BASE + ALLOCATION_PER_BYTE * len, "{allocated} for {len}");
    }
}
