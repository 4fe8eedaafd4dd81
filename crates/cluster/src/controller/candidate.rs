//! A broker that stands for controller, session after session, and holds the office while it can (R7).

use std::sync::Arc;
use std::time::Duration;

use klamm_env::{Loop, Random};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::handle::{Asked, REQUESTS_MAX, Request};
use super::runtime::Controller;
use super::{ConfigRules, ControllerHandle, ControllerState, PartitionDefaults};
use crate::image::ImageError;
use crate::nodes::controller::{ControllerEpochNode, ControllerNode};
use crate::nodes::{NodeKey, Versioned, decode, encode};
use crate::tree::{Node, Op, OpResult, SessionState, Tree, TreeError};

/// What a controller needs to know besides the tree.
#[derive(Clone)]
pub struct ControllerSettings {
    /// The broker.
    pub broker_id: i32,
    /// The static settings behind the dynamic ones.
    pub defaults: PartitionDefaults,
    /// The table of settings.
    pub rules: Arc<dyn ConfigRules>,
    /// How long a deleted topic stays in the tree, so that brokers see its mark (R28).
    pub purge_delay: Duration,
    /// How leadership returns to preferred replicas; `None`: only on request.
    pub leader_rebalance: Option<LeaderRebalance>,
}

/// When a broker gets back the leadership of partitions that prefer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderRebalance {
    /// `leader.imbalance.check.interval.seconds`.
    pub interval: Duration,
    /// `leader.imbalance.per.broker.percentage`: what may be led elsewhere without a consequence.
    pub percentage: i32,
}

/// A broker's registration, and the session that it ends with.
#[derive(Clone)]
pub struct Registered {
    /// The session.
    pub tree: Arc<dyn Tree>,
    /// The broker epoch.
    pub epoch: i64,
}

/// Pause after which a controller that could not go on tries again.
const UNABLE_PAUSE: Duration = Duration::from_secs(1);

/// Stands for election on `on`, and decides once elected, in each session that `registered` shows, one
/// after the other; ends with their sender.
pub fn start(
    mut registered: watch::Receiver<Registered>,
    settings: ControllerSettings,
    random: Arc<dyn Random>,
    on: &Loop,
) -> ControllerHandle {
    let (requests, queue) = mpsc::channel(REQUESTS_MAX);
    let (state, states) = watch::channel(ControllerState::Electing);
    let now = registered.borrow_and_update().clone();
    let session = now.tree.state();
    let candidate = Candidate { now, session, registered, settings, random, queue, state };
    on.spawn(candidate.run());
    ControllerHandle { requests, state: states, within: None }
}

/// Why a controller ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Another one was elected, or may have been: stand again.
    Moved,
    /// The session is over, or its lease has run out.
    Session,
    /// The tree holds what cannot be read, or takes nothing.
    Unable,
    /// It was asked to.
    Resigned,
}

impl From<TreeError> for Ended {
    fn from(error: TreeError) -> Ended {
        warn!(%error, "the controller cannot go on");
        match error {
            TreeError::SessionExpired | TreeError::SessionLost => Ended::Session,
            _ => Ended::Unable,
        }
    }
}

impl From<ImageError> for Ended {
    fn from(error: ImageError) -> Ended {
        warn!(%error, "the controller cannot read the tree");
        match error {
            ImageError::Tree(error) => error.into(),
            ImageError::Node(_) => Ended::Unable,
        }
    }
}

/// A broker that stands for election.
pub(super) struct Candidate {
    pub(super) now: Registered,
    pub(super) session: watch::Receiver<SessionState>,
    registered: watch::Receiver<Registered>,
    pub(super) settings: ControllerSettings,
    pub(super) random: Arc<dyn Random>,
    queue: mpsc::Receiver<Asked>,
    state: watch::Sender<ControllerState>,
}

/// The office, held.
pub(super) struct Office {
    pub(super) node: ControllerNode,
    pub(super) epoch: Versioned<ControllerEpochNode>,
}

impl Candidate {
    async fn run(mut self) {
        loop {
            let ended = match self.get_elected().await {
                Ok(office) => self.hold(office).await,
                Err(ended) => ended,
            };
            match ended {
                Ended::Moved => {
                    warn!("another controller was elected");
                    self.state.send_replace(ControllerState::Electing);
                }
                Ended::Session if self.next_session().await => {}
                Ended::Unable => {
                    self.state.send_replace(ControllerState::Electing);
                    tokio::time::sleep(UNABLE_PAUSE).await;
                }
                Ended::Session | Ended::Resigned => break,
            }
        }
        self.state.send_replace(ControllerState::Stopped);
    }

    /// Waits until this session is well again, or there is another; `false` when none will come.
    async fn next_session(&mut self) -> bool {
        self.state.send_replace(ControllerState::Electing);
        loop {
            let is_new = self.registered.has_changed().unwrap_or(false);
            if is_new {
                self.now = self.registered.borrow_and_update().clone();
                self.session = self.now.tree.state();
                return true;
            }
            let state = *self.session.borrow_and_update();
            if state == SessionState::Connected {
                return true;
            }
            tokio::select! {
                biased;
                changed = self.registered.changed() => match changed {
                    Ok(()) => self.registered.mark_changed(),
                    Err(_) => return false,
                },
                _ = self.session.changed(), if state != SessionState::Expired => {}
                request = self.queue.recv() => if refuse(request).is_err() {
                    return false;
                },
            }
        }
    }

    async fn hold(&mut self, office: Office) -> Ended {
        let epoch = office.epoch.epoch;
        info!(epoch, broker = office.node.broker_id, "elected controller");
        let mut controller = match Controller::take_up(self, office).await {
            Ok(controller) => controller,
            Err(ended) => return ended,
        };
        let ended = match controller.put_in_order().await {
            Ok(()) => {
                self.state.send_replace(ControllerState::Active { epoch });
                controller.serve(&mut self.queue, &mut self.session).await
            }
            Err(ended) => ended,
        };
        if matches!(ended, Ended::Resigned) {
            controller.leave().await;
        }
        ended
    }

    async fn get_elected(&mut self) -> Result<Office, Ended> {
        let path = NodeKey::Controller.path();
        let tree = Arc::clone(&self.now.tree);
        let mut watcher = tree.watch(&[&path]).await?;
        loop {
            if matches!(tree.state_now(), SessionState::Lost | SessionState::Expired) {
                return Err(Ended::Session);
            }
            match tree.find(&path).await? {
                None => {
                    if let Some(office) = self.try_election().await? {
                        return Ok(office);
                    }
                }
                Some(node) if self.is_own_past(&path, &node) => {
                    match tree.delete(&path, Some(node.stat.version)).await {
                        Err(error) if !error.is_conflict() && !error.is_unclear() => {
                            return Err(error.into());
                        }
                        _ => {}
                    }
                }
                Some(node) => {
                    let holder = decode::<ControllerNode>(&path, &node.data);
                    let controller = holder.map_or(-1, |holder| holder.broker_id);
                    self.state.send_replace(ControllerState::Standby { controller });
                    tokio::select! {
                        biased;
                        event = watcher.next() => event.map(|_| ()).ok_or(Ended::Session)?,
                        _ = self.session.changed() => {}
                        request = self.queue.recv() => refuse(request)?,
                    }
                }
            }
        }
    }

    /// Whether an office is left over from this broker itself: from this session, given up when its
    /// lease ran out, or won unseen; or from an earlier registration, which is over since this one
    /// stands. What its holder may still write is fenced by the next epoch (R8).
    fn is_own_past(&self, path: &str, node: &Node) -> bool {
        let of_this_session = node.stat.owner == Some(self.now.tree.session());
        let of_an_earlier_one = decode::<ControllerNode>(path, &node.data).is_ok_and(|holder| {
            holder.broker_id == self.settings.broker_id && holder.broker_epoch < self.now.epoch
        });
        of_this_session || of_an_earlier_one
    }

    /// R7: the office and its next epoch in one step; an unclear answer is settled by the nonce.
    async fn try_election(&self) -> Result<Option<Office>, Ended> {
        let path = NodeKey::ControllerEpoch.path();
        let before = self.now.tree.get(&path).await?;
        let last: ControllerEpochNode =
            decode(&path, &before.data).map_err(|error| Ended::from(ImageError::from(error)))?;
        let epoch = ControllerEpochNode { epoch: last.epoch + 1 };
        let node = ControllerNode {
            broker_id: self.settings.broker_id,
            broker_epoch: self.now.epoch,
            nonce: self.random.u64(),
        };
        let ops = vec![
            Op::create_ephemeral(NodeKey::Controller.path(), encode(&node)),
            Op::set(&path, encode(&epoch), before.stat.version),
        ];
        match self.now.tree.multi(ops).await.as_deref() {
            Ok([_, OpResult::Set(stat)]) => {
                let epoch = Versioned { value: epoch, version: stat.version };
                Ok(Some(Office { node, epoch }))
            }
            Ok(other) => panic!("an election was answered by {other:?}"),
            Err(failed) if failed.error.is_unclear() => self.find_office(node).await,
            Err(failed) if failed.error.is_conflict() => Ok(None),
            Err(failed) => Err(failed.error.clone().into()),
        }
    }

    async fn find_office(&self, node: ControllerNode) -> Result<Option<Office>, Ended> {
        let found = self.now.tree.find(&NodeKey::Controller.path()).await?;
        let found =
            found.and_then(|found| decode::<ControllerNode>("/controller", &found.data).ok());
        if found.as_ref() != Some(&node) {
            return Ok(None);
        }
        let path = NodeKey::ControllerEpoch.path();
        let epoch = self.now.tree.get(&path).await?;
        let value =
            decode(&path, &epoch.data).map_err(|error| Ended::from(ImageError::from(error)))?;
        Ok(Some(Office { node, epoch: Versioned { value, version: epoch.stat.version } }))
    }
}

fn refuse(asked: Option<Asked>) -> Result<(), Ended> {
    match asked.map(|asked| asked.request) {
        // Dropping the reply refuses every item.
        Some(Request::Resign(reply)) => {
            let _ = reply.send(());
            Err(Ended::Resigned)
        }
        Some(_) => Ok(()),
        None => Err(Ended::Resigned),
    }
}
