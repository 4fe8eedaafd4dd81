//! One task for each session: it writes the probes, and says how the session is (R4, R6).

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, pending};
use zookeeper_client::{Client, CreateMode, Error, SessionState as ClientState, StateWatcher};

use super::answers::is_verdict;
use super::home::NodeAccess;
use super::session::Shared;

/// Follows the client's state and keeps the lease until the session is over.
pub(super) struct Keeper {
    shared: Weak<Shared>,
    states: StateWatcher,
    /// The node that probes are written to.
    probe: String,
    connected: bool,
}

/// A probe on its way: when it was sent, and whether the leader has answered it.
type Probe = BoxFuture<'static, (Duration, bool)>;

/// Why the keeper wakes.
enum Wake {
    State(ClientState),
    Probed((Duration, bool)),
    Time,
}

impl Keeper {
    pub(super) fn new(shared: &Arc<Shared>, states: StateWatcher, probe: String) -> Keeper {
        Keeper { shared: Arc::downgrade(shared), states, probe, connected: true }
    }

    pub(super) async fn run(mut self) {
        let mut probe: Option<Probe> = None;
        loop {
            let Some(sleep) = self.shared.upgrade().map(|shared| shared.sleep()) else { return };
            let wake = tokio::select! {
                biased;
                state = self.states.changed() => Wake::State(state),
                answer = answered(&mut probe) => Wake::Probed(answer),
                () = tokio::time::sleep(sleep) => Wake::Time,
            };
            let Some(shared) = self.shared.upgrade() else { return };
            match wake {
                Wake::State(state) if state.is_terminated() => return shared.end(),
                Wake::State(state) => self.on_state(&shared, state).await,
                Wake::Probed((sent, from_leader)) => {
                    probe = None;
                    if from_leader {
                        shared.renew(sent);
                    }
                }
                Wake::Time => {}
            }
            if probe.is_none() && shared.probe_due() {
                probe = self.send_probe(&shared);
            }
            shared.publish();
        }
    }

    async fn on_state(&mut self, shared: &Shared, state: ClientState) {
        let connected = state == ClientState::SyncConnected;
        if self.connected {
            // Also where the reconnect came before this task saw the loss.
            shared.on_disconnected();
            if connected {
                tokio::task::yield_now().await;
            }
        }
        if connected {
            shared.on_reconnected();
        }
        self.connected = connected;
    }

    fn send_probe(&self, shared: &Shared) -> Option<Probe> {
        let client = shared.client().ok()?;
        let sent = shared.on_probe_sent();
        let (path, access) = (self.probe.clone(), shared.access());
        Some(async move { (sent, write(&client, &path, access).await) }.boxed())
    }
}

async fn answered(probe: &mut Option<Probe>) -> (Duration, bool) {
    match probe {
        Some(probe) => probe.await,
        None => pending().await,
    }
}

/// Writes the probe's node; whether the leader has answered. That the node is missing is an answer as
/// well: it is made then, if its folder is there, so that nothing is made in a stranger's tree.
async fn write(client: &Client, path: &str, access: NodeAccess) -> bool {
    match client.set_data(path, b"", None).await {
        Ok(_) => true,
        Err(Error::NoNode) => {
            let options = CreateMode::Persistent.with_acls(access.of(path));
            // The next probe finds out how that went.
            let _ = client.create(path, b"", &options).await;
            true
        }
        Err(error) => is_verdict(&error),
    }
}
