//! `/features`: what the whole cluster may use.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::NodeValue;

/// `/features`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeaturesNode {
    /// Finalised level of each feature.
    pub features: BTreeMap<String, i16>,
    /// Grows with every change.
    pub epoch: i64,
}

impl NodeValue for FeaturesNode {
    const VERSION: u32 = 2;
}
