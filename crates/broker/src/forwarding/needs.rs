//! Questions that a broker has of its own.

use futures_util::future::BoxFuture;
use klamm_cluster::nodes::producer_ids::ProducerIdBlock;
use klamm_cluster::{ControllerHandle, Member};
use klamm_protocol::messages::ask_controller::{
    AskControllerRequest, AskedOffline, AskedResult, AskedSync,
};
use uuid::Uuid;

use super::question::{Again, Answers, Question};

/// Takes a block of producer ids. One that is lost is never used.
pub(crate) struct ProducerIdsFor(pub Member);

impl Question for ProducerIdsFor {
    type Done = ProducerIdBlock;

    fn items(&self) -> usize {
        1
    }

    fn again(&self) -> Again {
        Again::AtOnce
    }

    fn ask<'a>(&'a self, controller: &'a ControllerHandle) -> BoxFuture<'a, Answers<Self>> {
        let Member { id, epoch } = self.0;
        Box::pin(async move { vec![controller.allocate_producer_ids(id, epoch).await] })
    }

    fn to_wire(&self) -> AskControllerRequest {
        AskControllerRequest { producer_ids: true, ..Default::default() }
    }

    fn from_result(result: AskedResult) -> ProducerIdBlock {
        ProducerIdBlock { first: result.first_producer_id, len: result.producer_id_count }
    }

    fn to_result(block: ProducerIdBlock) -> AskedResult {
        AskedResult {
            first_producer_id: block.first,
            producer_id_count: block.len,
            ..Default::default()
        }
    }
}

/// The word of a partition's leader that every replica has synced past the start of its epoch
/// (R18c).
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlushSynced {
    /// The topic.
    pub topic: Uuid,
    /// The partition.
    pub index: i32,
    /// The epoch.
    pub leader_epoch: i32,
}

impl FlushSynced {
    /// As another broker asks.
    pub(super) fn from_wire(synced: &AskedSync) -> FlushSynced {
        FlushSynced {
            topic: synced.topic_id,
            index: synced.partition_index,
            leader_epoch: synced.leader_epoch,
        }
    }
}

impl Question for FlushSynced {
    type Done = ();

    fn items(&self) -> usize {
        1
    }

    fn again(&self) -> Again {
        Again::AtOnce
    }

    fn ask<'a>(&'a self, controller: &'a ControllerHandle) -> BoxFuture<'a, Answers<Self>> {
        let FlushSynced { topic, index, leader_epoch } = *self;
        Box::pin(async move { vec![controller.flush_synced(topic, index, leader_epoch).await] })
    }

    fn to_wire(&self) -> AskControllerRequest {
        let synced = AskedSync {
            topic_id: self.topic,
            partition_index: self.index,
            leader_epoch: self.leader_epoch,
        };
        AskControllerRequest { synced: Some(vec![synced]), ..Default::default() }
    }

    fn from_result(_: AskedResult) {}

    fn to_result((): ()) -> AskedResult {
        AskedResult::default()
    }
}

/// A broker's word that its replicas of these partitions lie in an offline directory (R23).
pub(crate) struct TakeOffline {
    /// The broker, in its current registration.
    pub member: Member,
    /// Topic and partition.
    pub partitions: Vec<(Uuid, i32)>,
}

impl TakeOffline {
    /// As another broker asks.
    pub(super) fn from_wire(member: Member, offline: &[AskedOffline]) -> TakeOffline {
        let partitions = offline.iter().map(|of| (of.topic_id, of.partition_index)).collect();
        TakeOffline { member, partitions }
    }
}

impl Question for TakeOffline {
    type Done = ();

    fn items(&self) -> usize {
        self.partitions.len()
    }

    fn again(&self) -> Again {
        Again::AtOnce
    }

    fn ask<'a>(&'a self, controller: &'a ControllerHandle) -> BoxFuture<'a, Answers<Self>> {
        Box::pin(controller.take_offline(self.member, self.partitions.clone()))
    }

    fn to_wire(&self) -> AskControllerRequest {
        let offline = |(topic_id, partition_index): &(Uuid, i32)| AskedOffline {
            topic_id: *topic_id,
            partition_index: *partition_index,
        };
        let offline = Some(self.partitions.iter().map(offline).collect());
        AskControllerRequest { offline, ..Default::default() }
    }

    fn from_result(_: AskedResult) {}

    fn to_result((): ()) -> AskedResult {
        AskedResult::default()
    }
}
