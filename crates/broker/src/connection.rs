//! One client connection: frames in, requests in their order, answers in the same order.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, select};
use klamm_env::{Stream, Threads};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info};

use crate::answers::{Answers, Pending};
use crate::broker::Broker;
use crate::dispatch::{Outcome, dispatch};
use crate::frame_reader::{FrameError, FrameReader, ReadBuffers};
use crate::frame_writer::{WithStream, parts, write_parts};
use crate::request::ConnectionInfo;

/// The limits of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// Longest request (`socket.request.max.bytes`).
    pub frame_bytes_max: usize,
    /// Requests that may wait for their answers (`max.inflight.requests.per.connection`).
    pub answers_max: usize,
    /// Silence after which the connection is closed (`connections.max.idle.ms`).
    pub idle_max: Duration,
    /// Time that answers have to leave once the broker stops.
    pub drain_max: Duration,
}

/// Reading and writing side in one task: the lock is never contended.
struct SharedStream(Mutex<Box<dyn Stream>>);

impl WithStream for SharedStream {
    fn with_stream<T>(&self, poll: impl FnOnce(Pin<&mut dyn Stream>) -> T) -> T {
        let mut stream = self.0.lock().expect("no panic while locked");
        poll(Pin::new(&mut **stream))
    }
}

struct ReadSide<'a>(&'a SharedStream);

impl AsyncRead for ReadSide<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.with_stream(|stream| stream.poll_read(cx, buffer))
    }
}

/// Why a connection ended, for the log.
#[derive(Debug)]
enum End {
    /// The client closed it, or the broker stops.
    Quiet,
    /// The client or the network misbehaved.
    Reason(String),
}

/// Serves a connection until either side ends it.
pub(crate) async fn run(
    broker: Arc<Broker>,
    stream: Box<dyn Stream>,
    info: Arc<ConnectionInfo>,
    limits: ConnectionLimits,
    buffers: Arc<ReadBuffers>,
    stopping: watch::Receiver<bool>,
) {
    let stream = SharedStream(Mutex::new(stream));
    let answers = Answers::new(limits.answers_max);
    let reading = read(&broker, &stream, &info, limits, buffers, &answers, stopping);
    let writing = write(&*broker.env.threads, &stream, &answers);
    let end = {
        let (reading, writing) = (std::pin::pin!(reading), std::pin::pin!(writing));
        match select(reading, writing).await {
            Either::Left((end, writing)) => {
                answers.close();
                // What was answered before the end still leaves, to a client that takes it.
                match tokio::time::timeout(limits.drain_max, writing).await {
                    Ok(Err(error)) => debug!(connection = info.id, "while closing: {error}"),
                    Ok(Ok(())) => {}
                    Err(_) => debug!(connection = info.id, "closed with unsent answers"),
                }
                end
            }
            Either::Right((Ok(()), _)) => End::Quiet,
            Either::Right((Err(reason), _)) => End::Reason(reason),
        }
    };
    match end {
        End::Quiet => debug!(connection = info.id, peer = %info.peer, "connection closed"),
        End::Reason(reason) => {
            info!(connection = info.id, peer = %info.peer, "connection closed: {reason}");
        }
    }
}

async fn read(
    broker: &Arc<Broker>,
    stream: &SharedStream,
    info: &Arc<ConnectionInfo>,
    limits: ConnectionLimits,
    buffers: Arc<ReadBuffers>,
    answers: &Answers,
    mut stopping: watch::Receiver<bool>,
) -> End {
    let mut reader = FrameReader::new(buffers, limits.frame_bytes_max);
    let mut side = ReadSide(stream);
    let idle = tokio::time::sleep(limits.idle_max);
    let mut idle = std::pin::pin!(idle);
    let stopped = stopping.wait_for(|stopping| *stopping);
    let mut stopped = std::pin::pin!(stopped);
    let mut active = Instant::now();
    loop {
        let frame = {
            let next = async {
                answers.room().await;
                reader.next(&mut side, &broker.memory).await
            };
            let mut next = std::pin::pin!(next);
            loop {
                tokio::select! {
                    biased;
                    // First, or a client that never pauses would keep the broker from stopping.
                    _ = &mut stopped => return End::Quiet,
                    frame = &mut next => break frame,
                    () = idle.as_mut() => {
                        if !answers.any_waiting() && active.elapsed() >= limits.idle_max {
                            return End::Reason("idle for too long".to_owned());
                        }
                        idle.as_mut().reset(next_look(active, limits.idle_max));
                    }
                }
            }
        };
        let (bytes, reservation) = match frame {
            Ok(Some(frame)) => frame,
            Ok(None) => return End::Quiet,
            Err(FrameError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                return End::Quiet;
            }
            Err(error) => return End::Reason(error.to_string()),
        };
        active = Instant::now();
        match dispatch(broker, info, bytes).await {
            Outcome::Ready(frame) => answers.push(Pending::Ready(frame)),
            Outcome::Waiting(future) => answers.push(Pending::Waiting(future)),
            Outcome::Silent => {}
            Outcome::Close(reason) => return End::Reason(reason),
        }
        drop(reservation);
    }
}

/// When an idle connection is looked at again: never at once, even with answers pending.
fn next_look(active: Instant, idle_max: Duration) -> Instant {
    let due = active + idle_max;
    let now = Instant::now();
    if due > now { due } else { now + idle_max }
}

/// Writes answers as they get ready, until there will be no more.
async fn write(
    threads: &dyn Threads,
    stream: &SharedStream,
    answers: &Answers,
) -> Result<(), String> {
    loop {
        let frames = answers.take().await?;
        if frames.is_empty() {
            return Ok(());
        }
        let written = match parts(threads, frames).await {
            Ok(parts) => write_parts(threads, stream, parts).await,
            Err(error) => Err(error),
        };
        written.map_err(|error| format!("an answer could not be sent: {error}"))?;
    }
}
