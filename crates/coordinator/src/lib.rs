//! Coordinators as pure state machines: classic consumer groups and committed offsets.
//!
//! Nothing in here does I/O, reads a clock, draws a random number or spawns. Time and randomness
//! come as arguments, records to append and answers to send go out as values. One [`Groups`] holds
//! what one partition of `__consumer_offsets` holds.
//!
//! # An operation is a chain of consumed values
//!
//! ```text
//! request --Groups::join, sync, commit, ...--> Proposal --append its records--> accept | reject
//! ```
//!
//! 1. The shell calls the machine and gets a [`Proposal`]: records to append (often none) and
//!    answers.
//! 2. It appends the records to the internal partition, in one batch, through the same append as
//!    any produce request.
//! 3. If the append succeeded it calls [`Groups::accept`], which runs every record through
//!    [`Groups::apply`] and returns the answers. If the append was refused it calls
//!    [`Groups::reject`], which undoes what waited for the append and returns answers that say so.
//!    Between step 1 and step 3 the shell calls nothing else on this machine: the append is
//!    synchronous, so nothing ever has to be rolled back through a later change.
//!
//! `apply` is the only way durable state (a group's last recorded generation, its committed offsets)
//! changes, and it is the very call that loads state after a failover: replay every record up to
//! the high watermark, then call [`Groups::loaded`] once.
//!
//! A shell may keep committed offsets elsewhere than in the log: [`Proposal::take_offsets`].
//!
//! # What may leave memory, and when (rule R24)
//!
//! Accepted records are in memory at once, before they are below the high watermark. So **every
//! answer of the machine, and every value read from it, is parked behind the end of the log as it
//! was when the answer was made**, and leaves when the high watermark has reached that end. An
//! answer made while nothing is in flight leaves at once. An assignment, a generation, an
//! acknowledged commit, a fetched offset: none is seen by anyone before the record it stands on
//! can no longer be lost. If the partition loses its leadership the machine is dropped with all
//! that was not committed: the shell answers what it had parked with `NOT_COORDINATOR`, and
//! [`Groups::resign`] does the same for the joins and syncs parked in here.
//!
//! # Absences
//!
//! The machine never decides whether a topic exists, never sees a connection, and does not know
//! which requests are allowed: its shell does. It knows no high watermark.

#![forbid(unsafe_code)]

mod answer;
mod config;
mod describe;
mod group;
mod groups;
mod join;
mod leave;
mod member;
mod offsets;
mod partitioning;
mod proposal;
mod rebalance;
mod record;
mod request;
mod subscription;
mod sync;
mod time;
mod timers;

pub use answer::{Answer, JoinAnswer, JoinedMember, LeaveAnswer, LeftMember, SyncAnswer};
pub use config::GroupConfig;
pub use describe::{DescribedGroup, DescribedMember, GroupFilter, ListedGroup};
pub use group::GroupState;
pub use groups::{DurableGroup, Groups, client_error};
pub use partitioning::{java_string_hash, partition_for};
pub use proposal::{Proposal, Reply};
pub use record::{CommittedOffset, GroupImage, MemberImage, Record, RecordError};
pub use request::{
    Commit, CommitOffset, DeleteOffsets, Heartbeat, Join, Leave, Leaving, Protocol, Sync, Ticket,
};
pub use time::{Now, Time};
