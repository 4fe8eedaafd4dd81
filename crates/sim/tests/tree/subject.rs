//! A simulated ensemble as the subject of one case.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use klamm_cluster::conformance::{Fault, Subject};
use klamm_cluster::tree::{Home, SessionId, SessionState, Tree};
use klamm_env::{Clock, Loop};
use klamm_sim::tree::{Manners, SimEnsemble};

use super::PausedClock;

/// The subject of one case. Each session is a client of its own.
pub(crate) struct Simulated {
    ensemble: SimEnsemble,
    clock: Arc<dyn Clock>,
    sessions: Mutex<BTreeMap<SessionId, Arc<dyn Tree>>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    clients: BTreeMap<SessionId, String>,
    has_no_quorum: bool,
}

impl Simulated {
    pub(crate) fn new(seed: u64) -> Simulated {
        let clock = PausedClock::start();
        let ensemble = SimEnsemble::new(seed, Manners::GOOD, Arc::clone(&clock));
        Simulated { ensemble, clock, sessions: Mutex::default(), state: Mutex::default() }
    }

    fn client(&self, session: SessionId) -> String {
        self.state.lock().unwrap().clients[&session].clone()
    }

    async fn begin(&self) -> Arc<dyn Tree> {
        let client = format!("client {}", self.sessions.lock().unwrap().len());
        let home = self.ensemble.home(&client, Arc::clone(&self.clock), &Loop::current());
        let tree = home.connect().await.unwrap();
        self.sessions.lock().unwrap().insert(tree.session(), Arc::clone(&tree));
        self.state.lock().unwrap().clients.insert(tree.session(), client);
        tree
    }

    async fn end(&self, session: SessionId) {
        self.ensemble.expire(session);
        self.ensemble.settled().await;
        let tree = Arc::clone(&self.sessions.lock().unwrap()[&session]);
        let mut state = tree.state();
        state.wait_for(|state| *state == SessionState::Expired).await.unwrap();
    }

    async fn fail(&self, fault: Fault, session: SessionId) {
        let client = self.client(session);
        match fault {
            Fault::LoseNextReply => self.ensemble.lose_next_reply(&client),
            Fault::Reconnect => self.ensemble.reconnect(&client),
            Fault::Move => {
                let tree = Arc::clone(&self.sessions.lock().unwrap()[&session]);
                self.ensemble.turn(&client);
                let mut state = tree.state();
                state.wait_for(|state| *state != SessionState::Connected).await.unwrap();
            }
            Fault::Cut => self.ensemble.cut(&client, true),
            Fault::Lag => self.hold_server_of(session),
            Fault::QuorumLoss => {
                self.state.lock().unwrap().has_no_quorum = true;
                self.ensemble.lose_quorum();
            }
            Fault::Restart => {
                self.ensemble.lose_quorum();
                self.ensemble.regain_quorum();
            }
        }
    }

    /// The others of that server go elsewhere.
    fn hold_server_of(&self, session: SessionId) {
        let server = self.ensemble.server_of(session).unwrap();
        self.ensemble.hold(server, true);
        for (other, client) in &self.state.lock().unwrap().clients {
            if *other != session && self.ensemble.server_of(*other) == Some(server) {
                self.ensemble.turn(client);
            }
        }
    }

    fn mend(&self) {
        let mut state = self.state.lock().unwrap();
        state.clients.values().for_each(|client| self.ensemble.cut(client, false));
        (0..Manners::GOOD.servers).for_each(|server| self.ensemble.hold(server, false));
        if std::mem::take(&mut state.has_no_quorum) {
            self.ensemble.regain_quorum();
        }
    }
}

impl Subject for Simulated {
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
        Some(Manners::GOOD.session_timeout)
    }

    fn heal(&self) -> BoxFuture<'_, ()> {
        async { self.mend() }.boxed()
    }
}
