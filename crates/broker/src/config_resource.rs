//! What DescribeConfigs and AlterConfigs can be about.

use klamm_protocol::ErrorCode;

use crate::config::Refused;

/// The kinds of Kafka's resources that have settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResourceType {
    Topic,
    Broker,
    BrokerLogger,
    ClientMetrics,
    Group,
}

impl ResourceType {
    /// From the number on the wire.
    pub(crate) fn from_i8(number: i8) -> Option<ResourceType> {
        match number {
            2 => Some(ResourceType::Topic),
            4 => Some(ResourceType::Broker),
            8 => Some(ResourceType::BrokerLogger),
            16 => Some(ResourceType::ClientMetrics),
            32 => Some(ResourceType::Group),
            _ => None,
        }
    }
}

/// Checks that `name` is this broker's id: a broker answers for itself only.
pub(crate) fn own_broker(name: &str, id: i32) -> Result<(), Refused> {
    let refused = |message: String| Err(Refused::new(ErrorCode::InvalidRequest, message));
    match name.parse::<i32>() {
        Ok(other) if other == id => Ok(()),
        Ok(other) => refused(format!("This is broker {id}; ask broker {other} for its settings.")),
        Err(_) => refused(format!("A broker's name is its id, a number; this is {name:?}.")),
    }
}
