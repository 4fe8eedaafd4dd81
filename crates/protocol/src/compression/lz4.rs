//! The LZ4 frame format. Kafka's Java reader knows independent blocks only, so those are written,
//! of 64 KiB as its own writer's, without a content checksum.

use std::io::{self, Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

pub(super) fn compress(input: &[u8]) -> io::Result<Vec<u8>> {
    let frame = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
    encoder.write_all(input)?;
    encoder.finish().map_err(io::Error::other)
}

pub(super) fn reader(input: &[u8]) -> impl Read + '_ {
    FrameDecoder::new(Demanding { input })
}

/// Makes reading past the end an error: the decoder takes an end between two blocks for the end
/// of the frame, and so would pass off half of the records as all of them.
struct Demanding<'a> {
    input: &'a [u8],
}

impl Read for Demanding<'_> {
    fn read(&mut self, output: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() && !output.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the frame has no end mark"));
        }
        self.input.read(output)
    }
}
