//! Partitions on their way to other brokers.

use klamm_protocol::ErrorCode;

use super::world::World;
use crate::controller::reassign::reassign;
use crate::controller::{ElectionType, NewTopic, Reassignment};
use crate::nodes::config::ConfigResource;
use crate::restart::Restart::{Clean, Unsound};

fn moving(replicas: &[i32], to: &[i32]) -> World {
    let mut world = World::with_brokers(4);
    world.topic(replicas, &[]);
    world.move_to(Some(to)).unwrap();
    world.settle();
    world
}

#[test]
fn the_old_replicas_stay_until_all_the_new_ones_are_in_sync() {
    let mut world = moving(&[1, 2], &[3, 4]);
    assert_eq!(world.place(), "3 4 1 2 + 3 4 - 1 2");
    assert_eq!(world.show(), "1@0 isr 1:1 2:1");
    world.join(&[3]);
    world.settle();
    assert_eq!(world.place(), "3 4 1 2 + 3 4 - 1 2");
    world.join(&[4]);
    world.settle();
    assert_eq!(world.place(), "3 4");
    assert_eq!(world.show(), "3@1 isr 3:1 4:1");
}

#[test]
fn a_leader_that_stays_leads_on() {
    let mut world = moving(&[1, 2], &[3, 1]);
    world.join(&[3]);
    world.settle();
    assert_eq!((world.place().as_str(), world.show().as_str()), ("3 1", "1@0 isr 1:1 3:1"));
    assert_eq!(world.elect(ElectionType::Preferred), Ok(()));
    assert_eq!(world.show(), "3@1 isr 1:1 3:1");
}

#[test]
fn another_order_and_fewer_replicas_need_nobody_to_catch_up() {
    assert_eq!(moving(&[1, 2], &[2, 1]).place(), "2 1");
    let world = moving(&[1, 2, 3], &[2, 3]);
    assert_eq!((world.place().as_str(), world.show().as_str()), ("2 3", "2@1 isr 2:1 3:1"));
}

#[test]
fn a_move_that_is_taken_back_leaves_nothing() {
    let mut world = moving(&[1, 2], &[3, 4]);
    world.join(&[3]);
    assert_eq!(world.move_to(None), Ok(()));
    assert_eq!((world.place().as_str(), world.show().as_str()), ("1 2", "1@0 isr 1:1 2:1"));
    world.settle();
    assert_eq!(world.move_to(None), Err(ErrorCode::NoReassignmentInProgress));
}

#[test]
fn a_new_replica_that_leads_already_hands_over_when_its_move_is_taken_back() {
    let mut world = moving(&[1], &[3, 4]);
    world.join(&[3]);
    world.stop(1);
    world.settle();
    assert_eq!(world.show(), "3@1 isr 1:1 3:1");
    assert_eq!(world.move_to(None), Err(ErrorCode::InvalidReplicaAssignment), "nobody could lead");
    world.start(1, Clean);
    assert_eq!(world.move_to(None), Ok(()));
    assert_eq!((world.place().as_str(), world.show().as_str()), ("1", "1@2 isr 1:2"));
    world.settle();
}

#[test]
fn a_move_is_turned_elsewhere() {
    let mut world = moving(&[1, 2], &[3, 2]);
    world.join(&[3]);
    // Before anybody has looked, the goal is another one.
    assert_eq!(world.move_to(Some(&[4, 2])), Ok(()));
    assert_eq!(world.place(), "4 2 1 + 4 - 1");
    assert_eq!(world.show(), "1@0 isr 1:1 2:1", "3 is no replica any more");
    world.settle();
    world.join(&[4]);
    world.settle();
    assert_eq!((world.place().as_str(), world.show().as_str()), ("4 2", "4@1 isr 2:1 4:1"));
}

#[test]
fn a_move_never_takes_the_last_that_holds_what_was_confirmed() {
    let mut world = World::with_brokers(3);
    world.topic(&[1, 2], &[("unclean.leader.election.enable", "true")]);
    world.edit(|state| state.isr.retain(|member| member.id == 1));
    world.move_to(Some(&[2])).unwrap();
    world.settle();
    assert_eq!((world.place().as_str(), world.show().as_str()), ("2 1 - 1", "1@0 isr 1:1"));
    world.join(&[2]);
    world.begin_shutdown(2);
    world.settle();
    assert_eq!((world.place().as_str(), world.show().as_str()), ("2 1 - 1", "1@0 isr 1:1 2:1"));
    world.start(2, Clean);
    world.settle();
    assert_eq!((world.place().as_str(), world.show().as_str()), ("2", "2@1 isr 2:2"));
}

#[test]
fn a_new_replica_that_may_lack_records_ends_no_move() {
    let mut world = moving(&[1, 2], &[3, 4]);
    world.join(&[3, 4]);
    world.start(4, Unsound);
    world.settle();
    assert_eq!(world.place(), "3 4 1 2 + 3 4 - 1 2");
    assert_eq!(world.show(), "1@0 isr 1:1 2:1 3:1");
}

#[test]
fn min_isr_is_that_of_the_smaller_set_while_a_move_lasts() {
    let mut world = World::with_brokers(3);
    world.configure(ConfigResource::broker(None), &[("min.insync.replicas", "2")]);
    world.topic(&[1], &[]);
    let min_isr = |world: &World| world.image().topic("t").unwrap().partition(0).unwrap().min_isr;
    world.move_to(Some(&[1, 2, 3])).unwrap();
    world.settle();
    assert_eq!(min_isr(&world), 1, "one is in sync, and appends go on");
    world.join(&[2, 3]);
    world.settle();
    assert_eq!((world.place().as_str(), min_isr(&world)), ("1 2 3", 2));
}

#[test]
fn many_moves_of_one_topic_end_together() {
    let mut world = World::with_brokers(3);
    let topic = NewTopic {
        name: "many".into(),
        partitions: -1,
        replication_factor: -1,
        assignments: (0..100).map(|index| (index, vec![1, 2, 3])).collect(),
        ..NewTopic::default()
    };
    world.create(&topic).unwrap();
    for partition in 0..100 {
        let asked = Reassignment {
            topic: "many".into(),
            partition,
            replicas: Some(vec![2, 3]),
            may_resize: true,
        };
        world.write(&reassign(&world.image(), &asked, &world.context()).unwrap());
    }
    let writes = world.decide();
    assert!(writes.iter().all(|write| write.ops.len() + write.checks.len() < 100));
    world.write(&writes);
    assert_eq!(world.decide(), []);
    for partition in world.image().topic("many").unwrap().partitions() {
        assert_eq!((partition.replicas(), partition.leader), (&[2, 3][..], Some(2)));
    }
}

#[test]
fn moves_that_make_no_sense_are_refused() {
    let mut world = World::with_brokers(3);
    world.topic(&[1, 2], &[]);
    let refused = |topic: &str, partition, replicas: &[i32], may_resize| {
        let replicas = Some(replicas.to_vec());
        let asked = Reassignment { topic: topic.to_owned(), partition, replicas, may_resize };
        reassign(&world.image(), &asked, &world.context()).map_err(|refusal| refusal.code)
    };
    assert_eq!(refused("u", 0, &[1], true), Err(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(refused("t", 1, &[1], true), Err(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(refused("t", 0, &[1], false), Err(ErrorCode::InvalidReplicationFactor));
    for replicas in [&[][..], &[1, 1], &[1, 9]] {
        let code = refused("t", 0, replicas, true);
        assert_eq!(code, Err(ErrorCode::InvalidReplicaAssignment), "{replicas:?}");
    }
    assert_eq!(refused("t", 0, &[1, 2], false), Ok(vec![]), "where it is");
}
