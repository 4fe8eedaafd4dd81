//! The checker checked: for every anomaly a bad history is told, as that anomaly and no other, and a
//! good one is not.

mod compaction;
mod records;
mod script;
mod transactions;
mod walks;
