//! Any bytes as batches: taken apart, validated and read, without panic and within the cap.
#![no_main]

use bytes::Bytes;
use klamm_protocol::records::{self, Batch};
use libfuzzer_sys::fuzz_target;

const BYTES_MAX: usize = 1 << 20;

fn read(batch: &Batch) {
    let Ok(records) = batch.records(BYTES_MAX) else { return };
    let mut bytes = 0;
    for record in records.flatten() {
        bytes += record.key.map_or(0, |key| key.len());
        bytes += record.value.map_or(0, |value| value.len());
        bytes += record.headers.iter().map(|header| header.key.len()).sum::<usize>();
    }
    let cap = BYTES_MAX.max(batch.size());
    assert!(bytes <= cap, "{bytes} bytes of records from a batch capped at {cap}");
}

fuzz_target!(|input: &[u8]| {
    let _ = records::validate_header(input);
    let input = Bytes::copy_from_slice(input);
    for batch in records::split(input.clone()).flatten() {
        read(&batch);
    }
    for batch in records::split_strict(input).flatten() {
        let mut patched = batch.bytes().to_vec();
        records::set_base_offset(&mut patched, 42);
        records::set_log_append_time(&mut patched, 42);
        let header = records::BatchHeader::parse(&patched).expect("patching keeps a batch");
        records::verify_crc(&header, &patched).expect("patching renews the CRC");
    }
});
