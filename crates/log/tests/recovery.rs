//! What a log is after it was not closed, or was damaged.

#[expect(unreachable_pub, reason = "shared between test files")]
mod fixture;

use fixture::{
    Fixture, TOPIC_ID, append, append_in_epoch, batch, checkpoint, produced, read_all, sync,
};
use klamm_log::{Log, OpenError, OpenLog};
use proptest::prelude::*;
use std::sync::Arc;
use uuid::Uuid;

const LOG: &str = "00000000000000000000.log";

fn fill(log: &mut Log, from: i64, to: i64) {
    for n in from..to {
        append_in_epoch(log, batch(&[&format!("value {n}")]), (n / 10) as i32).expect("appended");
    }
}

fn assert_holds(log: &Log, count: i64) {
    let all = read_all(&log.reader(), log.log_start_offset());
    let expected: Vec<_> =
        (log.log_start_offset()..count).map(|n| (n, format!("value {n}"))).collect();
    assert_eq!(all, expected);
    assert_eq!(log.log_end_offset(), count);
    let mut epochs = klamm_log::EpochCache::default();
    for n in log.log_start_offset()..count {
        epochs.assign((n / 10) as i32, n);
    }
    assert_eq!(*log.epochs(), epochs);
}

#[test]
fn a_clean_restart_reads_nothing() {
    // Hazard 37.
    let fixture = Fixture::small();
    let mut log = fixture.log();
    fill(&mut log, 0, 95);
    Fixture::close(log);
    let (log, report) = fixture.open();
    assert_eq!(report.scanned_bytes, 0);
    assert_eq!(report.cut_bytes, 0);
    assert_eq!(report.recovery_point, 95);
    assert_holds(&log, 95);
}

#[test]
fn a_restart_on_an_empty_log_needs_nothing() {
    let fixture = Fixture::small();
    Fixture::close(fixture.log());
    let (log, report) = fixture.open();
    assert!(!report.lost_below_recovery_point);
    assert_holds(&log, 0);
}

#[test]
fn a_killed_process_loses_nothing() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    fill(&mut log, 0, 95);
    drop(log);
    let (mut log, report) = fixture.open();
    assert_eq!(report.cut_bytes, 0);
    assert!(report.scanned_bytes > 0);
    assert_eq!(log.synced_end_offset(), 95);
    assert_holds(&log, 95);
    fill(&mut log, 95, 120);
    assert_holds(&log, 120);
}

#[test]
fn only_what_lies_past_the_recovery_point_is_read() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    fill(&mut log, 0, 95);
    checkpoint(&mut log);
    assert_eq!(log.recovery_point(), 95);
    let one = batch(&["value 95"]).len() as u64;
    fill(&mut log, 95, 97);
    drop(log);
    let (log, report) = fixture.open();
    assert_eq!(report.scanned_bytes, 2 * one);
    assert_holds(&log, 97);
}

#[test]
fn a_torn_tail_is_cut() {
    let fixture = Fixture::new();
    for cut in [1, 30, 61, 70] {
        let mut log = fixture.log();
        let from = log.log_end_offset();
        fill(&mut log, from, from + 10);
        drop(log);
        fixture.edit(LOG, |bytes| bytes.truncate(bytes.len() - cut));
        let (log, report) = fixture.open();
        assert!(report.cut_bytes > 0 || cut == 70, "{report:?}");
        assert!(!report.lost_below_recovery_point);
        assert_holds(&log, from + 9);
        // The next round goes on from here.
    }
}

#[test]
fn a_tail_of_zeros_is_cut() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    fill(&mut log, 0, 10);
    drop(log);
    fixture.edit(LOG, |bytes| bytes.extend([0; 5_000]));
    let (log, report) = fixture.open();
    assert_eq!(report.cut_bytes, 5_000);
    assert_holds(&log, 10);
}

#[test]
fn a_flipped_bit_cuts_from_its_batch_on() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    fill(&mut log, 0, 40);
    drop(log);
    let size = batch(&["value 0"]).len();
    // In the fourth batch; later segments do not continue the log any more.
    fixture.edit(LOG, |bytes| bytes[3 * size + 65] ^= 4);
    let (mut log, report) = fixture.open();
    assert!(report.removed_segments > 0);
    assert!(report.cut_reason.as_deref().is_some_and(|reason| reason.contains("CRC")));
    assert_holds(&log, 3);
    fill(&mut log, 3, 40);
    assert_holds(&log, 40);
}

#[test]
fn a_falling_epoch_is_cut() {
    // Hazard 95.
    let fixture = Fixture::new();
    let mut log = fixture.log();
    fill(&mut log, 0, 30);
    drop(log);
    let size = batch(&["value 10"]).len();
    let start = 10 * batch(&["value 0"]).len() + 5 * size;
    // The epoch is outside of the CRC.
    fixture.edit(LOG, |bytes| bytes[start + 12..start + 16].copy_from_slice(&[0; 4]));
    let (log, report) = fixture.open();
    assert!(report.cut_reason.as_deref().is_some_and(|reason| reason.contains("epoch")));
    assert_holds(&log, 15);
}

#[test]
fn a_segment_that_comes_back_is_removed() {
    // Hazard 95: its unlink was not durable.
    let fixture = Fixture::small();
    let mut log = fixture.log();
    fill(&mut log, 0, 60);
    let stale = log.active_segment_base_offset();
    drop(log);
    let mut kept = Vec::new();
    fixture.edit(&format!("{stale:020}.log"), |bytes| kept.clone_from(bytes));
    let mut log = fixture.log();
    log.truncate_to(5).expect("nobody reads");
    fill(&mut log, 5, 9);
    drop(log);
    fixture.create(&format!("{stale:020}.log"), &kept);
    let (log, report) = fixture.open();
    assert_eq!(report.removed_segments, 1);
    assert_holds(&log, 9);
}

#[test]
fn indexes_are_rebuilt_when_missing_or_wrong() {
    // Hazard 38.
    for clean in [false, true] {
        for damage in 0..5 {
            let fixture = Fixture::small();
            let mut log = fixture.log();
            fill(&mut log, 0, 60);
            if clean {
                Fixture::close(log);
            } else {
                checkpoint(&mut log);
                fill(&mut log, 60, 61);
                drop(log);
            }
            for name in fixture.names() {
                if !name.ends_with("index") {
                    continue;
                }
                match damage {
                    0 => fixture.remove(&name),
                    1 => fixture.edit(&name, |bytes| bytes.fill(0xff)),
                    2 => fixture.edit(&name, |bytes| bytes.fill(0)),
                    3 => fixture.edit(&name, Vec::clear),
                    _ => fixture.edit(&name, |bytes| bytes.truncate(bytes.len() / 2 + 3)),
                }
            }
            let (mut log, _) = fixture.open();
            let count = if clean { 60 } else { 61 };
            assert_holds(&log, count);
            for n in 0..count {
                let slice = log.reader().read(n, 1, i64::MAX, true).expect("readable");
                assert_eq!(slice.base_offset, n, "damage {damage}");
            }
            fill(&mut log, count, 80);
            Fixture::close(log);
            assert_holds(&fixture.log(), 80);
        }
    }
}

#[test]
fn epochs_are_rebuilt_when_their_file_is_missing_or_damaged() {
    // Hazard 18.
    for clean in [false, true] {
        for damage in 0..3 {
            let fixture = Fixture::small();
            let mut log = fixture.log();
            fill(&mut log, 0, 75);
            checkpoint(&mut log);
            fill(&mut log, 75, 85);
            if clean {
                Fixture::close(log);
            } else {
                drop(log);
            }
            match damage {
                0 => fixture.remove("leader-epoch-checkpoint"),
                1 => fixture.edit("leader-epoch-checkpoint", Vec::clear),
                _ => fixture.edit("leader-epoch-checkpoint", |bytes| bytes[2] = b'x'),
            }
            let (log, report) = fixture.open();
            assert!(report.epochs_rebuilt);
            assert_holds(&log, 85);
        }
    }
}

#[test]
fn a_damaged_or_missing_snapshot_is_made_up_for() {
    // Hazard 39.
    let fixture = Fixture::small();
    let mut log = fixture.log();
    for n in 0..50 {
        append(&mut log, produced(&["a"], 9, 0, n)).expect("appended");
        append(&mut log, produced(&["b"], 10, 0, n)).expect("appended");
        if n % 10 == 0 {
            checkpoint(&mut log);
        }
    }
    checkpoint(&mut log);
    let expected = log.producers();
    drop(log);
    let snapshots: Vec<_> =
        fixture.names().into_iter().filter(|name| name.ends_with(".snapshot")).collect();
    assert!(!snapshots.is_empty());
    for name in snapshots.iter().rev() {
        fixture.edit(name, |bytes| bytes[7] ^= 1);
        let (log, _) = fixture.open();
        let batches = |producers: Vec<klamm_log::ProducerEntry>| -> Vec<_> {
            producers.into_iter().map(|entry| (entry.producer_id, entry.batches)).collect()
        };
        assert_eq!(batches(log.producers()), batches(expected.clone()));
    }
}

#[test]
fn leftovers_are_removed() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    fill(&mut log, 0, 30);
    Fixture::close(log);
    let leftovers = [
        "00000000000000000000.log.deleted",
        "00000000000000000000.index.cleaned",
        "leader-epoch-checkpoint.tmp",
        "00000000000000000500.index",
    ];
    for name in leftovers {
        fixture.create(name, b"rubbish");
    }
    assert_holds(&fixture.log(), 30);
    let names = fixture.names();
    assert!(leftovers.iter().all(|leftover| !names.contains(&(*leftover).to_owned())), "{names:?}");
}

#[test]
fn data_lost_below_the_recovery_point_is_reported() {
    // R2: the directory is not intact.
    let fixture = Fixture::small();
    let mut log = fixture.log();
    fill(&mut log, 0, 30);
    for n in 0..3 {
        append(&mut log, produced(&["x"], 9, 0, n)).expect_err("older epoch");
    }
    let active = log.active_segment_base_offset();
    Fixture::close(log);
    fixture.edit(&format!("{active:020}.log"), Vec::clear);
    let (mut log, report) = fixture.open();
    assert!(report.lost_below_recovery_point, "{report:?}");
    assert_holds(&log, active);
    fill(&mut log, active, 50);
    drop(log);
    let (log, report) = fixture.open();
    assert!(!report.lost_below_recovery_point);
    assert_holds(&log, 50);
}

#[test]
fn a_partition_directory_that_is_gone_is_reported() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    fill(&mut log, 0, 30);
    Fixture::close(log);
    std::fs::remove_dir_all(fixture.path("")).expect("it is there");
    let dir = fixture.dir();
    assert_eq!(dir.found().missing, [Fixture::partition()]);
    let (log, report) = fixture.open_with(dir);
    assert!(report.lost_below_recovery_point);
    assert_holds(&log, 0);
}

#[test]
fn a_log_of_another_topic_is_refused() {
    // Hazard 30.
    let fixture = Fixture::small();
    let mut log = fixture.log();
    fill(&mut log, 0, 3);
    drop(log);
    let refused = Log::open(OpenLog {
        dir: Arc::new(fixture.dir()),
        partition: Fixture::partition(),
        topic_id: Uuid::from_u128(99),
        config: fixture.config.clone(),
        now_ms: fixture.now_ms,
    })
    .expect_err("refused");
    assert!(matches!(refused, OpenError::OtherTopic { found: TOPIC_ID, .. }), "{refused}");
    fixture.edit("partition.metadata", |bytes| bytes.fill(0));
    assert_holds(&fixture.log(), 3);
}

#[test]
fn a_sync_that_a_truncation_overtook_does_not_count() {
    // Hazard 94.
    let fixture = Fixture::small();
    let mut log = fixture.log();
    fill(&mut log, 0, 10);
    sync(&mut log);
    assert_eq!(log.synced_end_offset(), 10);
    fill(&mut log, 10, 15);
    let point = log.begin_sync().expect("dirty");
    let outcome = point.run();
    log.truncate_to(7).expect("nobody reads");
    assert_eq!(log.synced_end_offset(), 7);
    fill(&mut log, 7, 20);
    assert_eq!(log.end_sync(point, outcome).expect("no error"), None);
    assert_eq!(log.synced_end_offset(), 7);
    sync(&mut log);
    assert_eq!(log.synced_end_offset(), 20);
}

#[test]
fn a_checkpoint_that_a_truncation_overtook_does_not_count() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    fill(&mut log, 0, 40);
    let point = log.begin_checkpoint().expect("readable").expect("dirty");
    log.truncate_to(25).expect("nobody reads");
    let outcome = point.run();
    log.end_checkpoint(point, outcome).expect("no error");
    assert_eq!(log.recovery_point(), 0);
    fill(&mut log, 25, 50);
    checkpoint(&mut log);
    drop(log);
    assert_holds(&fixture.log(), 50);
}

#[test]
fn truncation_waits_for_readers() {
    // R16, hazard 82.
    let fixture = Fixture::small();
    let mut log = fixture.log();
    fill(&mut log, 0, 10);
    let reader = log.reader();
    let early = reader.read(0, 100, 5, true).expect("readable");
    let late = reader.read(8, 1_000, i64::MAX, true).expect("readable");
    let refused = log.truncate_to(7).expect_err("in flight");
    assert!(refused.to_string().contains("in flight"), "{refused}");
    assert_eq!(reader.log_end_offset(), 7, "readers see the cut at once");
    assert!(reader.read(7, 1_000, i64::MAX, true).expect("readable").is_empty());
    assert!(reader.read(8, 1_000, i64::MAX, true).is_err());
    assert!(late.read().is_ok(), "the file is as it was");
    let kept = reader.read(0, 1_000, i64::MAX, true).expect("readable");
    assert!(log.drain().in_flight() > 0);
    drop((early, late));
    assert_eq!(log.drain().in_flight(), 0, "reads that began after do not count");
    log.truncate_to(7).expect("nobody reads");
    assert!(kept.read().is_ok());
    fill(&mut log, 7, 12);
    assert_holds(&log, 12);
}

#[test]
fn truncation_holds_at_every_offset() {
    // Hazard 40: the producers are those of a full scan.
    for to in 0..60 {
        let fixture = Fixture::small();
        let mut log = fixture.log();
        let mut states = vec![Vec::new()];
        for n in 0..60 {
            let id = 7 + i64::from(n % 3);
            let records = produced(&[&format!("value {n}")], id, 0, n / 3);
            append_in_epoch(&mut log, records, n / 10).expect("appended");
            states.push(log.producers());
            if n == 20 || n == 44 {
                checkpoint(&mut log);
            }
        }
        log.truncate_to(to).expect("nobody reads");
        assert_holds(&log, to);
        let batches = |entries: &[klamm_log::ProducerEntry]| -> Vec<_> {
            entries.iter().map(|entry| (entry.producer_id, entry.batches.clone())).collect()
        };
        let expected = batches(&states[usize::try_from(to).expect("positive")]);
        assert_eq!(batches(&log.producers()), expected, "cut at {to}");
        drop(log);
        let (log, report) = fixture.open();
        assert!(!report.lost_below_recovery_point);
        assert_holds(&log, to);
        assert_eq!(batches(&log.producers()), expected, "cut at {to}, reopened");
    }
}

#[test]
fn the_log_start_survives_and_hides_what_is_below() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    fill(&mut log, 0, 60);
    checkpoint(&mut log);
    assert!(log.advance_log_start(25));
    assert!(!log.advance_log_start(20));
    assert!(log.reader().read(24, 100, i64::MAX, true).is_err());
    log.dir().write_log_start_offsets().expect("checkpoint");
    let segments = log.segment_count();
    drop(log);
    let mut log = fixture.log();
    assert_eq!(log.log_start_offset(), 25);
    assert!(log.segment_count() < segments, "what lies below is removed when the log opens");
    assert_holds(&log, 60);
    assert!(log.advance_log_start(45));
    let deletion = log.delete_old_segments(fixture.now_ms, 60).expect("disk").expect("some");
    assert!(deletion.segment_count() > 0);
    deletion.run().expect("disk");
    drop(deletion);
    assert_holds(&log, 60);
    drop(log);
    let log = fixture.log();
    assert_eq!(log.log_start_offset(), 45);
    assert_holds(&log, 60);
}

#[test]
fn retention_by_time_and_size_keeps_what_is_not_committed() {
    let mut fixture = Fixture::small();
    fixture.config.retention_ms = 1_000;
    let mut log = fixture.log();
    fill(&mut log, 0, 60);
    let later = fixture.now_ms + 5_000;
    assert!(log.delete_old_segments(fixture.now_ms, 60).expect("disk").is_none());
    assert!(log.delete_old_segments(later, 0).expect("disk").is_none());
    checkpoint(&mut log);
    assert!(log.delete_old_segments(later, 0).expect("disk").is_none());
    log.delete_old_segments(later, 30).expect("disk").expect("some").run().expect("disk");
    assert!(log.log_start_offset() > 0 && log.log_start_offset() <= 30);
    log.delete_old_segments(later, 60).expect("disk").expect("some").run().expect("disk");
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (60, 60));
    assert_eq!(log.segment_count(), 1);
    append_in_epoch(&mut log, batch(&["value 60"]), 6).expect("appended");
    drop(log);
    let log = fixture.log();
    assert_eq!(read_all(&log.reader(), 60), [(60, "value 60".to_owned())]);
    drop(log);

    let mut fixture = Fixture::small();
    fixture.config.retention_bytes = 2_500;
    let mut log = fixture.log();
    fill(&mut log, 0, 60);
    checkpoint(&mut log);
    log.delete_old_segments(fixture.now_ms, 60).expect("disk").expect("some").run().expect("disk");
    assert!(log.size_bytes() >= 2_500 && log.size_bytes() < 3_500, "{}", log.size_bytes());
}

#[test]
fn a_deleted_log_is_gone_and_a_new_one_starts_empty() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    fill(&mut log, 0, 60);
    checkpoint(&mut log);
    let dir = Arc::clone(log.dir());
    let reader = log.reader();
    let renamed = log.delete(Uuid::from_u128(5)).expect("disk");
    assert!(renamed.ends_with("events-3.00000000000000000000000000000005-delete"));
    drop(reader);
    dir.files().remove_dir_all(&renamed).expect("disk");
    drop(dir);
    let dir = fixture.dir();
    assert!(dir.found().missing.is_empty() && dir.partitions().is_empty());
    let (log, report) = fixture.open_with(dir);
    assert!(report.created && !report.lost_below_recovery_point);
    assert_holds(&log, 0);
}

#[test]
fn a_checkpoint_that_a_deletion_overtakes_leaves_the_next_topic_alone() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    fill(&mut log, 0, 60);
    let point = log.begin_checkpoint().expect("readable").expect("due");
    let partition = fixture.path("");
    log.delete(Uuid::from_u128(5)).expect("disk");
    fixture.files().create_dir_all(&partition).expect("the next topic's");
    point.run().expect("disk");
    assert_eq!(fixture.names(), Vec::<String>::new());
}

#[test]
fn producers_of_deleted_records_are_not_forgotten() {
    // Hazard 51: the last batch of a producer goes, its sequence stays.
    let fixture = Fixture::small();
    let mut log = fixture.log();
    append(&mut log, produced(&["a"], 9, 0, 0)).expect("appended");
    checkpoint(&mut log);
    append(&mut log, produced(&["a"], 9, 0, 1)).expect("appended");
    for _ in 0..40 {
        append(&mut log, batch(&["something else"])).expect("appended");
    }
    log.advance_log_start(40);
    let now_ms = fixture.now_ms;
    assert!(log.delete_old_segments(now_ms, 42).expect("disk").is_none(), "no snapshot has them");
    assert!(log.needs_checkpoint());
    checkpoint(&mut log);
    log.delete_old_segments(now_ms, 42).expect("disk").expect("some").run().expect("disk");
    drop(log);
    let mut log = fixture.log();
    assert!(append(&mut log, produced(&["a"], 9, 0, 1)).expect("a duplicate").duplicate);
    append(&mut log, produced(&["a"], 9, 0, 2)).expect("appended");
}

/// What is done to a file behind the log's back.
#[derive(Clone, Debug)]
enum Damage {
    Flip(u16, u8),
    Cut(u16),
    Extend(Vec<u8>),
    Replace(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<u16>(), 0_u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        1 => any::<u16>().prop_map(Damage::Cut),
        1 => prop::collection::vec(any::<u8>(), 1..200).prop_map(Damage::Extend),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Damage::Replace),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Damage::Flip(at, bit) if !bytes.is_empty() => {
                let at = usize::from(*at) % bytes.len();
                bytes[at] ^= 1 << bit;
            }
            Damage::Flip(..) => {}
            Damage::Cut(at) => bytes.truncate(usize::from(*at) % (bytes.len() + 1)),
            Damage::Extend(more) => bytes.extend(more),
            Damage::Replace(other) => bytes.clone_from(other),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Damage anywhere ends in a log that says what it has or an error that says why not, never in
    /// a panic; and what lies past the recovery point is whole.
    #[test]
    fn no_damage_makes_it_panic(
        damages in prop::collection::vec((any::<prop::sample::Index>(), damage()), 1..4),
        trusted in any::<bool>(),
    ) {
        let fixture = Fixture::small();
        let mut log = fixture.log();
        for n in 0..40 {
            append_in_epoch(&mut log, produced(&["a", "b"], 9, 0, 2 * n), n / 10).expect("appended");
        }
        checkpoint(&mut log);
        drop(log);
        if !trusted {
            fixture.edit("../recovery-point-offset-checkpoint", Vec::clear);
        }
        let names = fixture.names();
        for (name, damage) in &damages {
            fixture.edit(&names[name.index(names.len())], |bytes| damage.apply(bytes));
        }
        let opened = Log::open(OpenLog {
            dir: Arc::new(fixture.dir()),
            partition: Fixture::partition(),
            topic_id: TOPIC_ID,
            config: fixture.config.clone(),
            now_ms: fixture.now_ms,
        });
        let Ok((mut log, _)) = opened else {
            return Ok(());
        };
        let reader = log.reader();
        for offset in (reader.log_start_offset()..reader.log_end_offset()).take(100) {
            // An error is fine; a panic is not.
            let _ = reader.read(offset, 500, i64::MAX, true).map(|slice| slice.read());
        }
        let _ = reader.offset_for_timestamp(fixture.now_ms).map(drop);
        let _ = reader.max_timestamp().map(drop);
        if !trusted {
            // Reading to the end works: every batch was checked. (Offsets may have gaps: they are
            // outside of the CRC, and compaction leaves some.)
            let _ = read_all(&reader, reader.log_start_offset());
        }
        let end = log.log_end_offset();
        if let Ok(appended) = append_in_epoch(&mut log, batch(&["next"]), 1 << 30) {
            prop_assert_eq!(appended.first_offset, end);
        }
        let _ = log.truncate_to(end / 2);
        let _ = log.close();
    }
}
