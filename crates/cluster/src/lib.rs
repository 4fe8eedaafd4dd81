//! The coordination tree, its homes, the metadata image and the controller's decisions.
//!
//! Every broker watches one small tree of versioned nodes ([`tree`]); one elected controller decides
//! what the tree says ([`controller`]); what the nodes mean stands in [`nodes`]; [`image`] keeps it at
//! hand, decoded. The same code runs on one laptop, where the tree is a file of its own
//! ([`tree::embedded`]), and on a cluster.
//!
//! Absences: nothing here opens a socket, knows a record or a log; decisions
//! ([`controller::reconcile()`], [`restart`], [`lease`]) know no clock, no randomness and no tree,
//! only values.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod controller;
pub mod image;
pub mod isr;
pub mod lease;
pub mod moving;
pub mod nodes;
pub mod offsets;
pub mod registration;
pub mod restart;
pub mod tree;

pub use controller::{ControllerHandle, Refusal};
pub use image::{Broker, Image, ImageWatch, Leaderless, Partition, Topic};
pub use nodes::topic::{FlushClass, Member};
