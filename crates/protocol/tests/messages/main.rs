//! Every message in every version: round trips, another implementation, hostile bytes.
//!
//! The inputs are drawn from the schemas (`schemas/*.txt`) by an encoder of its own
//! ([`random`]), so that generated code is never compared with itself alone.

mod allocations;
mod hostile;
mod oracle;
mod primitives;
mod random;
mod registry;
mod round_trip;

#[path = "../../../../xtask/src/codegen/schema.rs"]
mod schema;
