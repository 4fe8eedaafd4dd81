//! Changes of dynamic settings, checked before they are stored.

use klamm_protocol::ErrorCode;

use super::broker_config::{BrokerConfig, Settings, find};
use super::kafka_keys::is_kafka_key;
use super::key::{Key, Kind, Update, split_list};
use super::topic_keys::TOPIC_KEYS;

/// What an incremental change does to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Gives it a value.
    Set,
    /// Takes its value away.
    Delete,
    /// Adds items to a list.
    Append,
    /// Takes items out of a list.
    Subtract,
}

impl Operation {
    /// From the number on the wire.
    pub(crate) fn from_i8(number: i8) -> Option<Operation> {
        match number {
            0 => Some(Operation::Set),
            1 => Some(Operation::Delete),
            2 => Some(Operation::Append),
            3 => Some(Operation::Subtract),
            _ => None,
        }
    }
}

/// One change of one key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'a> {
    pub(crate) name: &'a str,
    pub(crate) operation: Operation,
    /// Not looked at by `Delete`.
    pub(crate) value: &'a str,
}

/// Why a change is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

impl Refused {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Refused {
        Refused { code, message: message.into() }
    }
}

/// Whose settings change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// A topic's.
    Topic,
    /// One broker's.
    Broker,
    /// Those of all brokers.
    AllBrokers,
}

impl Scope {
    /// What Kafka answers when a value of this scope is wrong.
    fn code(self) -> ErrorCode {
        match self {
            Scope::Topic => ErrorCode::InvalidConfig,
            Scope::Broker | Scope::AllBrokers => ErrorCode::InvalidRequest,
        }
    }

    pub(super) fn find(self, name: &str) -> Result<&'static Key, Refused> {
        let refused = |message| Err(Refused::new(self.code(), message));
        if self == Scope::Topic {
            let key = TOPIC_KEYS.iter().find(|key| key.name == name);
            return key.map_or_else(|| refused(format!("Unknown topic config name: {name}")), Ok);
        }
        match find(name) {
            Some(key) if key.update == Update::ReadOnly => {
                refused(format!("{name} is read at start and cannot change while the broker runs"))
            }
            Some(key) if key.update == Update::PerBroker && self == Scope::AllBrokers => {
                refused(format!("{name} can only be set for one broker by its id"))
            }
            Some(key) => Ok(key),
            None if is_kafka_key(name) => refused(format!("Klamm does not implement {name}")),
            None => refused(format!("Unknown broker config name: {name}")),
        }
    }
}

/// `current` with `changes` applied and checked as a whole.
pub(crate) fn apply(
    scope: Scope,
    broker: &BrokerConfig,
    current: &Settings,
    changes: &[Change<'_>],
) -> Result<Settings, Refused> {
    let mut settings = current.clone();
    for change in changes {
        match change.operation {
            Operation::Set => {
                settings.insert(change.name.to_owned(), change.value.to_owned());
            }
            Operation::Delete => {
                settings.remove(change.name);
            }
            Operation::Append | Operation::Subtract => {
                let list = changed_list(scope, &settings, change)?;
                settings.insert(change.name.to_owned(), list);
            }
        }
    }
    check(scope, broker, &settings)?;
    Ok(settings)
}

/// Every key known, every value taken, and nothing that this broker cannot do.
pub(crate) fn check(
    scope: Scope,
    broker: &BrokerConfig,
    settings: &Settings,
) -> Result<(), Refused> {
    let refused = |message| Err(Refused::new(scope.code(), message));
    for (name, value) in settings {
        let key = scope.find(name)?;
        if let Err(problem) = key.canonical(value) {
            return refused(format!("Invalid value {value} for {name}: {problem}"));
        }
    }
    if scope == Scope::Topic && broker.topic(settings).remote_storage_enable {
        return refused("remote.storage.enable: this broker has no remote storage".to_owned());
    }
    Ok(())
}

fn changed_list(scope: Scope, settings: &Settings, change: &Change<'_>) -> Result<String, Refused> {
    let key = scope.find(change.name).ok().filter(|key| key.kind == Kind::List);
    let Some(key) = key else {
        let message = format!("{} is not a list: nothing to add or take away", change.name);
        return Err(Refused::new(ErrorCode::InvalidConfig, message));
    };
    let current = settings.get(change.name).map(String::as_str).or(key.default);
    let mut items = split_list(current.unwrap_or_default());
    items.retain(|item| !item.is_empty());
    for item in change.value.split(',') {
        match change.operation {
            Operation::Append if items.contains(&item) => {}
            Operation::Append => items.push(item),
            _ => {
                if let Some(at) = items.iter().position(|other| *other == item) {
                    items.remove(at);
                }
            }
        }
    }
    Ok(items.join(","))
}
