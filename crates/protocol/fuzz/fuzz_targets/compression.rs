//! Any bytes through every codec: bounded output or an error; and what a codec writes, it reads.
#![no_main]

use bytes::Bytes;
use klamm_protocol::compression::{Compression, compress, decompress};
use libfuzzer_sys::fuzz_target;

const BYTES_MAX: usize = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let input = Bytes::copy_from_slice(input);
    for codec in Compression::ALL {
        if let Ok(output) = decompress(codec, &input, BYTES_MAX) {
            assert!(output.len() <= BYTES_MAX, "{codec} put out {}", output.len());
        }
        let compressed = compress(codec, None, &input).expect("the usual level").into();
        assert_eq!(decompress(codec, &compressed, input.len()).as_ref(), Ok(&input), "{codec}");
    }
});
