//! What may happen, one function a step: guards first, then the effect, in the order it happens.
//!
//! A step answers `None` where it cannot be taken. It reads what its actor can know: a broker its
//! own fields, the ensemble the tree.

mod controller;
mod data;
mod failures;
mod isr;
mod registration;
mod tree;

pub(crate) use tree::is_sound;
