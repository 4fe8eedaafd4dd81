//! A broker on loopback, asked over the wire by the protocol crate alone.
#![expect(clippy::disallowed_methods, reason = "tests block and read real clocks")]

mod broker;
mod cluster;
mod cold;
mod compaction;
mod connections;
mod describing;
mod fetching;
mod forwarding;
mod leaders;
mod lifecycle;
mod log_dirs;
mod many_names;
mod moving;
mod offsets;
mod producing;
mod replication;
mod restarts;
mod sessions;
mod settings;
mod socket;
mod throttling;
mod topics;
mod transactions;
