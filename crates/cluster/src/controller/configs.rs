//! Changing dynamic settings.

use std::collections::BTreeMap;

use klamm_protocol::ErrorCode;

use super::{Reason, Refusal, Write};
use crate::image::Image;
use crate::nodes::config::{ConfigKind, ConfigNode, ConfigResource};
use crate::nodes::{NodeKey, encode};
use crate::tree::Op;

/// What the table of settings says: crate `broker` has it.
pub trait ConfigRules: Send + Sync + 'static {
    /// Refuses unknown keys and illegal values.
    ///
    /// # Errors
    /// What is wrong, as a sentence for the client.
    fn check(&self, resource: &ConfigResource, key: &str, value: &str) -> Result<(), String>;

    /// For a key whose value is a list: the value that holds where none was set. `None`: no list.
    fn list_default(&self, resource: &ConfigResource, key: &str) -> Option<String>;
}

/// A change of one resource's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigAlteration {
    /// Whose.
    pub resource: ConfigResource,
    /// How.
    pub change: ConfigChange,
}

/// How settings change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// These and no others (AlterConfigs).
    Replace(BTreeMap<String, String>),
    /// One after the other (IncrementalAlterConfigs).
    Edit(Vec<ConfigEdit>),
}

/// A change of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEdit {
    /// Its key.
    pub key: String,
    /// What to do with it.
    pub op: EditOp,
}

/// What to do with one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditOp {
    /// Give it this value.
    Set(String),
    /// Go back to the default.
    Delete,
    /// Add these to the list.
    Append(String),
    /// Take these from the list.
    Subtract(String),
}

/// Changes the settings of a resource.
///
/// # Errors
/// Why it cannot be, as clients are told.
pub fn alter(
    image: &Image,
    alteration: &ConfigAlteration,
    rules: &dyn ConfigRules,
) -> Result<Vec<Write>, Refusal> {
    let ConfigAlteration { resource, change } = alteration;
    check_resource(image, resource)?;
    let before = image.config(resource);
    let after = match change {
        ConfigChange::Replace(all) => all.clone(),
        ConfigChange::Edit(edits) => {
            let mut config = before.clone();
            for edit in edits {
                apply(&mut config, resource, edit, rules)?;
            }
            config
        }
    };
    let changed: BTreeMap<String, String> = after
        .iter()
        .filter(|(key, value)| before.get(*key) != Some(*value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    check_all(rules, resource, &changed)?;
    let op = write_op(image, resource, after);
    Ok(op.map(|op| Write::new(Reason::Request, vec![op])).into_iter().collect())
}

fn check_resource(image: &Image, resource: &ConfigResource) -> Result<(), Refusal> {
    match (resource.kind, &resource.name) {
        (ConfigKind::Topic, Some(name)) if image.topic(name).is_none() => {
            let message = format!("There is no topic '{name}'.");
            Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message))
        }
        (ConfigKind::Topic, None) => {
            let message = "Settings of a topic need its name.";
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        }
        (ConfigKind::Broker, Some(id)) if id.parse::<i32>().is_err() => {
            let message = format!("{id:?} is no broker id.");
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        }
        _ => Ok(()),
    }
}

pub(crate) fn check_all(
    rules: &dyn ConfigRules,
    resource: &ConfigResource,
    config: &BTreeMap<String, String>,
) -> Result<(), Refusal> {
    config.iter().try_for_each(|(key, value)| {
        let refuse = |message| Refusal::new(ErrorCode::InvalidConfig, message);
        rules.check(resource, key, value).map_err(refuse)
    })
}

fn apply(
    config: &mut BTreeMap<String, String>,
    resource: &ConfigResource,
    edit: &ConfigEdit,
    rules: &dyn ConfigRules,
) -> Result<(), Refusal> {
    let key = &edit.key;
    match &edit.op {
        EditOp::Set(value) => {
            config.insert(key.clone(), value.clone());
        }
        EditOp::Delete => {
            config.remove(key);
        }
        EditOp::Append(items) => {
            let mut list = list(config, resource, key, rules)?;
            for item in split(items) {
                if !list.contains(&item) {
                    list.push(item);
                }
            }
            config.insert(key.clone(), list.join(","));
        }
        EditOp::Subtract(items) => {
            let mut list = list(config, resource, key, rules)?;
            let gone: Vec<String> = split(items).collect();
            list.retain(|item| !gone.contains(item));
            config.insert(key.clone(), list.join(","));
        }
    }
    Ok(())
}

fn list(
    config: &BTreeMap<String, String>,
    resource: &ConfigResource,
    key: &str,
    rules: &dyn ConfigRules,
) -> Result<Vec<String>, Refusal> {
    let Some(default) = rules.list_default(resource, key) else {
        let message =
            format!("The value of {key} is no list: nothing can be appended or subtracted.");
        return Err(Refusal::new(ErrorCode::InvalidConfig, message));
    };
    Ok(split(config.get(key).unwrap_or(&default)).collect())
}

fn split(list: &str) -> impl Iterator<Item = String> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned)
}

fn write_op(
    image: &Image,
    resource: &ConfigResource,
    config: BTreeMap<String, String>,
) -> Option<Op> {
    let path = NodeKey::Config(resource.clone()).path();
    match image.config_node(resource) {
        Some(node) if node.config == config => None,
        Some(node) if config.is_empty() => Some(Op::delete(path, node.version)),
        Some(node) => Some(Op::set(path, encode(&ConfigNode { config }), node.version)),
        None if config.is_empty() => None,
        None => Some(Op::create(path, encode(&ConfigNode { config }))),
    }
}
