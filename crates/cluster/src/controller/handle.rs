//! How handlers ask the controller.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::{
    ConfigAlteration, CreatedTopic, ElectionType, MorePartitions, NewTopic, PartitionElection,
    Reassignment, Refusal, TopicDefaults, TopicRef,
};
use crate::nodes::producer_ids::ProducerIdBlock;
use crate::nodes::topic::Member;

/// Requests that wait for the controller at most; one more waits to be taken.
pub(super) const REQUESTS_MAX: usize = 256;

/// How this broker stands to the controller's office.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControllerState {
    /// It is not known who decides: nobody was elected yet, or the session is interrupted.
    Electing,
    /// This broker decides, and has brought everything in order once.
    Active {
        /// Its controller epoch.
        epoch: i32,
    },
    /// Another broker decides.
    Standby {
        /// Who.
        controller: i32,
    },
    /// The broker has resigned.
    Stopped,
}

/// Asks this broker's controller; cheap to clone. Where another broker is the controller, every item
/// is refused with `NOT_CONTROLLER`. An answer comes after the change is in the tree; an image shows
/// it a moment later ([`crate::ImageWatch::wait_for`]).
#[derive(Clone, Debug)]
pub struct ControllerHandle {
    pub(super) requests: mpsc::Sender<Asked>,
    pub(super) state: watch::Receiver<ControllerState>,
    /// The only controller epoch in which what is asked here may be done.
    pub(super) within: Option<i32>,
}

pub(super) type Outcome<T> = Result<T, Refusal>;
pub(super) type Reply<T> = oneshot::Sender<T>;
type Elections = Vec<PartitionElection>;

/// A request in the queue.
#[derive(Debug)]
pub(super) struct Asked {
    within: Option<i32>,
    pub(super) request: Request,
}

impl Asked {
    /// Whether it is for the controller of another epoch: then it is never done.
    pub(super) fn is_for_another(&self, controller_epoch: i32) -> bool {
        self.within.is_some_and(|within| within != controller_epoch)
    }
}

#[derive(Debug)]
pub(super) enum Request {
    CreateTopics(Vec<NewTopic>, TopicDefaults, bool, Reply<Vec<Outcome<CreatedTopic>>>),
    DeleteTopics(Vec<TopicRef>, Reply<Vec<Outcome<(String, Uuid)>>>),
    CreatePartitions(Vec<MorePartitions>, bool, Reply<Vec<Outcome<()>>>),
    AlterConfigs(Vec<ConfigAlteration>, bool, Reply<Vec<Outcome<()>>>),
    ElectLeaders(ElectionType, Option<Vec<(Arc<str>, i32)>>, Reply<Vec<Outcome<Elections>>>),
    ReassignPartitions(Vec<Reassignment>, Reply<Vec<Outcome<()>>>),
    AllocateProducerIds(i32, i64, Reply<Vec<Outcome<ProducerIdBlock>>>),
    FlushSynced(Uuid, i32, i32, Reply<Vec<Outcome<()>>>),
    TakeOffline(Member, Vec<(Uuid, i32)>, Reply<Vec<Outcome<()>>>),
    Resign(Reply<()>),
}

impl ControllerHandle {
    /// How this broker stands to the office, and every change of that.
    pub fn state(&self) -> watch::Receiver<ControllerState> {
        self.state.clone()
    }

    /// Asks the controller of this epoch only: once the epoch is over, nothing that was asked here is
    /// begun any more, and what was begun writes nothing any more (R8). Refused by another epoch's
    /// controller with `NOT_CONTROLLER`.
    pub fn within(&self, controller_epoch: i32) -> ControllerHandle {
        ControllerHandle { within: Some(controller_epoch), ..self.clone() }
    }

    /// Waits until it is known who decides; when it is this broker, until every partition that can
    /// have a leader has one in the tree. Returns the state then.
    pub async fn ready(&self) -> ControllerState {
        let mut state = self.state.clone();
        match state.wait_for(|state| *state != ControllerState::Electing).await {
            Ok(state) => *state,
            Err(_) => ControllerState::Stopped,
        }
    }

    /// Creates topics; with `validate_only`, says what would happen. One answer per topic, in order.
    pub async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        defaults: TopicDefaults,
        validate_only: bool,
    ) -> Vec<Result<CreatedTopic, Refusal>> {
        let items = topics.len();
        let request = |reply| Request::CreateTopics(topics, defaults, validate_only, reply);
        self.ask(items, request).await
    }

    /// Deletes topics; answers with the name and id of each. One answer per topic, in order.
    pub async fn delete_topics(
        &self,
        topics: Vec<TopicRef>,
    ) -> Vec<Result<(String, Uuid), Refusal>> {
        self.ask(topics.len(), |reply| Request::DeleteTopics(topics, reply)).await
    }

    /// Adds partitions to topics. One answer per topic, in order.
    pub async fn create_partitions(
        &self,
        more: Vec<MorePartitions>,
        validate_only: bool,
    ) -> Vec<Result<(), Refusal>> {
        self.ask(more.len(), |reply| Request::CreatePartitions(more, validate_only, reply)).await
    }

    /// Changes settings. One answer per resource, in order.
    pub async fn alter_configs(
        &self,
        alterations: Vec<ConfigAlteration>,
        validate_only: bool,
    ) -> Vec<Result<(), Refusal>> {
        let items = alterations.len();
        self.ask(items, |reply| Request::AlterConfigs(alterations, validate_only, reply)).await
    }

    /// Elects leaders of `partitions`, or of all that there are. One answer per partition, in order.
    ///
    /// # Errors
    /// Where this broker is not the controller.
    pub async fn elect_leaders(
        &self,
        how: ElectionType,
        partitions: Option<Vec<(Arc<str>, i32)>>,
    ) -> Result<Vec<PartitionElection>, Refusal> {
        self.ask_one(|reply| Request::ElectLeaders(how, partitions, reply)).await
    }

    /// Begins moves of partitions to other brokers, or takes them back. One answer per partition, in
    /// order; the moves end by themselves.
    pub async fn reassign_partitions(&self, moves: Vec<Reassignment>) -> Vec<Result<(), Refusal>> {
        self.ask(moves.len(), |reply| Request::ReassignPartitions(moves, reply)).await
    }

    /// Takes a block of producer ids for a broker.
    ///
    /// # Errors
    /// As clients are told.
    pub async fn allocate_producer_ids(
        &self,
        broker: i32,
        broker_epoch: i64,
    ) -> Result<ProducerIdBlock, Refusal> {
        let request = |reply| Request::AllocateProducerIds(broker, broker_epoch, reply);
        self.ask_one(request).await
    }

    /// The leader's word that every replica in sync has synced past the start of `leader_epoch`, at
    /// which the partition's class became syncing: it becomes acked (R18c).
    ///
    /// # Errors
    /// When that epoch is over, or some replica outside the ISR may still become leader.
    pub async fn flush_synced(
        &self,
        topic: Uuid,
        partition: i32,
        leader_epoch: i32,
    ) -> Result<(), Refusal> {
        let request = |reply| Request::FlushSynced(topic, partition, leader_epoch, reply);
        self.ask_one(request).await
    }

    /// A broker's word, in its registration `member`, that an I/O error took the log directory of its
    /// replicas of `partitions` offline (R23): it resigns their leadership, and gets none of them
    /// until it registers anew. One answer per partition, in order.
    pub async fn take_offline(
        &self,
        member: Member,
        partitions: Vec<(Uuid, i32)>,
    ) -> Vec<Result<(), Refusal>> {
        self.ask(partitions.len(), |reply| Request::TakeOffline(member, partitions, reply)).await
    }

    /// Gives the office up for good: part of an orderly shutdown.
    pub async fn resign(&self) {
        let (reply, done) = oneshot::channel();
        if self.send(Request::Resign(reply)).await {
            // An error means that the controller has stopped for another reason.
            let _ = done.await;
        }
    }

    /// Whether it was taken.
    async fn send(&self, request: Request) -> bool {
        self.requests.send(Asked { within: self.within, request }).await.is_ok()
    }

    async fn ask<T>(
        &self,
        items: usize,
        request: impl FnOnce(Reply<Vec<Outcome<T>>>) -> Request,
    ) -> Vec<Outcome<T>> {
        let refused = || (0..items).map(|_| Err(Refusal::not_controller())).collect();
        let (reply, answer) = oneshot::channel();
        if !self.send(request(reply)).await {
            return refused();
        }
        answer.await.unwrap_or_else(|_| refused())
    }

    async fn ask_one<T>(
        &self,
        request: impl FnOnce(Reply<Vec<Outcome<T>>>) -> Request,
    ) -> Outcome<T> {
        self.ask(1, request).await.pop().expect("one answer per item")
    }
}
