//! The leader's own change of the ISR beside the controller's.

use super::world::World;
use crate::Member;
use crate::controller::NewTopic;
use crate::isr::{Expected, IsrWrite, fitting, isr_change, together};
use crate::restart::Restart;
use crate::tree::{MultiLimits, Op, OpResult, SessionId};

fn at(id: i32, epoch: i64) -> Member {
    Member { id, epoch }
}

/// What leader 1, in its first registration, writes at the state's version as it is now.
fn change(world: &World, isr: &[Member], elr: &[Member]) -> Option<Vec<Op>> {
    change_of(world, 0, isr, elr).map(|write| together(&[write]))
}

/// The same of partition `index`.
fn change_of(world: &World, index: i32, isr: &[Member], elr: &[Member]) -> Option<IsrWrite> {
    let image = world.image();
    let topic = image.topic("t").unwrap();
    let now = topic.partition(index).unwrap();
    let leader_epoch = now.leader_epoch;
    let expected = Expected { leader: at(1, 1), leader_epoch, version: now.version };
    isr_change(&image, (topic.id, index), expected, isr, elr, 0)
}

fn write(world: &mut World, ops: &[Op]) -> Result<(), usize> {
    let failed = |failed: crate::tree::MultiError| failed.index.expect("one of them");
    world.state.apply(SessionId(1), ops).map(|_| ()).map_err(failed)
}

#[test]
fn a_leader_takes_out_and_lets_in_and_changes_nothing_else() {
    let mut world = World::with_brokers(3);
    world.topic(&[1, 2, 3], &[("min.insync.replicas", "3")]);
    let out = change(&world, &[at(1, 1), at(2, 1)], &[at(3, 1)]).unwrap();
    write(&mut world, &out).unwrap();
    assert_eq!(world.show(), "1@0 isr 1:1 2:1 elr 3:1");
    assert_eq!(world.decide(), [], "the controller has nothing against it");
    let back = change(&world, &[at(1, 1), at(2, 1), at(3, 1)], &[]).unwrap();
    write(&mut world, &back).unwrap();
    assert_eq!(world.show(), "1@0 isr 1:1 2:1 3:1");
}

#[test]
fn hazard_11_nobody_is_let_in_under_a_registration_that_is_over() {
    let mut world = World::with_brokers(3);
    world.topic(&[1, 2, 3], &[]);
    let out = change(&world, &[at(1, 1), at(2, 1)], &[]).unwrap();
    write(&mut world, &out).unwrap();
    let back = change(&world, &[at(1, 1), at(2, 1), at(3, 1)], &[]).unwrap();
    // It restarts with an emptier disk between the decision and the write.
    world.start(3, Restart::Unsound);
    let failed = write(&mut world, &back).unwrap_err();
    assert!(failed > 0, "the node itself was as expected");
    assert_eq!(world.show(), "1@0 isr 1:1 2:1");
    let again = change(&world, &[at(1, 1), at(2, 1), at(3, 1)], &[]);
    assert_eq!(again, None, "the image shows another registration");
    assert!(change(&world, &[at(1, 1), at(2, 1), at(3, 2)], &[]).is_some());
}

#[test]
fn a_leader_that_is_none_any_more_changes_nothing() {
    let mut world = World::with_brokers(3);
    world.topic(&[1, 2, 3], &[]);
    let late = change(&world, &[at(1, 1)], &[]).unwrap();
    world.stop(1);
    world.settle();
    assert_eq!(write(&mut world, &late), Err(0), "the node has moved on");
    assert_eq!(world.show(), "2@1 isr 1:1 2:1 3:1");
    let zombie = change(&world, &[at(1, 1)], &[]);
    assert_eq!(zombie, None, "another leads");
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], &[]);
    let late = change(&world, &[at(1, 1)], &[]).unwrap();
    world.start(1, Restart::Clean);
    assert!(write(&mut world, &late).unwrap_err() > 0, "its registration is over");
}

#[test]
fn hazard_92_an_entry_keeps_its_registration_when_others_change() {
    let mut world = World::with_brokers(3);
    world.topic(&[1, 2, 3], &[]);
    world.start(2, Restart::Clean);
    let out = change(&world, &[at(1, 1), at(2, 1)], &[]).unwrap();
    write(&mut world, &out).unwrap();
    assert_eq!(world.show(), "1@0 isr 1:1 2:1");
    let renewed = change(&world, &[at(1, 1), at(2, 2)], &[]).unwrap();
    let checks = |ops: &[Op]| ops.iter().filter(|op| op.path().contains("/2")).count();
    assert_eq!((checks(&out), checks(&renewed)), (0, 2), "renewing one is letting it in");
}

/// Topic `t` with `count` partitions on brokers 1 to 3, and the writes that strike 3 off all of them.
fn three_struck_off(count: i32) -> (World, Vec<IsrWrite>) {
    let mut world = World::with_brokers(3);
    let topic = NewTopic {
        name: "t".into(),
        partitions: -1,
        replication_factor: -1,
        assignments: (0..count).map(|index| (index, vec![1, 2, 3])).collect(),
        ..NewTopic::default()
    };
    world.create(&topic).unwrap();
    let struck = |index| change_of(&world, index, &[at(1, 1), at(2, 1)], &[]).unwrap();
    let writes = (0..count).map(struck).collect();
    (world, writes)
}

#[test]
fn changes_of_several_partitions_go_together_and_what_they_check_goes_once() {
    let (mut world, writes) = three_struck_off(3);
    let ops = together(&writes);
    assert_eq!(ops.len(), 3 + 2, "the leader's registration and the assignment: {ops:?}");
    let results = world.state.apply(SessionId(1), &ops).unwrap().results;
    assert!(results[..3].iter().all(|result| matches!(result, OpResult::Set(_))), "{results:?}");
    for index in 0..3 {
        let image = world.image();
        let now = image.topic("t").unwrap().partition(index).unwrap().isr.clone();
        assert_eq!(now, [at(1, 1), at(2, 1)]);
    }
}

#[test]
fn of_changes_that_go_together_one_conflict_stops_all() {
    let (mut world, writes) = three_struck_off(3);
    write(&mut world, &together(&writes[1..2])).unwrap();
    assert_eq!(write(&mut world, &together(&writes)), Err(1), "the second has moved on");
    assert_eq!(world.show(), "1@0 isr 1:1 2:1 3:1", "nothing is written");
    // Hazard 11 holds of each of them: 3 restarts between the decision and the write.
    let back = change_of(&world, 1, &[at(1, 1), at(2, 1), at(3, 1)], &[]).unwrap();
    let mixed = [writes[0].clone(), back];
    world.start(3, Restart::Unsound);
    assert!(write(&mut world, &together(&mixed)).unwrap_err() >= mixed.len(), "a check failed");
}

#[test]
fn as_many_changes_go_together_as_fit() {
    let (_, writes) = three_struck_off(120);
    let limits = MultiLimits::ZOOKEEPER;
    let count = fitting(&writes, limits);
    assert_eq!(together(&writes[..count]).len(), limits.ops);
    assert_eq!(fitting(&writes[..7], limits), 7);
    let bytes: usize = together(&writes[..5]).iter().map(Op::bytes).sum();
    assert_eq!(fitting(&writes, MultiLimits { bytes, ..limits }), 5);
    assert_eq!(fitting(&writes, MultiLimits { ops: 1, bytes: 1 }), 1, "one goes whatever it takes");
    assert_eq!(fitting(&[], limits), 0);
}
