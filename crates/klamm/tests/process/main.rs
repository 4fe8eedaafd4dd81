//! The real binary under bad input, crashes and full disks, spoken to in raw bytes.
#![expect(
    clippy::disallowed_methods,
    reason = "these tests are the outside world: they start processes and wreck files"
)]

mod broker_process;

mod bench;
mod compat_quirks;
mod data_directory;
mod dead_disk;
mod ensemble;
mod ensemble_offsets;
mod ensemble_security;
mod fetch_refusals;
mod few_descriptors;
mod frames;
mod full_disk;
mod fuzzed_bodies;
mod kill_minus_nine;
mod lifecycle;
mod produce_refusals;
mod stalled_clients;
mod topic_names;
mod verify;
