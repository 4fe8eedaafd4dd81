//! Questions about topics.

use futures_util::future::BoxFuture;
use klamm_cluster::controller::{CreatedTopic, MorePartitions, NewTopic, TopicDefaults, TopicRef};
use klamm_cluster::{ControllerHandle, Image};
use klamm_env::Random;
use klamm_protocol::messages::ask_controller::{
    AskControllerRequest, AskedAssignment, AskedConfig, AskedDeletion, AskedPartitions,
    AskedReplicas, AskedResult, AskedTopic,
};
use uuid::Uuid;

use super::question::{Again, Answers, Question};

/// Creates topics.
pub(crate) struct CreateTopics {
    topics: Vec<NewTopic>,
    defaults: TopicDefaults,
    validate_only: bool,
    /// Every id that was asked for, by topic. None of them is sent twice: what a try that was
    /// thought lost makes later is no other topic's past (R26).
    ids: Vec<Vec<Uuid>>,
}

impl CreateTopics {
    /// Makes topics, or, with `validate_only`, asks what would happen.
    pub(crate) fn new(
        topics: Vec<NewTopic>,
        defaults: TopicDefaults,
        validate_only: bool,
    ) -> CreateTopics {
        let ids = vec![Vec::new(); topics.len()];
        CreateTopics { topics, defaults, validate_only, ids }
    }

    /// As another broker asks.
    pub(super) fn from_wire(
        topics: Vec<AskedTopic>,
        defaults: TopicDefaults,
        validate_only: bool,
    ) -> CreateTopics {
        CreateTopics::new(topics.into_iter().map(new_topic).collect(), defaults, validate_only)
    }
}

fn new_topic(topic: AskedTopic) -> NewTopic {
    let assignments = topic.assignments.into_iter();
    let configs = topic.configs.into_iter();
    NewTopic {
        name: topic.name,
        id: topic.topic_id,
        partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments.map(|of| (of.partition_index, of.broker_ids)).collect(),
        configs: configs.map(|config| (config.key, config.value)).collect(),
    }
}

fn asked_topic(topic: &NewTopic) -> AskedTopic {
    let assignment = |(index, replicas): (&i32, &Vec<i32>)| AskedAssignment {
        partition_index: *index,
        broker_ids: replicas.clone(),
    };
    let config =
        |(key, value): (&String, &String)| AskedConfig { key: key.clone(), value: value.clone() };
    AskedTopic {
        name: topic.name.clone(),
        topic_id: topic.id,
        partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        assignments: topic.assignments.iter().map(assignment).collect(),
        configs: topic.configs.iter().map(config).collect(),
    }
}

impl Question for CreateTopics {
    type Done = CreatedTopic;

    fn items(&self) -> usize {
        self.topics.len()
    }

    fn again(&self) -> Again {
        if self.validate_only { Again::AtOnce } else { Again::NextEpoch }
    }

    fn before_try(&mut self, random: &dyn Random) {
        for (topic, ids) in self.topics.iter_mut().zip(&mut self.ids) {
            topic.id = random.uuid();
            ids.push(topic.id);
        }
    }

    fn ask<'a>(&'a self, controller: &'a ControllerHandle) -> BoxFuture<'a, Answers<Self>> {
        Box::pin(controller.create_topics(self.topics.clone(), self.defaults, self.validate_only))
    }

    fn to_wire(&self) -> AskControllerRequest {
        AskControllerRequest {
            validate_only: self.validate_only,
            new_topics: Some(self.topics.iter().map(asked_topic).collect()),
            default_partitions: self.defaults.partitions,
            default_replication_factor: self.defaults.replication_factor,
            ..Default::default()
        }
    }

    fn from_result(result: AskedResult) -> CreatedTopic {
        CreatedTopic {
            name: result.name.unwrap_or_default(),
            id: result.topic_id,
            partitions: result.partitions,
            replication_factor: result.replication_factor,
        }
    }

    fn to_result(created: CreatedTopic) -> AskedResult {
        AskedResult {
            name: Some(created.name),
            topic_id: created.id,
            partitions: created.partitions,
            replication_factor: created.replication_factor,
            ..Default::default()
        }
    }

    fn seen(&self, image: &Image, item: usize) -> Option<CreatedTopic> {
        let topic = image.topic(&self.topics[item].name)?;
        let replicas = topic.partition(0)?.replicas().len();
        self.ids[item].contains(&topic.id).then(|| CreatedTopic {
            name: topic.name.to_string(),
            id: topic.id,
            partitions: topic.partition_count(),
            replication_factor: i32::try_from(replicas).unwrap_or(i32::MAX),
        })
    }
}

/// Deletes topics.
pub(crate) struct DeleteTopics {
    topics: Vec<TopicRef>,
    /// Which topic each of them is in the image of who asks.
    known: Vec<Option<Uuid>>,
    tried: bool,
}

/// A topic that was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deleted {
    /// Its name, unless it was only seen to be gone.
    pub name: Option<String>,
    /// Its id.
    pub id: Uuid,
}

impl DeleteTopics {
    /// Deletes `topics`, of which `image` may know some.
    pub(crate) fn new(topics: Vec<TopicRef>, image: &Image) -> DeleteTopics {
        let id = |topic: &TopicRef| match topic {
            TopicRef::Name(name) => image.topic(name).map(|topic| topic.id),
            TopicRef::Id(id) => image.topic_by_id(*id).map(|topic| topic.id),
        };
        let known = topics.iter().map(id).collect();
        DeleteTopics { topics, known, tried: false }
    }

    /// As another broker asks.
    pub(super) fn from_wire(deletions: Vec<AskedDeletion>) -> DeleteTopics {
        let topic = |deletion: AskedDeletion| match deletion.name {
            Some(name) => TopicRef::Name(name),
            None => TopicRef::Id(deletion.topic_id),
        };
        DeleteTopics::new(deletions.into_iter().map(topic).collect(), &Image::default())
    }
}

impl Question for DeleteTopics {
    type Done = Deleted;

    fn items(&self) -> usize {
        self.topics.len()
    }

    /// By its id a topic is deleted once at most. By its name, the next one of that name might be.
    fn again(&self) -> Again {
        if self.known.iter().all(Option::is_some) { Again::AtOnce } else { Again::Never }
    }

    fn before_try(&mut self, _: &dyn Random) {
        if std::mem::replace(&mut self.tried, true) {
            for (topic, id) in self.topics.iter_mut().zip(&self.known) {
                if let Some(id) = id {
                    *topic = TopicRef::Id(*id);
                }
            }
        }
    }

    fn ask<'a>(&'a self, controller: &'a ControllerHandle) -> BoxFuture<'a, Answers<Self>> {
        Box::pin(async move {
            let answers = controller.delete_topics(self.topics.clone()).await;
            let deleted = |(name, id)| Deleted { name: Some(name), id };
            answers.into_iter().map(|answer| answer.map(deleted)).collect()
        })
    }

    fn to_wire(&self) -> AskControllerRequest {
        let deletion = |topic: &TopicRef| match topic {
            TopicRef::Name(name) => {
                AskedDeletion { name: Some(name.clone()), topic_id: Uuid::nil() }
            }
            TopicRef::Id(id) => AskedDeletion { name: None, topic_id: *id },
        };
        let deletions = Some(self.topics.iter().map(deletion).collect());
        AskControllerRequest { deletions, ..Default::default() }
    }

    fn from_result(result: AskedResult) -> Deleted {
        Deleted { name: result.name, id: result.topic_id }
    }

    fn to_result(deleted: Deleted) -> AskedResult {
        AskedResult { name: deleted.name, topic_id: deleted.id, ..Default::default() }
    }

    fn seen(&self, image: &Image, item: usize) -> Option<Deleted> {
        let id = self.known[item]?;
        image.topic_by_id(id).is_none().then_some(Deleted { name: None, id })
    }
}

/// Adds partitions to topics.
pub(crate) struct CreatePartitions {
    /// To which, and how many.
    pub more: Vec<MorePartitions>,
    /// Whether only to say what would happen.
    pub validate_only: bool,
}

impl CreatePartitions {
    /// As another broker asks.
    pub(super) fn from_wire(topics: Vec<AskedPartitions>, validate_only: bool) -> CreatePartitions {
        let more = |topic: AskedPartitions| MorePartitions {
            name: topic.name,
            count: topic.count,
            assignments: topic.assignments.into_iter().map(|of| of.broker_ids).collect(),
        };
        CreatePartitions { more: topics.into_iter().map(more).collect(), validate_only }
    }
}

impl Question for CreatePartitions {
    type Done = ();

    fn items(&self) -> usize {
        self.more.len()
    }

    fn again(&self) -> Again {
        if self.validate_only { Again::AtOnce } else { Again::NextEpoch }
    }

    fn ask<'a>(&'a self, controller: &'a ControllerHandle) -> BoxFuture<'a, Answers<Self>> {
        Box::pin(controller.create_partitions(self.more.clone(), self.validate_only))
    }

    fn to_wire(&self) -> AskControllerRequest {
        let replicas = |ids: &Vec<i32>| AskedReplicas { broker_ids: ids.clone() };
        let asked = |more: &MorePartitions| AskedPartitions {
            name: more.name.clone(),
            count: more.count,
            assignments: more.assignments.iter().map(replicas).collect(),
        };
        AskControllerRequest {
            validate_only: self.validate_only,
            more_partitions: Some(self.more.iter().map(asked).collect()),
            ..Default::default()
        }
    }

    fn from_result(_: AskedResult) {}

    fn to_result((): ()) -> AskedResult {
        AskedResult::default()
    }

    /// Whoever did it: there are as many as were asked for.
    fn seen(&self, image: &Image, item: usize) -> Option<()> {
        let more = &self.more[item];
        let topic = image.topic(&more.name).filter(|_| !self.validate_only)?;
        (topic.partition_count() == more.count).then_some(())
    }
}
