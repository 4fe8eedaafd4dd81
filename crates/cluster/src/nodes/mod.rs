//! What the nodes of the tree mean: one type each, with path, encoding and decoding.
//!
//! The content is JSON that people can read in a ZooKeeper shell, with Kafka's own field names where
//! Kafka has them, and a `version` in each node. A version from the future is refused; unknown fields
//! of a known version are ignored.

pub mod broker;
pub mod cluster;
pub mod config;
pub mod consumers;
pub mod controller;
pub mod features;
mod key;
pub mod name;
pub mod producer_ids;
pub mod topic;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::tree::NODE_BYTES_MAX;

pub use key::{NodeKey, ROOTS, SKELETON};

/// The content of one kind of node.
pub trait NodeValue: Serialize + DeserializeOwned {
    /// The newest version of its form that this program knows.
    const VERSION: u32;

    /// Refuses values that no Klamm writes.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Why a node cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Written by a newer Klamm.
    #[error(
        "node {path} has version {found}; this program knows versions up to {known}: \
         a newer Klamm has written it"
    )]
    FromTheFuture {
        /// Node.
        path: String,
        /// Its version.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// Not what belongs there.
    #[error("node {path} is not readable: {reason}")]
    Malformed {
        /// Node.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    version: u32,
    #[serde(flatten)]
    value: &'a T,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

/// The content of a node.
pub fn encode<T: NodeValue>(value: &T) -> Bytes {
    let envelope = Envelope { version: T::VERSION, value };
    serde_json::to_vec(&envelope).expect("plain structs have a JSON form").into()
}

/// Reads the content of the node at `path`.
///
/// # Errors
/// [`DecodeError`].
pub fn decode<T: NodeValue>(path: &str, data: &[u8]) -> Result<T, DecodeError> {
    let malformed = |reason: String| DecodeError::Malformed { path: path.to_owned(), reason };
    if data.len() > NODE_BYTES_MAX {
        return Err(malformed(format!("{} bytes are too many", data.len())));
    }
    let VersionOnly { version } =
        serde_json::from_slice(data).map_err(|error| malformed(error.to_string()))?;
    if version > T::VERSION {
        let known = T::VERSION;
        return Err(DecodeError::FromTheFuture { path: path.to_owned(), found: version, known });
    }
    let value: T = serde_json::from_slice(data).map_err(|error| malformed(error.to_string()))?;
    value.check().map_err(malformed)?;
    Ok(value)
}

/// A node's content with the version that a compare-and-set names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    /// Content.
    pub value: T,
    /// Version of the node when it was read.
    pub version: i32,
}

impl<T> std::ops::Deref for Versioned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

#[cfg(test)]
mod tests;
