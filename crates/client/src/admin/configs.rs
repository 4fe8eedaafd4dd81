//! Settings of topics and brokers.

use klamm_protocol::ApiKey;
use klamm_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use klamm_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

use crate::cluster::Lane;
use crate::error::{ClientError, check};

use super::{Admin, To};

/// What a setting belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    /// A topic, by name.
    Topic,
    /// A broker, by number; without a name, all brokers.
    Broker,
}

impl ResourceKind {
    const fn wire(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Broker => 4,
        }
    }
}

/// A setting as it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Kafka's name for it.
    pub name: String,
    /// Its value; null if it is a secret or has none.
    pub value: Option<String>,
    /// Whether it cannot be changed while the broker runs.
    pub is_read_only: bool,
    /// Whether it is a secret.
    pub is_sensitive: bool,
    /// Where the value comes from, by Kafka's number: 1 is the topic's own, 5 the default.
    pub source: i8,
    /// What it is for.
    pub documentation: Option<String>,
}

/// One change to a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// Give it this value.
    Set(String),
    /// Go back to what holds without it.
    Delete,
    /// Add this to a list.
    Append(String),
    /// Take this from a list.
    Subtract(String),
}

impl ConfigChange {
    fn wire(&self) -> (i8, Option<String>) {
        match self {
            Self::Set(value) => (0, Some(value.clone())),
            Self::Delete => (1, None),
            Self::Append(value) => (2, Some(value.clone())),
            Self::Subtract(value) => (3, Some(value.clone())),
        }
    }
}

impl From<DescribeConfigsResourceResult> for ConfigEntry {
    fn from(config: DescribeConfigsResourceResult) -> Self {
        Self {
            name: config.name,
            value: config.value,
            is_read_only: config.read_only,
            is_sensitive: config.is_sensitive,
            source: config.config_source,
            documentation: config.documentation,
        }
    }
}

impl Admin {
    /// All settings of a topic or broker, defaults included.
    pub async fn describe_configs(
        &self,
        kind: ResourceKind,
        name: &str,
    ) -> Result<Vec<ConfigEntry>, ClientError> {
        let resource = DescribeConfigsResource {
            resource_type: kind.wire(),
            resource_name: name.to_owned(),
            configuration_keys: None,
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource],
            include_synonyms: false,
            include_documentation: true,
        };
        let what = || format!("settings of {name:?}");
        let accept =
            |response: klamm_protocol::messages::describe_configs::DescribeConfigsResponse| {
                let result = response.results.into_iter().next().ok_or_else(|| {
                    ClientError::Incomplete { api: ApiKey::DescribeConfigs, what: name.to_owned() }
                })?;
                check(result.error_code, result.error_message.as_deref(), what)?;
                Ok(result.configs.into_iter().map(ConfigEntry::from).collect())
            };
        match broker_id(kind, name) {
            // A broker tells of its own settings only.
            Some(id) => {
                let connection = self.cluster.broker(id, Lane::General).await?;
                connection.request(&request).await.and_then(accept)
            }
            None => self.ask(To::Any, &request, accept).await,
        }
    }

    /// Changes settings of a topic or broker, all or none.
    pub async fn alter_configs(
        &self,
        kind: ResourceKind,
        name: &str,
        changes: &[(String, ConfigChange)],
    ) -> Result<(), ClientError> {
        let configs = changes
            .iter()
            .map(|(name, change)| {
                let (config_operation, value) = change.wire();
                AlterableConfig { name: name.clone(), config_operation, value }
            })
            .collect();
        let resource = AlterConfigsResource {
            resource_type: kind.wire(),
            resource_name: name.to_owned(),
            configs,
        };
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        self.ask(To::Controller, &request, |response| {
            let result = response.responses.into_iter().next().ok_or_else(|| {
                let api = ApiKey::IncrementalAlterConfigs;
                ClientError::Incomplete { api, what: name.to_owned() }
            })?;
            check(result.error_code, result.error_message.as_deref(), || {
                format!("changing settings of {name:?}")
            })
        })
        .await
    }
}

fn broker_id(kind: ResourceKind, name: &str) -> Option<i32> {
    match kind {
        ResourceKind::Broker => name.parse().ok(),
        ResourceKind::Topic => None,
    }
}
