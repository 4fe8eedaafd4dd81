//! What is read is written again, byte for byte.

use bytes::Bytes;

use super::random::{self, Random, messages_and_versions};
use super::registry::ours;

#[test]
fn every_message_in_every_version_comes_back_byte_for_byte() {
    for (message, version) in messages_and_versions() {
        for seed in 0..100 {
            let bytes = Bytes::from(random::message(&mut Random::new(seed), &message, version));
            let case = format!("{} version {version} seed {seed}", message.name);
            match ours(&message.name, bytes.clone(), version) {
                Ok(reread) => assert_eq!(reread.encoded, bytes, "{case}"),
                Err(e) => panic!("{case}: {e}"),
            }
        }
    }
}

#[test]
fn every_truncation_and_every_surplus_is_an_error() {
    for (message, version) in messages_and_versions() {
        for seed in 0..10 {
            let whole = Bytes::from(random::message(&mut Random::new(seed), &message, version));
            for len in 0..whole.len() {
                let result = ours(&message.name, whole.slice(..len), version);
                assert!(result.is_err(), "{} version {version} seed {seed}: {len}", message.name);
            }
            let surplus = [&whole[..], &[0]].concat();
            assert!(ours(&message.name, surplus.into(), version).is_err(), "{}", message.name);
        }
    }
}

#[test]
fn a_version_outside_the_range_is_an_error() {
    for (message, _) in messages_and_versions() {
        for version in [message.versions.min - 1, message.versions.max + 1, i16::MIN, i16::MAX] {
            assert!(ours(&message.name, Bytes::new(), version).is_err(), "{}", message.name);
        }
    }
}
