//! A way from one server to another that can be held.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Passes connections on to a port. While it is held, what comes back waits; nothing is lost.
#[derive(Debug)]
pub struct Link {
    port: u16,
    held: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Link {
    pub(crate) async fn start(target: u16) -> io::Result<Link> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let held = watch::Sender::new(false);
        let subscribe = held.clone();
        let task = tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                let held = subscribe.subscribe();
                tokio::spawn(async move {
                    // A connection that cannot be made is a connection that closes.
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await {
                        pass(caller, server, held).await;
                    }
                });
            }
        });
        Ok(Link { port, held, task })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn hold(&self) {
        self.held.send_replace(true);
    }

    pub(crate) fn release(&self) {
        self.held.send_replace(false);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(caller: TcpStream, server: TcpStream, held: watch::Receiver<bool>) {
    let (from_caller, to_caller) = caller.into_split();
    let (from_server, to_server) = server.into_split();
    let never = watch::Sender::new(false);
    tokio::select! {
        () = copy(from_caller, to_server, never.subscribe()) => {}
        () = copy(from_server, to_caller, held) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut held: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if held.wait_for(|held| !held).await.is_err() || to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
