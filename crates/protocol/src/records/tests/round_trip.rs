use super::super::varint;
use super::super::*;
use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn records_come_back_as_written(records in records(), compression in compression()) {
        let bytes = build(compression, &records);
        let batch = Batch::parse_stored(&bytes).expect("valid");
        prop_assert_eq!(batch.size(), bytes.len());
        prop_assert_eq!(batch.compression(), Ok(compression));
        prop_assert_eq!(batch.base_offset, records[0].offset);
        prop_assert_eq!(batch.last_offset(), records[records.len() - 1].offset);
        let read: Result<Vec<_>, _> = batch.records(BYTES_MAX).expect("decompresses").collect();
        prop_assert_eq!(read, Ok(records));
    }

    #[test]
    fn headers_come_back_as_written(header in any::<[u8; HEADER_LEN]>()) {
        let mut header = header;
        header[MAGIC_OFFSET] = 2;
        header[BATCH_LENGTH_OFFSET] = 1;
        prop_assert_eq!(BatchHeader::parse(&header).map(|parsed| parsed.encode()), Ok(header));
    }

    #[test]
    fn varints_come_back_in_the_length_foretold(small in any::<i32>(), large in any::<i64>()) {
        let mut written = Vec::new();
        varint::put_i32(&mut written, small);
        prop_assert_eq!(written.len(), varint::len_i32(small));
        varint::put_i64(&mut written, large);
        prop_assert_eq!(written.len(), varint::len_i32(small) + varint::len_i64(large));
        let mut rest = &written[..];
        prop_assert_eq!(varint::read_i32(&mut rest), Ok(small));
        prop_assert_eq!(varint::read_i64(&mut rest), Ok(large));
        prop_assert!(rest.is_empty());
    }
}

#[test]
fn varints_at_the_edges() {
    for (value, len) in [(0, 1), (-1, 1), (63, 1), (64, 2), (-64, 1), (i32::MAX, 5), (i32::MIN, 5)]
    {
        assert_eq!(varint::len_i32(value), len, "{value}");
    }
    assert_eq!(varint::len_i64(i64::MIN), 10);
    let too_long = varint::read_i32(&mut &[0x80; 6][..]);
    assert_eq!(too_long, Err(varint::VarintError::TooLong));
    let truncated = varint::read_i64(&mut &[0x80; 9][..]);
    assert_eq!(truncated, Err(varint::VarintError::Truncated));
}
