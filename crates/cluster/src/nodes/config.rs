//! `/config`: dynamic settings.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::NodeValue;

/// What can have settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigKind {
    /// A topic, by name.
    Topic,
    /// A broker, by id.
    Broker,
    /// A client id (quotas).
    Client,
    /// A user (quotas, SCRAM).
    User,
    /// A group.
    Group,
    /// An address (connection quotas).
    Ip,
}

impl ConfigKind {
    /// All of them.
    pub const ALL: [ConfigKind; 6] = [
        ConfigKind::Topic,
        ConfigKind::Broker,
        ConfigKind::Client,
        ConfigKind::User,
        ConfigKind::Group,
        ConfigKind::Ip,
    ];

    /// The folder in `/config`, as in Kafka.
    pub fn folder(self) -> &'static str {
        match self {
            ConfigKind::Topic => "topics",
            ConfigKind::Broker => "brokers",
            ConfigKind::Client => "clients",
            ConfigKind::User => "users",
            ConfigKind::Group => "groups",
            ConfigKind::Ip => "ips",
        }
    }

    pub(crate) fn from_folder(folder: &str) -> Option<ConfigKind> {
        Self::ALL.into_iter().find(|kind| kind.folder() == folder)
    }
}

/// Whose settings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigResource {
    /// What it is.
    pub kind: ConfigKind,
    /// Which one; `None`: the default for all of its kind.
    pub name: Option<String>,
}

impl ConfigResource {
    /// The settings of a topic.
    pub fn topic(name: impl Into<String>) -> ConfigResource {
        ConfigResource { kind: ConfigKind::Topic, name: Some(name.into()) }
    }

    /// The settings of one broker; `None`: of all.
    pub fn broker(id: Option<i32>) -> ConfigResource {
        ConfigResource { kind: ConfigKind::Broker, name: id.map(|id| id.to_string()) }
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.folder(), self.name.as_deref().unwrap_or("<default>"))
    }
}

/// `/config/<kind>/<name>`: what differs from the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigNode {
    /// By key.
    pub config: BTreeMap<String, String>,
}

impl NodeValue for ConfigNode {
    const VERSION: u32 = 1;
}
