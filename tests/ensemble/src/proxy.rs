//! A way from one client to the servers that can be cut, closed, turned, and lose an answer.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longest frame that is passed on.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// The number of ZooKeeper's request `multi`.
const MULTI: i32 = 14;

/// Passes the connections of one client on to one of several servers.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    way: Mutex<Way>,
    /// Counts up with every cut; connections of an earlier number end.
    cuts: watch::Sender<u64>,
}

#[derive(Debug)]
struct Way {
    servers: Vec<String>,
    /// The server that connections go to, counted in `servers`.
    target: usize,
    closed: bool,
    lose: Lose,
    /// Answers that were lost.
    lost: u64,
}

/// Which answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lose {
    None,
    /// That to the next multi.
    OfNextMulti,
    /// That with this number.
    Of(i32),
}

impl Proxy {
    /// Listens on a port of its own and goes to `servers[target]`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(servers: Vec<String>, target: usize) -> io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let way = Way { servers, target, closed: false, lose: Lose::None, lost: 0 };
        let shared = Arc::new(Shared { way: Mutex::new(way), cuts: watch::Sender::new(0) });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Proxy { address, shared, task })
    }

    /// Where the client connects.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The server that connections go to.
    pub fn target(&self) -> usize {
        self.shared.way().target
    }

    /// Ends the connection; the next one is let through.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Ends the connection; no other is let through.
    pub fn close(&self) {
        self.shared.way().closed = true;
        self.cut();
    }

    /// Lets connections through again.
    pub fn open(&self) {
        self.shared.way().closed = false;
    }

    /// Ends the connection; the next ones go to another server.
    pub fn turn(&self, target: usize) {
        self.shared.way().target = target;
        self.cut();
    }

    /// The answer to the next multi does not arrive: the connection ends in its stead. Everything
    /// else goes through, probes and pings among it.
    pub fn lose_next_answer(&self) {
        self.shared.way().lose = Lose::OfNextMulti;
    }

    /// Answers that were lost so far.
    pub fn lost(&self) -> u64 {
        self.shared.way().lost
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.task.abort();
    }
}

impl Shared {
    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().expect("no panic while the way is locked")
    }

    fn on_request(&self, frame: &[u8]) {
        let mut way = self.way();
        if way.lose == Lose::OfNextMulti && int(frame, 4) == Some(MULTI) {
            way.lose = int(frame, 0).map_or(Lose::None, Lose::Of);
        }
    }

    /// Whether this answer is the one to be lost.
    fn loses(&self, frame: &[u8]) -> bool {
        let mut way = self.way();
        let loses = matches!(way.lose, Lose::Of(xid) if int(frame, 0) == Some(xid));
        if loses {
            way.lose = Lose::None;
            way.lost += 1;
        }
        loses
    }
}

fn int(frame: &[u8], at: usize) -> Option<i32> {
    let bytes = frame.get(at..at + 4)?;
    Some(i32::from_be_bytes(bytes.try_into().expect("four bytes")))
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let cuts = shared.cuts.subscribe();
        let server = {
            let way = shared.way();
            if way.closed {
                continue;
            }
            way.servers[way.target].clone()
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // A server that is down is a connection that closes.
            if let Ok(server) = TcpStream::connect(server).await {
                pass(client, server, cuts, &shared).await;
            }
        });
    }
}

async fn pass(
    client: TcpStream,
    server: TcpStream,
    mut cuts: watch::Receiver<u64>,
    shared: &Shared,
) {
    let nodelay = client.set_nodelay(true).and(server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    if nodelay.is_err() {
        return;
    }
    tokio::select! {
        _ = cuts.changed() => {}
        () = requests(from_client, to_server, shared) => {}
        () = answers(from_server, to_client, shared) => {}
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) {
    let mut is_first = true;
    while let Ok(frame) = frame(&mut from).await {
        // The connect request has no number.
        if !is_first {
            shared.on_request(&frame);
        }
        is_first = false;
        if to.write_all(&framed(&frame)).await.is_err() {
            return;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) {
    let mut is_first = true;
    while let Ok(frame) = frame(&mut from).await {
        if !is_first && shared.loses(&frame) {
            return;
        }
        is_first = false;
        if to.write_all(&framed(&frame)).await.is_err() {
            return;
        }
    }
}

fn framed(frame: &[u8]) -> Vec<u8> {
    let len = u32::try_from(frame.len()).expect("bounded by FRAME_BYTES_MAX");
    [&len.to_be_bytes()[..], frame].concat()
}

async fn frame(from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let len = usize::try_from(from.read_i32().await?).unwrap_or(usize::MAX);
    if len > FRAME_BYTES_MAX {
        return Err(io::Error::other("a frame is too long"));
    }
    let mut frame = vec![0; len];
    from.read_exact(&mut frame).await?;
    Ok(frame)
}
