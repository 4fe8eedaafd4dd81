//! The crate `kafka-protocol` reads and writes the same.

use bytes::Bytes;

use super::random::{self, Random, messages_and_versions};
use super::registry::{ours, theirs};

/// Fields newer than the other implementation, as `Debug` shows their default.
const NEWER_FIELDS: &[&str] = &[", is_cordoned: false"];

#[test]
fn both_implementations_agree_on_bytes_names_and_values() {
    let mut compared = 0;
    for (message, version) in messages_and_versions() {
        for seed in 0..200 {
            let bytes = Bytes::from(random::message(&mut Random::new(seed), &message, version));
            let case = format!("{} version {version} seed {seed}", message.name);
            let Some(theirs) = theirs(&message.name, bytes.clone(), version) else { continue };
            let ours = ours(&message.name, theirs.encoded.clone(), version)
                .unwrap_or_else(|e| panic!("{case}: {e}"));
            assert_eq!(theirs.encoded, bytes, "they write {case}");
            assert_eq!(ours.encoded, bytes, "we write {case}");
            assert_eq!(our_form(&ours.shown), their_form(&theirs.shown), "{case}");
            compared += 1;
        }
    }
    assert!(compared > 200 * 250, "only {compared} messages compared");
}

fn our_form(shown: &str) -> String {
    let mut shown = shown.to_owned();
    for field in NEWER_FIELDS {
        shown = shown.replace(field, "");
    }
    structure_names_removed(&shown)
}

/// Without what only they have, and with our spelling.
fn their_form(shown: &str) -> String {
    let shown = shown.replace(", unknown_tagged_fields: {}", "");
    let shown = shown.replace("unknown_tagged_fields: {}", "");
    structure_names_removed(&shown.replace("enable_2_pc", "enable_2pc"))
}

fn structure_names_removed(shown: &str) -> String {
    shown
        .split_inclusive(' ')
        .map(|word| {
            let word = word.replace("Inline(", "Some(");
            if word.strip_prefix("Some(").is_some_and(is_structure_name) {
                return "Some(".to_owned();
            }
            match word.rsplit_once('[') {
                Some((before, name)) if is_structure_name(name) => format!("{before}["),
                None if is_structure_name(&word) => String::new(),
                _ => word,
            }
        })
        .collect()
}

fn is_structure_name(word: &str) -> bool {
    let word = word.trim_end();
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_alphanumeric())
        && word != "None"
}
