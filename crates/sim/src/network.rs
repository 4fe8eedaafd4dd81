//! The simulated network: turmoil's TCP behind the network seam.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use klamm_env::network::{Incoming, Listener, Network, SocketOptions, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

pub(crate) struct SimulatedNetwork;

impl Network for SimulatedNetwork {
    fn bind<'a>(
        &'a self,
        address: &'a str,
        _options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(SimulatedListener(listener)) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            Ok(Box::new(SimulatedStream(stream)) as Box<dyn Stream>)
        })
    }
}

struct SimulatedListener(TcpListener);

impl Listener for SimulatedListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Box<dyn Incoming>>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            Ok(Box::new(SimulatedIncoming { stream, peer }) as Box<dyn Incoming>)
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

struct SimulatedIncoming {
    stream: TcpStream,
    peer: SocketAddr,
}

impl Incoming for SimulatedIncoming {
    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn attach(self: Box<Self>) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(SimulatedStream(self.stream)))
    }
}

struct SimulatedStream(TcpStream);

impl AsyncRead for SimulatedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for SimulatedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

// A simulated connection has no descriptor: file slices are copied, the trait's default.
impl Stream for SimulatedStream {}
