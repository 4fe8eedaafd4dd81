//! A network whose connections break, now and then, wherever they happen to be, and are refused
//! every other time.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use klamm_env::network::{Listener, SocketOptions};
use klamm_env::{Env, Network, Random, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The machine, with connections that last for some number of bytes in `lasts`.
pub(crate) fn env(lasts: Range<u64>) -> Env {
    let env = Env::real().expect("the machine's seams");
    let random = Arc::clone(&env.random);
    let network = Flaky { inner: env.network, random, lasts, connects: AtomicU64::new(0) };
    Env { network: Arc::new(network), ..env }
}

struct Flaky {
    inner: Arc<dyn Network>,
    random: Arc<dyn Random>,
    lasts: Range<u64>,
    connects: AtomicU64,
}

impl Flaky {
    /// Not the first, which a client needs to begin at all; then at random.
    fn is_refused(&self) -> bool {
        let is_first = self.connects.fetch_add(1, Ordering::Relaxed) == 0;
        !is_first && self.random.u64().is_multiple_of(2)
    }
}

impl Network for Flaky {
    fn bind<'a>(
        &'a self,
        address: &'a str,
        options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        self.inner.bind(address, options)
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            if self.is_refused() {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let inner = self.inner.connect(address).await?;
            let Range { start, end } = self.lasts;
            let left = start + self.random.u64() % (end - start);
            Ok(Box::new(FlakyStream { inner, left }) as Box<dyn Stream>)
        })
    }
}

struct FlakyStream {
    inner: Box<dyn Stream>,
    left: u64,
}

impl FlakyStream {
    fn pass(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes as u64);
    }

    fn broken(&self) -> Option<io::Error> {
        (self.left == 0).then(|| io::ErrorKind::ConnectionReset.into())
    }
}

impl AsyncRead for FlakyStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(error) = self.broken() {
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.pass(buffer.filled().len() - before);
        read
    }
}

impl AsyncWrite for FlakyStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.broken() {
            return Poll::Ready(Err(error));
        }
        let bytes = &bytes[..bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX))];
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = written {
            self.pass(written);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl Stream for FlakyStream {}
