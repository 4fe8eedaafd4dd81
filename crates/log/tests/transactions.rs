//! Transactions in a log: the index of the aborted ones, the last stable offset, and what a
//! read_committed reader gets.

#[expect(unreachable_pub, reason = "shared between test files")]
mod fixture;

use fixture::transactions::{
    abort, batches, client_filter, commit, coordinate, data, indexed, marker, scan, write,
};
use fixture::{Fixture, NOW_MS, append, batch, checkpoint, sync};
use klamm_log::{AbortedTransaction, AppendError, Log, LogReader, verify};
use klamm_protocol::records::{Batch, ControlType, split};

const TXN_INDEX: &str = "00000000000000000000.txnindex";

fn entry(producer_id: i64, offsets: [i64; 3]) -> AbortedTransaction {
    let [first_offset, last_offset, last_stable_offset] = offsets;
    AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset }
}

fn bytes_of(entries: &[AbortedTransaction]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend([0, 0]);
        bytes.extend(entry.producer_id.to_be_bytes());
        bytes.extend(entry.first_offset.to_be_bytes());
        bytes.extend(entry.last_offset.to_be_bytes());
        bytes.extend(entry.last_stable_offset.to_be_bytes());
    }
    bytes
}

fn content(fixture: &Fixture, name: &str) -> Vec<u8> {
    let mut content = Vec::new();
    fixture.edit(name, |bytes| content = bytes.clone());
    content
}

fn txn_indexes(fixture: &Fixture) -> Vec<String> {
    fixture.names().into_iter().filter(|name| name.ends_with(".txnindex")).collect()
}

/// The index in memory and in the files is what a full scan gives.
fn assert_indexed(fixture: &Fixture, log: &Log) {
    let expected = scan(&log.reader());
    assert_eq!(indexed(&log.reader()), expected);
    let in_files: Vec<u8> =
        txn_indexes(fixture).iter().flat_map(|name| content(fixture, name)).collect();
    assert_eq!(in_files, bytes_of(&expected));
}

fn damage(fixture: &Fixture) -> Vec<String> {
    let mut found = Vec::new();
    verify(&*fixture.files(), fixture.root.path(), 1 << 20, &mut |verified| {
        let damage = verified.damage.iter();
        found.extend(damage.map(|damage| format!("{}: {}", damage.path.display(), damage.reason)));
        Ok(())
    })
    .expect("readable");
    found
}

#[test]
fn an_abort_is_in_the_index_of_its_markers_segment_as_soon_as_the_marker_is_in_the_log() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    write(&mut log, 1, "a");
    commit(&mut log, 1);
    abort(&mut log, 9);
    assert_eq!(txn_indexes(&fixture), [""; 0], "nothing was aborted");
    write(&mut log, 1, "b");
    write(&mut log, 2, "c");
    abort(&mut log, 2);
    assert_eq!(txn_indexes(&fixture), [TXN_INDEX]);
    let first = entry(2, [4, 5, 3]);
    assert_eq!(content(&fixture, TXN_INDEX), bytes_of(&[first]));
    while log.segment_count() == 1 {
        append(&mut log, batch(&["x"])).expect("appended");
    }
    let last = abort(&mut log, 1);
    let second = entry(1, [3, last, last + 1]);
    let base = log.active_segment_base_offset();
    assert_eq!(content(&fixture, &format!("{base:020}.txnindex")), bytes_of(&[second]));
    assert_eq!(indexed(&log.reader()), [first, second]);
    assert_indexed(&fixture, &log);
    Fixture::close(log);
    assert_eq!(damage(&fixture), [""; 0]);
}

#[test]
fn the_last_stable_offset_is_that_of_the_oldest_transaction_that_is_not_over_below_the_high_watermark()
 {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    append(&mut log, batch(&["plain"])).expect("appended");
    assert_eq!(log.last_stable_offset(1), 1);
    write(&mut log, 1, "one");
    write(&mut log, 2, "two");
    assert_eq!(log.last_stable_offset(1), 1, "bounded by the high watermark");
    assert_eq!(log.last_stable_offset(3), 1, "a transaction is open");
    let first_marker = commit(&mut log, 1);
    assert_eq!(log.last_stable_offset(3), 1, "its marker is not replicated");
    assert_eq!(log.last_stable_offset(first_marker), 1, "nor here");
    assert_eq!(log.last_stable_offset(first_marker + 1), 2, "the other one is open");
    let second_marker = abort(&mut log, 2);
    assert_eq!(log.last_stable_offset(second_marker), 2);
    assert_eq!(log.last_stable_offset(second_marker + 1), second_marker + 1);
    assert_eq!(log.first_unstable_offset(), None);
    write(&mut log, 3, "three");
    log.advance_log_start(6);
    assert_eq!(log.last_stable_offset(6), 6, "not below the log's start");
}

#[test]
fn what_is_open_or_not_replicated_is_known_after_a_crash_and_a_truncation() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    write(&mut log, 1, "one");
    checkpoint(&mut log);
    write(&mut log, 2, "two");
    commit(&mut log, 1);
    drop(log);
    let mut log = fixture.log();
    assert_eq!(log.last_stable_offset(2), 0, "the marker at 2 is not below the high watermark");
    assert_eq!(log.last_stable_offset(3), 1);
    let marker = abort(&mut log, 2);
    checkpoint(&mut log);
    append(&mut log, batch(&["plain"])).expect("appended");
    log.truncate_to(marker + 1).expect("cut");
    assert_eq!(log.last_stable_offset(marker), 1, "a snapshot knows nothing of replication");
    log.truncate_to(marker).expect("cut");
    assert_eq!(log.last_stable_offset(marker), 1, "open again");
    assert_eq!(indexed(&log.reader()), []);
    assert_eq!(txn_indexes(&fixture), [""; 0]);
}

/// HAZARDS 42: a marker whose entry cannot be written is not in the log either: the offset is given
/// out once, and the last stable offset does not pass.
#[test]
fn hazard_42_a_marker_is_not_in_the_log_before_its_entry_is_in_the_index() {
    // Room for a part of the entry, for all of it, and for a part of the marker.
    for room in [0, 10, 34, 50] {
        let fixture = Fixture::new();
        let mut log = fixture.log();
        let first = write(&mut log, 1, "one");
        write(&mut log, 2, "two");
        let kept = entry(2, [1, abort(&mut log, 2), first]);
        let end = log.log_end_offset();
        fixture.faults.set_room(Some(room));
        for _ in 0..2 {
            let refused = coordinate(&mut log, &marker(1, ControlType::Abort));
            let refused = refused.expect_err("no room");
            assert!(matches!(refused, AppendError::DiskFull), "{refused}");
            assert_eq!(log.log_end_offset(), end);
            assert_eq!(log.last_stable_offset(end), first, "{room}");
            assert_eq!(indexed(&log.reader()), [kept]);
            assert_eq!(content(&fixture, TXN_INDEX), bytes_of(&[kept]), "room for {room}");
        }
        fixture.faults.set_room(None);
        assert_eq!(abort(&mut log, 1), end);
        assert_eq!(log.last_stable_offset(end + 1), end + 1);
        let offsets: Vec<_> =
            batches(&log.reader(), 0).iter().map(|batch| batch.base_offset).collect();
        assert_eq!(offsets, (0..=end).collect::<Vec<_>>(), "no offset twice");
        assert_indexed(&fixture, &log);
    }
}

#[test]
fn hazard_42_after_an_error_of_the_disk_nothing_is_over_and_nothing_is_appended() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    let first = write(&mut log, 1, "one");
    let end = log.log_end_offset();
    fixture.faults.fail_writes.store(true, std::sync::atomic::Ordering::Relaxed);
    let refused = coordinate(&mut log, &marker(1, ControlType::Abort)).expect_err("failed");
    assert!(matches!(refused, AppendError::Offline(_)), "{refused}");
    assert_eq!((log.log_end_offset(), log.last_stable_offset(end)), (end, first));
    fixture.faults.fail_writes.store(false, std::sync::atomic::Ordering::Relaxed);
    coordinate(&mut log, &marker(1, ControlType::Abort)).expect_err("still offline");
    drop(log);
    let mut log = fixture.log();
    assert_eq!(log.last_stable_offset(end), first);
    assert_eq!(abort(&mut log, 1), end);
    assert_indexed(&fixture, &log);
}

#[test]
fn an_index_that_cannot_be_opened_for_want_of_descriptors_refuses_the_marker_and_no_more() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    write(&mut log, 1, "one");
    fixture.faults.fail_opens.store(true, std::sync::atomic::Ordering::Relaxed);
    let refused = coordinate(&mut log, &marker(1, ControlType::Abort)).expect_err("refused");
    assert!(matches!(refused, AppendError::Shortage(_)), "{refused}");
    fixture.faults.fail_opens.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(abort(&mut log, 1), 1);
    assert_indexed(&fixture, &log);
}

#[test]
fn a_follower_indexes_each_of_several_transactions_of_one_append() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    let parts = [
        data(1, "k", "a"),
        data(2, "k", "b"),
        marker(1, ControlType::Abort),
        data(1, "k", "c"),
        marker(2, ControlType::Abort),
        marker(1, ControlType::Commit),
    ];
    let mut records = Vec::new();
    for (part, offset) in parts.into_iter().zip(0..) {
        let mut part = part;
        klamm_protocol::records::set_base_offset(&mut part, offset);
        klamm_protocol::records::set_leader_epoch(&mut part, 0);
        records.extend(part);
    }
    log.append_as_follower(&records, 0, NOW_MS).expect("appended");
    assert_eq!(indexed(&log.reader()), [entry(1, [0, 2, 1]), entry(2, [1, 4, 3])]);
    assert_indexed(&fixture, &log);
}

/// A log of random transactions, plain batches and segments.
fn random_log(fixture: &Fixture, seed: u64, steps: usize) -> Log {
    // Any sequence of numbers will do, as long as it is the same each time.
    let mut state = seed;
    let mut draw = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut log = fixture.log();
    for step in 0..steps {
        let producer_id = i64::try_from(1 + draw(4)).expect("small");
        match draw(10) {
            0..2 => drop(append(&mut log, batch(&["p", "q"])).expect("appended")),
            2..6 => drop(write(&mut log, producer_id, &format!("{step}"))),
            6..8 => drop(abort(&mut log, producer_id)),
            8 => drop(commit(&mut log, producer_id)),
            _ => checkpoint(&mut log),
        }
    }
    log
}

/// Offsets below the last stable offset of records that are not of aborted transactions.
fn reference(reader: &LogReader, last_stable_offset: i64) -> Vec<i64> {
    let aborted = scan(reader);
    let is_aborted = |batch: &Batch| {
        batch.is_transactional()
            && aborted.iter().any(|aborted| {
                aborted.producer_id == batch.producer_id
                    && (aborted.first_offset..aborted.last_offset).contains(&batch.base_offset)
            })
    };
    let all = batches(reader, 0).into_iter();
    all.filter(|batch| !batch.is_control() && !is_aborted(batch))
        .flat_map(|batch| batch.base_offset..batch.next_offset())
        .filter(|offset| *offset < last_stable_offset)
        .collect()
}

/// HAZARDS 63 and 64: what a read_committed reader hands on is the reference filter over the raw
/// log, for every fetch offset and size, whatever began before the fetch.
#[test]
fn hazard_63_each_committed_read_and_its_aborted_list_give_the_records_of_the_reference_filter() {
    for seed in 0..6 {
        let fixture = Fixture::small();
        fixture.faults.skip_syncs.store(true, std::sync::atomic::Ordering::Relaxed);
        let mut log = random_log(&fixture, seed, 60);
        let end = log.log_end_offset();
        let last_stable_offset = log.last_stable_offset(end);
        let reader = log.reader();
        assert!(log.segment_count() > 2 && scan(&reader).len() > 3, "seed {seed}");
        let expected = reference(&reader, last_stable_offset);
        for offset in 0..=end {
            for max_bytes in [1, 90, 200, 500, 2_000] {
                let read = reader.read_committed(offset, max_bytes, last_stable_offset, true);
                let (slice, aborted) = read.expect("readable");
                let found: Vec<Batch> = split(slice.read().expect("readable"))
                    .map(|batch| batch.expect("whole"))
                    .collect();
                assert!(aborted.is_sorted_by_key(|aborted| aborted.first_offset));
                let Some(last) = found.last() else {
                    assert_eq!(aborted, [], "nothing is read at {offset}");
                    assert!(offset >= last_stable_offset, "nothing is read at {offset}");
                    continue;
                };
                let read = offset..last.next_offset();
                let wanted: Vec<_> =
                    expected.iter().copied().filter(|offset| read.contains(offset)).collect();
                let seen = client_filter(&found, &aborted, offset);
                assert_eq!(seen, wanted, "seed {seed}, {read:?}, {aborted:?}");
            }
        }
    }
}

#[test]
fn at_every_truncation_and_after_every_crash_the_index_is_that_of_a_full_scan() {
    let of = |seed, steps| {
        let fixture = Fixture::small();
        fixture.faults.skip_syncs.store(true, std::sync::atomic::Ordering::Relaxed);
        let log = random_log(&fixture, seed, steps);
        (fixture, log)
    };
    let (_, log) = of(3, 40);
    for offset in 0..log.log_end_offset() {
        let (fixture, mut log) = of(3, 40);
        assert_indexed(&fixture, &log);
        log.truncate_to(offset).expect("cut");
        assert_indexed(&fixture, &log);
        drop(log);
        let mut log = fixture.log();
        assert_indexed(&fixture, &log);
        // What was open below the cut is aborted in the segment that is now the last.
        for producer_id in 1..5 {
            abort(&mut log, producer_id);
        }
        assert_indexed(&fixture, &log);
        Fixture::close(log);
        assert_indexed(&fixture, &fixture.log());
        assert_eq!(damage(&fixture), [""; 0], "cut at {offset}");
    }
}

/// What is done to a file's bytes.
type Change = fn(&mut Vec<u8>);

/// A closed log whose first segment, below the recovery point, has aborted transactions, one of which
/// began in it and ended in the next; and what was aborted.
fn closed() -> (Fixture, Vec<AbortedTransaction>) {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    write(&mut log, 1, "long");
    for n in 0..3 {
        write(&mut log, 2, &format!("{n}"));
        abort(&mut log, 2);
    }
    while log.segment_count() == 1 {
        append(&mut log, batch(&["x"])).expect("appended");
    }
    abort(&mut log, 1);
    write(&mut log, 2, "end");
    abort(&mut log, 2);
    let aborted = scan(&log.reader());
    assert_eq!(aborted.len(), 5);
    Fixture::close(log);
    (fixture, aborted)
}

#[test]
fn a_damaged_index_is_rebuilt_for_good_from_the_markers_of_its_segment() {
    let (fixture, _) = closed();
    let names = txn_indexes(&fixture);
    assert_eq!(names.len(), 2);
    for name in &names {
        let damages: [(&str, Change); 6] = [
            ("cut within an entry", |bytes| bytes.truncate(bytes.len() - 1)),
            ("of another version", |bytes| bytes[1] = 7),
            ("not rising", |bytes| bytes.extend_from_within(..34)),
            ("of another producer at its end", |bytes| {
                let last = bytes.len() - 34;
                bytes[last + 9] = 77;
            }),
            ("with an entry too many", |bytes| {
                bytes.extend(bytes_of(&[entry(5, [1, 200, 201])]));
            }),
            ("of zeros", |bytes| bytes.fill(0)),
        ];
        for (what, change) in damages {
            let (fixture, aborted) = closed();
            fixture.edit(name, change);
            // An entry may have got no marker before the process was killed.
            let is_told = name == TXN_INDEX || what != "with an entry too many";
            assert_eq!(!damage(&fixture).is_empty(), is_told, "{name} {what}");
            let log = fixture.log();
            assert_eq!(indexed(&log.reader()), aborted, "{name} {what}");
            assert_indexed(&fixture, &log);
            Fixture::close(log);
            assert_eq!(damage(&fixture), [""; 0], "{name} {what} is rebuilt");
            assert_indexed(&fixture, &fixture.log());
        }
    }
}

#[test]
fn an_index_that_is_missing_together_with_another_one_is_rebuilt() {
    let (fixture, aborted) = closed();
    for name in txn_indexes(&fixture) {
        fixture.remove(&name);
        fixture.remove(&name.replace(".txnindex", ".timeindex"));
    }
    assert_eq!(damage(&fixture), [""; 0], "opening the log repairs it");
    let log = fixture.log();
    assert_eq!(indexed(&log.reader()), aborted);
    assert_indexed(&fixture, &log);
}

#[test]
fn an_index_alone_that_is_missing_below_the_recovery_point_is_told_by_verify() {
    let (fixture, _) = closed();
    fixture.remove(TXN_INDEX);
    let found = damage(&fixture);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].ends_with("that producer 2 aborted at 2 is missing"), "{found:?}");
}

#[test]
fn each_thing_that_an_entry_says_wrongly_is_told_by_verify() {
    let (fixture, _) = closed();
    let sound = content(&fixture, TXN_INDEX);
    let changes: [(usize, u8, &str); 6] = [
        (9, 3, "producer 3 did not abort at 2"),
        (17, 2, "began at 1, not at 2"),
        (25, 3, "producer 2 did not abort at 3"),
        (93, 8, "no marker at offset 8"),
        (33, 1, "open since 0, below 1"),
        (1, 1, "version 1 is not known"),
    ];
    for (at, value, why) in changes {
        fixture.edit(TXN_INDEX, |bytes| bytes[at] = value);
        let found = damage(&fixture);
        assert!(found.iter().any(|found| found.contains(why)), "{why}: {found:?}");
        fixture.edit(TXN_INDEX, |bytes| bytes.clone_from(&sound));
    }
    assert_eq!(damage(&fixture), [""; 0]);
}

#[test]
fn past_the_recovery_point_the_index_is_that_of_the_markers_whatever_its_file_is() {
    for at in 0..4 {
        let fixture = Fixture::new();
        let mut log = fixture.log();
        write(&mut log, 1, "a");
        abort(&mut log, 1);
        checkpoint(&mut log);
        write(&mut log, 1, "b");
        abort(&mut log, 1);
        write(&mut log, 2, "open");
        sync(&mut log);
        drop(log);
        match at {
            0 => fixture.edit(TXN_INDEX, |bytes| bytes.truncate(34)),
            1 => fixture.edit(TXN_INDEX, |bytes| bytes[34..].fill(0)),
            2 => fixture.edit(TXN_INDEX, |bytes| bytes.extend(bytes_of(&[entry(2, [4, 5, 6])]))),
            _ => fixture.edit(TXN_INDEX, |bytes| bytes[33] = 1),
        }
        let log = fixture.log();
        if at < 3 {
            assert_indexed(&fixture, &log);
        } else {
            // Only the last stable offset of an entry below the recovery point is not compared.
            assert_eq!(indexed(&log.reader())[1..], scan(&log.reader())[1..]);
        }
    }
}

/// HAZARDS 45: the index of a segment that takes the place of two has what both had.
#[test]
fn a_swap_that_a_crash_has_cut_short_leaves_no_index_of_one_of_the_segments_that_it_was_made_of() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    for segments in [1, 2] {
        write(&mut log, segments, "void");
        abort(&mut log, segments);
        while log.segment_count() == segments as usize {
            append(&mut log, batch(&["x"])).expect("appended");
        }
    }
    let aborted = indexed(&log.reader());
    assert_eq!((aborted.len(), txn_indexes(&fixture).len()), (2, 2));
    Fixture::close(log);
    let names = fixture.names();
    let logs: Vec<_> = names.iter().filter(|name| name.ends_with(".log")).collect();
    let both = [content(&fixture, logs[0]), content(&fixture, logs[1])].concat();
    fixture.create(&format!("{}.swap", logs[0]), &both);
    let log = fixture.log();
    assert_eq!(log.segment_count(), 2);
    assert_eq!(indexed(&log.reader()), aborted);
    assert_eq!(txn_indexes(&fixture), [TXN_INDEX]);
    assert_indexed(&fixture, &log);
}

#[test]
fn retention_takes_the_index_with_its_segment() {
    let mut fixture = Fixture::small();
    fixture.config.retention_bytes = 1;
    let mut log = fixture.log();
    write(&mut log, 1, "a");
    abort(&mut log, 1);
    while log.segment_count() < 3 {
        append(&mut log, batch(&["x"])).expect("appended");
    }
    checkpoint(&mut log);
    assert_eq!(txn_indexes(&fixture), [TXN_INDEX]);
    let end = log.log_end_offset();
    let deletion = log.delete_old_segments(NOW_MS, end).expect("deleted").expect("something");
    deletion.run().expect("the disk works");
    assert_eq!(txn_indexes(&fixture), [""; 0]);
    assert_eq!(indexed(&log.reader()), []);
}
