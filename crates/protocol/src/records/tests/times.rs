use super::super::*;
use crate::compression::Compression;

/// A batch of records of that value, a second apart.
fn batch(codec: Compression, records: i64, value: &[u8]) -> Batch {
    let mut builder = BatchBuilder::new(codec, usize::MAX);
    for number in 0..records {
        let record =
            NewRecord { timestamp: 1000 * number, value: Some(value), ..Default::default() };
        builder.append(&record).expect("no bound");
    }
    Batch::parse(&builder.build().expect("builds")).expect("whole")
}

#[test]
fn a_stream_of_times_is_that_of_the_records() {
    for codec in Compression::ALL {
        let batch = batch(codec, 300, &[b'x'; 1000]);
        let records = batch.records(usize::MAX).expect("readable").map(|record| {
            let Record { offset, timestamp, .. } = record.expect("readable");
            RecordTime { offset, timestamp }
        });
        let payload = batch.payload();
        let times = RecordTimes::new(batch.header(), &payload);
        assert!(times.eq(records), "{codec}");
    }
}

#[test]
fn a_stream_of_times_ends_where_the_records_do_and_where_they_are_damaged() {
    for codec in Compression::ALL {
        let batch = batch(codec, 300, &[b'x'; 1000]);
        let payload = batch.payload();
        let cut = &payload[..payload.len() / 2];
        let found = RecordTimes::new(batch.header(), cut).count();
        assert!(found < 300, "{codec}: {found} in half of the bytes");
        let more = BatchHeader { records_count: i32::MAX, ..*batch.header() };
        assert_eq!(RecordTimes::new(&more, &payload).count(), 300, "{codec}");
    }
}
