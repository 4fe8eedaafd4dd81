//! `/controller` and `/controller_epoch`: who decides.

use serde::{Deserialize, Serialize};

use super::NodeValue;

/// `/controller`, ephemeral.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerNode {
    /// The broker that decides.
    #[serde(rename = "brokerid")]
    pub broker_id: i32,
    /// Its broker epoch.
    pub broker_epoch: i64,
    /// Tells this attempt to be elected from every other (R7).
    pub nonce: u64,
}

impl NodeValue for ControllerNode {
    const VERSION: u32 = 2;
}

/// `/controller_epoch`: its *version* is checked by every write of a controller (R8).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerEpochNode {
    /// Grows with every election of a controller.
    pub epoch: i32,
}

impl NodeValue for ControllerEpochNode {
    const VERSION: u32 = 1;
}
