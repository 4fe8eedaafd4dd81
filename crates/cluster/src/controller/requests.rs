//! Requests of handlers, one after the other: decided on the image, committed, answered.

use std::sync::Arc;

use klamm_protocol::ErrorCode;
use tracing::warn;
use uuid::Uuid;

use super::candidate::Ended;
use super::configs::alter;
use super::deletion::delete_topic;
use super::elect::take_offline;
use super::handle::{Outcome, Request};
use super::leaders::{elect_leader, every_partition};
use super::producer_ids::allocate;
use super::reassign::reassign;
use super::runtime::{Commit, Controller};
use super::topics::{create_partitions, create_topic};
use super::{
    Context, CreatedTopic, ElectionType, MorePartitions, NewTopic, PartitionElection, Reason,
    Reassignment, Refusal, TopicDefaults, TopicRef, Write,
};
use crate::image::{Image, Topic};
use crate::nodes::topic::{FlushClass, Member, PartitionNode};
use crate::nodes::{NodeKey, encode};
use crate::tree::{Op, TreeError};

/// Times that a request is decided again after another writer came first.
const TRIES_MAX: usize = 8;

type Decision<T> = Result<(T, Vec<Write>), Refusal>;

impl Controller {
    pub(super) async fn answer(&mut self, request: Request) -> Result<(), Ended> {
        // A reply that nobody waits for any more is no error: the change stands all the same.
        match request {
            Request::CreateTopics(topics, defaults, validate_only, reply) => {
                let _ = reply.send(self.create_topics(&topics, defaults, validate_only).await?);
            }
            Request::DeleteTopics(topics, reply) => {
                let _ = reply.send(self.delete_topics(topics).await?);
            }
            Request::CreatePartitions(more, validate_only, reply) => {
                let _ = reply.send(self.create_partitions(&more, validate_only).await?);
            }
            Request::AlterConfigs(alterations, validate_only, reply) => {
                let rules = Arc::clone(&self.settings.rules);
                let decide = |image: &Image, n: usize, _: &Context, _: usize| {
                    Ok(((), alter(image, &alterations[n], &*rules)?))
                };
                let _ =
                    reply.send(self.decide_all(alterations.len(), validate_only, decide).await?);
            }
            Request::ElectLeaders(how, partitions, reply) => {
                let _ = reply.send(vec![Ok(self.elect_leaders(how, partitions).await?)]);
            }
            Request::ReassignPartitions(moves, reply) => {
                let _ = reply.send(self.reassign_partitions(&moves).await?);
            }
            Request::AllocateProducerIds(broker, epoch, reply) => {
                let decide = |image: &Image, _: usize, _: &Context, _: usize| {
                    allocate(image, broker, epoch).map(|(block, write)| (block, vec![write]))
                };
                let _ = reply.send(self.decide_all(1, false, decide).await?);
            }
            Request::FlushSynced(topic, partition, leader_epoch, reply) => {
                let decide = |image: &Image, _: usize, context: &Context, _: usize| {
                    flush_synced(image, topic, partition, leader_epoch, context)
                };
                let _ = reply.send(self.decide_all(1, false, decide).await?);
            }
            Request::TakeOffline(member, partitions, reply) => {
                let decide = |image: &Image, n: usize, context: &Context, _: usize| {
                    offline(image, partitions[n], member, context)
                };
                let _ = reply.send(self.decide_all(partitions.len(), false, decide).await?);
            }
            Request::Resign(_) => unreachable!("taken out by the loop"),
        }
        Ok(())
    }

    async fn create_topics(
        &mut self,
        topics: &[NewTopic],
        defaults: TopicDefaults,
        validate_only: bool,
    ) -> Result<Vec<Outcome<CreatedTopic>>, Ended> {
        // Drawn once: a second try recognises what the first one has written.
        let id = |topic: &NewTopic| match topic.id {
            id if id.is_nil() => self.random.uuid(),
            id => id,
        };
        let ids: Vec<Uuid> = topics.iter().map(id).collect();
        let rules = Arc::clone(&self.settings.rules);
        let decide =
            |image: &Image, n: usize, context: &Context, attempt: usize| match created_before(
                image,
                &topics[n].name,
                ids[n],
            )
            .filter(|_| attempt > 0)
            {
                Some(created) => Ok((created, Vec::new())),
                None => create_topic(image, &topics[n], ids[n], defaults, &*rules, context),
            };
        let mut outcomes = self.decide_all(topics.len(), validate_only, decide).await?;
        if validate_only {
            outcomes.iter_mut().flatten().for_each(|created| created.id = Uuid::nil());
        }
        Ok(outcomes)
    }

    async fn delete_topics(
        &mut self,
        mut topics: Vec<TopicRef>,
    ) -> Result<Vec<Outcome<(String, Uuid)>>, Ended> {
        let items = topics.len();
        let mut found: Vec<Option<(String, Uuid)>> = vec![None; items];
        let decide = |image: &Image, n: usize, _: &Context, attempt: usize| {
            if let (Some(before), true) = (&found[n], attempt > 0)
                && image.topic_by_id(before.1).is_none()
            {
                return Ok((before.clone(), Vec::new()));
            }
            let (name, id, writes) = delete_topic(image, &topics[n])?;
            // A second try means this topic, whoever has its name by then.
            topics[n] = TopicRef::Id(id);
            found[n] = Some((name.clone(), id));
            Ok(((name, id), writes))
        };
        self.decide_all(items, false, decide).await
    }

    async fn create_partitions(
        &mut self,
        more: &[MorePartitions],
        validate_only: bool,
    ) -> Result<Vec<Outcome<()>>, Ended> {
        let decide = |image: &Image, n: usize, context: &Context, attempt: usize| {
            let done = |topic: &Arc<Topic>| topic.partition_count() == more[n].count;
            if attempt > 0 && image.topic(&more[n].name).is_some_and(done) {
                return Ok(((), Vec::new()));
            }
            Ok(((), create_partitions(image, &more[n], context)?))
        };
        self.decide_all(more.len(), validate_only, decide).await
    }

    async fn elect_leaders(
        &mut self,
        how: ElectionType,
        partitions: Option<Vec<(Arc<str>, i32)>>,
    ) -> Result<Vec<PartitionElection>, Ended> {
        let partitions = partitions.unwrap_or_else(|| every_partition(self.reader.image()));
        let mut elected: Vec<Option<i32>> = vec![None; partitions.len()];
        let decide = |image: &Image, n: usize, context: &Context, _: usize| {
            let (topic, index) = &partitions[n];
            match (elect_leader(image, topic, *index, how, context), elected[n]) {
                (Ok((epoch, write)), _) => {
                    elected[n] = Some(epoch);
                    Ok((epoch, vec![write]))
                }
                // An earlier try has come as far as this.
                (Err(refusal), Some(epoch)) if refusal.code == ErrorCode::ElectionNotNeeded => {
                    Ok((epoch, Vec::new()))
                }
                (Err(refusal), _) => Err(refusal),
            }
        };
        let outcomes = self.decide_all(partitions.len(), false, decide).await?;
        let count = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        if how == ElectionType::Unclean && count > 0 {
            warn!(
                partitions = count,
                "leaders are elected on request that may lack confirmed records"
            );
        }
        let answered = partitions.into_iter().zip(outcomes);
        let election =
            |((topic, partition), outcome)| PartitionElection { topic, partition, outcome };
        Ok(answered.map(election).collect())
    }

    async fn reassign_partitions(
        &mut self,
        moves: &[Reassignment],
    ) -> Result<Vec<Outcome<()>>, Ended> {
        let mut decided = vec![false; moves.len()];
        let decide = |image: &Image, n: usize, context: &Context, _: usize| {
            match reassign(image, &moves[n], context) {
                Ok(writes) => {
                    decided[n] = true;
                    Ok(((), writes))
                }
                // An earlier try has taken it back.
                Err(refusal)
                    if decided[n] && refusal.code == ErrorCode::NoReassignmentInProgress =>
                {
                    Ok(((), Vec::new()))
                }
                Err(refusal) => Err(refusal),
            }
        };
        self.decide_all(moves.len(), false, decide).await
    }

    /// Decides item after item, each on the image as the ones before will leave it, and commits all
    /// of it together.
    async fn decide_all<T>(
        &mut self,
        items: usize,
        validate_only: bool,
        mut decide: impl FnMut(&Image, usize, &Context, usize) -> Decision<T>,
    ) -> Result<Vec<Outcome<T>>, Ended> {
        let mut failure = TreeError::ConnectionLoss;
        for attempt in 0..TRIES_MAX {
            let mut image = self.reader.image().clone();
            let mut writes = Vec::new();
            let mut outcomes = Vec::with_capacity(items);
            for n in 0..items {
                let outcome = decide(&image, n, &self.context(), attempt);
                outcomes.push(outcome.and_then(|(done, new)| {
                    for write in &new {
                        image.preview(&write.ops).map_err(|error| {
                            Refusal::new(ErrorCode::UnknownServerError, error.to_string())
                        })?;
                    }
                    writes.extend(new);
                    Ok(done)
                }));
            }
            if validate_only || writes.is_empty() {
                return Ok(outcomes);
            }
            match self.commit(&writes).await? {
                Commit::Done => return Ok(outcomes),
                Commit::Again => {}
                Commit::Failed(error) => {
                    failure = error;
                    break;
                }
            }
        }
        Ok((0..items).map(|_| Err(not_written(&failure))).collect())
    }
}

fn not_written(error: &TreeError) -> Refusal {
    let code = match error {
        TreeError::StorageFull => ErrorCode::KafkaStorageError,
        TreeError::TooLarge { .. } => ErrorCode::PolicyViolation,
        _ => ErrorCode::RequestTimedOut,
    };
    Refusal::new(code, format!("The change was not written: {error}."))
}

/// The topic, if an earlier try has made it under this id.
fn created_before(image: &Image, name: &str, id: Uuid) -> Option<CreatedTopic> {
    let topic = image.topic(name).filter(|topic| topic.id == id)?;
    let replicas = topic.partition(0)?.replicas().len();
    Some(CreatedTopic {
        name: name.to_owned(),
        id,
        partitions: topic.partition_count(),
        replication_factor: i32::try_from(replicas).ok()?,
    })
}

/// A broker's replica is in an offline log directory (R23).
fn offline(
    image: &Image,
    (topic, index): (Uuid, i32),
    member: Member,
    context: &Context,
) -> Decision<()> {
    let current = image.broker(member.id).map(|broker| broker.broker_epoch);
    if current != Some(member.epoch) {
        let message = format!("Broker epoch {} is not current: {current:?}.", member.epoch);
        return Err(Refusal::new(ErrorCode::StaleBrokerEpoch, message));
    }
    let topic = image.topic_by_id(topic);
    let found = topic.and_then(|topic| Some((topic, topic.partition(index)?)));
    let (topic, now) =
        found.filter(|(_, now)| now.replicas().contains(&member.id)).ok_or_else(|| {
            Refusal::new(ErrorCode::UnknownTopicOrPartition, "There is no such replica.")
        })?;
    Ok(((), take_offline(image, topic, now, member, context).into_iter().collect()))
}

/// From syncing to acked, on the leader's word (R18c).
fn flush_synced(
    image: &Image,
    topic: Uuid,
    index: i32,
    leader_epoch: i32,
    context: &Context,
) -> Decision<()> {
    let found = image.topic_by_id(topic).and_then(|topic| topic.partition(index));
    let now = found.ok_or_else(|| {
        Refusal::new(ErrorCode::UnknownTopicOrPartition, "There is no such partition.")
    })?;
    if now.flush == FlushClass::Acked {
        return Ok(((), Vec::new()));
    }
    if now.leader_epoch != leader_epoch || now.flush != FlushClass::Syncing || !now.elr.is_empty() {
        let message = format!(
            "The partition is {:?} at leader epoch {} with {} eligible replicas out of sync.",
            now.flush,
            now.leader_epoch,
            now.elr.len()
        );
        return Err(Refusal::new(ErrorCode::FencedLeaderEpoch, message));
    }
    let next = PartitionNode {
        flush: FlushClass::Acked,
        leader_epoch: now.leader_epoch + 1,
        partition_epoch: now.partition_epoch + 1,
        controller_epoch: context.controller_epoch,
        nonce: context.nonce,
        ..now.state.clone()
    };
    let path = NodeKey::Partition(topic, index).path();
    let write = Write::new(Reason::Settings, vec![Op::set(path, encode(&next), now.version)]);
    Ok(((), vec![write]))
}
