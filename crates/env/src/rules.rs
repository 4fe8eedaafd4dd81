//! Rules of the cluster that a simulation can do without, to show that it would notice.
//!
//! A rule that protects data and could be dropped without any test failing is not tested. In a build
//! with feature `mutants` one rule can be switched off for the whole process; in every other build
//! [`Rule::holds`] is the constant `true`, and the code reads as if it were not there.

#[cfg(feature = "mutants")]
use std::sync::atomic::{AtomicU8, Ordering};

/// A rule, named as where it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A restart that has lost what was confirmed is known as one (KIP-903).
    R3,
    /// Only a member whose past is whole is elected (KIP-966).
    R12,
    /// Replicas compare leader epochs with each request.
    R14,
    /// A follower cuts what the leader of its epoch does not have (KIP-101, KIP-595).
    R16,
    /// A follower asks from what is durable on its disk.
    R17,
    /// A leader's change of the ISR checks who is registered and as what, and vouches for nobody else.
    R18,
    /// A leader counts of its own log what a sync has made durable.
    R18b,
    /// From class os to acked it goes by a class in which everything old is synced.
    R18c,
    /// The high watermark counts members whose removal is not confirmed.
    R19,
    /// Whoever joins the ISR has caught up.
    R20,
    /// Nothing is acknowledged with too few replicas in sync.
    R21,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 11] = [
        Rule::R3,
        Rule::R12,
        Rule::R14,
        Rule::R16,
        Rule::R17,
        Rule::R18,
        Rule::R18b,
        Rule::R18c,
        Rule::R19,
        Rule::R20,
        Rule::R21,
    ];

    /// Whether it is kept.
    #[cfg(not(feature = "mutants"))]
    pub const fn holds(self) -> bool {
        true
    }

    /// Whether it is kept.
    #[cfg(feature = "mutants")]
    pub fn holds(self) -> bool {
        OFF.load(Ordering::Relaxed) != self as u8
    }

    /// Does without it from now on, in the whole process; the one before is kept again.
    #[cfg(feature = "mutants")]
    pub fn switch_off(self) {
        OFF.store(self as u8, Ordering::Relaxed);
    }
}

#[cfg(feature = "mutants")]
static OFF: AtomicU8 = AtomicU8::new(u8::MAX);

impl std::str::FromStr for Rule {
    type Err = String;

    fn from_str(name: &str) -> Result<Rule, String> {
        let known = Rule::ALL.into_iter().find(|rule| format!("{rule:?}") == name);
        known.ok_or_else(|| format!("there is no rule {name} to switch off: {:?}", Rule::ALL))
    }
}
