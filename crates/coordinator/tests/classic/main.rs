//! Classic groups, played as scripts against expected traces.

mod elsewhere;
mod joining;
mod loading;
mod members;
mod offsets;
mod properties;
mod script;
mod static_members;
