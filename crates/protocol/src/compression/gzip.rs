//! gzip: one member when written, any number when read, as Java's `GZIPInputStream` does.

use std::io::{self, Read, Write};

use flate2::Compression as Level;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

const LEVELS: std::ops::RangeInclusive<i32> = 1..=9;

pub(super) fn compress(input: &[u8], level: Option<i32>) -> io::Result<Vec<u8>> {
    let level = match level {
        None | Some(-1) => Level::default(),
        Some(level) if LEVELS.contains(&level) => Level::new(level.unsigned_abs()),
        Some(level) => return Err(io::Error::other(format!("level {level} is not 1 to 9"))),
    };
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(input)?;
    encoder.finish()
}

pub(super) fn reader(input: &[u8]) -> impl Read + '_ {
    MultiGzDecoder::new(input)
}
