//! The `klamm` binary: one file per verb, no logic.
fn main() {}
