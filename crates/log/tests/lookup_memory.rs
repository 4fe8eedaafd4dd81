//! What a search by time holds in memory of a small batch that decompresses to very much.

#[expect(unreachable_pub, reason = "shared between test files")]
mod fixture;

#[path = "../../protocol/tests/messages/allocations.rs"]
mod allocations;

use allocations::allocated_by;
use fixture::{Fixture, append};
use klamm_protocol::compression::Compression;
use klamm_protocol::reader::{ALLOCATION_BASE, ALLOCATION_PER_BYTE};
use klamm_protocol::records::{BatchBuilder, NewRecord};

const VALUE_BYTES: usize = 4 << 20;
const RECORDS: i64 = 4;

/// Records of zeros whose timestamps are their offsets.
fn bomb(codec: Compression) -> Vec<u8> {
    let value = vec![0; VALUE_BYTES];
    let mut builder = BatchBuilder::new(codec, usize::MAX);
    for timestamp in 0..RECORDS {
        let record = NewRecord { timestamp, value: Some(&value), ..NewRecord::default() };
        builder.append(&record).expect("no bound");
    }
    builder.build().expect("compresses").to_vec()
}

#[test]
fn a_search_by_time_holds_no_more_of_a_batch_than_a_small_multiple_of_its_bytes() {
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut fixture = Fixture::new();
        fixture.config.max_message_bytes = 16 << 20;
        let mut log = fixture.log();
        let batch = bomb(codec);
        let len = batch.len();
        append(&mut log, batch).expect("appended");
        let reader = log.reader();
        let last = RECORDS - 1;
        let (found, allocated) = allocated_by(|| reader.offset_for_timestamp(last));
        let found = found.expect("readable").expect("it is there");
        assert_eq!((found.offset, found.timestamp), (last, last), "{codec}");
        let bound = ALLOCATION_BASE + ALLOCATION_PER_BYTE * len;
        assert!(allocated <= bound, "{codec}: {allocated} bytes for a batch of {len}");
    }
}
