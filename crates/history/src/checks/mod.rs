//! One file per kind of anomaly.

pub(crate) mod aborted;
pub(crate) mod compaction;
pub(crate) mod cycles;
pub(crate) mod duplicates;
pub(crate) mod intermediate;
pub(crate) mod invented;
pub(crate) mod lost;
pub(crate) mod offsets;
pub(crate) mod polls;
pub(crate) mod sends;
