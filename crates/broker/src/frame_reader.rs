//! From a connection's bytes to request frames, without trusting their lengths.

use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use klamm_protocol::frame::{FrameLenError, frame_len};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::memory::{Memory, Reservation};

/// Bytes of a fresh read buffer, and the step by which one grows for a longer frame until the
/// received bytes double it.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// What is read at once from a connection on which much has come: each read costs an
/// acknowledgement, too.
const FULL_READ_BYTES: usize = 256 * 1024;
/// Buffers that have grown beyond this are not kept for the next frame.
const SPARE_BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Buffers that a loop keeps for its connections.
const SPARE_BUFFERS_MAX: usize = 8;
/// Longest time between [`STEP_BYTES`] bytes of a frame and the next as many, once others wait for
/// the memory that it holds. Clients that stall one after the other hold them up this long each.
const STEP_MAX: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 250 });
/// What has to come in [`STEP_MAX`]: 64 KiB/s.
const STEP_BYTES: usize = 16 * 1024;
/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

/// Why there is no further frame.
#[derive(Debug, Error)]
pub(crate) enum FrameError {
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A length that no request has.
    #[error("{0}")]
    Length(#[from] FrameLenError),
    /// The client went away in the middle of a frame.
    #[error("the connection ended within a request")]
    Truncated,
    /// The client stopped in the middle of a frame while memory was short.
    #[error("{read} of {len} bytes came, and no more while others wait for the memory they hold")]
    Stalled {
        /// The bytes that came.
        read: usize,
        /// Length of the frame.
        len: usize,
    },
}

/// Read buffers that no connection of a loop uses at the moment: an idle connection holds none.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffers {
    spare: Mutex<Vec<BytesMut>>,
}

impl ReadBuffers {
    fn take(&self) -> BytesMut {
        let spare = self.spare.lock().expect("no panic while locked").pop();
        spare.unwrap_or_else(|| BytesMut::with_capacity(READ_BUFFER_BYTES))
    }

    /// Keeps an empty buffer of `allocated` bytes, unless a request still holds a part of it.
    fn give(&self, mut buffer: BytesMut, allocated: usize) {
        if allocated > SPARE_BUFFER_BYTES_MAX || !buffer.try_reclaim(allocated) {
            return;
        }
        let mut spare = self.spare.lock().expect("no panic while locked");
        if spare.len() < SPARE_BUFFERS_MAX {
            spare.push(buffer);
        }
    }
}

/// One connection's incoming bytes.
pub(crate) struct FrameReader {
    buffers: Arc<ReadBuffers>,
    buffer: BytesMut,
    /// Bytes of the buffer before anything was split off.
    allocated: usize,
    /// Wakes a frame that may have stalled. Kept from frame to frame: setting a timer that is due
    /// before all others costs the loop a system call.
    step: Option<Pin<Box<Sleep>>>,
    frame_bytes_max: usize,
    /// Length of the frame before.
    last_len: usize,
    /// The last read brought as much as it could take.
    busy: bool,
}

impl FrameReader {
    /// Reads frames of up to `frame_bytes_max` bytes.
    pub(crate) fn new(buffers: Arc<ReadBuffers>, frame_bytes_max: usize) -> FrameReader {
        FrameReader {
            buffers,
            buffer: BytesMut::new(),
            allocated: 0,
            step: None,
            frame_bytes_max,
            last_len: 0,
            busy: false,
        }
    }

    /// The next frame without its length, and the memory reserved for it; `None` when the client
    /// has closed the connection between frames.
    pub(crate) async fn next<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        memory: &Memory,
    ) -> Result<Option<(Bytes, Reservation)>, FrameError> {
        while self.buffer.len() < LENGTH_BYTES {
            if self.fill(stream, LENGTH_BYTES, self.read_most()).await? == 0 {
                let clean = self.buffer.is_empty();
                return if clean { Ok(None) } else { Err(FrameError::Truncated) };
            }
        }
        let mut prefix = [0; LENGTH_BYTES];
        prefix.copy_from_slice(&self.buffer[..LENGTH_BYTES]);
        let len = frame_len(prefix, self.frame_bytes_max)?;
        self.buffer.advance(LENGTH_BYTES);
        let reservation = self.body(stream, len, memory).await?;
        self.last_len = len;
        Ok(Some((self.buffer.split_to(len).freeze(), reservation)))
    }

    /// Reads until `len` bytes are in the buffer, and answers what was reserved for them on the
    /// way: what is announced takes no memory from others, what comes does.
    async fn body<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        len: usize,
        memory: &Memory,
    ) -> Result<Reservation, FrameError> {
        let mut reservation = Reservation::default();
        if self.buffer.len() >= len {
            memory.grow(&mut reservation, len).await;
            return Ok(reservation);
        }
        let mut due = Instant::now() + STEP_MAX;
        let mut step = self.step.take().unwrap_or_else(|| Box::pin(sleep_until(due)));
        if step.is_elapsed() {
            step.as_mut().reset(due);
        }
        let mut step_bytes = self.buffer.len() + STEP_BYTES;
        while self.buffer.len() < len {
            let room = self.buffer.len().saturating_mul(2).max(READ_BUFFER_BYTES);
            memory.grow(&mut reservation, room.min(len)).await;
            // No byte of the frame behind a long one: that one then begins at the start of the
            // buffer, and need not be moved there when it turns out to be long as well.
            let most = match len > READ_BUFFER_BYTES {
                true => room.min(len) - self.buffer.len(),
                false => self.read_most(),
            };
            tokio::select! {
                biased;
                read = self.fill(stream, len, most) => {
                    if read? == 0 {
                        return Err(FrameError::Truncated);
                    }
                    if self.buffer.len() >= step_bytes {
                        step_bytes = self.buffer.len() + STEP_BYTES;
                        due = Instant::now() + STEP_MAX;
                    }
                }
                () = step.as_mut() => {
                    let now = Instant::now();
                    if now >= due {
                        if memory.is_short() {
                            return Err(FrameError::Stalled { read: self.buffer.len(), len });
                        }
                        due = now + STEP_MAX;
                    }
                    step.as_mut().reset(due);
                }
            }
        }
        self.step = Some(step);
        Ok(reservation)
    }

    /// What to read at once where a frame begins. Long ones mostly come in equal lengths, and then
    /// none is read together with the next.
    fn read_most(&self) -> usize {
        match self.last_len > READ_BUFFER_BYTES {
            true => LENGTH_BYTES + self.last_len.min(FULL_READ_BYTES),
            false if self.busy => FULL_READ_BYTES,
            false => READ_BUFFER_BYTES,
        }
    }

    /// Reads once, up to `most` bytes, with `wanted` bytes in the buffer as the aim. Room grows with
    /// what has come, not with what a length announces.
    async fn fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        wanted: usize,
        most: usize,
    ) -> io::Result<usize> {
        if !self.buffer.is_empty() && self.buffer.capacity() == self.buffer.len() {
            let missing = wanted.saturating_sub(self.buffer.len());
            self.make_room(missing, self.busy && wanted <= READ_BUFFER_BYTES);
        }
        poll_fn(|cx| {
            if self.buffer.is_empty() {
                self.rewind(most);
            }
            let most = most.min(self.buffer.capacity() - self.buffer.len());
            let mut room = (&mut self.buffer).limit(most);
            let read = pin!(stream.read_buf(&mut room)).poll(cx);
            match &read {
                Poll::Pending if self.buffer.is_empty() => {
                    self.buffers.give(mem::take(&mut self.buffer), self.allocated);
                }
                Poll::Ready(Ok(read)) => self.busy = *read >= most.min(READ_BUFFER_BYTES),
                _ => {}
            }
            read
        })
        .await
    }

    /// Makes room behind what is in a full buffer: for `missing` bytes by and by, or for a full read.
    fn make_room(&mut self, missing: usize, full_read: bool) {
        let held = self.buffer.len();
        if full_read && self.allocated < FULL_READ_BYTES {
            let mut larger = BytesMut::with_capacity(FULL_READ_BYTES.max(held + missing));
            larger.extend_from_slice(&self.buffer);
            self.buffer = larger;
        } else if full_read {
            self.buffer.reserve(missing.max(FULL_READ_BYTES.saturating_sub(held)));
        } else {
            self.buffer.reserve(missing.clamp(LENGTH_BYTES, held.max(READ_BUFFER_BYTES)));
        }
        self.allocated = self.allocated.max(self.buffer.capacity());
    }

    /// Makes an empty buffer usable from its start; takes another one where a request still holds
    /// too much of this one, and a new one where it is too small for what is read at once.
    fn rewind(&mut self, most: usize) {
        if self.allocated == 0
            || !self.buffer.try_reclaim(self.allocated)
                && !self.buffer.try_reclaim(READ_BUFFER_BYTES)
        {
            self.buffer = self.buffers.take();
            self.allocated = self.buffer.capacity();
        }
        if self.allocated < most {
            self.buffer = BytesMut::with_capacity(most);
            self.allocated = self.buffer.capacity();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::task::Context;
    use tokio::io::{AsyncWriteExt, ReadBuf, duplex};
    use tokio::runtime::{Builder, Runtime};
    use tokio::time::timeout;

    fn reader(max: usize) -> FrameReader {
        FrameReader::new(Arc::default(), max)
    }

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_time().build().expect("a runtime")
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut bytes = (body.len() as i32).to_be_bytes().to_vec();
        bytes.extend_from_slice(body);
        bytes
    }

    fn next(reader: &mut FrameReader, mut input: &[u8]) -> Result<Option<Bytes>, FrameError> {
        let runtime = runtime();
        let _entered = runtime.enter();
        let memory = Memory::new(1 << 30);
        let frame = reader.next(&mut input, &memory).now_or_never().expect("a slice never waits");
        Ok(frame?.map(|(bytes, _)| bytes))
    }

    #[test]
    fn frames_that_arrive_together_come_out_one_by_one() {
        let runtime = runtime();
        let _entered = runtime.enter();
        let memory = Memory::new(1 << 30);
        let input = [frame(b"one"), frame(b""), frame(&[7; 200_000])].concat();
        let mut stream = &input[..];
        let mut reader = reader(1 << 20);
        for expected in [&b"one"[..], b"", &[7; 200_000]] {
            let got = reader.next(&mut stream, &memory).now_or_never().expect("at hand");
            assert_eq!(got.expect("sound").expect("there").0, expected);
        }
        let end = reader.next(&mut stream, &memory).now_or_never().expect("at hand");
        assert!(end.expect("sound").is_none());
    }

    /// Gives its bytes as fast as they are taken, and notes where in memory each part of them went.
    struct Noting<'a> {
        input: &'a [u8],
        given: usize,
        /// Where the byte at that place of the input went.
        went: Vec<(usize, *const u8)>,
    }

    impl AsyncRead for Noting<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let given = self.given;
            let len = buffer.remaining().min(self.input.len() - given);
            let address = buffer.initialize_unfilled().as_ptr();
            self.went.push((given, address));
            buffer.put_slice(&self.input[given..given + len]);
            self.given += len;
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn the_bytes_of_large_frames_stay_where_they_were_read_to() {
        let runtime = runtime();
        let _entered = runtime.enter();
        let memory = Memory::new(1 << 30);
        let input = frame(&[7; 270_000]).repeat(20);
        let mut stream = Noting { input: &input, given: 0, went: Vec::new() };
        let mut reader = reader(1 << 20);
        let mut moved = 0;
        for n in 0..20 {
            let next = reader.next(&mut stream, &memory).now_or_never().expect("at hand");
            let (bytes, _) = next.expect("sound").expect("there");
            // Each frame began with a read of its own.
            let began = stream.went.iter().find(|(at, _)| *at == n * 270_004);
            let (_, address) = began.expect("it was not read together with the one before");
            moved += usize::from(address.wrapping_add(LENGTH_BYTES) != bytes.as_ptr());
        }
        assert!(moved <= 1, "{moved} frames were moved; only a buffer that grows may be");
    }

    #[test]
    fn much_is_read_at_once_from_who_sends_much_and_little_from_others() {
        let runtime = runtime();
        let _entered = runtime.enter();
        let memory = Memory::new(1 << 30);
        let input = frame(&[7; 10_000]).repeat(200);
        let mut stream = Noting { input: &input, given: 0, went: Vec::new() };
        let mut reader = reader(1 << 20);
        for _ in 0..200 {
            let next = reader.next(&mut stream, &memory).now_or_never().expect("at hand");
            assert_eq!(next.expect("sound").expect("there").0, [7; 10_000][..]);
        }
        let reads: Vec<_> = stream.went.windows(2).map(|read| read[1].0 - read[0].0).collect();
        assert_eq!(reads[0], READ_BUFFER_BYTES, "nobody knows yet: {reads:?}");
        let (last, full) = reads[1..].split_last().expect("several reads");
        let least = FULL_READ_BYTES - READ_BUFFER_BYTES;
        assert!(*last > 0 && full.iter().all(|read| *read >= least), "{reads:?}");

        for _ in 0..2 {
            let mut stream = &frame(&[7; 100])[..];
            let next = reader.next(&mut stream, &memory).now_or_never().expect("at hand");
            assert!(next.expect("sound").is_some());
        }
        assert_eq!(reader.read_most(), READ_BUFFER_BYTES);
    }

    #[test]
    fn an_oversized_or_negative_length_is_refused() {
        let error = next(&mut reader(10), &frame(&[0; 11])).expect_err("too long");
        assert!(matches!(error, FrameError::Length(_)), "{error}");
        let error = next(&mut reader(10), &(-1i32).to_be_bytes()).expect_err("negative");
        assert!(matches!(error, FrameError::Length(_)), "{error}");
    }

    #[test]
    fn an_end_within_a_frame_is_told_from_one_between_frames() {
        assert!(next(&mut reader(10), &[]).expect("clean").is_none());
        for cut in [&[0, 0][..], &[0, 0, 0, 5, 1, 2]] {
            assert!(matches!(next(&mut reader(10), cut), Err(FrameError::Truncated)));
        }
    }

    #[test]
    fn a_claimed_length_alone_allocates_nothing() {
        let mut reader = reader(1 << 30);
        let mut input = (1i32 << 29).to_be_bytes().to_vec();
        input.extend_from_slice(&[1; 100]);
        assert!(matches!(next(&mut reader, &input), Err(FrameError::Truncated)));
        assert!(reader.buffer.capacity() <= 2 * READ_BUFFER_BYTES);
    }

    #[test]
    fn an_announced_body_takes_no_memory_until_it_comes() {
        runtime().block_on(async {
            let memory = Memory::new(1 << 20);
            let (mut client, mut stream) = duplex(1 << 10);
            client.write_all(&(1i32 << 19).to_be_bytes()).await.expect("room");
            let mut stalled = reader(1 << 20);
            let mut stalled = pin!(stalled.next(&mut stream, &memory));
            let stalls = timeout(STEP_MAX / 2, stalled.as_mut()).await;
            assert!(stalls.is_err(), "it cannot be whole: {stalls:?}");
            let mut rest = Reservation::default();
            memory.grow(&mut rest, (1 << 20) - READ_BUFFER_BYTES).await;
            assert!(!memory.is_short());
        });
    }

    #[test]
    fn a_stalled_body_gives_way_only_when_memory_is_short() {
        runtime().block_on(async {
            let memory = Memory::new(1 << 16);
            let (mut client, mut stream) = duplex(1 << 10);
            client.write_all(&(1i32 << 19).to_be_bytes()).await.expect("room");
            let mut stalled = reader(1 << 20);
            let mut stalled = pin!(stalled.next(&mut stream, &memory));
            let alone = timeout(STEP_MAX * 10, stalled.as_mut()).await;
            assert!(alone.is_err(), "nobody is held up: {alone:?}");
            let mut other = Reservation::default();
            memory.grow(&mut other, 1 << 10).await;
            let gone = timeout(STEP_MAX * 2, stalled).await.expect("gives way");
            assert!(matches!(gone, Err(FrameError::Stalled { read: 0, .. })), "{gone:?}");
        });
    }
}
