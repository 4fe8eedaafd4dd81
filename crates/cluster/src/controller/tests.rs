//! Decisions as scripts: brokers come and go, and the tree says who leads.

mod changes;
mod elections;
mod isr_changes;
mod leaders;
mod moves;
mod properties;
mod world;
