//! Hostile bytes in the files of a log: the harness of the fuzz targets, over its seeds and a few
//! thousand inputs made from them.

#[expect(unreachable_pub, dead_code, reason = "shared with the fuzz targets")]
#[path = "../fuzz/harness/mod.rs"]
mod harness;

use std::path::PathBuf;

use harness::{KINDS, Kind, run, run_somewhere};
use proptest::prelude::*;

/// Allocations are counted by the fuzz targets, which own the allocator.
fn bounded<T>(_len: usize, work: impl FnOnce() -> T) -> T {
    work()
}

/// What is in the tree for a target, by name of the file.
#[expect(clippy::disallowed_methods, reason = "the seeds lie beside the test")]
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let entries = std::fs::read_dir(&dir).expect("every target has seeds");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    let read = |path: &PathBuf| std::fs::read(path).expect("readable");
    paths.iter().map(read).collect()
}

#[test]
fn every_seed_is_recovered_or_refused() {
    for (target, kind) in KINDS {
        for seed in seeds(target) {
            run(kind, &seed);
        }
        run(kind, b"");
    }
}

#[test]
fn every_field_of_a_batch_header_may_hold_anything() {
    const I64: [i64; 5] = [i64::MIN, -1, 0, i64::MAX - 1, i64::MAX];
    const I32: [i32; 5] = [i32::MIN, -1, 0, 1, i32::MAX];
    for seed in seeds("segment") {
        let second = 12 + u32::from_be_bytes(seed[8..12].try_into().expect("four bytes")) as usize;
        for at in [0, second] {
            // Offset, both timestamps, producer id; then length, epoch, last delta, sequence, count.
            for (field, value) in [0, 27, 35, 43].into_iter().flat_map(|f| I64.map(|v| (f, v))) {
                let mut bytes = seed.clone();
                bytes[at + field..][..8].copy_from_slice(&value.to_be_bytes());
                run(Kind::Segment, &bytes);
            }
            for (field, value) in [8, 12, 23, 53, 57].into_iter().flat_map(|f| I32.map(|v| (f, v)))
            {
                let mut bytes = seed.clone();
                bytes[at + field..][..4].copy_from_slice(&value.to_be_bytes());
                run(Kind::Segment, &bytes);
            }
        }
    }
}

#[test]
fn every_number_of_an_index_may_be_anything() {
    let indexes = [
        ("offset_index", Kind::OffsetIndex),
        ("time_index", Kind::TimeIndex),
        ("txn_index", Kind::TxnIndex),
    ];
    for (target, kind) in indexes {
        for seed in seeds(target) {
            // The fields of the last begin two bytes later.
            for at in (0..seed.len().saturating_sub(3)).step_by(2) {
                for value in [0, 1, i32::MAX as u32, 1 << 31, u32::MAX] {
                    let mut bytes = seed.clone();
                    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
                    run(kind, &bytes);
                }
            }
        }
    }
}

#[test]
fn every_field_of_a_snapshot_may_hold_anything() {
    const I64: [i64; 5] = [i64::MIN, -1, 0, i64::MAX - 1, i64::MAX];
    const I32: [i32; 5] = [i32::MIN, -1, 0, 1, i32::MAX];
    for seed in seeds("snapshot") {
        let last = seed.len() - 46;
        // Producer, last offset, time, first offset of the transaction.
        for (field, value) in [0, 14, 26, 38].into_iter().flat_map(|f| I64.map(|v| (f, v))) {
            for delta in I32 {
                let mut bytes = seed.clone();
                bytes[last + field..][..8].copy_from_slice(&value.to_be_bytes());
                bytes[last + 22..][..4].copy_from_slice(&delta.to_be_bytes());
                run(Kind::Snapshot, &bytes);
            }
        }
    }
}

/// One change of the bytes.
#[derive(Clone, Debug)]
enum Change {
    Flip(usize, u8),
    /// Four bytes that mean something to who reads lengths and offsets.
    Number(usize, u32),
    Cut(usize),
    Repeat(usize, usize),
    Remove(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let number = prop_oneof![
        Just(0),
        Just(1),
        Just(u32::MAX),
        Just(i32::MAX as u32),
        Just(1 << 31),
        any::<u32>(),
        0..200_u32
    ];
    prop_oneof![
        4 => (any::<usize>(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        4 => (any::<usize>(), number).prop_map(|(at, number)| Change::Number(at, number)),
        1 => any::<usize>().prop_map(Change::Cut),
        1 => (any::<usize>(), 0..200_usize).prop_map(|(at, len)| Change::Repeat(at, len)),
        1 => (any::<usize>(), 0..200_usize).prop_map(|(at, len)| Change::Remove(at, len)),
    ]
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let len = bytes.len();
        match *self {
            Change::Flip(at, bit) => bytes[at % len] ^= 1 << bit,
            Change::Number(at, number) => {
                let at = at % len;
                let end = len.min(at + 4);
                bytes[at..end].copy_from_slice(&number.to_be_bytes()[..end - at]);
            }
            Change::Cut(at) => bytes.truncate(at % len),
            Change::Repeat(at, count) => {
                let at = at % len;
                let again = bytes[at..len.min(at + count)].to_vec();
                bytes.splice(at..at, again);
            }
            Change::Remove(at, count) => {
                let at = at % len;
                bytes.drain(at..len.min(at + count));
            }
        }
    }
}

fn kind_and_seed() -> impl Strategy<Value = (Kind, Vec<u8>)> {
    let all: Vec<(Kind, Vec<u8>)> = KINDS
        .iter()
        .flat_map(|(target, kind)| seeds(target).into_iter().map(|seed| (*kind, seed)))
        .collect();
    proptest::sample::select(all)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn every_changed_file_is_recovered_or_refused(
        (kind, mut bytes) in kind_and_seed(),
        changes in proptest::collection::vec(change(), 1..4),
        choice in 0..1000_usize,
    ) {
        for change in &changes {
            change.apply(&mut bytes);
        }
        run_somewhere(kind, choice, &bytes);
    }
}
