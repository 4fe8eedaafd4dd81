use super::super::*;
use super::*;

fn read_all(batch: &Batch, bytes_max: usize) -> Result<Vec<Record>, RecordError> {
    batch.records(bytes_max)?.collect()
}

/// A batch around `payload` that passes every check of the header.
fn around(payload: &[u8], records_count: i32) -> Batch {
    let template = build(Compression::None, &[record(0, "")]);
    let mut header = BatchHeader::parse(&template).expect("sound");
    header.batch_length = BATCH_LENGTH_MIN + i32::try_from(payload.len()).expect("small");
    header.records_count = records_count;
    header.last_offset_delta = records_count.saturating_sub(1).max(0);
    let mut bytes = [&header.encode()[..], payload].concat();
    let crc = crc32c::crc32c(&bytes[ATTRIBUTES_OFFSET..]);
    bytes[CRC_OFFSET..ATTRIBUTES_OFFSET].copy_from_slice(&crc.to_be_bytes());
    Batch::parse_stored(&bytes.into()).expect("sound outside")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_bytes_are_taken_apart_without_panic(input in bytes(300)) {
        for batch in split(input.clone()).chain(split_strict(input.clone())).flatten() {
            let _ = read_all(&batch, 1000);
        }
        let _ = validate_header(&input);
    }

    #[test]
    fn any_payload_is_read_without_panic(payload in bytes(200), count in 0..100_i32) {
        let _ = read_all(&around(&payload, count), 1000);
    }

    #[test]
    fn damaged_batches_are_read_without_panic(
        records in records(),
        compression in compression(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut batch = build(compression, &records).to_vec();
        for (at, byte) in damage {
            let at = at.index(batch.len());
            batch[at] = byte;
        }
        if let Ok(batch) = Batch::parse(&batch.into()) {
            let _ = read_all(&batch, 100_000);
        }
    }

    #[test]
    fn a_damaged_byte_under_the_crc_is_found(
        records in records(),
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
    ) {
        let mut batch = build(Compression::None, &records).to_vec();
        let at = ATTRIBUTES_OFFSET + at.index(batch.len() - ATTRIBUTES_OFFSET);
        batch[at] ^= flip;
        let found = matches!(validate_stored(&batch), Err(BatchError::CrcMismatch { .. }));
        prop_assert!(found);
    }
}

#[test]
fn a_bomb_is_stopped_at_the_cap() {
    let mut record = record(0, "");
    record.value = Some(vec![0; 5_000_000].into());
    for codec in &Compression::ALL[1..] {
        let batch = Batch::parse_stored(&build(*codec, &[record.clone()])).expect("sound");
        assert!(batch.size() < 500_000, "{codec} compresses zeros");
        let error = read_all(&batch, 1_000_000).expect_err("too large");
        assert!(matches!(error, RecordError::Decompress(_)), "{error}");
        assert!(read_all(&batch, 6_000_000).is_ok());
    }
}

#[test]
fn each_fault_of_a_record_has_its_own_error() {
    let fault = |payload: &[u8], count| read_all(&around(payload, count), 1000).expect_err("bad");
    // length 6: attributes, timestamp delta, offset delta, null key, null value, no headers
    let good = [12, 0, 0, 0, 1, 1, 0];
    assert!(read_all(&around(&good, 1), 1000).is_ok());

    assert_eq!(fault(&good, 2), RecordError::Truncated { what: "record length" });
    let twice = [good, good].concat();
    assert_eq!(fault(&twice, 1), RecordError::TrailingBytes { bytes: 7, records_count: 1 });
    assert_eq!(fault(&[14, 0, 0, 0, 1, 1, 0], 1), RecordError::Truncated { what: "record" });
    assert_eq!(fault(&[14, 0, 0, 0, 1, 1, 0, 9], 1), RecordError::RecordNotRead { bytes: 1 });
    let negative = RecordError::BadLength { what: "record", length: -1 };
    assert_eq!(fault(&[1], 1), negative);
    let headers = RecordError::HeaderCount { count: 8, bytes: 0 };
    assert_eq!(fault(&[12, 0, 0, 0, 1, 1, 16], 1), headers);
    let headers = RecordError::HeaderCount { count: -1, bytes: 0 };
    assert_eq!(fault(&[12, 0, 0, 0, 1, 1, 1], 1), headers);
    assert_eq!(fault(&[12, 0, 0, 0, 8, 1, 0], 1), RecordError::Truncated { what: "key" });
    let long = fault(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1], 1);
    assert_eq!(long, RecordError::VarintTooLong { what: "record length" });
    // a header with a null key
    assert_eq!(
        fault(&[16, 0, 0, 0, 1, 1, 2, 1, 1], 1),
        RecordError::BadLength { what: "header key", length: -1 },
    );
}

#[test]
fn iteration_ends_with_the_first_error() {
    let mut records =
        around(&[12, 0, 0, 0, 1, 1, 0, 12, 0], 1000).records(1000).expect("uncompressed");
    assert!(records.next().is_some_and(|record| record.is_ok()));
    assert!(records.next().is_some_and(|record| record.is_err()));
    assert!(records.next().is_none());
}
