//! From answers to a connection's bytes: vectored writes, and file slices sent without a copy.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;

use bytes::{Buf, Bytes};
use klamm_env::network::FileSlice;
use klamm_env::{Stream, Threads};

use crate::cold_reads;
use crate::dispatch::Frame;

/// File slices below this are copied: a `sendfile` call costs more than the copy.
const SEND_FILE_BYTES_MIN: u64 = 8 * 1024;
/// Pieces of memory that one write call takes.
const VECTORS_MAX: usize = 32;

/// What one frame consists of, in the order of the wire.
pub(crate) enum Part {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes of a file.
    File(FileSlice),
}

/// Takes frames apart; small file slices are read here, on a thread of `threads` where the disk has
/// to be waited for.
///
/// # Errors
/// When a file cannot be read.
pub(crate) async fn parts(threads: &dyn Threads, frames: Vec<Frame>) -> io::Result<Vec<Part>> {
    let mut parts = Vec::with_capacity(frames.len());
    for frame in frames {
        let mut rest = frame.encoded.bytes;
        let mut taken = 0;
        let mut pieces = frame.pieces.into_iter();
        for gap in frame.encoded.gaps {
            push_bytes(&mut parts, rest.split_to(gap.at - taken));
            taken = gap.at;
            push_pieces(threads, &mut parts, &mut pieces, u64::from(gap.len)).await?;
        }
        push_bytes(&mut parts, rest);
    }
    Ok(parts)
}

fn push_bytes(parts: &mut Vec<Part>, bytes: Bytes) {
    if !bytes.is_empty() {
        parts.push(Part::Bytes(bytes));
    }
}

async fn push_pieces(
    threads: &dyn Threads,
    parts: &mut Vec<Part>,
    pieces: &mut impl Iterator<Item = FileSlice>,
    gap_len: u64,
) -> io::Result<()> {
    let mut filled = 0;
    while filled < gap_len {
        let piece = pieces.next().expect("the pieces of a gap add up to its length");
        filled += piece.len;
        if piece.len >= SEND_FILE_BYTES_MIN {
            parts.push(Part::File(piece));
            continue;
        }
        cold_reads::fetch_next(threads, &piece).await?;
        let mut copy = vec![0; piece.len as usize];
        piece.file.read_exact_at(&mut copy, piece.offset)?;
        push_bytes(parts, copy.into());
    }
    assert_eq!(filled, gap_len, "the pieces of a gap add up to its length");
    Ok(())
}

/// Gives the stream for the length of one poll.
pub(crate) trait WithStream {
    /// Runs `poll` on the stream.
    fn with_stream<T>(&self, poll: impl FnOnce(Pin<&mut dyn Stream>) -> T) -> T;
}

/// Writes everything, waiting for a slow reader as long as it takes, and for the disk on a thread of
/// `threads`.
///
/// # Errors
/// As the connection's, or when a file ends before its slice.
pub(crate) async fn write_parts(
    threads: &dyn Threads,
    stream: &impl WithStream,
    parts: Vec<Part>,
) -> io::Result<()> {
    let mut run = Vec::new();
    for part in parts {
        match part {
            Part::Bytes(bytes) => run.push(bytes),
            Part::File(piece) => {
                write_run(stream, &mut run).await?;
                send_file(threads, stream, piece).await?;
            }
        }
    }
    write_run(stream, &mut run).await
}

async fn write_run(stream: &impl WithStream, run: &mut Vec<Bytes>) -> io::Result<()> {
    let mut first = 0;
    while first < run.len() {
        let mut written = poll_fn(|cx| {
            let mut slices = [IoSlice::new(&[]); VECTORS_MAX];
            let count = VECTORS_MAX.min(run.len() - first);
            for (slice, bytes) in slices.iter_mut().zip(&run[first..]) {
                *slice = IoSlice::new(bytes);
            }
            stream.with_stream(|stream| stream.poll_write_vectored(cx, &slices[..count]))
        })
        .await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while written > 0 {
            let step = written.min(run[first].len());
            run[first].advance(step);
            written -= step;
            if run[first].is_empty() {
                first += 1;
            }
        }
    }
    run.clear();
    Ok(())
}

async fn send_file(
    threads: &dyn Threads,
    stream: &impl WithStream,
    mut rest: FileSlice,
) -> io::Result<()> {
    while rest.len > 0 {
        let mut chunk = rest.clone();
        chunk.len = cold_reads::fetch_next(threads, &rest).await?;
        rest.offset += chunk.len;
        rest.len -= chunk.len;
        while chunk.len > 0 {
            let sent = poll_fn(|cx| stream.with_stream(|stream| stream.poll_send_file(cx, &chunk)));
            let sent = sent.await? as u64;
            chunk.offset += sent;
            chunk.len -= sent;
        }
    }
    Ok(())
}
