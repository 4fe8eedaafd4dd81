//! Listening, accepting, and handing each connection to the loop that has fewest.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use klamm_env::Loop;
use klamm_env::network::{Incoming, Listener};
use klamm_log::DESCRIPTORS_SPARE;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use crate::broker::Broker;
use crate::connection::{self, ConnectionLimits};
use crate::frame_reader::ReadBuffers;
use crate::request::{ConnectionInfo, ListenerInfo};
use crate::wakes::Wakes;

/// Longest wait for the end of a connection where there is no descriptor for one more, or no memory:
/// a file that is closed frees one too, and tells nobody.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// The share of the descriptors left at the start that connections leave to the logs, as a divisor.
const RESERVED_SHARE: u64 = 8;
/// The least that they leave: some more than where the logs themselves stop to open files.
const RESERVED_MIN: u64 = DESCRIPTORS_SPARE + 8;
/// Connections that are accepted even so: somebody has to be able to delete a topic.
const CONNECTIONS_MIN: usize = 8;

/// The limits of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerLimits {
    /// Connections in all (`max.connections`); further ones wait in the listener's backlog.
    pub connections_max: usize,
    /// Each connection's own.
    pub connection: ConnectionLimits,
}

/// One event loop and what its connections share.
struct Worker {
    run_on: Loop,
    buffers: Arc<ReadBuffers>,
    wakes: Arc<Wakes>,
}

impl Worker {
    fn new(run_on: Loop) -> Worker {
        let wakes = Arc::new(Wakes::default());
        run_on.spawn(Arc::clone(&wakes).run());
        Worker { run_on, buffers: Arc::default(), wakes }
    }
}

/// Accepts and serves; clones of its handle stop it.
pub(crate) struct Server {
    stop: watch::Sender<bool>,
    acceptors: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

struct Shared {
    broker: Arc<Broker>,
    workers: Vec<Worker>,
    limits: ServerLimits,
    open: Arc<Semaphore>,
    /// Descriptors that connections leave, so that logs can be opened and rolled.
    descriptors_reserved: u64,
    /// Told when a connection has ended.
    ended: Notify,
    per_ip: Mutex<HashMap<IpAddr, usize>>,
    next_id: AtomicU64,
    stopping: watch::Receiver<bool>,
}

/// A bound listener, accepting nothing yet.
pub(crate) struct Bound {
    pub listener: Box<dyn Listener>,
    pub info: Arc<ListenerInfo>,
}

impl Server {
    /// Starts accepting on every listener.
    pub(crate) fn start(
        broker: Arc<Broker>,
        loops: Vec<Loop>,
        bound: Vec<Bound>,
        limits: ServerLimits,
    ) -> Server {
        let (stop, stopping) = watch::channel(false);
        let connections_max = limits.connections_max.clamp(1, Semaphore::MAX_PERMITS);
        let workers: Vec<_> = loops.into_iter().map(Worker::new).collect();
        broker.env.files.count_descriptors();
        let left = broker.env.files.descriptors_left().unwrap_or(0);
        let descriptors_reserved = RESERVED_MIN.max(left / RESERVED_SHARE);
        let first = workers.first().expect("at least one loop").run_on.clone();
        let shared = Arc::new(Shared {
            broker,
            workers,
            limits,
            open: Arc::new(Semaphore::new(connections_max)),
            descriptors_reserved,
            ended: Notify::new(),
            per_ip: Mutex::default(),
            next_id: AtomicU64::new(1),
            stopping,
        });
        let accept = |bound| first.spawn(accept(Arc::clone(&shared), bound));
        let acceptors = bound.into_iter().map(accept).collect();
        Server { stop, acceptors, shared }
    }

    /// Stops accepting, lets every connection finish what it has begun, and waits for all of them,
    /// no longer than `within`.
    pub(crate) async fn stop(self, within: Duration) {
        // Without a receiver nobody is left to be told.
        let _ = self.stop.send(true);
        for acceptor in self.acceptors {
            // An acceptor that panicked accepts nothing either.
            let _ = acceptor.await;
        }
        let all = self.shared.limits.connections_max.clamp(1, Semaphore::MAX_PERMITS);
        let all = u32::try_from(all).unwrap_or(u32::MAX);
        let gone = self.shared.open.acquire_many(all);
        if tokio::time::timeout(within, gone).await.is_err() {
            warn!("connections are cut that did not end within {within:?}");
        }
    }
}

async fn accept(shared: Arc<Shared>, bound: Bound) {
    let Bound { mut listener, info } = bound;
    let mut stopping = shared.stopping.clone();
    let mut exhausted = false;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => return,
            accepted = accept_one(&shared, listener.as_mut()) => accepted,
        };
        match accepted {
            Ok((incoming, permit)) => {
                exhausted = false;
                shared.admit(incoming, permit, &info);
            }
            Err(error) if is_exhaustion(&error) => {
                if !std::mem::replace(&mut exhausted, true) {
                    warn!("no connection can be accepted at the moment: {error}");
                }
                shared.connection_ended().await;
            }
            // The client was gone before it was accepted.
            Err(error) => debug!("accept: {error}"),
        }
    }
}

/// The next connection, once there may be one more.
async fn accept_one(
    shared: &Shared,
    listener: &mut dyn Listener,
) -> io::Result<(Box<dyn Incoming>, OwnedSemaphorePermit)> {
    let permit = Arc::clone(&shared.open).acquire_owned().await.expect("nobody closes it");
    let mut told = false;
    while !shared.has_descriptor() {
        if !std::mem::replace(&mut told, true) {
            warn!("connections wait: the other descriptors are kept for the logs");
        }
        shared.connection_ended().await;
    }
    Ok((listener.accept().await?, permit))
}

/// Whether an accept failed for lack of something that only comes back with time: the connection
/// stays in the backlog, so trying again at once would spin.
fn is_exhaustion(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::PermissionDenied
    )
}

impl Shared {
    /// Whether a connection more leaves the logs what they need.
    fn has_descriptor(&self) -> bool {
        let permits = self.limits.connections_max.clamp(1, Semaphore::MAX_PERMITS);
        let connections = permits.saturating_sub(self.open.available_permits());
        let left = self.broker.env.files.descriptors_left();
        connections <= CONNECTIONS_MIN || left.is_none_or(|left| left > self.descriptors_reserved)
    }

    /// Waits until a connection has ended, no longer than [`ACCEPT_PAUSE`].
    async fn connection_ended(&self) {
        // Whoever comes back looks again in either case.
        let _ = tokio::time::timeout(ACCEPT_PAUSE, self.ended.notified()).await;
    }

    fn admit(
        self: &Arc<Self>,
        incoming: Box<dyn Incoming>,
        permit: OwnedSemaphorePermit,
        listener: &Arc<ListenerInfo>,
    ) {
        let peer = incoming.peer();
        let Some(per_ip) = self.count_ip(peer.ip()) else {
            info!(%peer, "refused: max.connections.per.ip connections are open from there");
            return;
        };
        let worker = self.workers.iter().min_by_key(|worker| worker.run_on.load());
        let worker = worker.expect("at least one loop");
        let load = worker.run_on.enter();
        let info = self.describe(peer, listener, &worker.wakes);
        let (shared, buffers) = (Arc::clone(self), Arc::clone(&worker.buffers));
        worker.run_on.spawn(async move {
            let counted = (permit, per_ip, load);
            match incoming.attach() {
                Ok(stream) => {
                    let (limits, stopping) = (shared.limits.connection, shared.stopping.clone());
                    let broker = Arc::clone(&shared.broker);
                    connection::run(broker, stream, info, limits, buffers, stopping).await;
                }
                Err(error) => warn!(%peer, "the connection cannot be served: {error}"),
            }
            drop(counted);
            shared.ended.notify_one();
        });
    }

    fn describe(
        &self,
        peer: SocketAddr,
        listener: &Arc<ListenerInfo>,
        wakes: &Arc<Wakes>,
    ) -> Arc<ConnectionInfo> {
        Arc::new(ConnectionInfo {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            peer,
            listener: Arc::clone(listener),
            wakes: Arc::clone(wakes),
            software: OnceLock::new(),
        })
    }

    /// What this address may have (`max.connections.per.ip` and its overrides).
    fn per_ip_max(&self, ip: IpAddr) -> usize {
        let config = self.broker.config();
        let overrides = config.max_connections_per_ip_overrides.split(',');
        let mut own = overrides.rev().filter_map(|entry| {
            let (address, max) = entry.trim().rsplit_once(':')?;
            let address: IpAddr = address.trim_matches(['[', ']']).parse().ok()?;
            if address == ip { max.parse().ok() } else { None }
        });
        let max = own.next().unwrap_or(config.max_connections_per_ip);
        usize::try_from(max).unwrap_or(0)
    }

    /// Counts one more connection from `ip`, unless it has as many as it may.
    fn count_ip(self: &Arc<Self>, ip: IpAddr) -> Option<IpGuard> {
        let mut per_ip = self.per_ip.lock().expect("no panic while locked");
        let count = per_ip.get(&ip).copied().unwrap_or(0);
        if count >= self.per_ip_max(ip) {
            return None;
        }
        per_ip.insert(ip, count + 1);
        Some(IpGuard { shared: Arc::clone(self), ip })
    }
}

/// One connection in the count of its address.
struct IpGuard {
    shared: Arc<Shared>,
    ip: IpAddr,
}

impl Drop for IpGuard {
    fn drop(&mut self) {
        let mut per_ip = self.shared.per_ip.lock().expect("no panic while locked");
        if let Some(count) = per_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                per_ip.remove(&self.ip);
            }
        }
    }
}
