//! The codecs of record batches: what compresses the records after a batch header.
//!
//! Decompression takes the most bytes it may put out and reads as a stream: no length that stands
//! in the input is trusted with memory before the bytes it speaks of have appeared.

mod gzip;
mod lz4;
mod snappy;
#[cfg(test)]
mod tests;
mod zstandard;

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use bytes::Bytes;

/// What one batch may decompress to where the caller has no bound of its own.
pub const BATCH_DECOMPRESSED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Output grows by at most this much ahead of what was decompressed.
const OUTPUT_STEP_BYTES: usize = 64 * 1024;

/// How the records of a batch are compressed; the low three bits of its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Compression {
    /// Records stand as they are.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy blocks in the framing of the Java library (xerial); read without framing too.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// Zstandard frames; Produce 7 and Fetch 10 or newer.
    Zstd,
}

/// A codec number that Kafka does not define.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown compression codec {id}")]
pub struct UnknownCodec {
    /// The number as found.
    pub id: u8,
}

/// A codec name that Kafka does not define.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown compression {name:?}: none, gzip, snappy, lz4 and zstd are known")]
pub struct UnknownCodecName {
    /// The name as given.
    pub name: String,
}

/// Why compressed bytes were not decompressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// The bytes are not what the codec writes.
    #[error("corrupt {codec} data: {reason}")]
    Corrupt {
        /// The codec that was asked.
        codec: Compression,
        /// What it said.
        reason: String,
    },
    /// The output would pass the caller's bound.
    #[error("{codec} data decompresses to more than {bytes_max} bytes")]
    TooLarge {
        /// The codec that was asked.
        codec: Compression,
        /// The bound.
        bytes_max: usize,
    },
}

/// A codec refused to compress: a level out of its range, in practice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{codec} compression failed: {reason}")]
pub struct CompressError {
    /// The codec that was asked.
    pub codec: Compression,
    /// What it said.
    pub reason: String,
}

impl Compression {
    /// Every codec, in the order of the wire's numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The number in a batch's attributes.
    pub const fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The codec of a number.
    pub const fn from_id(id: u8) -> Result<Self, UnknownCodec> {
        match id {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            _ => Err(UnknownCodec { id }),
        }
    }

    /// The name as in Kafka's `compression.type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Compression {
    type Err = UnknownCodecName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.name() == name)
            .ok_or_else(|| UnknownCodecName { name: name.to_owned() })
    }
}

/// Compresses `input` as Kafka's clients and brokers read it. Without a level the codec's usual
/// one is taken; snappy and lz4 have none and ignore it.
pub fn compress(
    codec: Compression,
    level: Option<i32>,
    input: &[u8],
) -> Result<Vec<u8>, CompressError> {
    let output = match codec {
        Compression::None => Ok(input.to_vec()),
        Compression::Gzip => gzip::compress(input, level),
        Compression::Snappy => snappy::compress(input).map_err(io::Error::other),
        Compression::Lz4 => lz4::compress(input),
        Compression::Zstd => zstandard::compress(input, level),
    };
    output.map_err(|error| CompressError { codec, reason: error.to_string() })
}

/// Decompresses all of `input` to at most `bytes_max` bytes. Uncompressed input is shared, not
/// copied, and bound by `bytes_max` like any other.
pub fn decompress(
    codec: Compression,
    input: &Bytes,
    bytes_max: usize,
) -> Result<Bytes, DecompressError> {
    match codec {
        Compression::None if input.len() > bytes_max => {
            Err(DecompressError::TooLarge { codec, bytes_max })
        }
        Compression::None => Ok(input.clone()),
        Compression::Gzip => read_bounded(codec, gzip::reader(input), bytes_max),
        Compression::Snappy => snappy::decompress(input, bytes_max),
        Compression::Lz4 => read_bounded(codec, lz4::reader(input), bytes_max),
        Compression::Zstd => {
            let reader = zstandard::reader(input).map_err(|error| corrupt(codec, &error))?;
            read_bounded(codec, reader, bytes_max)
        }
    }
}

/// Decompresses `input` as it is read. What is held is the codec's own: a block (lz4, snappy) or a
/// window (gzip 32 KiB, zstd as the frame says, 128 MiB at most and no more than the output).
///
/// # Errors
/// When the codec cannot be begun; what is wrong with the input is told by the reads.
pub fn stream(codec: Compression, input: &[u8]) -> Result<Box<dyn Read + '_>, DecompressError> {
    Ok(match codec {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(gzip::reader(input)),
        Compression::Snappy => Box::new(snappy::Blocks::new(input)),
        Compression::Lz4 => Box::new(lz4::reader(input)),
        Compression::Zstd => {
            Box::new(zstandard::reader(input).map_err(|error| corrupt(codec, &error))?)
        }
    })
}

fn corrupt(codec: Compression, reason: &dyn fmt::Display) -> DecompressError {
    DecompressError::Corrupt { codec, reason: reason.to_string() }
}

fn read_bounded(
    codec: Compression,
    mut reader: impl Read,
    bytes_max: usize,
) -> Result<Bytes, DecompressError> {
    let mut output = Vec::new();
    let mut filled = 0;
    loop {
        if filled == output.len() {
            // Doubling, one byte beyond the bound at most: that byte is how passing it shows.
            let step = output.len().max(OUTPUT_STEP_BYTES);
            let len = output.len().saturating_add(step).min(bytes_max.saturating_add(1));
            output.resize(len, 0);
        }
        match reader.read(&mut output[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(corrupt(codec, &error)),
        }
        if filled > bytes_max {
            return Err(DecompressError::TooLarge { codec, bytes_max });
        }
    }
    output.truncate(filled);
    Ok(output.into())
}
