//! Klamm inside a simulation: production code on a simulated network, disk, clock and randomness.
//!
//! One seed decides everything, so that a failing run repeats exactly. Turmoil repeats in fresh
//! processes, not twice within one: run one seed per process (`klamm-sim`).

pub mod cluster;
pub mod disk;
pub mod durability;
pub mod trace;
pub mod tree;
pub mod world;

mod links;
mod network;
mod stored;
