//! What a leader takes, what it refuses, and where it puts it.

#[expect(unreachable_pub, reason = "shared between test files")]
mod fixture;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fixture::{
    Fixture, NOW_MS, TOPIC_ID, append, append_in_epoch, batch, batch_at, build, produced, read_all,
};
use klamm_log::{AppendError, LeaderAppend, Log, OpenError, OpenLog, Origin, RecordValidation};
use klamm_protocol::ErrorCode;
use klamm_protocol::compression::Compression;
use klamm_protocol::records::{
    BatchBuilder, BatchHeader, CRC_OFFSET, NewRecord, ProducerFields, TimestampType,
    set_base_offset,
};

fn code(outcome: Result<klamm_log::Appended, AppendError>) -> ErrorCode {
    outcome.expect_err("refused").code()
}

#[test]
fn offsets_are_given_in_order() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (0, 0));
    let first = append(&mut log, batch(&["a", "b"])).expect("appended");
    let second = append(&mut log, batch(&["c"])).expect("appended");
    assert_eq!((first.first_offset, first.last_offset), (0, 1));
    assert_eq!((second.first_offset, second.last_offset), (2, 2));
    assert_eq!(second.log_append_time, None);
    let all = [(0, "a".to_owned()), (1, "b".to_owned()), (2, "c".to_owned())];
    assert_eq!(read_all(&log.reader(), 0), all);
}

#[test]
fn log_append_time_stamps_the_batch() {
    let mut fixture = Fixture::new();
    fixture.config.log_append_time = true;
    let mut log = fixture.log();
    let appended = append(&mut log, batch_at(&["a"], 5)).expect("appended");
    assert_eq!(appended.log_append_time, Some(NOW_MS));
    let bytes = log.reader().read(0, 1 << 20, i64::MAX, true).expect("read").read().expect("read");
    let header = klamm_protocol::records::validate_stored(&bytes).expect("CRC is right");
    assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(header.max_timestamp, NOW_MS);
}

#[test]
fn segments_roll_by_size_and_stay_readable() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    for n in 0..100 {
        append(&mut log, batch(&[&format!("value {n}")])).expect("appended");
    }
    assert!(log.segment_count() > 5, "{}", log.segment_count());
    let all = read_all(&log.reader(), 0);
    assert_eq!(all.len(), 100);
    assert!(
        all.iter()
            .zip(0..)
            .all(|((offset, value), n)| { *offset == n && *value == format!("value {n}") })
    );
    for from in [1, 17, 50, 99] {
        assert_eq!(read_all(&log.reader(), from), all[from as usize..]);
    }
}

#[test]
fn segments_roll_by_time() {
    let mut fixture = Fixture::new();
    fixture.config.segment_ms = 1_000;
    let mut log = fixture.log();
    append(&mut log, batch_at(&["a"], NOW_MS - 5_000)).expect("appended");
    append(&mut log, batch_at(&["b"], NOW_MS - 4_000)).expect("appended");
    assert_eq!(log.segment_count(), 1);
    append(&mut log, batch_at(&["c"], NOW_MS - 3_999)).expect("appended");
    assert_eq!(log.segment_count(), 2);
    assert_eq!(log.active_segment_base_offset(), 2);
}

#[test]
fn segments_roll_when_an_index_is_full() {
    let mut fixture = Fixture::small();
    fixture.config.segment_bytes = 1 << 20;
    fixture.config.index_interval_bytes = 1;
    fixture.config.segment_index_bytes = 80;
    let mut log = fixture.log();
    for n in 0..100 {
        append(&mut log, batch_at(&["v"], NOW_MS - 100 + n)).expect("appended");
    }
    assert!(log.segment_count() > 10, "{}", log.segment_count());
    assert_eq!(read_all(&log.reader(), 0).len(), 100);
}

#[test]
fn damaged_batches_are_refused() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    let mut flipped = batch(&["a"]);
    *flipped.last_mut().expect("not empty") ^= 1;
    assert_eq!(code(append(&mut log, flipped)), ErrorCode::CorruptMessage);
    let mut wrong_crc = batch(&["a"]);
    wrong_crc[CRC_OFFSET] ^= 1;
    assert_eq!(code(append(&mut log, wrong_crc)), ErrorCode::CorruptMessage);
    let mut short = batch(&["a"]);
    short.pop();
    assert_eq!(code(append(&mut log, short)), ErrorCode::InvalidRecord);
    assert_eq!(code(append(&mut log, Vec::new())), ErrorCode::InvalidRecord);
    let mut two = batch(&["a"]);
    two.extend(batch(&["b"]));
    assert_eq!(code(append(&mut log, two)), ErrorCode::InvalidRecord);
    let mut shifted = batch(&["a"]);
    set_base_offset(&mut shifted, 7);
    assert_eq!(code(append(&mut log, shifted)), ErrorCode::InvalidRecord);
    assert_eq!(log.log_end_offset(), 0);
}

#[test]
fn batches_over_the_limits_are_refused() {
    let mut fixture = Fixture::new();
    fixture.config.max_message_bytes = 200;
    fixture.config.segment_bytes = 100;
    let mut log = fixture.log();
    let large = "x".repeat(300);
    assert_eq!(code(append(&mut log, batch(&[&large]))), ErrorCode::MessageTooLarge);
    let medium = "x".repeat(100);
    assert_eq!(code(append(&mut log, batch(&[&medium]))), ErrorCode::RecordListTooLarge);
    append(&mut log, batch(&["x"])).expect("appended");
}

#[test]
fn control_and_transactional_batches_of_clients_are_refused() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    let record = NewRecord { timestamp: NOW_MS, key: Some(b"k"), value: None, headers: &[] };
    let mut control = BatchBuilder::new(Compression::None, 1000);
    control.set_control(true);
    control.append(&record).expect("fits");
    let control = control.build().expect("builds").to_vec();
    assert_eq!(code(append(&mut log, control)), ErrorCode::InvalidRecord);
    let mut transactional = BatchBuilder::new(Compression::None, 1000);
    transactional.set_transactional(true);
    let producer = ProducerFields { producer_id: 1, producer_epoch: 0, base_sequence: 0 };
    transactional.set_producer(producer);
    transactional.append(&record).expect("fits");
    let transactional = transactional.build().expect("builds").to_vec();
    let refused = append(&mut log, transactional).expect_err("refused");
    assert!(matches!(refused, AppendError::Transactional), "{refused}");
}

#[test]
fn timestamps_out_of_bounds_name_their_records() {
    let mut fixture = Fixture::new();
    fixture.config.timestamp_before_max_ms = 1_000;
    fixture.config.timestamp_after_max_ms = 1_000;
    for validation in [RecordValidation::Header, RecordValidation::Full] {
        fixture.config.validation = validation;
        let mut log = fixture.log();
        let late = append(&mut log, batch_at(&["a", "b", "c"], NOW_MS + 999)).expect_err("refused");
        assert_eq!(late.code(), ErrorCode::InvalidTimestamp);
        let found: Vec<_> = late.rejected_records().iter().map(|r| r.batch_index).collect();
        assert_eq!(found, [2]);
        let early = append(&mut log, batch_at(&["a", "b"], NOW_MS - 1_001)).expect_err("refused");
        assert_eq!(early.code(), ErrorCode::InvalidTimestamp);
        assert_eq!(early.rejected_records().len(), 1);
        append(&mut log, batch_at(&["a"], NOW_MS - 1_000)).expect("on the edge");
        append(&mut log, batch_at(&["a"], -1)).expect("no timestamp");
    }
}

#[test]
fn compacted_topics_take_no_keyless_records() {
    let mut fixture = Fixture::new();
    fixture.config.compact = true;
    let mut log = fixture.log();
    for compression in [Compression::None, Compression::Lz4] {
        let mut builder = BatchBuilder::new(compression, 1000);
        for key in [Some(&b"k"[..]), None] {
            let record = NewRecord { timestamp: NOW_MS, key, value: None, headers: &[] };
            builder.append(&record).expect("fits");
        }
        let records = builder.build().expect("builds").to_vec();
        let refused = append(&mut log, records).expect_err("refused");
        assert_eq!(refused.code(), ErrorCode::InvalidRecord);
        assert_eq!(refused.rejected_records()[0].batch_index, 1);
    }
    append(&mut log, batch(&["has a key"])).expect("appended");
}

#[test]
fn full_validation_corrects_a_false_max_timestamp() {
    let mut fixture = Fixture::new();
    fixture.config.validation = RecordValidation::Full;
    let mut log = fixture.log();
    let mut records = batch(&["a", "b"]);
    let header = BatchHeader::parse(&records).expect("a batch");
    let lie = BatchHeader { max_timestamp: NOW_MS + 500, ..header };
    records[..61].copy_from_slice(&lie.encode());
    let crc = crc32c::crc32c(&records[21..]);
    records[CRC_OFFSET..21].copy_from_slice(&crc.to_be_bytes());
    append(&mut log, records).expect("appended");
    let bytes = log.reader().read(0, 1 << 20, i64::MAX, true).expect("read").read().expect("read");
    let header = klamm_protocol::records::validate_stored(&bytes).expect("CRC is right");
    assert_eq!(header.max_timestamp, NOW_MS + 1);
}

#[test]
fn an_append_of_an_older_leader_is_refused() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    log.record_epoch_start(5);
    let refused = append_in_epoch(&mut log, batch(&["a"]), 4).expect_err("refused");
    assert!(matches!(refused, AppendError::StaleLeaderEpoch { epoch: 4, latest: 5 }), "{refused}");
    append_in_epoch(&mut log, batch(&["a"]), 5).expect("appended");
    append_in_epoch(&mut log, batch(&["b"]), 7).expect("appended");
    assert_eq!(log.end_offset_for_epoch(5), (5, 1));
    assert_eq!(log.end_offset_for_epoch(7), (7, 2));
}

#[test]
fn a_follower_keeps_offsets_and_epochs() {
    let fixture = Fixture::small();
    let mut leader = fixture.log();
    for epoch in 0..30 {
        append_in_epoch(&mut leader, batch(&["a", "b"]), epoch / 10).expect("appended");
    }
    let other = Fixture::small();
    let mut follower = other.log();
    while follower.log_end_offset() < leader.log_end_offset() {
        let from = follower.log_end_offset();
        let slice = leader.reader().read(from, 500, i64::MAX, true).expect("read");
        let bytes = slice.read().expect("read");
        follower.append_as_follower(&bytes, 3, NOW_MS).expect("appended");
        let again = follower.append_as_follower(&bytes, 3, NOW_MS).expect_err("refused");
        assert!(matches!(again, AppendError::OffsetsOutOfOrder { .. }), "{again}");
    }
    assert_eq!(read_all(&follower.reader(), 0), read_all(&leader.reader(), 0));
    assert_eq!(*follower.epochs(), *leader.epochs());
    let mut newer = batch(&["c"]);
    set_base_offset(&mut newer, follower.log_end_offset());
    klamm_protocol::records::set_leader_epoch(&mut newer, 4);
    let refused = follower.append_as_follower(&newer, 3, NOW_MS).expect_err("of a later epoch");
    let expected = matches!(refused, AppendError::EpochAboveLeaders { epoch: 4, leader_epoch: 3 });
    assert!(expected, "{refused}");
    follower.append_as_follower(&newer, 4, NOW_MS).expect("its own");
}

// --- idempotence ---

#[test]
fn any_of_the_last_five_batches_is_answered_with_its_offset() {
    // Hazard 49.
    let fixture = Fixture::new();
    let mut log = fixture.log();
    for n in 0..7 {
        append(&mut log, produced(&["a", "b"], 9, 0, 2 * n)).expect("appended");
    }
    for n in 2..7 {
        let again = append(&mut log, produced(&["a", "b"], 9, 0, 2 * n)).expect("a duplicate");
        assert!(again.duplicate);
        assert_eq!(
            (again.first_offset, again.last_offset),
            (i64::from(2 * n), i64::from(2 * n) + 1)
        );
    }
    for n in 0..2 {
        let refused = append(&mut log, produced(&["a", "b"], 9, 0, 2 * n));
        assert_eq!(code(refused), ErrorCode::OutOfOrderSequenceNumber);
    }
    assert_eq!(log.log_end_offset(), 14);
}

#[test]
fn the_window_survives_clean_and_unclean_restarts() {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    for n in 0..30 {
        append(&mut log, produced(&["a"], 9, 0, n)).expect("appended");
        append(&mut log, produced(&["b"], 10, 3, n)).expect("appended");
    }
    for clean in [true, false, true, false] {
        if clean {
            Fixture::close(log);
        } else {
            drop(log);
        }
        log = fixture.log();
        for n in 25..30 {
            let again = append(&mut log, produced(&["a"], 9, 0, n)).expect("a duplicate");
            assert!(again.duplicate, "sequence {n}, clean {clean}");
            assert_eq!(again.first_offset, i64::from(2 * n));
        }
        let refused = append(&mut log, produced(&["a"], 9, 0, 24));
        assert_eq!(code(refused), ErrorCode::OutOfOrderSequenceNumber);
    }
    append(&mut log, produced(&["a"], 9, 0, 30)).expect("appended");
}

#[test]
fn a_gap_in_the_sequence_is_refused() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    append(&mut log, produced(&["a"], 9, 0, 0)).expect("appended");
    let refused = append(&mut log, produced(&["a"], 9, 0, 2));
    assert_eq!(code(refused), ErrorCode::OutOfOrderSequenceNumber);
    append(&mut log, produced(&["a"], 9, 0, 1)).expect("appended");
}

#[test]
fn an_unknown_producer_may_begin_with_any_sequence() {
    // Hazard 52.
    let fixture = Fixture::new();
    let mut log = fixture.log();
    append(&mut log, produced(&["a"], 9, 4, 1_000)).expect("appended");
    append(&mut log, produced(&["a"], 9, 4, 1_001)).expect("appended");
}

#[test]
fn a_new_epoch_begins_at_zero_and_fences_the_old() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    append(&mut log, produced(&["a"], 9, 1, 0)).expect("appended");
    let refused = append(&mut log, produced(&["a"], 9, 2, 1));
    assert_eq!(code(refused), ErrorCode::OutOfOrderSequenceNumber);
    append(&mut log, produced(&["a"], 9, 2, 0)).expect("appended");
    let fenced = append(&mut log, produced(&["b"], 9, 1, 1));
    assert_eq!(code(fenced), ErrorCode::InvalidProducerEpoch);
}

#[test]
fn sequences_wrap_to_zero() {
    // Hazard 50.
    let fixture = Fixture::new();
    let mut log = fixture.log();
    append(&mut log, produced(&["a"], 9, 0, i32::MAX - 1)).expect("appended");
    // The last sequence of this batch is 0.
    append(&mut log, produced(&["a", "b"], 9, 0, i32::MAX)).expect("appended");
    let again = append(&mut log, produced(&["a", "b"], 9, 0, i32::MAX)).expect("a duplicate");
    assert!(again.duplicate);
    append(&mut log, produced(&["a"], 9, 0, 1)).expect("appended");
    let other = produced(&["a"], 10, 0, i32::MAX);
    append(&mut log, other).expect("appended");
    append(&mut log, produced(&["a"], 10, 0, 0)).expect("appended");
}

#[test]
fn producers_expire_by_the_time_of_their_last_append() {
    // Hazard 51: timestamps of records do not count.
    let mut fixture = Fixture::new();
    fixture.config.producer_id_expiration = Duration::from_secs(60);
    let mut log = fixture.log();
    let producer = ProducerFields { producer_id: 9, producer_epoch: 0, base_sequence: 0 };
    append(&mut log, build(&["a"], producer, 5, Compression::None)).expect("appended");
    log.expire_producers(NOW_MS + 59_999);
    assert_eq!(log.producer_count(), 1);
    log.expire_producers(NOW_MS + 60_000);
    assert_eq!(log.producer_count(), 0);
}

#[test]
fn coordinators_need_no_sequence() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    let append = LeaderAppend { leader_epoch: 0, now_ms: NOW_MS, origin: Origin::Coordinator };
    let records = batch_at(&["a"], 1);
    log.append_as_leader(&records, append).expect("appended");
}

// --- a full or failing disk ---

#[test]
fn a_full_disk_leaves_the_log_as_it_was() {
    // Hazards 41 and 47.
    let fixture = Fixture::new();
    let mut log = fixture.log();
    append(&mut log, batch(&["a"])).expect("appended");
    for room in [0, 1, 40] {
        fixture.faults.set_room(Some(room));
        let refused = append(&mut log, batch(&["b"])).expect_err("refused");
        assert!(matches!(refused, AppendError::DiskFull), "{refused}");
        assert_eq!(refused.code(), ErrorCode::KafkaStorageError);
        assert_eq!(read_all(&log.reader(), 0), [(0, "a".to_owned())]);
    }
    fixture.faults.set_room(None);
    append(&mut log, batch(&["c"])).expect("appended");
    drop(log);
    let (log, report) = fixture.open();
    assert_eq!(report.cut_bytes, 0);
    assert_eq!(read_all(&log.reader(), 0), [(0, "a".to_owned()), (1, "c".to_owned())]);
}

#[test]
fn a_log_without_descriptors_refuses_to_roll_and_goes_on_when_there_are_some() {
    let mut fixture = Fixture::new();
    fixture.config.segment_bytes = batch(&["a"]).len() as u32;
    let mut log = fixture.log();
    append(&mut log, batch(&["a"])).expect("appended");
    fixture.faults.fail_opens.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        let refused = append(&mut log, batch(&["b"])).expect_err("refused");
        assert!(matches!(refused, AppendError::Shortage(_)), "{refused}");
        assert_eq!(refused.code(), ErrorCode::KafkaStorageError);
        assert!(log.offline().is_none());
        assert_eq!(log.log_end_offset(), 1);
        assert_eq!(read_all(&log.reader(), 0), [(0, "a".to_owned())]);
    }
    fixture.faults.fail_opens.store(false, Ordering::Relaxed);
    append(&mut log, batch(&["c"])).expect("appended");
    drop(log);
    let (log, report) = fixture.open();
    assert_eq!(report.cut_bytes, 0);
    assert_eq!(read_all(&log.reader(), 0), [(0, "a".to_owned()), (1, "c".to_owned())]);
}

#[test]
fn a_log_that_cannot_be_opened_without_descriptors_opens_later_in_the_same_process() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    append(&mut log, batch(&["a"])).expect("appended");
    drop(log);
    let dir = Arc::new(fixture.dir());
    let open = || OpenLog {
        dir: Arc::clone(&dir),
        partition: Fixture::partition(),
        topic_id: TOPIC_ID,
        config: fixture.config.clone(),
        now_ms: NOW_MS,
    };
    fixture.faults.fail_opens.store(true, Ordering::Relaxed);
    assert!(matches!(Log::open(open()), Err(OpenError::Io(_))));
    assert!(dir.offline().is_none());
    fixture.faults.fail_opens.store(false, Ordering::Relaxed);
    let (log, _) = Log::open(open()).expect("the log opens");
    assert_eq!(read_all(&log.reader(), 0), [(0, "a".to_owned())]);
}

#[test]
fn a_full_disk_that_cannot_be_cut_back_is_offline() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    fixture.faults.set_room(Some(10));
    fixture.faults.fail_set_len.store(true, Ordering::Relaxed);
    let refused = append(&mut log, batch(&["b"])).expect_err("refused");
    assert!(matches!(refused, AppendError::Offline(_)), "{refused}");
    fixture.faults.set_room(None);
    fixture.faults.fail_set_len.store(false, Ordering::Relaxed);
    let refused = append(&mut log, batch(&["b"])).expect_err("still refused");
    assert!(matches!(refused, AppendError::Offline(_)), "{refused}");
    assert!(log.dir().offline().is_some());
}

#[test]
fn the_first_failed_sync_is_the_last() {
    // Hazard 43.
    let fixture = Fixture::new();
    let mut log = fixture.log();
    append(&mut log, batch(&["a"])).expect("appended");
    let point = log.begin_sync().expect("something to sync");
    fixture.faults.fail_syncs.store(true, Ordering::Relaxed);
    let outcome = point.run();
    fixture.faults.fail_syncs.store(false, Ordering::Relaxed);
    log.end_sync(point, outcome).expect_err("offline");
    assert_eq!(log.synced_end_offset(), 0);
    let refused = append(&mut log, batch(&["b"])).expect_err("refused");
    assert!(matches!(refused, AppendError::Offline(_)), "{refused}");
    let dir = Arc::clone(log.dir());
    drop(log);
    drop(dir);
    // Hazard 96: the next process of this boot knows.
    let dir = fixture.dir();
    assert_eq!(dir.found().offline_boot_id.as_deref(), Some(dir.boot_id()));
    let (log, _) = fixture.open_with(dir);
    assert_eq!(read_all(&log.reader(), 0), [(0, "a".to_owned())]);
}

#[test]
fn hazard_48_a_segment_ends_before_its_offsets_no_longer_fit_its_index() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    let at = |offset: i64| {
        let mut records = batch(&["x"]);
        set_base_offset(&mut records, offset);
        klamm_protocol::records::set_leader_epoch(&mut records, 0);
        records
    };
    let edge = i64::from(i32::MAX);
    let offsets = [0, edge, edge + 1, 2 * edge + 1, 2 * edge + 2];
    for offset in offsets {
        log.append_as_follower(&at(offset), 0, NOW_MS).expect("compaction leaves such holes");
    }
    assert_eq!(log.segment_count(), 3, "two batches fit each of the first two");
    Fixture::close(log);
    let (log, report) = fixture.open();
    assert_eq!((report.cut_bytes, log.log_end_offset()), (0, 2 * edge + 3), "{report:?}");
    let found: Vec<i64> = read_all(&log.reader(), 0).iter().map(|(offset, _)| *offset).collect();
    assert_eq!(found, offsets);
}
