//! A chroot of its own in a real ensemble, as the subject of one case.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use klamm_cluster::conformance::{Fault, Subject};
use klamm_cluster::tree::zookeeper::{Credentials, ZooKeeperConfig, ZooKeeperHome, ZooKeeperTree};
use klamm_cluster::tree::{SessionId, SessionState, Tree};
use klamm_ensemble::{Ensemble, Proxy, TICK};
use klamm_env::{Env, Loop};
use tokio::sync::Mutex as AsyncMutex;

/// Six ticks: lost after four of them.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_millis(3000);
const _: () = assert!(SESSION_TIMEOUT.as_millis() == 6 * TICK.as_millis());
const CONNECT_MAX: Duration = Duration::from_secs(60);

pub(crate) fn config(connect: &str) -> ZooKeeperConfig {
    ZooKeeperConfig {
        connect: connect.parse().unwrap(),
        session_timeout: SESSION_TIMEOUT,
        connection_timeout: CONNECT_MAX,
        in_flight_max: 10,
        probe: "/brokers/probe/1".to_owned(),
        credentials: Credentials::Anonymous,
        tls: None,
        owns_nodes: true,
        readable_by_all: false,
    }
}

/// The subject of one case.
pub(crate) struct ZooKeeper {
    ensemble: Arc<AsyncMutex<Ensemble>>,
    chroot: String,
    /// A follower first, the leader next, then the other follower: sessions take turns.
    order: Vec<usize>,
    sessions: Mutex<BTreeMap<SessionId, Session>>,
}

#[derive(Clone)]
struct Session {
    tree: Arc<ZooKeeperTree>,
    proxy: Arc<Proxy>,
}

impl ZooKeeper {
    pub(crate) async fn new(ensemble: Arc<AsyncMutex<Ensemble>>, nth: usize) -> ZooKeeper {
        let leader = ensemble.lock().await.leader().await.unwrap();
        let count = ensemble.lock().await.servers().len();
        let mut order: Vec<usize> = (0..count).filter(|at| *at != leader).collect();
        order.insert(1, leader);
        ZooKeeper { ensemble, chroot: format!("/case{nth}"), order, sessions: Mutex::default() }
    }

    fn session(&self, session: SessionId) -> Session {
        self.sessions.lock().unwrap()[&session].clone()
    }

    async fn begin(&self) -> Arc<dyn Tree> {
        let addresses = self.ensemble.lock().await.addresses();
        let target = self.order[self.sessions.lock().unwrap().len() % self.order.len()];
        let proxy = Arc::new(Proxy::start(addresses, target).await.unwrap());
        let connect = format!("{}{}", proxy.address(), self.chroot);
        let env = Env::real().unwrap();
        let home = ZooKeeperHome::new(&env, config(&connect), &Loop::current());
        let tree = Arc::new(home.begin().await.unwrap());
        let session = Session { tree: Arc::clone(&tree), proxy };
        self.sessions.lock().unwrap().insert(tree.session(), session);
        tree
    }

    async fn end(&self, session: SessionId) {
        let Session { tree, .. } = self.session(session);
        let servers = self.ensemble.lock().await.addresses().join(",");
        tree.expire(&servers).await;
        self.ensemble.lock().await.forgotten(session.0).await.unwrap();
        let mut state = tree.state();
        state.wait_for(|state| *state == SessionState::Expired).await.unwrap();
    }

    async fn fail(&self, fault: Fault, session: SessionId) {
        let Session { tree, proxy } = self.session(session);
        let mut ensemble = self.ensemble.lock().await;
        match fault {
            Fault::LoseNextReply => proxy.lose_next_answer(),
            Fault::Reconnect => proxy.cut(),
            Fault::Move => {
                proxy.turn((proxy.target() + 1) % ensemble.servers().len());
                let mut state = tree.state();
                state.wait_for(|state| *state != SessionState::Connected).await.unwrap();
            }
            Fault::Cut => proxy.close(),
            Fault::Lag => ensemble.hold(proxy.target()),
            Fault::QuorumLoss => {
                let last = proxy.target();
                (0..ensemble.servers().len())
                    .filter(|at| *at != last)
                    .for_each(|at| ensemble.server_mut(at).kill());
            }
            Fault::Restart => {
                let all = 0..ensemble.servers().len();
                all.clone().for_each(|at| ensemble.server_mut(at).kill());
                all.for_each(|at| ensemble.server_mut(at).restart().unwrap());
                ensemble.serving().await.unwrap();
            }
        }
    }

    async fn mend(&self) {
        let mut ensemble = self.ensemble.lock().await;
        for at in 0..ensemble.servers().len() {
            ensemble.release(at);
            if !ensemble.servers()[at].is_running() {
                ensemble.server_mut(at).restart().unwrap();
            }
        }
        for session in self.sessions.lock().unwrap().values() {
            session.proxy.open();
        }
        ensemble.serving().await.unwrap();
    }
}

impl Subject for ZooKeeper {
    fn connect(&self) -> BoxFuture<'_, Arc<dyn Tree>> {
        self.begin().boxed()
    }

    fn expire(&self, session: SessionId) -> BoxFuture<'_, ()> {
        self.end(session).boxed()
    }

    fn can(&self, _: Fault) -> bool {
        true
    }

    fn inflict(&self, fault: Fault, session: SessionId) -> BoxFuture<'_, ()> {
        self.fail(fault, session).boxed()
    }

    fn session_timeout(&self) -> Option<Duration> {
        Some(SESSION_TIMEOUT)
    }

    fn heal(&self) -> BoxFuture<'_, ()> {
        self.mend().boxed()
    }
}
