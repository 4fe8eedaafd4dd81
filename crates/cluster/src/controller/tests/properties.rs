//! R11 over random histories: deciding twice gives nothing, any prefix of the writes leads to the
//! same end, and what is in the tree never contradicts itself (I2, I8, I17).

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::world::World;
use crate::Member;
use crate::controller::{ElectionType, NewTopic};
use crate::nodes::config::ConfigResource;
use crate::nodes::topic::PartitionNode;
use crate::restart::Restart;

#[derive(Clone, Debug)]
enum Step {
    Start(i32, Restart, bool),
    Stop(i32),
    Shutdown(i32),
    LoseDisk(i32),
    Create(u8, i32, i32, bool),
    Delete(u8),
    MinIsr(u8, u8),
    Flush(u8, bool),
    Unclean(bool),
    Shrink(u8),
    Elect(u8, bool),
    Rebalance(i32),
    Move(u8, Option<Vec<i32>>),
    Grow(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let broker = 1..4i32;
    let restart = prop_oneof![
        Just(Restart::Clean),
        Just(Restart::IntactSameBoot),
        Just(Restart::Intact),
        Just(Restart::Unsound),
    ];
    prop_oneof![
        4 => (broker.clone(), restart, prop::bool::weighted(0.1))
            .prop_map(|(id, restart, missing)| Step::Start(id, restart, missing)),
        3 => broker.clone().prop_map(Step::Stop),
        1 => broker.clone().prop_map(Step::Shutdown),
        2 => broker.prop_map(Step::LoseDisk),
        3 => (0..3u8, 1..4i32, 1..4i32, any::<bool>())
            .prop_map(|(name, n, rf, os)| Step::Create(name, n, rf, os)),
        1 => (0..3u8).prop_map(Step::Delete),
        1 => (0..3u8, 1..4u8).prop_map(|(name, min)| Step::MinIsr(name, min)),
        1 => (0..3u8, any::<bool>()).prop_map(|(name, os)| Step::Flush(name, os)),
        1 => any::<bool>().prop_map(Step::Unclean),
        2 => (0..3u8).prop_map(Step::Shrink),
        2 => (0..3u8, any::<bool>()).prop_map(|(name, unclean)| Step::Elect(name, unclean)),
        1 => (0..50i32).prop_map(Step::Rebalance),
        2 => (0..3u8, replicas()).prop_map(|(name, to)| Step::Move(name, to)),
        2 => (0..3u8).prop_map(Step::Grow),
    ]
}

/// Some of the three brokers, in some order; or the way back.
fn replicas() -> impl Strategy<Value = Option<Vec<i32>>> {
    let to = (Just(vec![1, 2, 3]).prop_shuffle(), 1..4usize);
    prop::option::weighted(0.9, to.prop_map(|(ids, count)| ids[..count].to_vec()))
}

fn name(n: u8) -> String {
    format!("t{n}")
}

fn take(world: &mut World, step: &Step) {
    match step {
        Step::Start(id, restart, missing) => {
            let first = world.image().broker_epoch(*id).is_none();
            let restart = if first { Restart::First } else { *restart };
            world.start_with(*id, restart, *missing && restart == Restart::Unsound);
        }
        Step::Stop(id) => world.stop(*id),
        Step::Shutdown(id) => world.begin_shutdown(*id),
        Step::LoseDisk(id) => world.lose_disk(*id),
        Step::Create(n, partitions, replication_factor, os) => {
            let flush = if *os { "os" } else { "acked" };
            let topic = NewTopic {
                name: name(*n),
                partitions: *partitions,
                replication_factor: *replication_factor,
                configs: [("flush".to_owned(), flush.to_owned())].into(),
                ..NewTopic::default()
            };
            // Refused where the name is taken or brokers are too few.
            let _ = world.create(&topic);
        }
        Step::Delete(n) => {
            let _ = world.delete(&name(*n));
        }
        Step::MinIsr(n, min) if world.image().topic(&name(*n)).is_some() => {
            let min = min.to_string();
            world.configure(ConfigResource::topic(name(*n)), &[("min.insync.replicas", &min)]);
        }
        Step::Flush(n, os) if world.image().topic(&name(*n)).is_some() => {
            let flush = if *os { "os" } else { "acked" };
            world.configure(ConfigResource::topic(name(*n)), &[("flush", flush)]);
        }
        Step::Unclean(allowed) => {
            let allowed = allowed.to_string();
            let key = "unclean.leader.election.enable";
            world.configure(ConfigResource::broker(None), &[(key, &allowed)]);
        }
        Step::Shrink(n) => shrink(world, &name(*n)),
        Step::Elect(n, unclean) => {
            let how = if *unclean { ElectionType::Unclean } else { ElectionType::Preferred };
            // Refused where there is nothing to elect, or nobody.
            let _ = world.elect_of(&name(*n), 0, how);
        }
        Step::Move(n, to) => {
            // Refused where it is unknown, nobody could lead, or there is nothing to take back.
            let _ = world.move_of(&name(*n), to.as_deref());
        }
        Step::Grow(n) => grow(world, &name(*n)),
        Step::Rebalance(percentage) => {
            world.rebalance(*percentage);
        }
        Step::MinIsr(..) | Step::Flush(..) => {}
    }
}

/// The leader of the first partition takes in everybody who is there, as R20 says.
fn grow(world: &mut World, topic: &str) {
    let image = world.image();
    let Some(topic) = image.topic(topic) else { return };
    let Some(now) = topic.partition(0).filter(|now| now.leader.is_some()) else { return };
    let mut state: PartitionNode = now.state.clone();
    for broker in image.brokers().filter(|broker| now.replicas().contains(&broker.id)) {
        let epoch = image.broker_epoch(broker.id).unwrap();
        if now.isr_member(broker.id).is_none() && !epoch.shutting_down {
            state.isr.push(Member { id: broker.id, epoch: broker.broker_epoch });
            state.elr.retain(|member| member.id != broker.id);
        }
    }
    if i32::try_from(state.isr.len()).unwrap() >= state.min_isr {
        state.elr.clear();
    }
    put(world, topic.id, state, now.version);
}

fn put(world: &mut World, topic: Uuid, mut state: PartitionNode, version: i32) {
    state.partition_epoch += 1;
    let path = crate::nodes::NodeKey::Partition(topic, 0).path();
    let op = crate::tree::Op::set(path, crate::nodes::encode(&state), version);
    world.state.apply(crate::tree::SessionId(0), &[op]).unwrap();
}

/// The leader of the first partition takes out everybody else, as R22 says.
fn shrink(world: &mut World, topic: &str) {
    let image = world.image();
    let Some(topic) = image.topic(topic) else { return };
    let Some(now) = topic.partition(0).filter(|now| now.leader.is_some()) else { return };
    let mut state: PartitionNode = now.state.clone();
    let (stay, go) = state.isr.iter().partition(|member| Some(member.id) == state.leader);
    state.isr = stay;
    if i32::try_from(state.isr.len()).unwrap() < state.min_isr {
        state.elr.extend::<Vec<_>>(go);
    }
    put(world, topic.id, state, now.version);
}

type States = BTreeMap<(Uuid, i32), PartitionNode>;

fn states(world: &World) -> States {
    let image = world.image();
    let topics = image.topics();
    topics
        .flat_map(|topic| topic.partitions().map(|p| ((topic.id, p.index), p.state.clone())))
        .collect()
}

fn check_invariants(world: &World, before: &States) {
    let image = world.image();
    for topic in image.topics() {
        assert_eq!(topic.partitions().count(), usize::try_from(topic.partition_count()).unwrap());
        for now in topic.partitions() {
            let listed: Vec<i32> = now.isr.iter().chain(&now.elr).map(|m| m.id).collect();
            let distinct: BTreeSet<i32> = listed.iter().copied().collect();
            assert_eq!(listed.len(), distinct.len(), "I17 {:?}", now.state);
            assert!(distinct.iter().all(|id| now.replicas().contains(id)), "I17 {:?}", now.state);
            if let Some(leader) = now.leader {
                let entry = now.leader_member().expect("I17: the leader is in sync");
                let broker = image.broker(leader).expect("a leader is registered");
                assert_eq!(entry.epoch, broker.broker_epoch, "R12: elected in this incarnation");
                assert!(!now.offline.contains(&entry), "R23 {:?}", now.state);
            }
            let unsound = |member: &&Member| {
                let epoch = image.broker_epoch(member.id).unwrap();
                member.epoch < epoch.sound_since(now.flush)
            };
            let unsound_count = now.isr.iter().chain(&now.elr).filter(unsound).count();
            let alone = now.isr.len() == 1 && now.leader.is_none();
            assert!(unsound_count == 0 || (unsound_count == 1 && alone), "I8 {:?}", now.state);
            if let Some(then) = before.get(&(topic.id, now.index)) {
                assert!(now.leader_epoch >= then.leader_epoch, "I2");
                assert!(now.partition_epoch >= then.partition_epoch, "R13");
                let same_epoch = now.leader_epoch == then.leader_epoch;
                assert!(!same_epoch || now.leader_member() == then.leader_member(), "I2");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn histories_keep_the_invariants_and_any_prefix_of_writes_ends_the_same(
        steps in prop::collection::vec(step(), 1..25),
        cut: prop::sample::Index,
    ) {
        let mut world = World::with_brokers(3);
        for step in steps {
            take(&mut world, &step);
            let before = states(&world);
            let writes = world.decide();
            let mut cut_short = world.clone();
            world.write(&writes);
            if world.is_moving() {
                world.settle();
            }
            prop_assert_eq!(world.decide(), vec![], "after {:?}", step);
            check_invariants(&world, &before);

            cut_short.write(&writes[..cut.index(writes.len() + 1)]);
            cut_short.settle();
            prop_assert_eq!(states(&cut_short), states(&world), "after {:?}", step);
        }
    }
}
