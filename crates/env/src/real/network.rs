//! TCP.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

use super::files::{Counted, OpenCount};
use crate::network::{
    FileSlice, Incoming, Listener, Network, SocketOptions, Stream, poll_send_copy,
};

/// Connections that may wait to be accepted, unless the options say otherwise.
const BACKLOG: u32 = 1024;

pub(crate) struct SystemNetwork {
    open: OpenCount,
}

impl SystemNetwork {
    /// Counts its connections among what is open.
    pub(crate) fn new(open: OpenCount) -> SystemNetwork {
        SystemNetwork { open }
    }
}

impl Network for SystemNetwork {
    fn bind<'a>(
        &'a self,
        address: &'a str,
        options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let address = lookup_host(address).await?.next().ok_or(io::ErrorKind::NotFound)?;
            let socket =
                if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
            // Connections in TIME_WAIT must not keep a restarted broker off its port; a second
            // listener is refused all the same.
            socket.set_reuseaddr(true)?;
            if let Some(bytes) = options.send_buffer {
                socket.set_send_buffer_size(bytes)?;
            }
            if let Some(bytes) = options.receive_buffer {
                socket.set_recv_buffer_size(bytes)?;
            }
            socket.bind(address)?;
            let listener = socket.listen(options.backlog.unwrap_or(BACKLOG))?;
            let open = self.open.clone();
            Ok(Box::new(SystemListener { listener, open }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let _counted = self.open.add();
            Ok(Box::new(SystemStream { stream, _counted }) as Box<dyn Stream>)
        })
    }
}

struct SystemListener {
    listener: TcpListener,
    open: OpenCount,
}

impl Listener for SystemListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Box<dyn Incoming>>> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            stream.set_nodelay(true)?;
            let stream = stream.into_std()?;
            let counted = self.open.add();
            Ok(Box::new(SystemIncoming { stream, peer, counted }) as Box<dyn Incoming>)
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct SystemIncoming {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    counted: Counted,
}

impl Incoming for SystemIncoming {
    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn attach(self: Box<Self>) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::from_std(self.stream)?;
        Ok(Box::new(SystemStream { stream, _counted: self.counted }))
    }
}

struct SystemStream {
    stream: TcpStream,
    _counted: Counted,
}

impl AsyncRead for SystemStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for SystemStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Stream for SystemStream {
    fn poll_send_file(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slice: &FileSlice,
    ) -> Poll<io::Result<usize>> {
        let Some(descriptor) = slice.file.descriptor() else {
            return poll_send_copy(self, cx, slice);
        };
        let len = usize::try_from(slice.len).unwrap_or(usize::MAX);
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let mut offset = slice.offset;
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                Ok(rustix::fs::sendfile(&self.stream, descriptor, Some(&mut offset), len)?)
            });
            match sent {
                Ok(0) if len > 0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return Poll::Ready(other),
            }
        }
    }
}
