//! The machine itself: the one place that may call what `clippy.toml` bans.
#![expect(clippy::disallowed_methods, reason = "this is what stands behind the seams")]

pub(crate) mod clock;
pub(crate) mod files;
pub(crate) mod network;
pub(crate) mod random;
pub(crate) mod threads;
