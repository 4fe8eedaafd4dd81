//! The leader's own change of the ISR beside the controller's.

use super::world::World;
use crate::Member;
use crate::isr::{Expected, isr_change};
use crate::restart::Restart;
use crate::tree::{Op, SessionId};

fn at(id: i32, epoch: i64) -> Member {
    Member { id, epoch }
}

/// What leader 1, in its first registration, writes at the state's version as it is now.
fn change(world: &World, isr: &[Member], elr: &[Member]) -> Option<Vec<Op>> {
    let image = world.image();
    let topic = image.topic("t").unwrap();
    let now = topic.partition(0).unwrap();
    let leader_epoch = now.leader_epoch;
    let expected = Expected { leader: at(1, 1), leader_epoch, version: now.version };
    isr_change(&image, (topic.id, 0), expected, isr, elr, 0)
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
