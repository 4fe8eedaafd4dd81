//! Which node a path is.

use uuid::Uuid;

use super::config::{ConfigKind, ConfigResource};
use super::name;

/// One node of the tree, by what it means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeKey {
    /// `/klamm`: [`super::cluster::ClusterNode`].
    Cluster,
    /// `/controller`: [`super::controller::ControllerNode`].
    Controller,
    /// `/controller_epoch`: [`super::controller::ControllerEpochNode`].
    ControllerEpoch,
    /// `/brokers/ids/<id>`: [`super::broker::RegistrationNode`].
    Broker(i32),
    /// `/brokers/epochs/<id>`: [`super::broker::EpochNode`].
    BrokerEpoch(i32),
    /// `/names/<topic>`: [`super::topic::NameNode`].
    Name(String),
    /// `/topics/<uuid>`: [`super::topic::TopicNode`].
    Topic(Uuid),
    /// `/topics/<uuid>/assign`: [`super::topic::AssignNode`].
    Assign(Uuid),
    /// `/topics/<uuid>/p/<n>`: [`super::topic::PartitionNode`].
    Partition(Uuid, i32),
    /// `/config/<kind>/<name>`: [`super::config::ConfigNode`].
    Config(ConfigResource),
    /// `/features`: [`super::features::FeaturesNode`].
    Features,
    /// `/producer_ids`: [`super::producer_ids::ProducerIdsNode`].
    ProducerIds,
}

/// What the image watches: everything but `/brokers/probe`, which each broker writes all the time.
pub const ROOTS: &[&str] = &[
    "/klamm",
    "/controller",
    "/controller_epoch",
    "/brokers/ids",
    "/brokers/epochs",
    "/names",
    "/topics",
    "/config",
    "/features",
    "/producer_ids",
];

/// The folders that are made together with `/klamm`, parents first.
pub const SKELETON: &[&str] = &[
    "/brokers",
    "/brokers/ids",
    "/brokers/epochs",
    "/brokers/probe",
    "/names",
    "/topics",
    "/config",
    "/config/topics",
    "/config/brokers",
    "/config/clients",
    "/config/users",
    "/config/groups",
    "/config/ips",
];

impl NodeKey {
    /// Where the node lies.
    pub fn path(&self) -> String {
        match self {
            NodeKey::Cluster => "/klamm".to_owned(),
            NodeKey::Controller => "/controller".to_owned(),
            NodeKey::ControllerEpoch => "/controller_epoch".to_owned(),
            NodeKey::Broker(id) => format!("/brokers/ids/{id}"),
            NodeKey::BrokerEpoch(id) => format!("/brokers/epochs/{id}"),
            NodeKey::Name(topic) => format!("/names/{}", name::escape(topic)),
            NodeKey::Topic(id) => format!("/topics/{}", name::uuid_to_text(*id)),
            NodeKey::Assign(id) => format!("/topics/{}/assign", name::uuid_to_text(*id)),
            NodeKey::Partition(id, index) => {
                format!("/topics/{}/p/{index}", name::uuid_to_text(*id))
            }
            NodeKey::Config(resource) => {
                let folder = resource.kind.folder();
                match &resource.name {
                    Some(of) => format!("/config/{folder}/{}", name::escape(of)),
                    None => format!("/config/{folder}/{}", name::DEFAULT),
                }
            }
            NodeKey::Features => "/features".to_owned(),
            NodeKey::ProducerIds => "/producer_ids".to_owned(),
        }
    }

    /// The node at `path`; `None` for folders and strangers.
    pub fn parse(path: &str) -> Option<NodeKey> {
        let names: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        match names.as_slice() {
            ["klamm"] => Some(NodeKey::Cluster),
            ["controller"] => Some(NodeKey::Controller),
            ["controller_epoch"] => Some(NodeKey::ControllerEpoch),
            ["brokers", "ids", id] => Some(NodeKey::Broker(number(id)?)),
            ["brokers", "epochs", id] => Some(NodeKey::BrokerEpoch(number(id)?)),
            ["names", topic] => Some(NodeKey::Name(name::unescape(topic)?)),
            ["topics", id] => Some(NodeKey::Topic(name::uuid_from_text(id)?)),
            ["topics", id, "assign"] => Some(NodeKey::Assign(name::uuid_from_text(id)?)),
            ["topics", id, "p", index] => {
                Some(NodeKey::Partition(name::uuid_from_text(id)?, number(index)?))
            }
            ["config", folder, of] => {
                let kind = ConfigKind::from_folder(folder)?;
                let name = if *of == name::DEFAULT { None } else { Some(name::unescape(of)?) };
                Some(NodeKey::Config(ConfigResource { kind, name }))
            }
            ["features"] => Some(NodeKey::Features),
            ["producer_ids"] => Some(NodeKey::ProducerIds),
            _ => None,
        }
    }

    /// The folder of the partitions of a topic.
    pub fn partitions_folder(topic: Uuid) -> String {
        format!("/topics/{}/p", name::uuid_to_text(topic))
    }
}

/// A number in the one form that [`NodeKey::path`] writes: no sign, no leading zeros.
fn number(text: &str) -> Option<i32> {
    let number: i32 = text.parse().ok().filter(|n| *n >= 0)?;
    (number.to_string() == text).then_some(number)
}
