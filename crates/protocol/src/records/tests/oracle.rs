//! The same batches through the crate kafka-protocol's codec.

use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression as TheirCompression, Record as TheirRecord, RecordBatchDecoder, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType as TheirTimestampType,
};

use super::super::*;
use super::*;

fn theirs(compression: Compression) -> TheirCompression {
    match compression {
        Compression::None => TheirCompression::None,
        Compression::Gzip => TheirCompression::Gzip,
        Compression::Snappy => TheirCompression::Snappy,
        Compression::Lz4 => TheirCompression::Lz4,
        Compression::Zstd => TheirCompression::Zstd,
    }
}

/// Their headers are a map: repeated names fall together, so they are left out here.
fn their_headers(record: &Record) -> IndexMap<StrBytes, Option<Bytes>> {
    let text = |key: &Bytes| StrBytes::try_from(key.clone()).expect("generated as text");
    record.headers.iter().map(|header| (text(&header.key), header.value.clone())).collect()
}

fn their_record(record: &Record, base_offset: i64) -> TheirRecord {
    TheirRecord {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TheirTimestampType::Creation,
        offset: record.offset,
        sequence: i32::try_from(record.offset - base_offset).expect("small") - 1,
        timestamp: record.timestamp,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: their_headers(record),
    }
}

fn comparable(mut records: Vec<Record>) -> Vec<Record> {
    for record in &mut records {
        record.timestamp &= i64::MAX >> 1;
        let mut seen = Vec::new();
        record.headers.retain(|header| {
            let new = !seen.contains(&header.key);
            seen.push(header.key.clone());
            new
        });
    }
    records
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn they_read_what_we_write(records in records(), compression in compression()) {
        let records = comparable(records);
        let mut bytes = build(compression, &records);
        let read = RecordBatchDecoder::decode(&mut bytes).expect("they decode");
        prop_assert_eq!(read.compression, theirs(compression));
        let expected: Vec<_> =
            records.iter().map(|record| their_record(record, records[0].offset)).collect();
        prop_assert_eq!(read.records, expected);
    }

    #[test]
    fn we_read_what_they_write(records in records(), compression in compression()) {
        let records = comparable(records);
        let their_records: Vec<_> =
            records.iter().map(|record| their_record(record, records[0].offset)).collect();
        let mut bytes = bytes::BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: theirs(compression) };
        RecordBatchEncoder::encode(&mut bytes, &their_records, &options).expect("they encode");
        let batch = Batch::parse_stored(&bytes.freeze()).expect("sound");
        prop_assert_eq!(batch.compression(), Ok(compression));
        let read: Result<Vec<_>, _> = batch.records(BYTES_MAX).expect("decompresses").collect();
        prop_assert_eq!(read, Ok(records));
    }

    #[test]
    fn uncompressed_batches_are_the_same_bytes(records in records()) {
        let mut records = comparable(records);
        // Where the timestamps do not rise they take the least as base, Kafka takes the first.
        records.sort_by_key(|record| record.timestamp);
        for (offset, record) in (7..).zip(&mut records) {
            record.offset = offset;
        }
        let their_records: Vec<_> =
            records.iter().map(|record| their_record(record, records[0].offset)).collect();
        let mut bytes = bytes::BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: TheirCompression::None };
        RecordBatchEncoder::encode(&mut bytes, &their_records, &options).expect("they encode");
        prop_assert_eq!(bytes.freeze(), build(Compression::None, &records));
    }
}
