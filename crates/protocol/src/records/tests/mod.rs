mod batches;
mod hostile;
mod oracle;
mod round_trip;
mod times;

use bytes::Bytes;
use proptest::prelude::*;

use crate::compression::Compression;

use super::{BatchBuilder, Header, NewRecord, Record};

const BYTES_MAX: usize = 10_000_000;

fn new_record(record: &Record) -> NewRecord<'_> {
    NewRecord {
        timestamp: record.timestamp,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: &record.headers,
    }
}

/// Builds the batch of `records`, whose offsets must rise from that of the first.
fn build(compression: Compression, records: &[Record]) -> Bytes {
    let mut builder = BatchBuilder::new(compression, usize::MAX);
    let base_offset = records.first().map_or(0, |record| record.offset);
    builder.set_base_offset(base_offset);
    for record in records {
        let delta = i32::try_from(record.offset - base_offset).expect("a small delta");
        builder.append_at(delta, &new_record(record)).expect("no limit");
    }
    builder.build().expect("compresses")
}

fn record(offset: i64, value: &'static str) -> Record {
    Record {
        offset,
        timestamp: 1_700_000_000_000 + offset,
        key: None,
        value: Some(Bytes::from_static(value.as_bytes())),
        headers: Vec::new(),
    }
}

fn bytes(len_max: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..len_max).prop_map(Bytes::from)
}

fn header() -> impl Strategy<Value = Header> {
    ("[a-z]{0,9}", prop::option::of(bytes(20)))
        .prop_map(|(key, value)| Header { key: key.into(), value })
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let record = (
        any::<i64>(),
        prop::option::of(bytes(50)),
        prop::option::of(bytes(300)),
        prop::collection::vec(header(), 0..4),
    );
    (0..1_i64 << 50, prop::collection::vec(record, 1..40)).prop_map(|(base_offset, records)| {
        (base_offset..)
            .zip(records)
            .map(|(offset, (timestamp, key, value, headers))| Record {
                offset,
                timestamp,
                key,
                value,
                headers,
            })
            .collect()
    })
}

fn compression() -> impl Strategy<Value = Compression> {
    prop::sample::select(&Compression::ALL[..])
}
