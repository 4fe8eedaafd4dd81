//! Looking after topics, partitions, configurations, groups and offsets.
//!
//! Calls that change the cluster are sent again while the broker asks for patience. One that is
//! sent again after its answer was lost may find its own work done: `TOPIC_ALREADY_EXISTS`.

mod configs;
mod groups;
mod reset;
mod topics;

use std::collections::BTreeMap;
use std::time::Duration;

use klamm_protocol::Request;

use crate::cluster::{Cluster, Lane};
use crate::error::ClientError;
use crate::metadata::TopicPartition;
use crate::offsets::{ListedOffset, OffsetSpec, list_offsets};
use crate::retry::Retry;

pub use configs::{ConfigChange, ConfigEntry, ResourceKind};
pub use groups::{GroupDescription, GroupListing, GroupMember};
pub use reset::{PlannedReset, ResetTo};
pub use topics::NewTopic;

/// Administers a cluster.
#[derive(Clone, Debug)]
pub struct Admin {
    cluster: Cluster,
}

/// Whom a request goes to.
#[derive(Clone, Copy)]
enum To<'a> {
    Any,
    Controller,
    Coordinator(&'a str),
}

impl Admin {
    /// For `cluster`.
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }

    /// The cluster that it administers.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The offset of each partition that is asked for.
    pub async fn list_offsets(
        &self,
        wanted: &BTreeMap<TopicPartition, OffsetSpec>,
    ) -> Result<BTreeMap<TopicPartition, ListedOffset>, ClientError> {
        list_offsets(&self.cluster, wanted, 0).await
    }

    /// Asks until `accept` takes the answer, or finds an error in it that stays.
    async fn ask<R: Request, T>(
        &self,
        to: To<'_>,
        request: &R,
        mut accept: impl FnMut(R::Response) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let mut retry = Retry::new(self.cluster.config(), R::KEY.name());
        loop {
            let error = match self.ask_once(to, request).await.and_then(&mut accept) {
                Ok(accepted) => return Ok(accepted),
                Err(error) => error,
            };
            retry.pause(error).await?;
            if let To::Coordinator(group) = to {
                self.cluster.forget_coordinator(group);
            }
            if matches!(to, To::Controller)
                && let Err(error) = self.cluster.refresh(&[]).await
            {
                retry.pause(error).await?;
            }
        }
    }

    async fn ask_once<R: Request>(
        &self,
        to: To<'_>,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        let connection = match to {
            To::Any => self.cluster.any().await?,
            To::Controller => self.cluster.controller().await?,
            To::Coordinator(group) => self.cluster.coordinator(group, Lane::General).await?,
        };
        connection.request(request).await
    }

    /// How long the broker may take over a change: less than the client waits for its answer.
    fn timeout_ms(&self) -> i32 {
        let timeout = self.cluster.config().request_timeout.saturating_sub(Duration::from_secs(1));
        i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
    }
}
