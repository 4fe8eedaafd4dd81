//! Brokers of one tree that ask each other on loopback; what is between them loses what it is told to.

mod lost;
mod nodes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use klamm_cluster::controller::{
    ConfigAlteration, ConfigChange, ConfigEdit, EditOp, ElectionType, MorePartitions, TopicRef,
};
use klamm_cluster::nodes::config::ConfigResource;
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::ask_controller::{AskControllerRequest, AskedSync};
use uuid::Uuid;

use super::{
    AlterConfigs, CreatePartitions, DeleteTopics, ElectLeaders, FlushSynced, ProducerIdsFor,
    TakeOffline, configs, patience,
};
use nodes::{LISTENER, LONG, Nodes, create};

#[tokio::test]
async fn every_question_reaches_the_controller_from_any_broker() {
    let nodes = Nodes::start(2).await;
    for asker in [1, 2] {
        let node = nodes.get(asker);
        let name = format!("made-by-{asker}");
        let created = node.client.ask_one(create(&name, 2), LONG).await.unwrap();
        assert_eq!((created.name.as_str(), created.partitions), (name.as_str(), 2));
        assert!(!created.id.is_nil());
        let image = node.images.wait_for(|image| image.topic(&name).is_some()).await;
        assert_eq!(image.topic(&name).map(|topic| topic.id), Some(created.id));

        let more = MorePartitions { name: name.clone(), count: 3, assignments: vec![vec![asker]] };
        let grow = CreatePartitions { more: vec![more], validate_only: false };
        assert_eq!(node.client.ask(grow, LONG).await, [Ok(())]);

        let resource = ConfigResource::topic(&*name);
        let edit = ConfigEdit { key: "retention.ms".into(), op: EditOp::Set("5".into()) };
        let change = ConfigChange::Edit(vec![edit]);
        let alterations = vec![ConfigAlteration { resource: resource.clone(), change }];
        let alter = AlterConfigs { alterations, validate_only: false };
        assert_eq!(node.client.ask(alter, LONG).await, [Ok(())]);
        let grown = |image: &klamm_cluster::Image| {
            image.topic(&name).is_some_and(|topic| topic.partition_count() == 3)
                && image.config(&resource).get("retention.ms").is_some_and(|value| value == "5")
        };
        let image = node.images.wait_for(grown).await;

        for (how, index, code) in [
            (ElectionType::Preferred, 0, ErrorCode::ElectionNotNeeded),
            (ElectionType::Unclean, 9, ErrorCode::UnknownTopicOrPartition),
        ] {
            let partitions = Some(vec![(Arc::from(name.as_str()), index)]);
            let elected = node.client.ask_one(ElectLeaders { how, partitions }, LONG).await;
            let elected = elected.unwrap().remove(0);
            assert_eq!((&*elected.topic, elected.partition), (name.as_str(), index));
            assert_eq!(elected.outcome.unwrap_err().code, code);
        }
        let of_all = ElectLeaders { how: ElectionType::Preferred, partitions: None };
        assert_eq!(node.client.ask_one(of_all, LONG).await.unwrap().len(), 3);

        // Of a class that is acked already this is no news, but a question all the same.
        let synced = FlushSynced { topic: created.id, index: 0, leader_epoch: 0 };
        assert_eq!(node.client.ask_one(synced, LONG).await, Ok(()));

        let member = node.member();
        let partitions = vec![(created.id, 2), (Uuid::from_u128(7), 0)];
        let offline = node.client.ask(TakeOffline { member, partitions }, LONG).await;
        let codes: Vec<_> = offline.iter().map(|of| of.as_ref().map_err(|of| of.code)).collect();
        assert_eq!(codes, [Ok(&()), Err(ErrorCode::UnknownTopicOrPartition)]);

        let refs = vec![TopicRef::Name(name.clone()), TopicRef::Name("never".into())];
        let deleted = node.client.ask(DeleteTopics::new(refs, &image), LONG).await;
        let first = deleted[0].as_ref().unwrap();
        assert_eq!((first.name.as_deref(), first.id), (Some(name.as_str()), created.id));
        let second = deleted[1].as_ref().unwrap_err();
        assert_eq!(second.code, ErrorCode::UnknownTopicOrPartition);
    }
    assert_eq!(nodes.get(1).received(), 9, "those of broker 2, each once");
    assert_eq!(nodes.get(2).received(), 0);
}

#[tokio::test]
async fn blocks_of_producer_ids_do_not_overlap_whoever_takes_them() {
    let nodes = Nodes::start(2).await;
    let mut blocks = Vec::new();
    for asker in [1, 2, 1, 2] {
        let node = nodes.get(asker);
        blocks.push(node.client.ask_one(ProducerIdsFor(node.member()), LONG).await.unwrap());
    }
    assert!(blocks.windows(2).all(|two| two[0].first + two[0].len == two[1].first), "{blocks:?}");
}

#[tokio::test]
async fn a_refusal_of_another_broker_is_told_word_for_word() {
    let nodes = Nodes::start(2).await;
    for name in ["t", "not legal"] {
        nodes.get(1).client.ask_one(create(name, 1), LONG).await.ok();
        let here = nodes.get(1).client.ask_one(create(name, 1), LONG).await.unwrap_err();
        let there = nodes.get(2).client.ask_one(create(name, 1), LONG).await.unwrap_err();
        assert_eq!(here, there);
    }
    // Unless it is longer than a string on the wire can be.
    let long = "x".repeat(32_000);
    let refused = nodes.get(2).client.ask_one(create(&long, 1), LONG).await.unwrap_err();
    assert_eq!((refused.code, refused.message.len()), (ErrorCode::InvalidTopicException, 1000));
}

#[tokio::test]
async fn validation_alone_makes_nothing_from_afar() {
    let nodes = Nodes::start(2).await;
    let node = nodes.get(2);
    let would = node.client.ask_one(nodes::validate("t", 4), LONG).await.unwrap();
    assert_eq!((would.partitions, would.id), (4, Uuid::nil()));
    assert_eq!(node.client.ask_one(create("t", 1), LONG).await.unwrap().partitions, 1);
}

#[tokio::test]
async fn a_broker_that_is_not_the_controller_passes_no_question_on() {
    let nodes = Nodes::start(3).await;
    let asker = nodes.get(3);
    let epoch = asker.images.current().controller_epoch();
    let answer = nodes.get(2).client.answer(LISTENER, asker.request(epoch)).await;
    assert_eq!(ErrorCode::from_wire(answer.error_code), ErrorCode::NotController);
    assert_eq!(nodes.get(1).received(), 0);
}

#[tokio::test]
async fn the_controller_of_another_epoch_is_not_the_one_that_was_asked() {
    let nodes = Nodes::start(2).await;
    let asker = nodes.get(2);
    let epoch = asker.images.current().controller_epoch();
    for (asked, code) in [
        (epoch - 1, ErrorCode::NotController),
        (epoch + 1, ErrorCode::NotController),
        (epoch, ErrorCode::None),
    ] {
        let answer = nodes.get(1).client.answer(LISTENER, asker.request(asked)).await;
        assert_eq!(ErrorCode::from_wire(answer.error_code), code, "epoch {asked}");
    }
}

#[tokio::test]
async fn only_registered_brokers_are_heard_and_on_their_own_listener() {
    let nodes = Nodes::start(2).await;
    let asker = nodes.get(2);
    let good = asker.request(asker.images.current().controller_epoch());
    let stale = AskControllerRequest { broker_epoch: good.broker_epoch - 1, ..good.clone() };
    let stranger = AskControllerRequest { broker_id: 9, ..good.clone() };
    for (listener, request, code) in [
        ("CLIENTS", good.clone(), ErrorCode::ClusterAuthorizationFailed),
        (LISTENER, stranger, ErrorCode::ClusterAuthorizationFailed),
        (LISTENER, stale, ErrorCode::StaleBrokerEpoch),
        (LISTENER, good, ErrorCode::None),
    ] {
        let answer = nodes.get(1).client.answer(listener, request).await;
        assert_eq!(ErrorCode::from_wire(answer.error_code), code, "{answer:?}");
        assert_eq!(answer.results.len(), usize::from(code.is_none()));
    }
}

#[tokio::test]
async fn a_broker_that_registered_anew_is_heard_in_its_new_epoch() {
    let mut nodes = Nodes::start(2).await;
    nodes.register_anew(2).await;
    let created = nodes.get(2).client.ask_one(create("t", 1), LONG).await;
    assert!(created.is_ok(), "{created:?}");
}

#[tokio::test]
async fn a_question_that_asks_two_things_or_none_is_refused() {
    let nodes = Nodes::start(2).await;
    let asker = nodes.get(2);
    let one = asker.request(asker.images.current().controller_epoch());
    let synced = || Some(vec![AskedSync::default(), AskedSync::default()]);
    let none = AskControllerRequest { producer_ids: false, ..one.clone() };
    let two = AskControllerRequest { deletions: Some(vec![]), ..one.clone() };
    let at_once = AskControllerRequest { synced: synced(), producer_ids: false, ..one };
    for request in [none, two, at_once] {
        let answer = nodes.get(1).client.answer(LISTENER, request).await;
        assert_eq!(ErrorCode::from_wire(answer.error_code), ErrorCode::InvalidRequest);
    }
}

#[tokio::test]
async fn without_a_controller_in_time_the_answer_is_not_controller() {
    let nodes = Nodes::start(2).await;
    nodes.get(1).refuse_connections().await;
    let refused = nodes.get(2).client.ask_one(create("t", 1), Duration::from_millis(300)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotController, "{refused}");
}

#[tokio::test]
async fn a_question_waits_for_the_next_controller() {
    let nodes = Nodes::start(2).await;
    nodes.get(1).refuse_connections().await;
    let asked = nodes.get(2).client.ask_one(create("t", 1), LONG);
    let (created, ()) = tokio::join!(asked, nodes.expire(1));
    assert!(created.is_ok(), "{created:?}");
}

#[test]
fn changes_of_settings_are_the_same_on_the_other_side() {
    let text = |text: &str| text.to_owned();
    let edits = [
        EditOp::Set(text("v")),
        EditOp::Delete,
        EditOp::Append(text("a,b")),
        EditOp::Subtract(text("")),
    ];
    let edits = edits.map(|op| ConfigEdit { key: text("k"), op }).to_vec();
    let all = BTreeMap::from([(text("a"), text("1")), (text("b"), text(""))]);
    let resources =
        [ConfigResource::topic("t"), ConfigResource::broker(Some(3)), ConfigResource::broker(None)];
    for resource in resources {
        for change in [ConfigChange::Edit(edits.clone()), ConfigChange::Replace(all.clone())] {
            let alteration = ConfigAlteration { resource: resource.clone(), change };
            let wire = configs::to_wire(&alteration);
            assert_eq!(configs::from_wire(wire), Some(alteration));
        }
    }
}

#[test]
fn changes_of_settings_that_make_no_sense_are_none() {
    let resource = ConfigResource::topic("t");
    let edit = ConfigEdit { key: "k".into(), op: EditOp::Set("v".into()) };
    let change = ConfigChange::Edit(vec![edit]);
    let good = configs::to_wire(&ConfigAlteration { resource, change });
    assert!(configs::from_wire(good.clone()).is_some());
    let mut unknown_kind = good.clone();
    unknown_kind.kind = 1;
    let mut unknown_operation = good.clone();
    unknown_operation.edits[0].operation = 4;
    let mut without_value = good.clone();
    without_value.edits[0].value = None;
    let mut whole_without_value = without_value.clone();
    whole_without_value.replace = true;
    for bad in [unknown_kind, unknown_operation, without_value, whole_without_value] {
        assert_eq!(configs::from_wire(bad.clone()), None, "{bad:?}");
    }
}

#[test]
fn patience_is_the_requests_own_within_a_bound() {
    let of = |timeout_ms| patience(timeout_ms).as_millis();
    assert_eq!([of(0), of(-1), of(1500), of(i32::MAX)], [0, 0, 1500, 60_000]);
}
