//! What every home of the tree has to do: one suite for all of them (TESTING.md).
//!
//! A home's tests give a [`Subject`] and run [`CASES`], each on a fresh, empty tree. A case that needs
//! a fault which the subject cannot produce is skipped by name, never silently ([`run_all`]).

mod clusters;
mod faults;
mod interruptions;
mod multi;
mod nodes;
mod sessions;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::tree::{Node, Op, SessionId, SessionState, Tree, TreeError};

/// Faults that only some homes can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next write of a session happens, but its answer is lost, with the connection.
    LoseNextReply,
    /// A session loses its connection and gets it back within its time-out.
    Reconnect,
    /// As [`Fault::Reconnect`], to another server.
    Move,
    /// A session has no connection until [`Subject::heal`].
    Cut,
    /// A session's server hears nothing from the ensemble's leader until [`Subject::heal`]: it stays
    /// connected and answers reads, from what it knew.
    Lag,
    /// The ensemble has no quorum until [`Subject::heal`].
    QuorumLoss,
    /// The home stops and starts again with what is durable.
    Restart,
}

/// A home under test, with an empty tree.
pub trait Subject: Send + Sync + 'static {
    /// Begins a session.
    fn connect(&self) -> BoxFuture<'_, Arc<dyn Tree>>;

    /// Ends a session as if its owner had fallen silent; returns when its ephemeral nodes are gone.
    fn expire(&self, session: SessionId) -> BoxFuture<'_, ()>;

    /// Whether [`Subject::inflict`] can do this.
    fn can(&self, fault: Fault) -> bool;

    /// Lets a fault happen to a session (or to all, where it is one of the home). Called only where
    /// [`Subject::can`] says yes.
    fn inflict(&self, fault: Fault, session: SessionId) -> BoxFuture<'_, ()>;

    /// The time-out of its sessions; `None`: they end with the process.
    fn session_timeout(&self) -> Option<Duration>;

    /// Ends what goes on until it is healed.
    fn heal(&self) -> BoxFuture<'_, ()>;
}

/// One case of the suite.
#[derive(Clone, Copy)]
pub struct Case {
    /// What is expected, in words.
    pub name: &'static str,
    /// The fault that it is about.
    pub needs: Option<Fault>,
    /// Panics unless the home does as expected.
    pub run: fn(Arc<dyn Subject>) -> BoxFuture<'static, ()>,
}

macro_rules! needs {
    () => {
        None
    };
    ($fault:ident) => {
        Some(Fault::$fault)
    };
}

macro_rules! cases {
    ($($module:ident: $($name:ident $(needs $fault:ident)?),+ $(,)?;)+) => {
        /// All cases.
        pub const CASES: &[Case] = &[$($(Case {
            name: stringify!($name),
            needs: needs!($($fault)?),
            run: |subject| Box::pin($module::$name(subject)),
        },)+)+];
    };
}

cases! {
    nodes:
        a_new_tree_has_only_a_root,
        a_node_is_created_at_version_0_and_read_back,
        a_node_may_be_empty_or_as_large_as_allowed,
        a_larger_node_is_refused,
        a_node_needs_its_parent,
        a_node_is_not_created_twice,
        illegal_paths_are_refused,
        a_node_that_is_not_there_cannot_be_read_set_or_deleted,
        set_counts_the_version_up,
        set_at_another_version_changes_nothing,
        set_at_any_version,
        delete_removes_a_node,
        delete_at_another_version_changes_nothing,
        a_node_with_children_is_not_deleted,
        the_root_stays,
        a_node_made_anew_begins_at_version_0,
        children_are_names_in_order,
        children_of_a_leaf_are_none,
        find_tells_missing_from_failing,
        subtree_holds_a_node_and_all_below,
        subtree_of_nothing_is_empty,
        a_large_subtree_is_read_whole_while_nodes_in_it_come_and_go,
        find_all_answers_in_the_order_it_was_asked,
        names_that_sort_around_the_slash_do_not_mix,
        concurrent_sets_at_one_version_have_one_winner,
        concurrent_creates_have_one_winner,
        a_counter_by_compare_and_set_loses_nothing;
    multi:
        a_multi_does_all_of_it,
        a_multi_answers_each_operation,
        a_multi_that_fails_does_nothing,
        a_multi_names_the_first_operation_that_failed,
        later_operations_see_earlier_ones,
        a_check_of_a_version_holds_or_fails,
        a_check_alone_writes_nothing,
        a_check_of_a_missing_node_fails,
        a_multi_can_set_one_node_twice,
        a_multi_can_create_and_delete,
        a_multi_can_replace_a_node,
        an_empty_multi_does_nothing,
        a_multi_of_the_largest_size_fits,
        a_multi_of_too_many_operations_is_refused,
        a_multi_of_too_many_bytes_is_refused,
        a_fence_stops_a_writer_that_was_overtaken,
        concurrent_multis_do_not_mix;
    sessions:
        a_session_begins_connected,
        sessions_have_ids_of_their_own,
        an_ephemeral_node_names_its_owner,
        a_persistent_node_has_no_owner,
        an_ephemeral_node_goes_with_its_session,
        an_ephemeral_node_goes_when_its_session_expires,
        a_persistent_node_outlives_its_session,
        an_ephemeral_node_can_have_no_children,
        an_ephemeral_node_can_be_set_and_deleted_by_others,
        another_session_cannot_take_an_ephemeral_name_before_it_is_gone,
        an_expired_session_is_told_and_serves_nothing,
        closing_a_session_leaves_others_alone,
        a_node_deleted_and_made_by_another_session_survives_the_first,
        an_ephemeral_and_a_persistent_node_in_one_multi;
    watches:
        a_watch_tells_of_creation_change_and_deletion,
        a_watch_tells_of_what_happens_below,
        a_watch_does_not_tell_of_siblings,
        a_watch_stands_before_the_node_exists,
        a_watch_goes_on_after_the_first_event,
        a_watch_of_several_roots,
        a_watch_tells_of_every_node_of_a_multi,
        a_watch_tells_nothing_of_a_multi_that_failed,
        events_carry_their_session,
        own_writes_are_seen_too,
        the_end_of_a_session_is_seen_by_others,
        a_new_value_is_read_after_the_event,
        a_watch_ends_with_its_session,
        events_of_an_ended_session_are_dropped,
        a_new_session_reads_what_the_old_one_missed,
        a_dropped_watch_leaves_others_alone,
        watches_of_one_node_are_all_told,
        a_watch_of_nested_roots_tells_once,
        too_many_events_become_one_that_says_so;
    clusters:
        an_empty_tree_is_set_up_once,
        a_tree_of_another_cluster_is_told_by_its_id,
        a_live_kafka_tree_is_refused_and_nothing_is_written,
        a_tree_from_the_future_is_refused,
        a_tree_with_garbage_is_refused,
        one_broker_id_belongs_to_one_session,
        an_earlier_process_of_the_same_broker_is_replaced,
        a_broker_registers_again_in_a_new_session,
        a_registration_on_its_way_does_not_follow_a_settled_one,
        a_registration_whose_reply_was_lost_stands_once needs LoseNextReply,
        a_set_up_whose_reply_was_lost_stands_once needs LoseNextReply;
    faults:
        a_reply_lost_after_the_write_is_unclear_and_the_write_stands needs LoseNextReply,
        a_lost_reply_is_settled_by_reading_the_nonce needs LoseNextReply,
        an_unclear_creation_is_not_repeated_blindly needs LoseNextReply,
        without_a_quorum_nothing_is_written needs QuorumLoss,
        an_ended_session_may_still_be_listed_and_is_known_by_its_owner needs QuorumLoss,
        what_was_confirmed_survives_a_restart needs Restart,
        ephemerals_live_as_long_as_their_session_over_a_restart needs Restart,
        versions_survive_a_restart needs Restart;
    interruptions:
        a_dropped_connection_suspends needs Reconnect,
        a_reconnect_within_a_session_keeps_ephemerals_and_says_missed needs Reconnect,
        what_was_missed_within_a_session_is_read_after_the_reconnect needs Cut,
        reads_and_writes_wait_for_the_connection needs Cut,
        reads_go_on_over_a_reconnect needs Reconnect,
        a_large_subtree_is_read_whole_over_a_reconnect needs Reconnect,
        a_session_without_connection_is_lost_before_it_expires needs Cut,
        a_lost_session_writes_nothing_and_comes_back needs Cut,
        a_silent_session_expires_and_its_ephemerals_go needs Cut,
        a_moved_session_sees_what_it_wrote needs Move,
        a_moved_session_keeps_watching needs Move,
        a_lagging_server_shows_the_past_until_it_has_caught_up needs Lag,
        a_write_that_relies_on_the_past_is_refused needs Lag,
        a_session_is_lost_where_only_its_server_answers needs Lag;
}

/// Names of the cases that were run and of those that were left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Passed.
    pub passed: Vec<&'static str>,
    /// Not possible with this home.
    pub skipped: Vec<&'static str>,
}

/// Runs every case that the home can have, each on a subject of its own; with `KLAMM_CASE` in the
/// environment only the cases with that in their names.
///
/// # Panics
/// When a case fails or takes longer than it may; the message of the case comes first, its name is
/// printed before it.
pub async fn run_all<F: AsyncFnMut() -> Arc<dyn Subject>>(mut fresh: F) -> Report {
    let mut report = Report::default();
    let only = std::env::var("KLAMM_CASE").unwrap_or_default();
    for case in CASES.iter().filter(|case| case.name.contains(&only)) {
        let subject = fresh().await;
        if case.needs.is_some_and(|fault| !subject.can(fault)) {
            report.skipped.push(case.name);
            continue;
        }
        // Shown when a case fails.
        println!("{}", case.name);
        let done = tokio::time::timeout(CASE_TIME_MAX, (case.run)(Arc::clone(&subject))).await;
        assert!(done.is_ok(), "{} waits for ever", case.name);
        subject.heal().await;
        report.passed.push(case.name);
    }
    report
}

/// A case that takes longer waits for something that does not come.
const CASE_TIME_MAX: Duration = Duration::from_secs(60);

fn data(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn no_node(path: &str) -> TreeError {
    TreeError::NoNode { path: path.to_owned() }
}

fn bad_version(path: &str, expected: i32) -> TreeError {
    TreeError::BadVersion { path: path.to_owned(), expected }
}

/// Creates persistent nodes without content.
async fn make(tree: &dyn Tree, paths: &[&str]) {
    for path in paths {
        let made = tree.create(path, Bytes::new(), crate::tree::CreateMode::Persistent).await;
        assert!(made.is_ok(), "{path}: {made:?}");
    }
}

/// Children of each folder that [`make_large`] makes.
const LARGE_FOLDER: usize = 60;

/// Makes folders below a new `root`, each with [`LARGE_FOLDER`] nodes that hold their own paths; answers
/// those nodes' paths, in the order of a subtree.
async fn make_large(tree: &dyn Tree, root: &str) -> Vec<String> {
    make(tree, &[root]).await;
    let mut paths = Vec::new();
    for folder in 0..8 {
        let folder = format!("{root}/{folder}");
        make(tree, &[&folder]).await;
        let below = (0..LARGE_FOLDER).map(|n| format!("{folder}/{n:03}"));
        let below: Vec<String> = below.collect();
        let ops = below.iter().map(|path| Op::create(path.as_str(), path.clone())).collect();
        tree.multi(ops).await.expect("the session lives");
        paths.extend(below);
    }
    paths
}

/// Of a subtree's nodes those in `wanted`, which hold their own paths, in the order in which they were
/// found.
fn among(found: &[(String, Node)], wanted: &[String]) -> Vec<String> {
    let is_wanted = |(path, _): &&(String, Node)| wanted.binary_search(path).is_ok();
    let own = found.iter().filter(is_wanted);
    own.inspect(|(path, node)| assert_eq!(node.data, path.as_bytes()))
        .map(|(path, _)| path.clone())
        .collect()
}

/// Makes a session see everything that was written before: a write of its own, which changes nothing.
/// A read alone may trail.
async fn caught_up(tree: &dyn Tree) {
    tree.catch_up().await.expect("the session lives");
}

/// Waits until a node is gone.
async fn gone(tree: &dyn Tree, path: &str) {
    let mut watcher = tree.watch(&[path]).await.expect("the session lives");
    while tree.find(path).await.expect("the session lives").is_some() {
        watcher.next().await.expect("the session lives");
    }
}

/// Waits until a session is in a state.
async fn reach(tree: &dyn Tree, wanted: SessionState) {
    let mut state = tree.state();
    let reached = state.wait_for(|state| *state == wanted).await;
    assert!(reached.is_ok(), "{wanted:?} is not reached");
}

async fn text(tree: &dyn Tree, path: &str) -> String {
    let node = tree.get(path).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    String::from_utf8(node.data.to_vec()).expect("the suite writes text")
}
