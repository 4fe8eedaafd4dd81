//! R3 and R12, and the settings that live in a partition's state (R18c, R22).

use std::collections::BTreeSet;

use super::world::World;
use crate::Member;
use crate::controller::{Reason, Scope, reconcile};
use crate::image::Changes;
use crate::nodes::config::ConfigResource;
use crate::nodes::topic::{FlushClass, PartitionNode};
use crate::nodes::{NodeKey, decode};
use crate::restart::Restart::{Clean, Intact, IntactSameBoot, Unsound};
use crate::tree::Op;

const OS: &[(&str, &str)] = &[("flush", "os")];

#[test]
fn the_preferred_replica_leads_first() {
    let mut world = World::with_brokers(3);
    world.topic(&[2, 3, 1], &[]);
    assert_eq!(world.show(), "2@0 isr 2:1 3:1 1:1");
}

#[test]
fn a_leader_that_goes_is_replaced_by_the_next_in_sync() {
    let mut world = World::with_brokers(3);
    world.topic(&[2, 3, 1], &[]);
    world.stop(2);
    world.settle();
    assert_eq!(world.show(), "3@1 isr 2:1 3:1 1:1", "the leader shrinks its ISR itself");
}

#[test]
fn hazard_91_after_any_restart_there_is_an_election_before_the_first_append() {
    for restart in [Clean, IntactSameBoot, Intact] {
        let mut world = World::with_brokers(1);
        world.topic(&[1], &[]);
        world.start(1, restart);
        world.settle();
        assert_eq!(world.show(), "1@1 isr 1:2", "{restart:?}");
    }
}

#[test]
fn hazard_13_a_leader_that_bounces_unnoticed_is_elected_anew() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], &[]);
    world.start(1, Clean);
    world.settle();
    assert_eq!(world.show(), "1@1 isr 1:2 2:1");
}

#[test]
fn hazard_92_a_followers_sound_restart_leaves_its_entry_as_it_was() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], &[]);
    world.start(2, Clean);
    world.settle();
    assert_eq!(world.show(), "1@0 isr 1:1 2:1", "only an addition changes it");
}

#[test]
fn hazard_11_a_follower_that_lost_its_disk_is_struck_off() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], &[]);
    world.start(2, Unsound);
    world.settle();
    assert_eq!(world.show(), "1@0 isr 1:1");
}

#[test]
fn hazard_88_power_loss_of_all_brokers_leaves_acked_partitions_led() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], &[]);
    (1..=2).for_each(|id| world.start(id, Intact));
    world.settle();
    assert_eq!(world.show(), "1@1 isr 1:2 2:1");
}

#[test]
fn hazard_12_power_loss_of_all_brokers_leaves_os_partitions_to_the_operator() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], OS);
    (1..=2).for_each(|id| world.start(id, Intact));
    world.settle();
    assert_eq!(world.show(), "none@1 isr 1:1", "the last one stays listed");
    world.configure(
        ConfigResource::topic("t"),
        &[("flush", "os"), ("unclean.leader.election.enable", "true")],
    );
    world.settle();
    assert_eq!(world.show(), "1@2 isr 1:2 unclean 2");
}

#[test]
fn kill_9_of_all_brokers_leaves_os_partitions_led() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], OS);
    (1..=2).for_each(|id| world.start(id, IntactSameBoot));
    world.settle();
    assert_eq!(world.show(), "1@1 isr 1:2 2:1");
}

#[test]
fn an_unsound_leader_hands_over_to_a_sound_follower() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], &[]);
    world.start(1, Unsound);
    world.settle();
    // Two steps of epoch: the old leader is dropped, the new one elected.
    assert!(world.show().starts_with("2@"), "{}", world.show());
    assert!(world.show().ends_with("isr 2:1"), "{}", world.show());
}

#[test]
fn a_sound_member_that_returns_takes_over_from_the_listed_unsound_one() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], OS);
    world.stop(1);
    world.stop(2);
    world.settle();
    assert_eq!(world.show(), "none@1 isr 1:1 2:1");
    world.start(1, Unsound);
    world.settle();
    assert_eq!(world.show(), "none@1 isr 2:1");
    world.start(2, Clean);
    world.settle();
    assert_eq!(world.show(), "2@2 isr 2:2");
}

#[test]
fn a_single_replica_is_elected_whatever_it_lost() {
    let mut world = World::with_brokers(1);
    world.topic(&[1], OS);
    world.start(1, Intact);
    let writes = world.decide();
    assert_eq!(writes.iter().map(|w| w.reason).collect::<Vec<_>>(), [Reason::UncleanElection]);
    world.settle();
    assert_eq!(world.show(), "1@1 isr 1:2 unclean 1");
}

#[test]
fn nobody_is_elected_uncleanly_while_a_log_directory_is_missing() {
    let mut world = World::with_brokers(1);
    world.topic(&[1], &[]);
    world.start_with(1, Unsound, true);
    world.settle();
    assert_eq!(world.show(), "none@1 isr 1:1");
    world.start(1, Unsound);
    world.settle();
    assert_eq!(world.show(), "1@2 isr 1:3 unclean 2");
}

#[test]
fn hazard_23_no_unclean_election_unless_allowed() {
    let mut world = World::with_brokers(3);
    world.topic(&[1, 2, 3], &[]);
    world.edit(|state| state.isr.retain(|member| member.id == 1));
    world.stop(1);
    world.settle();
    assert_eq!(world.show(), "none@1 isr 1:1");
    world.configure(ConfigResource::broker(None), &[("unclean.leader.election.enable", "true")]);
    world.settle();
    assert_eq!(world.show(), "2@2 isr 2:1 unclean 2");
}

#[test]
fn an_eligible_replica_leads_when_none_in_sync_can() {
    let mut world = World::with_brokers(3);
    world.topic(&[1, 2, 3], &[("min.insync.replicas", "2")]);
    world.edit(|state| {
        state.isr.retain(|member| member.id == 1);
        state.elr = vec![Member { id: 3, epoch: 1 }];
    });
    world.stop(1);
    world.settle();
    assert_eq!(world.show(), "3@1 isr 1:1 3:1");
}

#[test]
fn an_eligible_replica_takes_the_place_of_an_unsound_leader() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], &[("min.insync.replicas", "2")]);
    world.edit(|state| {
        state.isr.retain(|member| member.id == 1);
        state.elr = vec![Member { id: 2, epoch: 1 }];
    });
    world.start(1, Unsound);
    world.settle();
    assert_eq!(world.show(), "2@1 isr 2:1");
}

#[test]
fn hazard_98_members_struck_off_do_not_become_eligible() {
    let mut world = World::with_brokers(3);
    world.topic(&[1, 2, 3], &[("min.insync.replicas", "3")]);
    world.start(3, Unsound);
    world.settle();
    assert_eq!(world.show(), "1@0 isr 1:1 2:1");
}

#[test]
fn a_leader_that_shuts_down_hands_over() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], &[]);
    world.begin_shutdown(1);
    world.settle();
    assert_eq!(world.show(), "2@1 isr 1:1 2:1");
}

#[test]
fn a_leader_that_shuts_down_stays_while_nobody_else_can_lead() {
    let mut world = World::with_brokers(2);
    world.topic(&[1], &[]);
    world.begin_shutdown(1);
    world.settle();
    assert_eq!(world.show(), "1@0 isr 1:1");
    world.stop(1);
    world.settle();
    assert_eq!(world.show(), "none@1 isr 1:1");
}

#[test]
fn a_broker_that_shuts_down_is_not_elected() {
    let mut world = World::with_brokers(3);
    world.topic(&[1, 2, 3], &[]);
    world.begin_shutdown(2);
    world.stop(1);
    world.settle();
    assert_eq!(world.show(), "3@1 isr 1:1 2:1 3:1");
}

#[test]
fn an_election_checks_the_winners_registration_and_the_assignment() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], &[]);
    world.stop(1);
    let writes = world.decide();
    let checked: Vec<&str> = writes[0].checks.iter().map(|(path, _)| path.as_str()).collect();
    assert!(checked.contains(&"/brokers/ids/2") && checked.contains(&"/brokers/epochs/2"));
    assert!(checked.iter().any(|path| path.ends_with("/assign")), "{checked:?}");
}

/// Seed 2688285932045 of the cluster simulation: the leader may have registered anew meanwhile.
#[test]
fn a_new_epoch_of_the_same_leader_checks_its_registration() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], OS);
    world.configure(ConfigResource::topic("t"), &[("flush", "acked")]);
    let writes = world.decide();
    let checked: Vec<&str> = writes[0].checks.iter().map(|(path, _)| path.as_str()).collect();
    assert!(checked.contains(&"/brokers/ids/1") && checked.contains(&"/brokers/epochs/1"));
}

#[test]
fn min_isr_follows_the_settings_up_to_the_number_of_replicas() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], &[]);
    let min_isr = |world: &World| world.image().topic("t").unwrap().partition(0).unwrap().min_isr;
    assert_eq!(min_isr(&world), 1);
    world.configure(ConfigResource::topic("t"), &[("min.insync.replicas", "5")]);
    world.settle();
    assert_eq!(min_isr(&world), 2);
    world.configure(ConfigResource::topic("t"), &[]);
    world.configure(ConfigResource::broker(None), &[("min.insync.replicas", "2")]);
    world.settle();
    assert_eq!(min_isr(&world), 2);
}

#[test]
fn lowering_min_isr_clears_the_elr_and_waits_for_a_leader() {
    let mut world = World::with_brokers(3);
    world.topic(&[1, 2, 3], &[("min.insync.replicas", "2")]);
    world.edit(|state| {
        state.isr.retain(|member| member.id == 1);
        state.elr = vec![Member { id: 2, epoch: 1 }];
    });
    world.stop(1);
    world.stop(2);
    world.settle();
    world.configure(ConfigResource::topic("t"), &[]);
    world.settle();
    assert_eq!(world.show(), "none@1 isr 1:1 elr 2:1");
    world.start(1, Clean);
    world.settle();
    assert!(world.show().starts_with("1@2"), "{}", world.show());
}

#[test]
fn lowering_min_isr_clears_the_elr_even_while_the_isr_is_smaller() {
    let mut world = World::with_brokers(3);
    world.topic(&[1, 2, 3], &[("min.insync.replicas", "3")]);
    world.edit(|state| {
        state.isr.retain(|member| member.id == 1);
        state.elr = vec![Member { id: 2, epoch: 1 }, Member { id: 3, epoch: 1 }];
    });
    world.configure(ConfigResource::topic("t"), &[("min.insync.replicas", "2")]);
    world.settle();
    assert_eq!(world.show(), "1@0 isr 1:1", "an ELR member may not have seen what one acks now");
}

/// HAZARDS 99: who returns behind an unclean election is told by its epoch how far it may cut, however
/// many elections came since.
#[test]
fn hazard_99_later_elections_keep_the_epoch_of_the_unclean_one() {
    let mut world = World::with_brokers(3);
    world.topic(&[1, 2, 3], &[("unclean.leader.election.enable", "true")]);
    world.edit(|state| {
        state.isr.retain(|member| member.id == 1);
        state.elr.clear();
    });
    world.stop(1);
    world.settle();
    assert_eq!(world.show(), "2@1 isr 2:1 unclean 1");
    world.start(1, Clean);
    world.edit(|state| state.isr.push(Member { id: 3, epoch: 1 }));
    world.stop(2);
    world.settle();
    assert_eq!(world.show(), "3@2 isr 2:1 3:1 unclean 1");
}

#[test]
fn hazard_97_every_change_of_the_flush_class_is_a_new_leader_epoch() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], OS);
    let flush = |world: &World| world.image().topic("t").unwrap().partition(0).unwrap().flush;
    world.configure(ConfigResource::topic("t"), &[("flush", "acked")]);
    world.settle();
    assert_eq!(flush(&world), FlushClass::Syncing, "acked on the leader's word only");
    assert_eq!(world.show(), "1@1 isr 1:1 2:1");
    world.configure(ConfigResource::topic("t"), &[("flush", "os")]);
    world.settle();
    assert_eq!((flush(&world), world.show().as_str()), (FlushClass::Os, "1@2 isr 1:1 2:1"));
}

#[test]
fn to_os_waits_until_every_listed_registration_would_be_sound_under_it() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], &[]);
    world.start(2, Intact);
    world.configure(ConfigResource::topic("t"), &[("flush", "os")]);
    world.settle();
    assert_eq!(world.show(), "1@0 isr 1:1 2:1");
    world.edit(|state| state.isr[1].epoch = 2);
    world.settle();
    assert_eq!(world.show(), "1@1 isr 1:1 2:2");
}

#[test]
fn a_leader_whose_disk_fails_resigns_to_the_next_in_sync() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], &[]);
    world.lose_disk(1);
    assert_eq!(
        world.show(),
        "2@1 isr 1:1 2:1 offline 1:1",
        "the new leader shrinks its ISR itself"
    );
    world.settle();
    world.stop(2);
    world.settle();
    assert_eq!(world.show(), "none@2 isr 1:1 2:1 offline 1:1", "not the one without a disk");
}

#[test]
fn a_partition_on_one_failed_disk_has_no_leader_until_the_broker_registers_anew() {
    let mut world = World::with_brokers(1);
    world.topic(&[1], &[("unclean.leader.election.enable", "true")]);
    world.lose_disk(1);
    assert_eq!(world.show(), "none@1 isr 1:1 offline 1:1", "not even uncleanly");
    world.settle();
    world.lose_disk(1);
    assert_eq!(world.show(), "none@1 isr 1:1 offline 1:1", "told twice");
    world.start(1, Intact);
    world.settle();
    assert_eq!(world.show(), "1@2 isr 1:2");
}

#[test]
fn a_follower_whose_disk_fails_is_listed_and_nothing_else_changes() {
    let mut world = World::with_brokers(2);
    world.topic(&[1, 2], &[]);
    world.lose_disk(2);
    world.settle();
    assert_eq!(world.show(), "1@0 isr 1:1 2:1 offline 2:1");
}

#[test]
fn a_registration_that_is_half_read_is_elected_by_nobody() {
    let mut world = World::with_brokers(2);
    world.topic(&[2], &[]);
    world.start(2, Clean);
    let mut image = world.image();
    // It registers once more, and of that only one of its two nodes has been read.
    world.start(2, Clean);
    let path = NodeKey::BrokerEpoch(2).path();
    image.apply(&path, world.state.get(&path).as_ref(), &mut Changes::default()).unwrap();
    let writes = reconcile(&image, &Scope::All, &BTreeSet::new(), &world.context());
    let elects = |op: &Op| match op {
        Op::Set { path, data, .. } => {
            decode::<PartitionNode>(path, data).unwrap().leader == Some(2)
        }
        _ => false,
    };
    assert!(!writes.iter().flat_map(|write| &write.ops).any(elects), "{writes:?}");
    world.settle();
    assert_eq!(world.show(), "2@1 isr 2:3");
}
