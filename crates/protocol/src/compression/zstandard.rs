//! Zstandard.

use std::io::{self, Read};

use zstd::stream::read::Decoder;
use zstd::zstd_safe::CompressionLevel;

/// Zstandard's own usual level, which is also Kafka's.
const LEVEL_DEFAULT: CompressionLevel = 3;

/// The largest window a frame may ask for, 128 MiB: the largest that any level writes and that
/// Kafka's reader accepts. The window is address space until output fills it.
const WINDOW_LOG_MAX: u32 = 27;

pub(super) fn compress(input: &[u8], level: Option<i32>) -> io::Result<Vec<u8>> {
    let level = level.unwrap_or(LEVEL_DEFAULT);
    let range = zstd::compression_level_range();
    if !range.contains(&level) {
        let (first, last) = (range.start(), range.end());
        return Err(io::Error::other(format!("level {level} is not {first} to {last}")));
    }
    zstd::bulk::compress(input, level)
}

pub(super) fn reader(input: &[u8]) -> io::Result<impl Read + '_> {
    let mut decoder = Decoder::with_buffer(input)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    Ok(decoder)
}
