//! Kafka's wire protocol: bytes to values and back, no I/O.
//!
//! - [`api`]: the one table of what Klamm serves; [`ApiKey`]: everything Kafka has a number for.
//! - [`messages`]: requests, responses and the contents of internal records, generated from
//!   `schemas/` by `cargo xtask codegen`; [`codec`]: the traits that they implement.
//! - [`frame`]: headers and length prefixes around them.
//! - [`Reader`] and [`Writer`]: the primitives. Reading is bounded: no length is believed before it
//!   is compared with what is there, and nothing panics on any bytes.
//! - [`ErrorCode`]: what an answer's `error_code` means.

pub mod api;
pub mod api_key;
mod body;
pub mod codec;
pub mod compression;
pub mod error_code;
pub mod frame;
pub mod messages;
pub mod reader;
pub mod records;
pub mod wire;
pub mod writer;

pub use api_key::ApiKey;
pub use codec::{Decode, DecodeError, Encode, EncodeError, Message, Records, Request, Response};
pub use error_code::ErrorCode;
pub use reader::Reader;
pub use writer::{Encoded, Gap, TaggedFields, Writer};
