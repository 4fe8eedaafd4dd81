//! Elections on request, the return to preferred replicas, and brokers that ask to stop.

use klamm_protocol::ErrorCode;

use super::world::World;
use crate::Member;
use crate::controller::leaders::elect_leader;
use crate::controller::{ElectionType, NewTopic};
use crate::nodes::topic::PartitionNode;
use crate::restart::Restart::{Clean, Intact, Unsound};

const OS: &[(&str, &str)] = &[("flush", "os")];

fn alone(state: &mut PartitionNode, id: i32) {
    state.isr.retain(|member| member.id == id);
}

/// Topic `many`, each partition on these replicas.
fn many(world: &mut World, replicas: &[&[i32]]) {
    let assignments = (0..).zip(replicas.iter().map(|ids| ids.to_vec())).collect();
    let topic = NewTopic {
        name: "many".into(),
        partitions: -1,
        replication_factor: -1,
        assignments,
        ..NewTopic::default()
    };
    world.create(&topic).unwrap();
}

fn leaders(world: &World) -> Vec<Option<i32>> {
    world.image().topic("many").unwrap().partitions().map(|partition| partition.leader).collect()
}

/// A world where broker 1, back after a sound restart, leads nothing of what prefers it.
fn after_a_restart_of_broker_1() -> World {
    let mut world = World::with_brokers(3);
    world.topic(&[1, 2, 3], &[]);
    world.stop(1);
    world.settle();
    world.start(1, Clean);
    world.settle();
    assert_eq!(world.show(), "2@1 isr 1:1 2:1 3:1");
    world
}

#[test]
fn the_preferred_replica_takes_over_on_request() {
    let mut world = after_a_restart_of_broker_1();
    assert_eq!(world.elect(ElectionType::Preferred), Ok(()));
    assert_eq!(world.show(), "1@2 isr 1:2 2:1 3:1");
    world.settle();
    assert_eq!(world.elect(ElectionType::Preferred), Err(ErrorCode::ElectionNotNeeded));
    assert_eq!(world.show(), "1@2 isr 1:2 2:1 3:1");
}

#[test]
fn a_preferred_replica_that_cannot_lead_does_not() {
    type Change = fn(&mut World);
    let changes: &[(&str, Change)] = &[
        ("is not registered", |world| world.stop(1)),
        ("is about to stop", |world| world.begin_shutdown(1)),
        ("has lost its disk", |world| world.lose_disk(1)),
        ("is out of sync", |world| world.edit(|state| alone(state, 2))),
        ("is eligible, but out of sync", |world| {
            world.edit(|state| {
                alone(state, 2);
                state.elr = vec![Member { id: 1, epoch: 1 }];
            });
        }),
        ("may lack records, and nobody has looked yet", |world| world.start(1, Unsound)),
    ];
    for (what, change) in changes {
        let mut world = after_a_restart_of_broker_1();
        change(&mut world);
        let before = world.show();
        let refused = world.elect(ElectionType::Preferred);
        assert_eq!(refused, Err(ErrorCode::PreferredLeaderNotAvailable), "{what}");
        assert_eq!(world.show(), before, "{what}");
    }
}

#[test]
fn soundness_is_judged_by_the_class_of_the_partition() {
    for (configs, elected) in [(&[][..], true), (OS, false)] {
        let mut world = World::with_brokers(2);
        world.topic(&[1, 2], configs);
        world.stop(1);
        world.settle();
        world.start(1, Intact);
        assert_eq!(world.elect(ElectionType::Preferred).is_ok(), elected, "{configs:?}");
    }
}

#[test]
fn partitions_that_do_not_exist_are_unknown() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], &[]);
    for (topic, index) in [("t", 1), ("t", -1), ("u", 0)] {
        for how in [ElectionType::Preferred, ElectionType::Unclean] {
            let refused = world.elect_of(topic, index, how);
            assert_eq!(refused, Err(ErrorCode::UnknownTopicOrPartition), "{topic}-{index}");
        }
    }
}

#[test]
fn an_election_on_request_checks_registration_and_assignment() {
    let world = after_a_restart_of_broker_1();
    let image = world.image();
    let elected = elect_leader(&image, "t", 0, ElectionType::Preferred, &world.context());
    let (epoch, write) = elected.unwrap();
    assert_eq!(epoch, 2);
    let checked: Vec<&str> = write.checks.iter().map(|(path, _)| path.as_str()).collect();
    assert!(checked.contains(&"/brokers/ids/1") && checked.contains(&"/brokers/epochs/1"));
    assert!(checked.iter().any(|path| path.ends_with("/assign")), "{checked:?}");
}

#[test]
fn an_unclean_election_is_for_partitions_without_a_leader() {
    let mut world = World::with_brokers(3);
    world.topic(&[1, 2, 3], &[]);
    assert_eq!(world.elect(ElectionType::Unclean), Err(ErrorCode::ElectionNotNeeded));
    world.edit(|state| alone(state, 1));
    world.stop(1);
    world.settle();
    assert_eq!(world.show(), "none@1 isr 1:1");
    assert_eq!(world.elect(ElectionType::Unclean), Ok(()));
    assert_eq!(world.show(), "2@2 isr 2:1 unclean 2");
    world.settle();
    assert_eq!(world.elect(ElectionType::Unclean), Err(ErrorCode::ElectionNotNeeded));
}

#[test]
fn nobody_is_elected_where_nobody_is_there() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], &[]);
    world.stop(1);
    world.begin_shutdown(2);
    world.stop(2);
    world.settle();
    let refused = world.elect(ElectionType::Unclean);
    assert_eq!(refused, Err(ErrorCode::EligibleLeadersNotAvailable));
    assert_eq!(world.elect(ElectionType::Preferred), Err(ErrorCode::PreferredLeaderNotAvailable));
}

#[test]
fn an_unclean_election_takes_one_that_lacks_nothing_where_there_is_one() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], &[]);
    world.edit(|state| {
        alone(state, 2);
        state.leader = None;
        state.leader_epoch += 1;
    });
    assert_eq!(world.elect(ElectionType::Unclean), Ok(()));
    assert_eq!(world.show(), "2@2 isr 2:1", "not unclean");
}

#[test]
fn a_broker_that_misses_a_log_directory_is_elected_on_request_only() {
    let mut world = World::with_brokers(1);
    world.topic(&[1], &[]);
    world.start_with(1, Unsound, true);
    world.settle();
    assert_eq!(world.show(), "none@1 isr 1:1");
    assert_eq!(world.elect(ElectionType::Unclean), Ok(()));
    assert_eq!(world.show(), "1@2 isr 1:2 unclean 2");
}

#[test]
fn one_that_has_all_its_log_directories_is_elected_before_it() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], &[]);
    world.edit(|state| alone(state, 1));
    world.start(2, Unsound);
    world.start_with(1, Unsound, true);
    world.settle();
    assert_eq!(world.show(), "none@1 isr 1:1");
    assert_eq!(world.elect(ElectionType::Unclean), Ok(()));
    assert_eq!(world.show(), "2@2 isr 2:2 unclean 2");
}

#[test]
fn leadership_returns_to_a_broker_that_is_back() {
    let mut world = World::with_brokers(3);
    many(&mut world, &[&[1, 2], &[2, 3], &[3, 1], &[1, 3]]);
    world.stop(1);
    world.settle();
    world.start(1, Clean);
    world.settle();
    assert_eq!(leaders(&world), [Some(2), Some(2), Some(3), Some(3)]);
    assert_eq!(world.rebalance(10), 2);
    assert_eq!(leaders(&world), [Some(1), Some(2), Some(3), Some(1)]);
    assert_eq!(world.rebalance(0), 0, "there is nothing left to do");
    world.settle();
}

#[test]
fn leadership_stays_where_it_is_as_long_as_a_broker_leads_most_of_its_own() {
    let mut world = World::with_brokers(2);
    many(&mut world, &[&[1, 2][..]; 10]);
    world.topic(&[2, 1], &[]);
    world.lose_disk(1);
    world.start(1, Clean);
    world.settle();
    assert_eq!(leaders(&world), [Some(2); 10]);
    (0..9).for_each(|index| world.elect_of("many", index, ElectionType::Preferred).unwrap());
    assert_eq!(world.rebalance(10), 0, "one in ten is allowed");
    assert_eq!(world.rebalance(9), 1);
    assert_eq!(leaders(&world), [Some(1); 10]);
}

#[test]
fn leadership_does_not_return_to_who_cannot_lead() {
    let mut world = after_a_restart_of_broker_1();
    world.begin_shutdown(1);
    assert_eq!(world.rebalance(0), 0);
    world.stop(1);
    assert_eq!(world.rebalance(0), 0);
    let mut world = after_a_restart_of_broker_1();
    world.edit(|state| alone(state, 2));
    assert_eq!(world.rebalance(0), 0);
}

#[test]
fn a_broker_that_stops_hands_over_all_that_others_can_lead() {
    let mut world = World::with_brokers(3);
    many(&mut world, &[&[1, 2, 3], &[1, 3, 2], &[2, 1, 3]]);
    world.topic(&[1, 2, 3], &[]);
    world.edit(|state| alone(state, 1));
    world.begin_shutdown(1);
    world.settle();
    assert_eq!(leaders(&world), [Some(2), Some(3), Some(2)]);
    assert_eq!(world.show(), "1@0 isr 1:1", "the others are out of sync");
    world.stop(1);
    world.settle();
    assert_eq!(leaders(&world), [Some(2), Some(3), Some(2)]);
    assert_eq!(world.show(), "none@1 isr 1:1");
    world.start(1, Clean);
    world.settle();
    assert_eq!(leaders(&world), [Some(2), Some(3), Some(2)]);
    assert_eq!(world.show(), "1@2 isr 1:2", "nothing was lost");
    assert_eq!(world.rebalance(10), 2);
    assert_eq!(leaders(&world), [Some(1), Some(1), Some(2)]);
}

#[test]
fn brokers_that_stop_one_after_the_other_hand_over_until_the_last() {
    let mut world = World::with_brokers(3);
    world.topic(&[1, 2, 3], &[]);
    for (id, shown) in [(1, "2@1"), (2, "3@2"), (3, "3@2")] {
        world.begin_shutdown(id);
        world.settle();
        assert!(world.show().starts_with(shown), "{}", world.show());
    }
}
