//! Verifying: a sound directory is sound, and each kind of damage is found where it is.

#[expect(unreachable_pub, reason = "shared between test files")]
mod fixture;

use std::cell::RefCell;
use std::path::Path;

use fixture::{Fixture, NOW_MS, append_in_epoch, build};
use klamm_env::Env;
use klamm_log::{KeyHashing, Log, LogLock, OffsetMapLimits, Verified, verify};
use klamm_protocol::compression::Compression;
use klamm_protocol::records::{
    ATTRIBUTES_OFFSET, BATCH_LENGTH_OFFSET, CRC_OFFSET, MAX_TIMESTAMP_OFFSET,
    PARTITION_LEADER_EPOCH_OFFSET, ProducerFields,
};

const DECOMPRESSED_MAX: usize = 1 << 20;

/// A closed log of several segments: 20 batches of two records, two leader epochs, one producer.
fn written() -> Fixture {
    let mut fixture = Fixture::small();
    fixture.config.segment_bytes = 600;
    let mut log = fixture.log();
    for n in 0..20 {
        let producer = ProducerFields { producer_id: 7, producer_epoch: 1, base_sequence: 2 * n };
        let codec = Compression::ALL[n as usize % Compression::ALL.len()];
        let records = build(&["one", "two"], producer, NOW_MS + 10 * i64::from(n), codec);
        append_in_epoch(&mut log, records, n / 10).expect("appended");
    }
    Fixture::close(log);
    fixture
}

fn verify_all(path: &Path) -> Vec<Verified> {
    let files = Env::real().expect("the machine's seams").files;
    let mut found = Vec::new();
    verify(&*files, path, DECOMPRESSED_MAX, &mut |verified| {
        found.push(verified);
        Ok(())
    })
    .expect("readable");
    found
}

fn verify_partition(fixture: &Fixture) -> Verified {
    verify_all(&fixture.path("")).remove(0)
}

/// The one damage of the partition: name of the file, position, reason.
fn the_damage(fixture: &Fixture) -> (String, u64, String) {
    let verified = verify_partition(fixture);
    assert_eq!(verified.damaged, 1, "{:?}", verified.damage);
    let damage = &verified.damage[0];
    let name = damage.path.file_name().expect("a file").to_string_lossy().into_owned();
    (name, damage.position, damage.reason.clone())
}

fn names(fixture: &Fixture, suffix: &str) -> Vec<String> {
    fixture.names().into_iter().filter(|name| name.ends_with(suffix)).collect()
}

/// Damages a file with `change`; one damage must be found in it, at `position`, for `reason`.
#[track_caller]
fn assert_found(name_of: fn(&Fixture) -> String, change: fn(&mut Vec<u8>), at: u64, why: &str) {
    let fixture = written();
    let name = name_of(&fixture);
    fixture.edit(&name, change);
    let (found, position, reason) = the_damage(&fixture);
    assert_eq!((found, position), (name, at), "{reason}");
    assert!(reason.contains(why), "{reason}");
}

fn first_log(fixture: &Fixture) -> String {
    names(fixture, ".log").remove(0)
}

fn first_index(fixture: &Fixture) -> String {
    names(fixture, ".index").remove(0)
}

fn first_time_index(fixture: &Fixture) -> String {
    names(fixture, ".timeindex").remove(0)
}

fn last_snapshot(fixture: &Fixture) -> String {
    names(fixture, ".snapshot").pop().expect("one")
}

fn epochs(_: &Fixture) -> String {
    "leader-epoch-checkpoint".to_owned()
}

fn topic_id(_: &Fixture) -> String {
    "partition.metadata".to_owned()
}

/// Bytes of the batch at `at`.
fn size_at(bytes: &[u8], at: usize) -> usize {
    let length = bytes[at + BATCH_LENGTH_OFFSET..][..4].try_into().expect("four bytes");
    12 + u32::from_be_bytes(length) as usize
}

/// The second batch of a segment, and where it begins.
fn second_at(bytes: &[u8]) -> usize {
    size_at(bytes, 0)
}

fn renew_crc(bytes: &mut [u8], at: usize) {
    let end = at + size_at(bytes, at);
    let crc = crc32c::crc32c(&bytes[at + ATTRIBUTES_OFFSET..end]);
    bytes[at + CRC_OFFSET..][..4].copy_from_slice(&crc.to_be_bytes());
}

#[test]
fn what_a_log_wrote_is_sound_and_nothing_is_changed() {
    let fixture = written();
    let names = fixture.names();
    let verified = verify_partition(&fixture);
    assert!(verified.is_sound(), "{:?}", verified.damage);
    assert!(verified.segments > 2, "{}", verified.segments);
    assert_eq!((verified.batches, verified.records), (20, 40));
    assert_eq!(fixture.names(), names);
    let all = verify_all(fixture.root.path());
    assert_eq!(all.len(), 2, "the directory's own files and one partition");
    assert!(all.iter().all(Verified::is_sound), "{all:?}");
}

#[test]
fn an_open_log_whose_indexes_lag_is_sound() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    for n in 0..20 {
        append_in_epoch(&mut log, fixture::batch(&["value"]), n).expect("appended");
    }
    let verified = verify_partition(&fixture);
    assert!(verified.is_sound(), "{:?}", verified.damage);
    assert_eq!(verified.batches, 20);
}

#[test]
fn a_hole_between_batches_and_segments_is_sound() {
    let fixture = written();
    let logs = names(&fixture, ".log");
    for suffix in ["log", "index", "timeindex"] {
        fixture.remove(&logs[1].replace("log", suffix));
    }
    let verified = verify_partition(&fixture);
    assert!(verified.is_sound(), "{:?}", verified.damage);
}

struct Lock<'a>(&'a RefCell<Log>);

impl LogLock for Lock<'_> {
    fn with_log(&self, work: &mut dyn FnMut(&mut Log)) -> bool {
        work(&mut self.0.borrow_mut());
        true
    }
}

#[test]
fn a_compacted_log_is_sound() {
    let mut fixture = Fixture::small();
    (fixture.config.compact, fixture.config.delete) = (true, false);
    let mut log = fixture.log();
    for n in 0..30 {
        append_in_epoch(&mut log, fixture::batch(&["one", "two"]), n / 10).expect("appended");
    }
    fixture::checkpoint(&mut log);
    let end = log.log_end_offset();
    let mut cleaning = log.begin_cleaning(NOW_MS, end).expect("readable").expect("dirty");
    let limits = OffsetMapLimits { bytes_max: 1 << 20, load_factor: 0.9 };
    cleaning.read_dirty_keys(limits, KeyHashing(1, 2), &mut |_| true).expect("readable");
    let log = RefCell::new(log);
    while let Some(cleaned) = cleaning.rewrite_next(&mut |_| true).expect("readable") {
        cleaned.swap_in(&Lock(&log)).expect("nobody else is here");
    }
    let verified = verify_partition(&fixture);
    assert!(verified.is_sound(), "{:?}", verified.damage);
    assert!(verified.records < 60, "{} records are left", verified.records);
}

#[test]
fn a_batch_that_compaction_emptied_is_sound() {
    let fixture = written();
    let name = names(&fixture, ".log").pop().expect("one");
    fixture.edit(&name, |bytes| {
        // The last batch keeps its codec and loses its records.
        let mut last = 0;
        while last + size_at(bytes, last) < bytes.len() {
            last += size_at(bytes, last);
        }
        bytes.truncate(last + klamm_protocol::records::HEADER_LEN);
        bytes[last + BATCH_LENGTH_OFFSET..][..4].copy_from_slice(&49_u32.to_be_bytes());
        bytes[last + 57..].fill(0);
        renew_crc(bytes, last);
    });
    let verified = verify_partition(&fixture);
    assert!(verified.is_sound(), "{:?}", verified.damage);
    assert_eq!((verified.batches, verified.records), (20, 38));
}

#[test]
fn a_flipped_bit_in_a_batch_is_found_and_the_rest_is_read() {
    assert_found(first_log, |bytes| bytes[ATTRIBUTES_OFFSET + 40] ^= 1, 0, "CRC");
    let fixture = written();
    fixture.edit(&first_log(&fixture), |bytes| bytes[ATTRIBUTES_OFFSET + 40] ^= 1);
    assert_eq!(verify_partition(&fixture).batches, 20);
}

#[test]
fn a_batch_that_is_cut_off_is_found() {
    let fixture = written();
    let name = names(&fixture, ".log").pop().expect("one");
    let mut last = 0;
    fixture.edit(&name, |bytes| {
        while last + size_at(bytes, last) < bytes.len() {
            last += size_at(bytes, last);
        }
        bytes.truncate(bytes.len() - 1);
    });
    let (found, position, reason) = the_damage(&fixture);
    assert_eq!((found, position), (name, last as u64));
    assert!(reason.contains("cut off"), "{reason}");
}

#[test]
fn a_header_that_is_none_is_found() {
    assert_found(first_log, |bytes| bytes[16] = 9, 0, "message format 9");
    assert_found(first_log, |bytes| bytes[BATCH_LENGTH_OFFSET..][..4].fill(0), 0, "length 0");
}

#[test]
fn records_that_are_not_those_of_their_header_are_found() {
    // The first batch is not compressed: its first record's offset delta is byte 3.
    let delta = |bytes: &mut Vec<u8>| {
        let record = klamm_protocol::records::HEADER_LEN;
        bytes[record + 3] = 2;
        renew_crc(bytes, 0);
    };
    assert_found(first_log, delta, 0, "a record has offset 1 in a batch from 0 to 1");
    let count = |bytes: &mut Vec<u8>| {
        bytes[57..61].copy_from_slice(&1_u32.to_be_bytes());
        renew_crc(bytes, 0);
    };
    assert_found(first_log, count, 0, "follow the last of 1 records");
}

#[test]
fn offsets_that_go_back_and_epochs_that_fall_are_found() {
    let fixture = written();
    let name = first_log(&fixture);
    let mut second = 0;
    fixture.edit(&name, |bytes| {
        second = second_at(bytes);
        bytes[second..second + 8].fill(0);
    });
    let (_, position, reason) = the_damage(&fixture);
    assert_eq!((position, reason.as_str()), (second as u64, "offset 0 comes after 1"));

    let fixture = written();
    let last = names(&fixture, ".log").pop().expect("one");
    fixture.edit(&last, |bytes| {
        second = second_at(bytes);
        bytes[second + PARTITION_LEADER_EPOCH_OFFSET..][..4].fill(0);
    });
    let (found, position, reason) = the_damage(&fixture);
    let expected = (last, second as u64, "epoch 0 comes after 1");
    assert_eq!((found, position, reason.as_str()), expected);
}

#[test]
fn a_segment_that_overlaps_the_one_before_is_found() {
    let fixture = written();
    let logs = names(&fixture, ".log");
    let mut first = Vec::new();
    fixture.edit(&logs[0], |bytes| first.clone_from(bytes));
    fixture.create("00000000000000000001.log", &first);
    let verified = verify_partition(&fixture);
    let damage = &verified.damage[0];
    assert!(damage.path.ends_with("00000000000000000001.log"), "{damage:?}");
    assert!(damage.reason.contains("begins at 1, the one before ends at"), "{damage:?}");
}

#[test]
fn index_entries_that_are_not_those_of_the_batches_are_found() {
    assert_found(first_index, |bytes| bytes[7] ^= 1, 0, "no batch begins at byte");
    assert_found(first_index, |bytes| bytes[3] ^= 1, 0, "ends at");
    const ENTRIES: u64 = 3 * 8;
    assert_found(first_index, |bytes| bytes.extend([0xff; 3]), ENTRIES, "3 bytes are no entry");
    let past = |bytes: &mut Vec<u8>| bytes.extend([0, 0, 1, 0, 0, 1, 0, 0]);
    assert_found(first_index, past, ENTRIES, "no batch begins at byte 65536");
    let twice = |bytes: &mut Vec<u8>| {
        let first = bytes[..8].to_vec();
        bytes.splice(8..8, first);
    };
    assert_found(first_index, twice, 8, "does not rise");
}

#[test]
fn time_index_entries_that_are_not_those_of_the_batches_are_found() {
    assert_found(first_time_index, |bytes| bytes[11] ^= 1, 0, "no batch ends at offset");
    assert_found(first_time_index, |bytes| bytes[7] ^= 1, 0, "has the timestamp");
    let twice = |bytes: &mut Vec<u8>| {
        let first = bytes[..12].to_vec();
        bytes.splice(12..12, first);
    };
    assert_found(first_time_index, twice, 12, "does not rise");
}

#[test]
fn a_time_index_entry_that_is_not_the_greatest_is_found() {
    let fixture = written();
    fixture.edit(&first_log(&fixture), |bytes| {
        bytes[MAX_TIMESTAMP_OFFSET..][..8].copy_from_slice(&(NOW_MS * 2).to_be_bytes());
        renew_crc(bytes, 0);
    });
    let verified = verify_partition(&fixture);
    let reasons: Vec<_> = verified.damage.iter().map(|damage| damage.reason.as_str()).collect();
    assert!(reasons.iter().any(|reason| reason.contains("is not the greatest")), "{reasons:?}");
}

#[test]
fn a_damaged_snapshot_is_found() {
    assert_found(last_snapshot, |bytes| bytes[8] ^= 1, 0, "CRC is wrong");
}

/// Changes a snapshot and renews its CRC.
fn resign(bytes: &mut [u8]) {
    let crc = crc32c::crc32c(&bytes[6..]);
    bytes[2..6].copy_from_slice(&crc.to_be_bytes());
}

#[test]
fn a_snapshot_of_what_no_producer_wrote_is_found() {
    let sequence = |bytes: &mut Vec<u8>| {
        let last = bytes.len() - 46;
        bytes[last + 13] ^= 1;
        resign(bytes);
    };
    assert_found(last_snapshot, sequence, 0, "did not write sequence");
    let stale = |bytes: &mut Vec<u8>| {
        bytes.truncate(bytes.len() - 46);
        bytes[9] -= 1;
        resign(bytes);
    };
    assert_found(last_snapshot, stale, 0, "producer 7 ends at 37, and wrote up to 39");
}

#[test]
fn a_snapshot_past_the_end_of_the_log_is_found() {
    let fixture = written();
    let mut last = Vec::new();
    fixture.edit(&last_snapshot(&fixture), |bytes| last.clone_from(bytes));
    fixture.create("00000000000000000050.snapshot", &last);
    let (name, _, reason) = the_damage(&fixture);
    assert_eq!(name, "00000000000000000050.snapshot");
    assert!(reason.contains("past the end of the log at 40"), "{reason}");
}

#[test]
fn leader_epochs_that_are_not_those_of_the_batches_are_found() {
    assert_found(epochs, |bytes| bytes.truncate(5), 0, "not a list of leader epochs");
    let later = |bytes: &mut Vec<u8>| *bytes = b"0\n2\n0 0\n1 22\n".to_vec();
    assert_found(epochs, later, 0, "the batch at 20 is of epoch 1, not 0");
}

#[test]
fn a_partition_without_a_topic_id_is_found() {
    assert_found(topic_id, |bytes| bytes.truncate(20), 0, "no topic id");
    let fixture = written();
    fixture.remove("partition.metadata");
    assert_eq!(the_damage(&fixture).2, "not there");
}

#[test]
fn checkpoints_that_lie_outside_of_the_log_are_found() {
    for name in [
        "recovery-point-offset-checkpoint",
        "log-start-offset-checkpoint",
        "replication-offset-checkpoint",
    ] {
        let fixture = written();
        fixture.create(&format!("../{name}"), b"0\n1\nevents 3 41\n");
        let all = verify_all(fixture.root.path());
        let damage: Vec<_> = all.iter().flat_map(|verified| &verified.damage).collect();
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert!(damage[0].path.ends_with(name), "{damage:?}");
        assert!(damage[0].reason.contains("41 is not within the log, which ends at 40"));
    }
}

#[test]
fn damaged_files_of_the_log_directory_are_found() {
    for (name, content) in [
        ("recovery-point-offset-checkpoint", "0\n2\nevents 3 40\n"),
        ("log-start-offset-checkpoint", "7\n0\n"),
        ("replication-offset-checkpoint", "\u{1}"),
        ("cleaner-offset-checkpoint", "0\n1\nevents 3\n"),
        ("meta.properties", "version=1\n"),
        ("klamm.registration", "version=1\nchecksum=00000000\n"),
        ("klamm.clean", "version=1\n"),
        ("recovery-point-offset-checkpoint", "0\n2\nevents 3 40\nmissing 0 5\n"),
    ] {
        let fixture = written();
        fixture.create(&format!("../{name}"), content.as_bytes());
        let all = verify_all(fixture.root.path());
        let own = &all[0];
        assert_eq!((own.damaged, all[1].damaged), (1, 0), "{name}: {all:?}");
        assert!(own.damage[0].path.ends_with(name), "{own:?}");
    }
}

#[test]
fn one_file_is_verified_by_what_lies_beside_it() {
    let fixture = written();
    let logs = names(&fixture, ".log");
    fixture.edit(&logs[0], |bytes| bytes[ATTRIBUTES_OFFSET + 40] ^= 1);
    let damaged = verify_all(&fixture.path(&logs[0])).remove(0);
    assert_eq!((damaged.damaged, damaged.damage[0].position), (1, 0));
    assert!(verify_all(&fixture.path(&logs[1])).remove(0).is_sound());
    let meta = fixture.root.path().join("recovery-point-offset-checkpoint");
    assert!(verify_all(&meta).remove(0).is_sound());
}

#[test]
fn what_is_no_log_is_refused() {
    let files = Env::real().expect("the machine's seams").files;
    let empty = tempfile::TempDir::new().expect("a directory");
    let refused = |path: &Path| verify(&*files, path, 1, &mut |_| Ok(())).is_err();
    assert!(refused(empty.path()));
    assert!(refused(&empty.path().join("nothing")));
}
