//! Connections.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::files::File;

/// Kernel settings of a socket; `None` leaves the system's default.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketOptions {
    /// `SO_SNDBUF` in bytes.
    pub send_buffer: Option<u32>,
    /// `SO_RCVBUF` in bytes.
    pub receive_buffer: Option<u32>,
    /// Length of the queue of connections not yet accepted.
    pub backlog: Option<u32>,
}

/// Listens and connects.
pub trait Network: Send + Sync + 'static {
    /// Listens on `address` (`host:port`, port 0 picks a free one).
    fn bind<'a>(
        &'a self,
        address: &'a str,
        options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;

    /// Connects to `address` (`host:port`).
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;
}

/// A listening socket.
pub trait Listener: Send {
    /// The next connection.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Box<dyn Incoming>>>;

    /// The address that it listens on.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// An accepted connection that belongs to no event loop yet.
pub trait Incoming: Send {
    /// Who connected.
    fn peer(&self) -> SocketAddr;

    /// Binds the connection to the event loop that this call runs on.
    ///
    /// # Errors
    /// When the loop refuses the socket.
    fn attach(self: Box<Self>) -> io::Result<Box<dyn Stream>>;
}

/// A range of a file to send.
#[derive(Clone, Debug)]
pub struct FileSlice {
    /// The file; the reference keeps it open while it is sent.
    pub file: Arc<dyn File>,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Sends up to `slice.len` bytes of a file without copying them through this process where the
    /// connection allows it (`sendfile(2)` on a plain socket). Returns the number of bytes sent;
    /// `UnexpectedEof` when the file ends before the slice.
    fn poll_send_file(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slice: &FileSlice,
    ) -> Poll<io::Result<usize>> {
        poll_send_copy(self, cx, slice)
    }
}

/// Bytes copied at a time by [`poll_send_copy`].
const COPY_BYTES: usize = 64 * 1024;

/// [`Stream::poll_send_file`] by reading and writing: for TLS and for the simulator.
pub fn poll_send_copy<S: AsyncWrite + ?Sized>(
    stream: Pin<&mut S>,
    cx: &mut Context<'_>,
    slice: &FileSlice,
) -> Poll<io::Result<usize>> {
    let mut buffer = vec![0; COPY_BYTES.min(usize::try_from(slice.len).unwrap_or(COPY_BYTES))];
    let n = slice.file.read_at(&mut buffer, slice.offset)?;
    if n == 0 && slice.len > 0 {
        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
    }
    stream.poll_write(cx, &buffer[..n])
}

impl dyn Stream {
    /// Sends all of `slice`.
    ///
    /// # Errors
    /// As [`Stream::poll_send_file`].
    pub async fn send_file(&mut self, mut slice: FileSlice) -> io::Result<()> {
        while slice.len > 0 {
            let sent =
                std::future::poll_fn(|cx| Pin::new(&mut *self).poll_send_file(cx, &slice)).await?;
            slice.offset += sent as u64;
            slice.len -= sent as u64;
        }
        Ok(())
    }
}
