//! The controller: decides what the tree says, and writes it.
//!
//! Pure: [`reconcile()`] and the functions for requests ([`topics`], [`deletion`], [`configs`],
//! [`leaders`], [`reassign`], [`producer_ids`]) take an image and return [`Write`]s. They look at what *is*, never
//! at what happened, and decide nothing where nothing is to be done; from any prefix of their writes
//! they reach the same end (R11). The shell, begun by [`start`], stands for election, fences what is
//! written and takes requests.

mod candidate;
pub mod configs;
pub mod deletion;
mod durability;
pub mod elect;
mod handle;
pub mod leaders;
pub mod placement;
pub mod producer_ids;
pub mod reassign;
pub mod reconcile;
mod requests;
mod runtime;
pub mod topics;
mod write;

use klamm_protocol::ErrorCode;
use thiserror::Error;

pub use candidate::{ControllerSettings, LeaderRebalance, Registered, start};
pub use configs::{ConfigAlteration, ConfigChange, ConfigEdit, ConfigRules, EditOp};
pub use deletion::TopicRef;
pub use handle::{ControllerHandle, ControllerState};
pub use leaders::{ElectionType, PartitionElection};
pub use reassign::Reassignment;
pub use reconcile::{Scope, reconcile};
pub use topics::{CreatedTopic, MorePartitions, NewTopic, TopicDefaults};
pub use write::{Reason, Write};

use crate::nodes::topic::FlushClass;

/// The topic setting that says what an acknowledgement means: `acked` or `os`.
pub const FLUSH_CONFIG: &str = "flush";
/// Kafka's setting for the smallest ISR that accepts acks=all.
pub const MIN_ISR_CONFIG: &str = "min.insync.replicas";
/// Kafka's setting that allows a leader which may lack confirmed records.
pub const UNCLEAN_CONFIG: &str = "unclean.leader.election.enable";

/// What decisions need besides the image.
#[derive(Clone, Debug)]
pub struct Context {
    /// Epoch of the deciding controller.
    pub controller_epoch: i32,
    /// Random; marks the writes of this decision.
    pub nonce: u64,
    /// The controller's own settings where neither a topic nor the cluster has one.
    pub defaults: PartitionDefaults,
}

/// The static settings behind the dynamic ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionDefaults {
    /// `min.insync.replicas`.
    pub min_insync_replicas: i32,
    /// `unclean.leader.election.enable`.
    pub unclean_election: bool,
    /// What an acknowledgement of a new topic means.
    pub flush: FlushClass,
}

impl Default for PartitionDefaults {
    fn default() -> Self {
        PartitionDefaults {
            min_insync_replicas: 1,
            unclean_election: false,
            flush: FlushClass::Acked,
        }
    }
}

/// Why one item of a request was not done, as clients are told.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct Refusal {
    /// Kafka's number for it.
    pub code: ErrorCode,
    /// One sentence with the values at fault.
    pub message: String,
}

impl Refusal {
    /// A refusal with its sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into() }
    }

    /// This broker is not the controller, or not any more.
    pub fn not_controller() -> Refusal {
        Refusal::new(ErrorCode::NotController, "This broker is not the controller.")
    }
}

#[cfg(test)]
mod tests;
