//! A broker on loopback, asked over the wire by the protocol crate alone.
#![expect(clippy::disallowed_methods, reason = "tests block and read real clocks")]

mod broker;
mod cluster;
mod cold;
mod compaction;
mod connections;
mod describing;
mod fake_follower;
mod fake_leader;
mod fetching;
mod forwarding;
mod leaders;
mod lifecycle;
mod log_dirs;
mod many_names;
mod moving;
mod nonsense;
mod offsets;
mod producing;
mod replication;
mod restarts;
mod sessions;
mod settings;
mod socket;
mod strange_trees;
mod throttling;
mod topics;
mod transactions;
mod tree_offsets;
mod waiting;
mod warnings;
