//! Snappy, in the framing of the Java library (xerial) that Kafka's clients write:
//!
//! ```text
//! 82 "SNAPPY" 00 | version i32 = 1 | compatible i32 = 1 | (block_len i32 | raw snappy block)*
//! ```
//!
//! Some clients (older kafka-python, Go's without xerial) write one raw block; both are read.

use std::io::{self, Read};

use bytes::Bytes;
use snap::raw::{Decoder, Encoder, decompress_len};

use super::{BATCH_DECOMPRESSED_BYTES_MAX, Compression, DecompressError, corrupt};

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const HEADER_LEN: usize = 16;
const VERSION: i32 = 1;

/// What the Java library puts into one block.
const BLOCK_INPUT_BYTES: usize = 32 * 1024;

/// A copy element of two bytes at least gives 64 bytes at most, and a literal no more than it
/// takes: a block that claims a larger ratio is lying, and gets no memory.
const EXPANSION_MAX: usize = 64;

pub(super) fn compress(input: &[u8]) -> Result<Vec<u8>, snap::Error> {
    let mut output = Vec::with_capacity(HEADER_LEN + input.len() / 2);
    output.extend_from_slice(&MAGIC);
    output.extend_from_slice(&VERSION.to_be_bytes());
    output.extend_from_slice(&VERSION.to_be_bytes());
    let mut encoder = Encoder::new();
    for block in input.chunks(BLOCK_INPUT_BYTES) {
        let compressed = encoder.compress_vec(block)?;
        let len = u32::try_from(compressed.len()).expect("a block of 32 KiB stays far below 4 GiB");
        output.extend_from_slice(&len.to_be_bytes());
        output.extend_from_slice(&compressed);
    }
    Ok(output)
}

pub(super) fn decompress(input: &[u8], bytes_max: usize) -> Result<Bytes, DecompressError> {
    let mut output = Vec::new();
    if input.starts_with(&MAGIC) {
        let mut blocks = input.get(HEADER_LEN..).ok_or_else(|| truncated(HEADER_LEN, input))?;
        while !blocks.is_empty() {
            let block = take_block(&mut blocks)?;
            decompress_block(block, &mut output, bytes_max)?;
        }
    } else {
        decompress_block(input, &mut output, bytes_max)?;
    }
    Ok(output.into())
}

/// The same block after block.
pub(super) struct Blocks<'a> {
    /// What follows; without framing all of it is one block.
    rest: &'a [u8],
    is_framed: bool,
    block: Vec<u8>,
    read: usize,
}

impl Blocks<'_> {
    pub(super) fn new(input: &[u8]) -> Blocks<'_> {
        let is_framed = input.starts_with(&MAGIC);
        let rest = if is_framed { input.get(HEADER_LEN..).unwrap_or_default() } else { input };
        Blocks { rest, is_framed, block: Vec::new(), read: 0 }
    }
}

impl Read for Blocks<'_> {
    fn read(&mut self, output: &mut [u8]) -> io::Result<usize> {
        while self.read == self.block.len() {
            if self.rest.is_empty() {
                return Ok(0);
            }
            let next = match self.is_framed {
                true => take_block(&mut self.rest).map_err(io::Error::other)?,
                false => std::mem::take(&mut self.rest),
            };
            self.block.clear();
            self.read = 0;
            decompress_block(next, &mut self.block, BATCH_DECOMPRESSED_BYTES_MAX)
                .map_err(io::Error::other)?;
        }
        let len = output.len().min(self.block.len() - self.read);
        output[..len].copy_from_slice(&self.block[self.read..self.read + len]);
        self.read += len;
        Ok(len)
    }
}

fn truncated(need: usize, have: &[u8]) -> DecompressError {
    corrupt(Compression::Snappy, &format_args!("{need} bytes announced, {} left", have.len()))
}

fn take_block<'a>(blocks: &mut &'a [u8]) -> Result<&'a [u8], DecompressError> {
    let (len, rest) = blocks.split_first_chunk::<4>().ok_or_else(|| truncated(4, blocks))?;
    let len = u32::from_be_bytes(*len) as usize;
    let (block, rest) = rest.split_at_checked(len).ok_or_else(|| truncated(len, rest))?;
    *blocks = rest;
    Ok(block)
}

fn decompress_block(
    block: &[u8],
    output: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), DecompressError> {
    let codec = Compression::Snappy;
    let claimed = decompress_len(block).map_err(|error| corrupt(codec, &error))?;
    if claimed > block.len().saturating_mul(EXPANSION_MAX) {
        let len = block.len();
        let reason = format_args!("a block of {len} bytes claims to hold {claimed}");
        return Err(corrupt(codec, &reason));
    }
    let start = output.len();
    if claimed > bytes_max.saturating_sub(start) {
        return Err(DecompressError::TooLarge { codec, bytes_max });
    }
    output.resize(start + claimed, 0);
    let written = Decoder::new()
        .decompress(block, &mut output[start..])
        .map_err(|error| corrupt(codec, &error))?;
    output.truncate(start + written);
    Ok(())
}
