//! `/klamm`: whose tree this is.

use serde::{Deserialize, Serialize};

use super::NodeValue;

/// The format of the tree as a whole. A higher one is refused.
pub const FORMAT: u32 = 1;

/// `/klamm`, created first of all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterNode {
    /// Format of the tree.
    pub format: u32,
    /// Kafka's cluster id: a random UUID in base64, the same as in `meta.properties`.
    pub cluster_id: String,
    /// The tree is being moved here and not to be used yet ([`crate::moving`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
}

impl NodeValue for ClusterNode {
    const VERSION: u32 = 1;

    fn check(&self) -> Result<(), String> {
        if self.format > FORMAT {
            return Err(format!(
                "the tree has format {}, this program knows formats up to {FORMAT}: \
                 a newer Klamm has written it",
                self.format
            ));
        }
        if self.cluster_id.is_empty() { Err("the cluster id is empty".to_owned()) } else { Ok(()) }
    }
}
