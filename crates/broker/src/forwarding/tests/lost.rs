//! Questions whose answers are lost (R27).

use std::time::Duration;

use klamm_cluster::controller::{
    ConfigAlteration, ConfigChange, ConfigEdit, EditOp, ElectionType, MorePartitions, TopicRef,
};
use klamm_cluster::nodes::config::ConfigResource;
use klamm_cluster::{Image, Refusal};
use klamm_env::Env;
use klamm_protocol::ErrorCode;
use tokio::time::Instant;

use super::nodes::{LONG, Loss, Nodes, create};
use crate::forwarding::question::{Again, Question};
use crate::forwarding::{
    AlterConfigs, Course, CreatePartitions, DeleteTopics, ElectLeaders, ProducerIdsFor,
};

/// For a question that is not going to be answered.
const SHORT: Duration = Duration::from_millis(500);

/// Two brokers with a topic `t` of one partition, which both know.
async fn with_a_topic() -> Nodes {
    let nodes = Nodes::start(2).await;
    nodes.get(1).client.ask_one(create("t", 1), LONG).await.unwrap();
    nodes.get(2).images.wait_for(|image| image.topic("t").is_some()).await;
    nodes
}

#[tokio::test]
async fn a_topic_that_was_made_is_known_by_its_id() {
    let nodes = Nodes::start(2).await;
    nodes.get(1).lose(&[Loss::Answer]);
    let created = nodes.get(2).client.ask_one(create("t", 3), LONG).await.unwrap();
    assert_eq!((created.partitions, created.replication_factor), (3, 1));
    let image = nodes.get(2).images.current();
    assert_eq!(image.topic("t").map(|topic| topic.id), Some(created.id));
    assert_eq!(nodes.get(1).received(), 1, "not asked again");
}

#[tokio::test]
async fn a_creation_is_not_tried_twice_at_one_controller() {
    let nodes = Nodes::start(2).await;
    nodes.get(1).lose(&[Loss::Question]);
    let refused = nodes.get(2).client.ask_one(create("t", 1), SHORT).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::RequestTimedOut, "{refused}");
    assert_eq!(nodes.get(1).received(), 1);
}

#[tokio::test]
async fn the_next_controller_is_asked_again() {
    let nodes = Nodes::start(2).await;
    nodes.get(1).lose(&[Loss::Question]);
    let moved = async {
        nodes.get(1).wait_received(1).await;
        nodes.expire(1).await;
    };
    let asked = nodes.get(2).client.ask_one(create("t", 1), LONG);
    let (created, ()) = tokio::join!(asked, moved);
    let created = created.unwrap();
    let there = nodes.get(2).images.wait_for(|image| image.topic("t").is_some()).await;
    assert_eq!(there.topic("t").map(|topic| topic.id), Some(created.id));
}

#[tokio::test]
async fn a_topic_that_the_last_controller_made_is_no_refusal_of_the_next() {
    let nodes = Nodes::start(2).await;
    let (env, node) = (Env::real().unwrap(), nodes.get(2));
    let mut question = create("t", 1);
    question.before_try(&*env.random);
    assert!(question.ask(&node.controller).await[0].is_err(), "it does not decide");
    assert!(question.ask(&nodes.get(1).controller).await[0].is_ok());
    let exists = || vec![Err(Refusal::new(ErrorCode::TopicAlreadyExists, "so it does"))];
    let course = |in_doubt| Course { deadline: Instant::now(), in_doubt, reason: String::new() };
    let own = node.client.review(&question, exists(), &course(Some(1))).await;
    assert!(own[0].is_ok(), "{own:?}");
    // Without a doubt, or under an id that was never asked for, it is somebody else's.
    let others = node.client.review(&question, exists(), &course(None)).await;
    assert_eq!(others, exists());
    let mut other = create("t", 1);
    other.before_try(&*env.random);
    assert_eq!(node.client.review(&other, exists(), &course(Some(1))).await, exists());
}

#[test]
fn every_try_to_create_a_topic_has_an_id_of_its_own() {
    let random = Env::real().unwrap().random;
    let mut question = create("t", 1);
    let mut id_of_next_try = || {
        question.before_try(&*random);
        question.to_wire().new_topics.unwrap()[0].topic_id
    };
    let ids = [id_of_next_try(), id_of_next_try(), id_of_next_try()];
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    assert!(ids.iter().all(|id| !id.is_nil()));
}

#[tokio::test]
async fn partitions_that_were_added_are_seen() {
    let nodes = with_a_topic().await;
    let grow = |count| {
        let more = MorePartitions { name: "t".into(), count, assignments: vec![] };
        CreatePartitions { more: vec![more], validate_only: false }
    };
    nodes.get(1).lose(&[Loss::Answer, Loss::Question]);
    assert_eq!(nodes.get(2).client.ask_one(grow(2), LONG).await, Ok(()));
    let refused = nodes.get(2).client.ask_one(grow(3), SHORT).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::RequestTimedOut, "{refused}");
    assert_eq!(nodes.get(1).received(), 2);
}

#[tokio::test]
async fn of_a_change_of_settings_it_is_said_that_it_is_not_known() {
    let nodes = with_a_topic().await;
    let resource = ConfigResource::topic("t");
    let edit = ConfigEdit { key: "retention.ms".into(), op: EditOp::Set("5".into()) };
    let change = ConfigChange::Edit(vec![edit]);
    let alterations = vec![ConfigAlteration { resource: resource.clone(), change }];
    nodes.get(1).lose(&[Loss::Answer]);
    let alter = AlterConfigs { alterations, validate_only: false };
    let refused = nodes.get(2).client.ask_one(alter, SHORT).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::RequestTimedOut, "{refused}");
    assert_eq!(nodes.get(1).received(), 1);
    nodes.get(2).images.wait_for(|image| !image.config(&resource).is_empty()).await;
}

#[test]
fn an_unclean_election_is_not_repeated_while_the_first_one_may_still_come() {
    let again = |how| ElectLeaders { how, partitions: None }.again();
    assert_eq!(again(ElectionType::Unclean), Again::NextEpoch);
    assert_eq!(again(ElectionType::Preferred), Again::AtOnce);
}

#[tokio::test]
async fn a_block_of_producer_ids_that_was_lost_is_followed_by_another() {
    let nodes = Nodes::start(2).await;
    let ids = || ProducerIdsFor(nodes.get(2).member());
    let before = nodes.get(2).client.ask_one(ids(), LONG).await.unwrap();
    nodes.get(1).lose(&[Loss::Answer]);
    let after = nodes.get(2).client.ask_one(ids(), LONG).await.unwrap();
    assert_eq!(after.first, before.first + before.len + after.len);
    assert_eq!(nodes.get(1).received(), 3);
}

#[tokio::test]
async fn a_deletion_is_tried_again_by_id() {
    for loss in [Loss::Question, Loss::Answer] {
        let nodes = with_a_topic().await;
        let image = nodes.get(2).images.current();
        let id = image.topic("t").map(|topic| topic.id);
        nodes.get(1).lose(&[loss]);
        let delete = DeleteTopics::new(vec![TopicRef::Name("t".into())], &image);
        let deleted = nodes.get(2).client.ask_one(delete, LONG).await.unwrap();
        assert_eq!(Some(deleted.id), id, "{loss:?}");
        nodes.get(2).images.wait_for(|image| image.topic("t").is_none()).await;
    }
}

#[tokio::test]
async fn a_second_try_of_a_deletion_does_not_take_the_next_topic_of_that_name() {
    let image = with_a_topic().await.get(2).images.current();
    let id = image.topic("t").unwrap().id;
    let random = Env::real().unwrap().random;
    let named = || vec![TopicRef::Name("t".into())];
    let mut question = DeleteTopics::new(named(), &image);
    let mut next_try = || {
        question.before_try(&*random);
        let deletion = question.to_wire().deletions.unwrap().remove(0);
        (deletion.name, deletion.topic_id)
    };
    assert_eq!(next_try().0.as_deref(), Some("t"));
    assert_eq!(next_try(), (None, id));
    assert_eq!(DeleteTopics::new(named(), &image).again(), Again::AtOnce);
    assert_eq!(DeleteTopics::new(named(), &Image::default()).again(), Again::Never);
}

#[tokio::test]
async fn a_deletion_of_what_the_asker_does_not_know_is_tried_once() {
    let nodes = with_a_topic().await;
    nodes.get(1).lose(&[Loss::Question]);
    let delete = DeleteTopics::new(vec![TopicRef::Name("t".into())], &Image::default());
    let refused = nodes.get(2).client.ask_one(delete, LONG).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::RequestTimedOut, "{refused}");
    assert_eq!(nodes.get(1).received(), 1);
}
