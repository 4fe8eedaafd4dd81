//! An elected controller: first read (R9), fenced writes (R8), resignation (R10).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use klamm_env::Random;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

use super::candidate::{Candidate, ControllerSettings, Ended, LeaderRebalance, Office};
use super::handle::{Asked, Request};
use super::leaders::{is_alone, rebalance};
use super::write::join;
use super::{Context, Reason, Scope, Write, reconcile};
use crate::image::{Changes, ImageReader};
use crate::nodes::NodeKey;
use crate::nodes::config::{ConfigKind, ConfigResource};
use crate::tree::{Op, SessionState, Tree, TreeError};

/// Times that one decision is made again after another writer came first.
const TRIES_MAX: usize = 8;

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
    /// When leadership is to be looked at next; `None` while there is one broker.
    rebalance_at: Option<Instant>,
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
    pub(super) async fn take_up(
        candidate: &Candidate,
        office: Office,
    ) -> Result<Controller, Ended> {
        let reader = ImageReader::load(Arc::clone(&candidate.now.tree)).await?;
        let standing = reader.image().controller_epoch_node();
        if standing.map(|node| node.version) != Some(office.epoch.version) {
            return Err(Ended::Moved);
        }
        Ok(Controller {
            tree: Arc::clone(&candidate.now.tree),
            settings: candidate.settings.clone(),
            random: Arc::clone(&candidate.random),
            session: candidate.session.clone(),
            office,
            reader,
            deleting: BTreeMap::new(),
            rebalance_at: None,
        })
    }

    /// Decides for everything once; elections after a restart leave as one batch.
    pub(super) async fn put_in_order(&mut self) -> Result<(), Ended> {
        self.note_deletions(&Changes { everything: true, ..Changes::default() });
        self.reconcile(&Scope::All).await
    }

    pub(super) async fn serve(
        &mut self,
        queue: &mut mpsc::Receiver<Asked>,
        session: &mut watch::Receiver<SessionState>,
    ) -> Ended {
        loop {
            if matches!(*session.borrow(), SessionState::Lost | SessionState::Expired) {
                return Ended::Session;
            }
            let purge_at = self.deleting.values().min().copied();
            let rebalance_at = self.rebalance_at();
            // In this order, so that the same events give the same run.
            let step = tokio::select! {
                biased;
                changed = session.changed() => changed.map_err(|_| Ended::Session),
                events = self.reader.events() => match events {
                    Some(events) => match self.reader.refresh(&events).await {
                        Ok(changes) => self.on_changes(changes).await,
                        Err(error) => Err(error.into()),
                    },
                    None => Err(Ended::Session),
                },
                asked = queue.recv() => match asked {
                    Some(asked) => self.take(asked).await,
                    None => Err(Ended::Resigned),
                },
                () = tokio::time::sleep_until(purge_at.unwrap_or_else(Instant::now)),
                    if purge_at.is_some() => self.purge().await,
                () = tokio::time::sleep_until(rebalance_at.unwrap_or_else(Instant::now)),
                    if rebalance_at.is_some() => self.rebalance().await,
            };
            if let Err(ended) = step {
                return ended;
            }
            // Events may come faster than an ensemble lets them be read: a request waits for one batch.
            if let Ok(asked) = queue.try_recv()
                && let Err(ended) = self.take(asked).await
            {
                return ended;
            }
        }
    }

    async fn take(&mut self, asked: Asked) -> Result<(), Ended> {
        match asked {
            Asked { request: Request::Resign(reply), .. } => {
                let _ = reply.send(());
                Err(Ended::Resigned)
            }
            // Dropping the reply refuses every item.
            asked if asked.is_for_another(self.office.epoch.epoch) => Ok(()),
            asked => self.answer(asked.request).await,
        }
    }

    async fn on_changes(&mut self, changes: Changes) -> Result<(), Ended> {
        self.note_deletions(&changes);
        let scope = self.scope(changes);
        if scope.is_empty() {
            return Ok(());
        }
        self.reconcile(&scope).await
    }

    fn scope(&self, changes: Changes) -> Scope {
        let cluster_wide = |resource: &ConfigResource| resource.kind != ConfigKind::Topic;
        if changes.everything || changes.brokers || changes.configs.iter().any(cluster_wide) {
            return Scope::All;
        }
        let image = self.reader.image();
        let named = changes.configs.iter().filter_map(|resource| resource.name.as_deref());
        let configured: Vec<Uuid> =
            named.filter_map(|name| image.topic(name)).map(|topic| topic.id).collect();
        let mut topics = changes.topics;
        topics.extend(configured);
        Scope::Parts { topics, partitions: changes.partitions }
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
        self.reconcile(&Scope::topics(due)).await
    }

    fn due_deletions(&self) -> BTreeSet<Uuid> {
        let now = Instant::now();
        self.deleting.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect()
    }

    /// The next look at who leads what, with an interval before the first.
    fn rebalance_at(&mut self) -> Option<Instant> {
        let LeaderRebalance { interval, .. } = self.settings.leader_rebalance?;
        if is_alone(self.reader.image()) {
            self.rebalance_at = None;
        } else if self.rebalance_at.is_none() {
            self.rebalance_at = Instant::now().checked_add(interval);
        }
        self.rebalance_at
    }

    async fn rebalance(&mut self) -> Result<(), Ended> {
        let Some(LeaderRebalance { interval, percentage }) = self.settings.leader_rebalance else {
            return Ok(());
        };
        self.rebalance_at = Instant::now().checked_add(interval);
        self.write_until_done(|controller, context| {
            rebalance(controller.reader.image(), percentage, context)
        })
        .await
    }

    async fn reconcile(&mut self, scope: &Scope) -> Result<(), Ended> {
        self.write_until_done(|controller, context| {
            let purge = controller.due_deletions();
            reconcile(controller.reader.image(), scope, &purge, context)
        })
        .await?;
        // What stays marked after its time (a full disk) is tried again later.
        let later = Instant::now() + self.settings.purge_delay;
        let now = Instant::now();
        self.deleting.values_mut().filter(|at| **at <= now).for_each(|at| *at = later);
        Ok(())
    }

    /// Decides and writes, again after another writer came first.
    async fn write_until_done(
        &mut self,
        decide: impl Fn(&Controller, &Context) -> Vec<Write>,
    ) -> Result<(), Ended> {
        for _ in 0..TRIES_MAX {
            let writes = decide(self, &self.context());
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
                Err(failed)
                    if matches!(
                        failed.error,
                        TreeError::SessionExpired | TreeError::SessionLost
                    ) =>
                {
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
    pub(super) async fn leave(&self) {
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
