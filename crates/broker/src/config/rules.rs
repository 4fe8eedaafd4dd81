//! The table as the controller asks it.

use klamm_cluster::controller::ConfigRules;
use klamm_cluster::nodes::config::{ConfigKind, ConfigResource};

use super::alter::Scope;
use super::key::Kind;

/// The checks that no change of a setting passes by.
#[derive(Clone, Copy, Debug, Default)]
pub struct TableRules;

fn scope(resource: &ConfigResource) -> Result<Scope, String> {
    match (resource.kind, &resource.name) {
        (ConfigKind::Topic, Some(_)) => Ok(Scope::Topic),
        (ConfigKind::Broker, Some(_)) => Ok(Scope::Broker),
        (ConfigKind::Broker, None) => Ok(Scope::AllBrokers),
        _ => Err(format!("{resource} has no settings")),
    }
}

impl ConfigRules for TableRules {
    fn check(&self, resource: &ConfigResource, key: &str, value: &str) -> Result<(), String> {
        let row = scope(resource)?.find(key).map_err(|refused| refused.message)?;
        row.canonical(value).map(drop)
    }

    fn list_default(&self, resource: &ConfigResource, key: &str) -> Option<String> {
        let row = scope(resource).ok()?.find(key).ok()?;
        (row.kind == Kind::List).then(|| row.default.unwrap_or_default().to_owned())
    }
}
