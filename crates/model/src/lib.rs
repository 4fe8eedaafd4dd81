//! The rules of replication and fencing as a model, checked in every reachable state.
//!
//! This crate is the executable form of the cluster's rules (R…) and invariants (I…): one
//! partition, two or three brokers, the ensemble as an atomic tree of versioned nodes. Nothing
//! depends on it. Whoever implements a rule finds it here by its number, where it acts.
//!
//! # Reading order
//! - [`State`]: the tree, the brokers with their disks and caches, an observer who sees all.
//! - `steps/`: what may happen, one function a step, guards first. A guard that is a rule names it:
//!   `self.rules.on(Rule::R14)`.
//! - `properties`: the invariants.
//! - [`SCENARIOS`]: which steps and bounds go together; [`Rule`]: what can be switched off.
//!
//! # What is modelled
//! - **Logs** of (epoch, value), with the page cache apart from what is durable, and what a broker
//!   takes for synced apart from what is (R18b). Consumers read below any high watermark, so what a
//!   leader's high watermark passes counts as confirmed: acks=all, and read.
//! - **The state node** with leader, epochs, ISR and ELR with broker epochs, min.isr, flush class;
//!   every write by compare-and-set. A broker acts on the state that it applied last; a read may
//!   lag by some versions, but not behind its session's registration (R6).
//! - **Replication**: fetches that say what is durable (R17), the epoch handshake look-up by
//!   look-up (R16), the maximal ISR (R19), changes whose answer is lost and which land late.
//! - **The controller** elects and removes at any time that the rules allow, not only when it
//!   should. What a multi checks is decided and stored in one step; an election in flight while
//!   controllers and registrations change is a scenario of its own (R8, R12).
//! - **Sessions** run out, expire, resume and begin again; a leader without one goes on (R5).
//! - **Processes and machines**: kill -9, clean stop, power loss of one and of all, wiped disks;
//!   restarts judged by registration file, marker and boot (R2, R3).
//!
//! # What is not
//! - Liveness. That a partition which lost nothing can be led again is an invariant; that it will
//!   be is the simulation's to show.
//! - Time: a lease (R4) may run out at any time, a session expire whenever its owner is silent.
//! - More than one log directory, I/O errors, full disks (R23); how truncation and recovery work on
//!   a disk (R16's second half): the storage tests have those. A power loss keeps exactly what was
//!   synced. The high watermark's checkpoint is lost in a
//!   restart, or kept whole, as the scenario says.
//! - Retention and log start offsets (R5(d)), transactions and groups (R24, R25), the steps of a
//!   deletion (R28), more than one partition.
//! - R9 and R11: every decision here is checked by its own multi. R10: the controller is nobody in
//!   particular.
//! - A leader's knowledge of registrations: it takes fetches of any broker epoch that is not older
//!   than the last one seen (R17 asks for more).
//!
//! # How to trust it
//! `tests/rules_hold.rs` exhausts every scenario within its small bounds and pins the number of
//! states; what a scenario is for must be among them. `tests/rules_matter.rs` switches each rule off
//! and demands a counter-example, as a rule one that a client would notice. `cargo xtask model`
//! exhausts the larger bounds.

mod action;
mod check;
mod limits;
mod properties;
mod rule;
mod scenarios;
mod seen;
mod state;
mod steps;
mod symmetry;

pub use action::Action;
pub use check::{Report, check};
pub use limits::Limits;
pub use properties::Invariants;
pub use rule::{Rule, Rules};
pub use scenarios::{SCENARIOS, Scenario};
pub use seen::Seen;
pub use state::{Flush, Id, State};

use state::{Broker, Members, Node, Pair, Record, Registration};

/// One partition and its replicas, under some rules and within some limits.
#[derive(Clone, Copy, Debug)]
pub struct Cluster {
    /// What the brokers and the controller obey.
    pub rules: Rules,
    /// How far it goes.
    pub limits: Limits,
    /// What is checked.
    pub invariants: Invariants,
}

/// The first value of records that were there before the start.
const PRELOADED: u8 = 100;

impl Cluster {
    /// Everybody runs, is registered, is in the ISR and holds the same records; broker 0 leads.
    fn start_state(&self) -> State {
        let limits = &self.limits;
        let mut state = State::default();
        state.tree.controller_epoch = 1;
        let mut isr = Members::default();
        for id in 0..limits.brokers {
            isr = isr.with(id, 1);
        }
        state.tree.node = Node {
            topic: 1,
            version: 1,
            leader: 0,
            leader_epoch: 1,
            isr,
            min_isr: limits.min_isr,
            flush: limits.flush,
            ..Node::default()
        };
        let mut broker = Broker {
            topic: 1,
            up: true,
            epoch: 1,
            first_epoch: 1,
            floor: (1, 1),
            applied: state.tree.node,
            in_step: true,
            high_watermark: limits.preloaded,
            ..Broker::default()
        };
        let pair = Pair { epoch: 1, incarnation: 0, same_boot: true };
        broker.files.registered = pair;
        broker.files.attempted = pair;
        for nth in 0..limits.preloaded {
            let record = Record { epoch: 1, value: PRELOADED + nth };
            broker.log.append(record);
            state.observer.committed[nth as usize] = record;
        }
        broker.log.synced = limits.preloaded;
        broker.log.durable = limits.preloaded;
        for id in 0..limits.brokers {
            *state.broker_mut(id) = broker;
            *state.registration_mut(id) = Registration {
                epoch: 1,
                incarnation: 0,
                clean_since: 1,
                intact_since: 1,
                listed: true,
            };
        }
        state
    }
}
