//! Replication: how the partitions of this broker are kept the same as those of others.
//!
//! ```text
//! leader:    Fetch of a follower -> Partition::replica_fetched -> Progress -> high watermark
//!                                                    \-> isr: compare-and-set in the tree
//! follower:  fetchers: whom to follow -> fetcher: Fetch, cut where logs differ, append, sync, again
//! ```
//! A follower's fetch offset is its word that it holds all below: synced, where the partition's class
//! says so. Nothing here elects anybody; who leads is in the tree.

mod fetcher;
mod fetchers;
mod isr;
mod meter;
mod progress;
mod quota;
mod session;

pub(crate) use fetchers::{EndFetchers, Fetchers};
pub(crate) use isr::{IsrChanges, led_with_others, run as change_isr};
pub(crate) use progress::{
    Committed, IsrChange, LagLimit, Outcome, Progress, ReplicaFetch, Standing,
};
pub(crate) use quota::{Allowance, Quotas, Throttled, ThrottledReplicas};
