//! A real ZooKeeper ensemble on loopback, and what may happen to it: for tests.
//!
//! ```text
//! client ── Proxy ──▶ server 1 ─┐            Proxy: cuts, refuses, swallows one answer
//!                               ├─ links ─┐  links: what servers say to each other, may be held
//!                    server 2 ──┤         │
//!                    server 3 ──┘◀────────┘
//! ```
//!
//! The jars come by `tests/ensemble/run`, pinned, into `scratch/`; nothing is assumed to be installed
//! but Java. Servers are processes of their own, ended by their process ids; when the test itself dies
//! its end of a pipe closes, and they end too.

#![expect(clippy::disallowed_methods, reason = "a real ensemble is outside of every seam")]

mod certificates;
mod link;
mod proxy;
mod server;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

pub use certificates::Certificates;
pub use link::Link;
pub use proxy::Proxy;
pub use server::{Mode, Server};

/// ZooKeeper's unit of time in these ensembles. Sessions last from 2 to 20 of them.
pub const TICK: Duration = Duration::from_millis(500);
/// Ticks that a follower may be out of touch with its leader.
const SYNC_LIMIT_TICKS: u32 = 20;
/// Longest wait for an ensemble to serve.
const START_MAX: Duration = Duration::from_secs(60);
/// Where servers are unless somebody wants them elsewhere.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Pause between two looks at a server that cannot tell by itself.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Servers that know each other.
#[derive(Debug)]
pub struct Ensemble {
    servers: Vec<Server>,
    /// `links[a][b]`: what server `a` says to server `b` and hears from it, where `a` called.
    links: Vec<Vec<Option<Link>>>,
    _dir: TempDir,
}

/// Where the jars are: `KLAMM_ZOOKEEPER_LIBS`, or the checkout's `scratch/zookeeper/libs`.
fn libs() -> PathBuf {
    std::env::var_os("KLAMM_ZOOKEEPER_LIBS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scratch/zookeeper/libs"),
        PathBuf::from,
    )
}

impl Ensemble {
    /// Starts `count` servers and waits until they serve.
    ///
    /// # Errors
    /// When Java or the jars are missing, or the servers do not come up.
    pub async fn start(count: usize) -> io::Result<Ensemble> {
        Ensemble::start_at(&vec![LOOPBACK; count]).await
    }

    /// Starts a server for each of these addresses of this machine, where its clients find it; what
    /// servers say to each other stays on loopback.
    ///
    /// # Errors
    /// As [`Ensemble::start`].
    pub async fn start_at(hosts: &[IpAddr]) -> io::Result<Ensemble> {
        let count = hosts.len();
        let libs = libs();
        if !libs.is_dir() {
            let what = format!("no jars in {}: tests/ensemble/run fetches them", libs.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        let dir = tempfile::tempdir()?;
        let mut ports = Vec::new();
        for host in hosts {
            ports.push(server::Ports::free(*host)?);
        }
        let mut links = Vec::new();
        for from in 0..count {
            let mut row = Vec::new();
            for (to, ports) in ports.iter().enumerate() {
                row.push(if from == to { None } else { Some(Link::start(ports.quorum).await?) });
            }
            links.push(row);
        }
        let mut servers = Vec::new();
        for (at, own) in ports.iter().enumerate() {
            let peers = ports.iter().enumerate().map(|(peer, ports)| {
                // Leader election is not disturbed, only what a follower hears from its leader.
                let quorum = links[at][peer].as_ref().map_or(ports.quorum, Link::port);
                format!("server.{}=127.0.0.1:{quorum}:{}", peer + 1, ports.election)
            });
            let id = at + 1;
            let config = server::config(&dir.path().join(id.to_string()), own.client, peers);
            servers.push(Server::start(&libs, dir.path(), id, own.client, &config)?);
        }
        let ensemble = Ensemble { servers, links, _dir: dir };
        ensemble.serving().await?;
        Ok(ensemble)
    }

    /// Starts one server that also listens with TLS, and asks its clients for certificates without
    /// insisting.
    ///
    /// # Errors
    /// As [`Ensemble::start`]; also when openssl is missing.
    pub async fn start_secure() -> io::Result<(Ensemble, Certificates)> {
        let libs = libs();
        let dir = tempfile::tempdir()?;
        let certificates = Certificates::make(dir.path())?;
        let ports = server::Ports::free(LOOPBACK)?;
        let secure_port = ports.quorum;
        let lines = certificates.server_lines(secure_port).into_iter();
        let config = server::config(&dir.path().join("1"), ports.client, lines);
        let server = Server::start(&libs, dir.path(), 1, ports.client, &config)?;
        let ensemble = Ensemble { servers: vec![server], links: Vec::new(), _dir: dir };
        ensemble.serving().await?;
        Ok((ensemble, certificates.at(secure_port)))
    }

    /// The servers.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// One server; they count from 0.
    pub fn server_mut(&mut self, server: usize) -> &mut Server {
        &mut self.servers[server]
    }

    /// `host:port` of each server.
    pub fn addresses(&self) -> Vec<String> {
        self.servers.iter().map(Server::address).collect()
    }

    /// Waits until every server that runs serves.
    ///
    /// # Errors
    /// After a minute.
    pub async fn serving(&self) -> io::Result<()> {
        for server in self.servers.iter().filter(|server| server.is_running()) {
            server.wait_for(START_MAX, |mode| mode != Mode::NotServing).await?;
        }
        Ok(())
    }

    /// The leader.
    ///
    /// # Errors
    /// When there is none for a minute.
    pub async fn leader(&self) -> io::Result<usize> {
        let looks = async {
            loop {
                for (at, server) in self.servers.iter().enumerate() {
                    if server.mode().await == Mode::Leader {
                        return at;
                    }
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(START_MAX, looks).await.map_err(|_| io::Error::other("no leader"))
    }

    /// A server that follows.
    ///
    /// # Errors
    /// As [`Ensemble::leader`].
    pub async fn follower(&self) -> io::Result<usize> {
        let leader = self.leader().await?;
        Ok((0..self.servers.len()).find(|at| *at != leader).expect("more servers than one"))
    }

    /// What the follower hears from its leader waits from now on: it shows nothing new.
    pub fn hold(&self, follower: usize) {
        self.links[follower].iter().flatten().for_each(Link::hold);
    }

    /// The follower hears all that was held, and what comes.
    pub fn release(&self, follower: usize) {
        self.links[follower].iter().flatten().for_each(Link::release);
    }

    /// The ephemeral nodes by path, each with its session, as one server that serves lists them; none
    /// where nobody serves.
    pub async fn ephemerals(&self) -> BTreeMap<String, String> {
        for server in self.servers.iter().filter(|server| server.is_running()) {
            if let Some(listed) = server.ephemerals().await {
                return listed;
            }
        }
        BTreeMap::new()
    }

    /// Waits until no server lists an ephemeral node of the session any more.
    ///
    /// # Errors
    /// After a minute.
    pub async fn forgotten(&self, session: i64) -> io::Result<()> {
        for server in self.servers.iter().filter(|server| server.is_running()) {
            server.forgotten(session, START_MAX).await?;
        }
        Ok(())
    }
}
