//! The truth table of R2, row by row, and the chain of sound registrations.

use super::*;

const BOOT: &str = "boot-1";

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn pair(epoch: i64) -> Pair {
    Pair { epoch, incarnation: id(1000 + epoch as u128) }
}

fn registration(epoch: i64, dirs: &[u128]) -> Option<DirRegistration> {
    registration_in("boot-0", epoch, dirs)
}

fn registration_in(boot_id: &str, epoch: i64, dirs: &[u128]) -> Option<DirRegistration> {
    let dirs = dirs.iter().map(|n| id(*n)).collect();
    Some(DirRegistration { pair: pair(epoch), dirs, boot_id: boot_id.into() })
}

/// Directory `n` of two, registered at epoch 5, left as by kill -9 in another boot.
fn dir(n: u128) -> FoundDir {
    FoundDir {
        id: Some(id(n)),
        registered: registration(5, &[1, 2]),
        attempted: registration(5, &[1, 2]),
        ..FoundDir::default()
    }
}

fn clean(n: u128) -> FoundDir {
    FoundDir { clean_marker: Some(pair(5)), ..dir(n) }
}

fn same_boot(n: u128) -> FoundDir {
    FoundDir { registered: registration_in(BOOT, 5, &[1, 2]), ..dir(n) }
}

fn verdict(found: &[FoundDir]) -> Restart {
    judge(found, Some(pair(5)), BOOT).unwrap().restart
}

#[test]
fn the_first_registration() {
    let judged = judge(&[FoundDir::default()], None, BOOT).unwrap();
    assert_eq!(judged.restart, Restart::First);
    assert!(!judged.log_dir_missing);
}

#[test]
fn every_directory_with_its_marker_is_clean() {
    assert_eq!(verdict(&[clean(1), clean(2)]), Restart::Clean);
}

#[test]
fn a_marker_missing_in_one_directory_is_not_clean() {
    assert_eq!(verdict(&[clean(1), dir(2)]), Restart::Intact);
}

#[test]
fn a_marker_of_an_older_registration_is_not_clean() {
    let old = FoundDir { clean_marker: Some(pair(4)), ..dir(2) };
    assert_eq!(verdict(&[clean(1), old]), Restart::Intact);
}

#[test]
fn kill_9_within_one_boot_keeps_the_page_cache() {
    assert_eq!(verdict(&[same_boot(1), same_boot(2)]), Restart::IntactSameBoot);
}

#[test]
fn after_power_loss_what_was_synced_is_left() {
    assert_eq!(verdict(&[dir(1), dir(2)]), Restart::Intact);
    assert_eq!(verdict(&[same_boot(1), dir(2)]), Restart::Intact);
}

#[test]
fn without_a_boot_id_no_page_cache_is_believed() {
    let nameless = |n| FoundDir { registered: registration_in("", 5, &[1, 2]), ..dir(n) };
    let judged = judge(&[nameless(1), nameless(2)], Some(pair(5)), "").unwrap();
    assert_eq!(judged.restart, Restart::Intact);
}

#[test]
fn an_io_error_within_the_boot_distrusts_the_page_cache() {
    let failed = FoundDir { io_error: true, ..same_boot(2) };
    assert_eq!(verdict(&[same_boot(1), failed]), Restart::Intact);
}

#[test]
fn an_attempt_that_the_tree_confirms_counts_as_registered() {
    let attempted = |n| FoundDir { registered: registration(4, &[1, 2]), ..dir(n) };
    assert_eq!(verdict(&[attempted(1), attempted(2)]), Restart::Intact);
}

#[test]
fn an_attempt_that_the_tree_does_not_know_leaves_the_registration_before_it() {
    let attempted = |n| FoundDir { attempted: registration(6, &[1, 2]), ..dir(n) };
    assert_eq!(verdict(&[attempted(1), attempted(2)]), Restart::Intact);
}

#[test]
fn hazard_93_an_attempt_that_failed_says_nothing_about_the_registration_before_it() {
    // A process started in this boot with directory 2 left out and a new one, and died before it
    // was registered.
    let attempted = registration_in(BOOT, 6, &[1, 3]);
    let first = FoundDir { attempted: attempted.clone(), ..dir(1) };
    let second = FoundDir { attempted: attempted.clone(), ..dir(2) };
    let new = FoundDir { id: Some(id(3)), attempted, ..FoundDir::default() };
    let without = judge(&[first.clone(), new.clone()], Some(pair(5)), BOOT).unwrap();
    assert_eq!((without.restart, without.missing_dirs), (Restart::Unsound, vec![id(2)]));
    let again = judge(&[first, second, new], Some(pair(5)), BOOT).unwrap();
    assert_eq!(again.restart, Restart::Intact, "the page cache of the registration is gone");
}

#[test]
fn a_missing_directory_is_unsound_and_named() {
    let judged = judge(&[clean(1)], Some(pair(5)), BOOT).unwrap();
    assert_eq!(judged.restart, Restart::Unsound);
    assert_eq!((judged.missing_dirs, judged.log_dir_missing), (vec![id(2)], true));
}

#[test]
fn a_wiped_directory_is_a_missing_one() {
    let judged = judge(&[clean(1), FoundDir::default()], Some(pair(5)), BOOT).unwrap();
    assert_eq!((judged.restart, judged.log_dir_missing), (Restart::Unsound, true));
}

#[test]
fn all_directories_wiped_is_unsound_though_none_is_known_by_name() {
    let judged = judge(&[FoundDir::default()], Some(pair(5)), BOOT).unwrap();
    assert_eq!((judged.restart, judged.log_dir_missing), (Restart::Unsound, true));
}

#[test]
fn a_directory_swapped_for_an_older_one_is_unsound() {
    let older = FoundDir { registered: registration(3, &[1, 2]), attempted: None, ..clean(2) };
    assert_eq!(verdict(&[clean(1), older]), Restart::Unsound);
}

#[test]
fn another_process_of_the_same_epoch_is_a_stranger() {
    let stranger = DirRegistration {
        pair: Pair { epoch: 5, incarnation: id(7) },
        dirs: vec![id(1), id(2)],
        boot_id: BOOT.into(),
    };
    let cloned = |n| FoundDir {
        registered: Some(stranger.clone()),
        attempted: Some(stranger.clone()),
        ..clean(n)
    };
    assert_eq!(verdict(&[cloned(1), cloned(2)]), Restart::Unsound);
}

#[test]
fn a_new_empty_directory_does_not_count() {
    assert_eq!(verdict(&[clean(1), clean(2), FoundDir::default()]), Restart::Clean);
}

#[test]
fn something_missing_below_a_recovery_point_is_unsound_even_with_markers() {
    let holed = FoundDir { missing_data: true, ..clean(2) };
    assert_eq!(verdict(&[clean(1), holed]), Restart::Unsound);
}

#[test]
fn a_tree_older_than_the_disk_is_refused() {
    for found in [
        FoundDir { registered: registration(6, &[1]), ..dir(1) },
        FoundDir { attempted: registration(7, &[1]), ..dir(1) },
        FoundDir { clean_marker: Some(pair(6)), ..dir(1) },
    ] {
        let refused = judge(&[found], Some(pair(5)), BOOT).unwrap_err();
        assert_eq!(refused, RestartRefusal::TreeOlderThanDisk { on_disk: 6, in_tree: 5 });
    }
    let refused = judge(&[dir(1)], None, BOOT).unwrap_err();
    assert_eq!(refused, RestartRefusal::TreeOlderThanDisk { on_disk: 5, in_tree: 0 });
}

#[test]
fn what_is_sound_for_which_class() {
    use FlushClass::{Acked, Os, Syncing};
    let sound = |restart: Restart| [Acked, Syncing, Os].map(|class| restart.is_sound(class));
    assert_eq!(sound(Restart::First), [true, true, true]);
    assert_eq!(sound(Restart::Clean), [true, true, true]);
    assert_eq!(sound(Restart::IntactSameBoot), [true, true, true]);
    assert_eq!(sound(Restart::Intact), [true, false, false], "syncing is judged as os");
    assert_eq!(sound(Restart::Unsound), [false, false, false]);
}

#[test]
fn the_chain_of_sound_registrations() {
    let mut last: Option<EpochNode> = None;
    let mut since = Vec::new();
    use Restart::{Clean, First, Intact, IntactSameBoot, Unsound};
    for restart in [First, Clean, Intact, IntactSameBoot, Unsound, Clean, Intact] {
        let node = next_epoch(last.as_ref(), id(7), restart);
        assert_eq!(node.prev_epoch, last.map_or(0, |last| last.epoch));
        since.push((node.epoch, node.clean_since, node.intact_since));
        last = Some(node);
    }
    let expected = [(1, 1, 1), (2, 1, 1), (3, 3, 1), (4, 3, 1), (5, 5, 5), (6, 5, 5), (7, 7, 5)];
    assert_eq!(since, expected);
}

#[test]
fn a_process_that_never_stopped_registers_soundly() {
    let last = EpochNode { shutting_down: true, ..next_epoch(None, id(7), Restart::First) };
    let again = next_epoch_of_running(&last);
    assert_eq!((again.epoch, again.clean_since, again.intact_since), (2, 1, 1));
    assert_eq!((again.incarnation, again.shutting_down), (id(7), false));
}
