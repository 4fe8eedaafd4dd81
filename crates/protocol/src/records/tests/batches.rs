use super::super::*;
use super::*;

fn three() -> Bytes {
    build(Compression::None, &[record(0, "a"), record(1, "b"), record(2, "c")])
}

/// The batch with one field changed and the CRC made to fit.
fn altered(batch: &Bytes, at: usize, field: &[u8]) -> Vec<u8> {
    let mut batch = batch.to_vec();
    batch[at..at + field.len()].copy_from_slice(field);
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_OFFSET..]);
    batch[CRC_OFFSET..ATTRIBUTES_OFFSET].copy_from_slice(&crc.to_be_bytes());
    batch
}

#[test]
fn each_fault_of_a_produced_batch_has_its_own_error() {
    let good = three();
    let size = good.len();
    assert!(validate_header(&good).is_ok());
    assert_eq!(validate_header(&good[..60]), Err(BatchError::HeaderTruncated { bytes: 60 }));
    let cut = validate_header(&good[..size - 1]);
    assert_eq!(cut, Err(BatchError::Truncated { size, bytes: size - 1 }));

    let fault = |at, field: &[u8]| validate_header(&altered(&good, at, field)).expect_err("bad");
    for magic in [0, 1] {
        assert_eq!(fault(MAGIC_OFFSET, &[magic]), BatchError::OldMagic { magic: magic as i8 });
    }
    assert_eq!(fault(MAGIC_OFFSET, &[3]), BatchError::UnknownMagic { magic: 3 });
    assert_eq!(fault(MAGIC_OFFSET, &[255]), BatchError::UnknownMagic { magic: -1 });
    for batch_length in [48, 0, -1, i32::MIN] {
        let error = fault(BATCH_LENGTH_OFFSET, &batch_length.to_be_bytes());
        assert_eq!(error, BatchError::LengthTooSmall { batch_length });
    }
    let wild = fault(BATCH_LENGTH_OFFSET, &i32::MAX.to_be_bytes());
    assert_eq!(wild, BatchError::Truncated { size: i32::MAX as usize + 12, bytes: size });
    assert!(matches!(fault(ATTRIBUTES_OFFSET, &[0, 5]), BatchError::UnknownCodec(_)));
    assert_eq!(fault(ATTRIBUTES_OFFSET, &[0, 0x20]), BatchError::Control);
    let negative = fault(RECORDS_COUNT_OFFSET, &(-3_i32).to_be_bytes());
    assert_eq!(negative, BatchError::NegativeCount { records_count: -3 });
    assert_eq!(fault(RECORDS_COUNT_OFFSET, &[0; 4]), BatchError::Empty);
    let sparse = BatchError::OffsetsNotDense { records_count: 2, last_offset_delta: 2 };
    assert_eq!(fault(RECORDS_COUNT_OFFSET, &2_i32.to_be_bytes()), sparse);
    let above = BatchError::CountAboveOffsets { records_count: 4, last_offset_delta: 2 };
    assert_eq!(fault(RECORDS_COUNT_OFFSET, &4_i32.to_be_bytes()), above);
    let delta = fault(LAST_OFFSET_DELTA_OFFSET, &(-1_i32).to_be_bytes());
    assert_eq!(delta, BatchError::NegativeOffsetDelta { last_offset_delta: -1 });
    let base = fault(BASE_OFFSET_OFFSET, &7_i64.to_be_bytes());
    assert_eq!(base, BatchError::BaseOffsetNotZero { base_offset: 7 });
    let overflow = fault(BASE_OFFSET_OFFSET, &(i64::MAX - 2).to_be_bytes());
    assert!(matches!(overflow, BatchError::OffsetOverflow { .. }));
    let sequence = fault(PRODUCER_ID_OFFSET, &9_i64.to_be_bytes());
    assert!(matches!(sequence, BatchError::SequenceMissing { producer_id: 9, .. }));

    let mut damaged = good.to_vec();
    damaged[size - 1] ^= 1;
    assert!(matches!(validate_header(&damaged), Err(BatchError::CrcMismatch { .. })));
}

#[test]
fn compacted_and_control_batches_are_sound_but_not_for_producers() {
    let holes = build(Compression::None, &[record(10, "a"), record(17, "b")]);
    let stored = validate_stored(&holes).expect("sound");
    assert_eq!((stored.records_count, stored.last_offset()), (2, 17));
    assert!(matches!(validate_header(&holes), Err(BatchError::OffsetsNotDense { .. })));

    let mut empty = BatchBuilder::new(Compression::Zstd, 1000);
    empty.set_base_offset(5);
    empty.set_last_offset_delta(4);
    let empty = Batch::parse_stored(&empty.build().expect("builds")).expect("sound");
    assert_eq!((empty.records_count, empty.last_offset(), empty.next_offset()), (0, 9, 10));

    let marker = EndTxnMarker { control_type: ControlType::Commit, coordinator_epoch: 3 };
    let batch = BatchBuilder::end_txn(77, 1, 1000, marker);
    assert_eq!(validate_header(&batch), Err(BatchError::Control));
    let batch = Batch::parse_stored(&batch).expect("sound");
    assert!(batch.is_control() && batch.is_transactional());
    assert_eq!((batch.producer_id, batch.producer_epoch, batch.base_sequence), (77, 1, -1));
    let record = batch.records(100).expect("plain").next().expect("one").expect("sound");
    let key = ControlKey::decode(&record.key.expect("a key")).expect("sound");
    let value = record.value.expect("a value");
    assert_eq!(EndTxnMarker::decode(key.control_type, &value), Ok(marker));
}

#[test]
fn a_concatenation_is_taken_apart() {
    let (first, second) = (three(), build(Compression::Lz4, &[record(3, "d")]));
    let both: Bytes = [first.clone(), second.clone()].concat().into();
    let batches: Result<Vec<_>, _> = split(both.clone()).collect();
    let bytes: Vec<_> = batches.expect("sound").into_iter().map(Batch::into_bytes).collect();
    assert_eq!(bytes, [first.clone(), second]);

    for len in 0..both.len() {
        let part = both.slice(..len);
        let whole = usize::from(len >= first.len());
        let tolerant: Vec<_> = split(part.clone()).collect();
        assert_eq!(tolerant.len(), whole, "cut at {len}");
        assert!(tolerant.iter().all(Result::is_ok));
        let strict_ok = split_strict(part).all(|batch| batch.is_ok());
        assert_eq!(strict_ok, len == 0 || len == first.len(), "cut at {len}");
    }
}

#[test]
fn garbage_between_batches_is_an_error_once() {
    let garbage: Bytes = [three(), vec![0; 100].into()].concat().into();
    let mut batches = split(garbage);
    assert!(batches.next().is_some_and(|batch| batch.is_ok()));
    assert_eq!(batches.next(), Some(Err(BatchError::OldMagic { magic: 0 })));
    assert_eq!(batches.next(), None);
}

#[test]
fn patches_leave_the_batch_valid() {
    let mut batch = three().to_vec();
    set_base_offset(&mut batch, 1 << 40);
    set_leader_epoch(&mut batch, 12);
    let header = validate_stored(&batch).expect("offset and epoch lie outside the CRC");
    assert_eq!((header.base_offset, header.partition_leader_epoch), (1 << 40, 12));

    set_log_append_time(&mut batch, 5_000);
    let stamped = Batch::parse_stored(&batch.into()).expect("the CRC was renewed");
    assert_eq!(stamped.timestamp_type(), TimestampType::LogAppendTime);
    let timestamps: Vec<_> = stamped
        .records(1000)
        .expect("plain")
        .map(|record| record.expect("sound").timestamp)
        .collect();
    assert_eq!(timestamps, [5_000; 3]);

    let mut batch = three().to_vec();
    let producer = ProducerFields { producer_id: 1 << 33, producer_epoch: 4, base_sequence: 77 };
    set_producer(&mut batch, producer);
    let header = validate_header(&batch).expect("the CRC was renewed");
    assert_eq!((header.producer_id, header.producer_epoch), (1 << 33, 4));
    assert_eq!((header.base_sequence, header.last_sequence()), (77, 79));

    let mut batch = three().to_vec();
    set_delete_horizon(&mut batch, 99);
    let header = validate_stored(&batch).expect("the CRC was renewed");
    assert_eq!(header.delete_horizon_ms(), Some(99));
}

#[test]
fn the_first_record_always_fits_and_later_ones_up_to_the_limit() {
    let big = record(0, "0123456789");
    let mut builder = BatchBuilder::new(Compression::None, 10);
    assert!(builder.append(&new_record(&big)).is_ok());
    assert!(builder.append(&new_record(&big)).is_err());

    let mut builder = BatchBuilder::new(Compression::None, 200);
    while builder.append(&new_record(&big)).is_ok() {}
    let batch = builder.build().expect("builds");
    assert_eq!(batch.len(), builder.size());
    assert!((180..=200).contains(&batch.len()), "{}", batch.len());
    assert_eq!(validate_header(&batch).map(|h| h.records_count), Ok(builder.records_count()));
}

#[test]
fn sequences_wrap_to_zero() {
    let mut builder = BatchBuilder::new(Compression::None, 1000);
    let base_sequence = i32::MAX - 1;
    builder.set_producer(ProducerFields { producer_id: 1, producer_epoch: 0, base_sequence });
    for _ in 0..3 {
        builder.append(&NewRecord::default()).expect("fits");
    }
    let header = validate_header(&builder.build().expect("builds")).expect("sound");
    assert_eq!(header.last_sequence(), 0);
}

#[test]
fn max_timestamp_is_the_greatest_not_the_last() {
    let mut builder = BatchBuilder::new(Compression::None, 1000);
    for timestamp in [50, 90, 10] {
        builder.append(&NewRecord { timestamp, ..NewRecord::default() }).expect("fits");
    }
    let header = validate_header(&builder.build().expect("builds")).expect("sound");
    assert_eq!((header.base_timestamp, header.max_timestamp), (50, 90));
}
