//! The broker process: server, connections, dispatch, handlers, partitions, background work.
//!
//! [`start`] brings a broker up; everything else is inside. The way of a request: [`server`] accepts,
//! [`connection`] reads frames, [`dispatch`] leads to one of [`handlers`], which work on
//! [`partitions`] and answer in the order of the requests.
//!
//! Absences: no handler knows a socket, no partition knows a request, nothing here writes the tree
//! but through the controller.

mod acks;
mod answers;
mod authorized_operations;
mod auto_create;
mod broker;
mod checkpointer;
mod cleaner;
mod cold_reads;
pub mod config;
mod config_change;
mod config_resource;
mod connection;
mod coordinators;
mod data_dir;
mod deletion;
mod dispatch;
mod fence;
mod fetch_session;
mod flush_class;
mod flusher;
mod forwarding;
mod frame_reader;
mod frame_writer;
mod handlers;
mod leader;
mod log_config;
mod membership;
mod memory;
mod offline_dirs;
mod partition;
mod partitions;
mod peer;
mod producer_ids;
mod recompress;
mod replication;
mod request;
mod retention;
mod server;
mod strays;
mod topic_name;
mod waiters;
mod wakes;

pub use broker::{Broker, RunningBroker, StartError};
pub use config::{BrokerConfig, ConfigError, Loaded};
pub use membership::{HomeFactory, MembershipError};
