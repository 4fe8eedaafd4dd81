//! `cargo xtask`: code generation, documentation and repository checks.
fn main() {}
