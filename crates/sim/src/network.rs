//! The simulated network: turmoil's TCP behind the network seam, with cuts of our own ([`Links`]).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use klamm_env::network::{Incoming, Listener, Network, SocketOptions, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use crate::links::{End, Links};

pub(crate) struct SimulatedNetwork {
    pub(crate) links: Links,
}

impl Network for SimulatedNetwork {
    fn bind<'a>(
        &'a self,
        address: &'a str,
        _options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            let links = self.links.clone();
            Ok(Box::new(SimulatedListener { listener, links }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            let stream = SimulatedStream::new(stream, &self.links)?;
            stream.end.opened().await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

struct SimulatedListener {
    listener: TcpListener,
    links: Links,
}

impl Listener for SimulatedListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Box<dyn Incoming>>> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            let links = self.links.clone();
            Ok(Box::new(SimulatedIncoming { stream, peer, links }) as Box<dyn Incoming>)
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct SimulatedIncoming {
    stream: TcpStream,
    peer: SocketAddr,
    links: Links,
}

impl Incoming for SimulatedIncoming {
    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn attach(self: Box<Self>) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(SimulatedStream::new(self.stream, &self.links)?))
    }
}

struct SimulatedStream {
    stream: TcpStream,
    end: End,
}

impl SimulatedStream {
    fn new(stream: TcpStream, links: &Links) -> io::Result<SimulatedStream> {
        let end = links.end(stream.local_addr()?.ip(), stream.peer_addr()?.ip());
        Ok(SimulatedStream { stream, end })
    }
}

impl AsyncRead for SimulatedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.end.poll_incoming(cx))?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for SimulatedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.end.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

// A simulated connection has no descriptor: file slices are copied, the trait's default.
impl Stream for SimulatedStream {}
