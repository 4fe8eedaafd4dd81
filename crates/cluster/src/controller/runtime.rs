//! The controller's shell: election (R7), first read (R9), fenced writes (R8), resignation (R10).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use klamm_env::{Loop, Random};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

use super::handle::{REQUESTS_MAX, Request};
use super::write::join;
use super::{
    ConfigRules, Context, ControllerHandle, ControllerState, PartitionDefaults, Reason, Scope,
    Write, reconcile,
};
use crate::image::{Changes, ImageError, ImageReader};
use crate::nodes::controller::{ControllerEpochNode, ControllerNode};
use crate::nodes::{NodeKey, Versioned, decode, encode};
use crate::tree::{Op, OpResult, SessionState, Tree, TreeError};

/// Times that one decision is made again after another writer came first.
const TRIES_MAX: usize = 8;

/// What a controller needs to know besides the tree.
#[derive(Clone)]
pub struct ControllerSettings {
    /// The broker.
    pub broker_id: i32,
    /// Its registration.
    pub broker_epoch: i64,
    /// The static settings behind the dynamic ones.
    pub defaults: PartitionDefaults,
    /// The table of settings.
    pub rules: Arc<dyn ConfigRules>,
    /// How long a deleted topic stays in the tree, so that brokers see its mark (R28).
    pub purge_delay: Duration,
}

/// Stands for election on `on`, and decides once elected, for as long as the session lives.
pub fn start(
    tree: Arc<dyn Tree>,
    settings: ControllerSettings,
    random: Arc<dyn Random>,
    on: &Loop,
) -> ControllerHandle {
    let (requests, queue) = mpsc::channel(REQUESTS_MAX);
    let (state, states) = watch::channel(ControllerState::Electing);
    let candidate = Candidate { session: tree.state(), tree, settings, random, queue, state };
    on.spawn(candidate.run());
    ControllerHandle { requests, state: states }
}

/// Why a controller ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Another one was elected, or may have been: stand again.
    Moved,
    /// The session is over.
    Session,
    /// It was asked to.
    Resigned,
}

impl From<TreeError> for Ended {
    fn from(error: TreeError) -> Ended {
        warn!(%error, "the controller cannot go on");
        Ended::Session
    }
}

impl From<ImageError> for Ended {
    fn from(error: ImageError) -> Ended {
        warn!(%error, "the controller cannot read the tree");
        Ended::Session
    }
}

/// A broker that stands for election.
struct Candidate {
    tree: Arc<dyn Tree>,
    session: watch::Receiver<SessionState>,
    settings: ControllerSettings,
    random: Arc<dyn Random>,
    queue: mpsc::Receiver<Request>,
    state: watch::Sender<ControllerState>,
}

/// The office, held.
struct Office {
    node: ControllerNode,
    epoch: Versioned<ControllerEpochNode>,
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
                Ended::Session | Ended::Resigned => break,
            }
        }
        self.state.send_replace(ControllerState::Stopped);
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
        let tree = Arc::clone(&self.tree);
        let mut watcher = tree.watch(&[&path]).await?;
        loop {
            if *self.session.borrow() == SessionState::Expired {
                return Err(Ended::Session);
            }
            match tree.find(&path).await? {
                None => {
                    if let Some(office) = self.try_election().await? {
                        return Ok(office);
                    }
                }
                Some(node) => {
                    let holder = decode::<ControllerNode>(&path, &node.data);
                    let controller = holder.map_or(-1, |holder| holder.broker_id);
                    self.state.send_replace(ControllerState::Standby { controller });
                    tokio::select! {
                        event = watcher.next() => event.map(|_| ()).ok_or(Ended::Session)?,
                        request = self.queue.recv() => refuse(request)?,
                    }
                }
            }
        }
    }

    /// R7: the office and its next epoch in one step; an unclear answer is settled by the nonce.
    async fn try_election(&self) -> Result<Option<Office>, Ended> {
        let path = NodeKey::ControllerEpoch.path();
        let before = self.tree.get(&path).await?;
        let last: ControllerEpochNode =
            decode(&path, &before.data).map_err(|error| Ended::from(ImageError::from(error)))?;
        let epoch = ControllerEpochNode { epoch: last.epoch + 1 };
        let node = ControllerNode {
            broker_id: self.settings.broker_id,
            broker_epoch: self.settings.broker_epoch,
            nonce: self.random.u64(),
        };
        let ops = vec![
            Op::create_ephemeral(NodeKey::Controller.path(), encode(&node)),
            Op::set(&path, encode(&epoch), before.stat.version),
        ];
        match self.tree.multi(ops).await.as_deref() {
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
        let found = self.tree.find(&NodeKey::Controller.path()).await?;
        let found =
            found.and_then(|found| decode::<ControllerNode>("/controller", &found.data).ok());
        if found.as_ref() != Some(&node) {
            return Ok(None);
        }
        let path = NodeKey::ControllerEpoch.path();
        let epoch = self.tree.get(&path).await?;
        let value =
            decode(&path, &epoch.data).map_err(|error| Ended::from(ImageError::from(error)))?;
        Ok(Some(Office { node, epoch: Versioned { value, version: epoch.stat.version } }))
    }
}

fn refuse(request: Option<Request>) -> Result<(), Ended> {
    match request {
        // Dropping the reply refuses every item.
        Some(Request::Resign(reply)) => {
            let _ = reply.send(());
            Err(Ended::Resigned)
        }
        Some(_) => Ok(()),
        None => Err(Ended::Resigned),
    }
}

/// An elected controller.
pub(super) struct Controller {
    tree: Arc<dyn Tree>,
    pub(super) settings: ControllerSettings,
    pub(super) random: Arc<dyn Random>,
    session: watch::Receiver<SessionState>,
    office: Office,
    pub(super) reader: ImageReader,
    /// Topics marked for deletion and when their nodes go.
    deleting: BTreeMap<Uuid, Instant>,
}

/// What became of a list of writes.
pub(super) enum Commit {
    /// All of it is in the tree.
    Done,
    /// Another writer came first, or the outcome was unclear: the image was read again.
    Again,
    /// The home took none of the rest.
    Failed(TreeError),
}

impl Controller {
    /// R9: the first read comes after the controller's own epoch write, in the same session.
    async fn take_up(candidate: &Candidate, office: Office) -> Result<Controller, Ended> {
        let reader = ImageReader::load(Arc::clone(&candidate.tree)).await?;
        let standing = reader.image().controller_epoch_node();
        if standing.map(|node| node.version) != Some(office.epoch.version) {
            return Err(Ended::Moved);
        }
        Ok(Controller {
            tree: Arc::clone(&candidate.tree),
            settings: candidate.settings.clone(),
            random: Arc::clone(&candidate.random),
            session: candidate.session.clone(),
            office,
            reader,
            deleting: BTreeMap::new(),
        })
    }

    /// Decides for everything once; elections after a restart leave as one batch.
    async fn put_in_order(&mut self) -> Result<(), Ended> {
        self.note_deletions(&Changes { everything: true, ..Changes::default() });
        self.reconcile(&Scope::All).await
    }

    async fn serve(
        &mut self,
        queue: &mut mpsc::Receiver<Request>,
        session: &mut watch::Receiver<SessionState>,
    ) -> Ended {
        loop {
            if matches!(*session.borrow(), SessionState::Lost | SessionState::Expired) {
                return Ended::Session;
            }
            let purge_at = self.deleting.values().min().copied();
            let step = tokio::select! {
                request = queue.recv() => match request {
                    Some(Request::Resign(reply)) => {
                        let _ = reply.send(());
                        Err(Ended::Resigned)
                    }
                    Some(request) => self.answer(request).await,
                    None => Err(Ended::Resigned),
                },
                events = self.reader.events() => match events {
                    Some(events) => match self.reader.refresh(&events).await {
                        Ok(changes) => self.on_changes(changes).await,
                        Err(error) => Err(error.into()),
                    },
                    None => Err(Ended::Session),
                },
                changed = session.changed() => changed.map_err(|_| Ended::Session),
                () = tokio::time::sleep_until(purge_at.unwrap_or_else(Instant::now)),
                    if purge_at.is_some() => self.purge().await,
            };
            if let Err(ended) = step {
                return ended;
            }
        }
    }

    async fn on_changes(&mut self, changes: Changes) -> Result<(), Ended> {
        self.note_deletions(&changes);
        let scope = self.scope(changes);
        if scope == Scope::Topics(BTreeSet::new()) {
            return Ok(());
        }
        self.reconcile(&scope).await
    }

    fn scope(&self, changes: Changes) -> Scope {
        let cluster_wide = |resource: &crate::nodes::config::ConfigResource| {
            resource.kind != crate::nodes::config::ConfigKind::Topic
        };
        if changes.everything || changes.brokers || changes.configs.iter().any(cluster_wide) {
            return Scope::All;
        }
        let image = self.reader.image();
        let named = changes.configs.iter().filter_map(|resource| resource.name.as_deref());
        let configured: Vec<Uuid> =
            named.filter_map(|name| image.topic(name)).map(|topic| topic.id).collect();
        let mut topics = changes.topics;
        topics.extend(configured);
        Scope::Topics(topics)
    }

    fn note_deletions(&mut self, changes: &Changes) {
        let image = self.reader.image();
        let at = Instant::now() + self.settings.purge_delay;
        if changes.everything {
            self.deleting = image.deleting_topics().map(|topic| (topic.id, at)).collect();
        }
        for id in &changes.topics {
            match image.any_topic(*id) {
                Some(topic) if topic.is_deleting() => {
                    self.deleting.entry(*id).or_insert(at);
                }
                _ => {
                    self.deleting.remove(id);
                }
            }
        }
    }

    async fn purge(&mut self) -> Result<(), Ended> {
        let due = self.due_deletions();
        self.reconcile(&Scope::Topics(due)).await
    }

    fn due_deletions(&self) -> BTreeSet<Uuid> {
        let now = Instant::now();
        self.deleting.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect()
    }

    async fn reconcile(&mut self, scope: &Scope) -> Result<(), Ended> {
        for _ in 0..TRIES_MAX {
            let context = self.context();
            let purge = self.due_deletions();
            let writes = reconcile(self.reader.image(), scope, &purge, &context);
            if writes.is_empty() {
                break;
            }
            report(&writes);
            match self.commit(&writes).await? {
                Commit::Done => break,
                Commit::Again => {}
                Commit::Failed(error) => {
                    warn!(%error, "decisions were not written; the next change tries again");
                    break;
                }
            }
        }
        // What stays marked after its time (a full disk) is tried again later.
        let later = Instant::now() + self.settings.purge_delay;
        let now = Instant::now();
        self.deleting.values_mut().filter(|at| **at <= now).for_each(|at| *at = later);
        Ok(())
    }

    pub(super) fn context(&self) -> Context {
        Context {
            controller_epoch: self.office.epoch.epoch,
            nonce: self.random.u64(),
            defaults: self.settings.defaults,
        }
    }

    /// R8: every multi begins with a check of the controller's own epoch.
    pub(super) async fn commit(&mut self, writes: &[Write]) -> Result<Commit, Ended> {
        let fence = Op::check(NodeKey::ControllerEpoch.path(), self.office.epoch.version);
        for ops in join(writes, &fence, self.tree.max_multi()) {
            self.wait_connected().await?;
            match self.tree.multi(ops.clone()).await {
                Ok(results) => {
                    let changes = self.reader.wrote(&ops, &results)?;
                    self.note_deletions(&changes);
                }
                Err(failed) if failed.index == Some(0) && failed.error.is_conflict() => {
                    return Err(Ended::Moved);
                }
                Err(failed) if failed.error == TreeError::SessionExpired => {
                    return Err(Ended::Session);
                }
                Err(failed) if failed.error.is_conflict() || failed.error.is_unclear() => {
                    let changes = self.reader.refresh_ops(&ops).await?;
                    self.note_deletions(&changes);
                    return Ok(Commit::Again);
                }
                Err(failed) => return Ok(Commit::Failed(failed.error)),
            }
        }
        Ok(Commit::Done)
    }

    /// R10: nothing is issued while the connection is down.
    async fn wait_connected(&mut self) -> Result<(), Ended> {
        loop {
            match *self.session.borrow_and_update() {
                SessionState::Connected => return Ok(()),
                SessionState::Lost | SessionState::Expired => return Err(Ended::Session),
                SessionState::Suspended => {}
            }
            self.session.changed().await.map_err(|_| Ended::Session)?;
        }
    }

    /// Gives the office up, if it is still this controller's.
    async fn leave(&self) {
        let image = self.reader.image();
        let Some(node) = image.controller_node().filter(|node| node.value == self.office.node)
        else {
            return;
        };
        let path = NodeKey::Controller.path();
        if let Err(error) = self.tree.delete(&path, Some(node.version)).await {
            warn!(%error, "the controller's node stays until the session ends");
        }
    }
}

fn report(writes: &[Write]) {
    let mut counts: BTreeMap<Reason, usize> = BTreeMap::new();
    for write in writes {
        *counts.entry(write.reason).or_default() += 1;
    }
    if let Some(unclean) = counts.get(&Reason::UncleanElection) {
        warn!(partitions = unclean, "leaders are elected that may lack confirmed records");
    }
    info!(?counts, "putting the tree in order");
}
