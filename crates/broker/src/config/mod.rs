//! Settings: one table for each scope, and all that comes from it.
//!
//! [`BROKER_KEYS`] and [`TOPIC_KEYS`] say of every key its type, default, bounds, whether it changes
//! while the broker runs, and what it does. From them come the reading of Kafka's
//! `server.properties` and of `--set` ([`load`]), the typed snapshots [`BrokerConfig`] and
//! [`TopicConfig`], the checks of CreateTopics and AlterConfigs, the answers of DescribeConfigs and
//! `docs/config.md`.
//!
//! A value is looked for in this order: the topic's own, this broker's dynamic one, that of all
//! brokers, the command line, the file, the table.

mod alter;
mod broker_config;
mod broker_keys;
mod describe;
mod docs;
mod kafka_keys;
mod key;
mod listeners;
mod load;
mod properties;
mod rules;
mod topic_keys;
mod zookeeper;

#[cfg(test)]
mod tests;

pub(crate) use alter::{Change, Operation, Refused, Scope, apply, check};
pub use broker_config::{BrokerConfig, Settings, Source};
pub use broker_keys::{BROKER_KEYS, BrokerValues};
pub(crate) use describe::{Described, Place};
pub(crate) use describe::{
    all_brokers as describe_all_brokers, broker as describe_broker, topic as describe_topic,
};
pub use docs::config_page;
pub use key::{
    Allowed, AuthScheme, CleanupPolicy, CompressionType, FlushClass, Key, Kind, LostSession,
    OffsetsStorage, Origin, Password, RecordValidation, Synonym, TimestampType, Update,
};
pub use listeners::{Endpoint, Listener};
pub use load::{ConfigError, Loaded, load};
pub use rules::TableRules;
pub use topic_keys::{TOPIC_KEYS, TopicConfig};
