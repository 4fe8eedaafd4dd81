//! Decisions as scripts: brokers come and go, and the tree says who leads.

mod changes;
mod elections;
mod leaders;
mod properties;
mod world;
