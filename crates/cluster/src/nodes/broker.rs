//! `/brokers`: who is there, and with how much of its past.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::NodeValue;
use super::name::uuid_text;
use super::topic::FlushClass;

/// Endpoints of one broker at most.
const ENDPOINTS_MAX: usize = 64;

/// Where one listener of a broker is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    /// Name of the listener, `PLAINTEXT` for instance.
    pub listener: String,
    /// Host to tell clients.
    pub host: String,
    /// Port to tell clients.
    pub port: u16,
}

impl From<Endpoint> for String {
    fn from(Endpoint { listener, host, port }: Endpoint) -> String {
        if host.contains(':') {
            format!("{listener}://[{host}]:{port}")
        } else {
            format!("{listener}://{host}:{port}")
        }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Endpoint, String> {
        let parts = text.split_once("://").and_then(|(listener, address)| {
            let (host, port) = address.rsplit_once(':')?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Some(Endpoint {
                listener: listener.to_owned(),
                host: host.to_owned(),
                port: port.parse().ok()?,
            })
        });
        parts.ok_or_else(|| format!("{text:?} is no endpoint"))
    }
}

/// `/brokers/ids/<id>`, ephemeral: a broker that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationNode {
    /// Where it is reached.
    pub endpoints: Vec<Endpoint>,
    /// Security protocol of each listener, `PLAINTEXT` where it is not named.
    #[serde(default, rename = "listener_security_protocol_map")]
    pub security_protocols: BTreeMap<String, String>,
    /// The listener that brokers use among themselves.
    pub inter_broker_listener: String,
    /// Where it stands.
    #[serde(default)]
    pub rack: Option<String>,
    /// The process.
    #[serde(with = "uuid_text")]
    pub incarnation: Uuid,
    /// This registration.
    pub broker_epoch: i64,
    /// Finest and newest level of each feature that it knows.
    #[serde(default)]
    pub features: BTreeMap<String, (i16, i16)>,
    /// Whether a log directory of the last registration was missing when it started: the controller
    /// then never elects it uncleanly by itself (R12).
    #[serde(default)]
    pub log_dir_missing: bool,
    /// Whether it keeps committed offsets in the tree (`offsets.storage=zookeeper`): the brokers of a
    /// cluster agree on that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub offsets_in_tree: bool,
}

impl NodeValue for RegistrationNode {
    const VERSION: u32 = 6;

    fn check(&self) -> Result<(), String> {
        if self.endpoints.len() > ENDPOINTS_MAX {
            return Err(format!("{} endpoints are too many", self.endpoints.len()));
        }
        Ok(())
    }
}

/// `/brokers/epochs/<id>`: how often a broker has registered and since when its past is whole. Never
/// deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochNode {
    /// Current broker epoch: the number of registrations so far.
    pub epoch: i64,
    /// The process that registered it.
    #[serde(with = "uuid_text")]
    pub incarnation: Uuid,
    /// The broker epoch before; 0 for the first registration.
    pub prev_epoch: i64,
    /// Oldest broker epoch from which every registration up to now was sound for any flush class.
    pub clean_since: i64,
    /// Oldest broker epoch from which every registration up to now was sound for the class acked.
    pub intact_since: i64,
    /// It is about to stop: it gets no leadership and joins no ISR.
    #[serde(default)]
    pub shutting_down: bool,
}

impl EpochNode {
    /// The oldest broker epoch whose confirmations the broker still has on disk, for a partition of
    /// class `flush` (R3).
    pub fn sound_since(&self, flush: FlushClass) -> i64 {
        match flush {
            FlushClass::Acked => self.intact_since,
            FlushClass::Os | FlushClass::Syncing => self.clean_since,
        }
    }
}

impl NodeValue for EpochNode {
    const VERSION: u32 = 1;

    fn check(&self) -> Result<(), String> {
        let ordered = 0 <= self.prev_epoch
            && self.prev_epoch < self.epoch
            && self.intact_since <= self.clean_since
            && self.clean_since <= self.epoch;
        if ordered { Ok(()) } else { Err(format!("the epochs contradict each other: {self:?}")) }
    }
}
