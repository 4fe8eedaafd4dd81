//! The Rust client: producer, consumer, admin.
//!
//! A [`Cluster`] knows the brokers and who leads what, and holds the connections. [`Producer`],
//! [`Consumer`] and [`Admin`] are made from one. All network, time and randomness come from
//! `klamm-env`, so that the client runs in the simulator as it runs on a machine; tasks are
//! started on the tokio runtime that the caller is on.

mod admin;
mod cluster;
mod config;
mod connection;
mod consumer;
mod error;
mod group;
mod metadata;
mod offsets;
mod producer;
mod retry;

pub use admin::{
    Admin, ConfigChange, ConfigEntry, GroupDescription, GroupListing, GroupMember, NewTopic,
    PlannedReset, ResetTo, ResourceKind,
};
pub use cluster::{Cluster, Lane};
pub use config::ClientConfig;
pub use connection::{Connection, PendingResponse};
pub use consumer::{
    AutoOffsetReset, Consumer, ConsumerConfig, ConsumerRecord, Isolation, RebalanceEvent, StartAt,
};
pub use error::ClientError;
pub use group::assignor::{Assignor, MemberTopics};
pub use group::committed::{CommittedOffset, OffsetToCommit};
pub use metadata::{Broker, Metadata, Partition, Topic, TopicPartition};
pub use offsets::{ListedOffset, OffsetSpec};
pub use producer::{
    Acks, Delivery, Partitioner, Producer, ProducerConfig, ProducerRecord, RecordMetadata, murmur2,
    partition_for_key,
};

/// What the client's calls give.
pub type Result<T, E = ClientError> = std::result::Result<T, E>;
