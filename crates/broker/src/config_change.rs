//! What AlterConfigs and IncrementalAlterConfigs have in common: checks in Kafka's order, then the
//! controller. Every resource stands for itself.

use std::collections::BTreeSet;

use klamm_cluster::Image;
use klamm_cluster::controller::{ConfigAlteration, ConfigChange, ConfigEdit, EditOp};
use klamm_cluster::nodes::config::ConfigResource;
use klamm_protocol::ErrorCode;

use crate::auto_create;
use crate::config::{BrokerConfig, Change, Operation, Refused, Scope, Settings, apply, check};
use crate::config_resource::{ResourceType, own_broker};
use crate::request::RequestContext;
use crate::topic_name;

/// The change that is asked of one resource.
pub(crate) struct ResourceChange<'a> {
    pub(crate) resource_type: i8,
    pub(crate) name: &'a str,
    pub(crate) wanted: Wanted<'a>,
}

/// How its settings shall change.
pub(crate) enum Wanted<'a> {
    /// These and no others.
    Whole(Vec<(&'a str, Option<&'a str>)>),
    /// One after the other: key, operation, value.
    Steps(Vec<(&'a str, i8, Option<&'a str>)>),
}

/// What became of one resource.
pub(crate) struct Outcome(Result<(), Refused>);

impl Outcome {
    /// Code and message.
    pub(crate) fn into_wire(self) -> (i16, Option<String>) {
        match self.0 {
            Ok(()) => (ErrorCode::None.as_i16(), None),
            Err(refused) => (refused.code.as_i16(), Some(refused.message)),
        }
    }
}

/// Checks and makes the changes; one outcome for each, in order.
pub(crate) async fn change_configs(
    ctx: &RequestContext,
    changes: Vec<ResourceChange<'_>>,
    validate_only: bool,
) -> Vec<Outcome> {
    let (mut named, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for change in &changes {
        if !named.insert((change.resource_type, change.name)) {
            twice.insert((change.resource_type, change.name));
        }
    }
    let config = ctx.broker.config();
    let image = ctx.broker.image();
    let mut outcomes = Vec::with_capacity(changes.len());
    let mut asked = Vec::new();
    let mut expected = Vec::new();
    for change in &changes {
        let checked = if twice.contains(&(change.resource_type, change.name)) {
            Err(invalid("A resource stands more than once in the request."))
        } else {
            checked(ctx.broker.id, &config, &image, change)
        };
        outcomes.push(checked.map(|(alteration, settings)| {
            expected.push((outcomes.len(), alteration.resource.clone(), settings));
            asked.push(alteration);
        }));
    }
    if !asked.is_empty() {
        let answers = ctx.broker.controller.alter_configs(asked, validate_only).await;
        for ((at, _, _), answer) in expected.iter().zip(answers) {
            outcomes[*at] = answer.map_err(|refusal| Refused::new(refusal.code, refusal.message));
        }
    }
    if !validate_only {
        expected.retain(|(at, _, _)| outcomes[*at].is_ok());
        let shown = |image: &Image| {
            expected.iter().all(|(_, resource, settings)| image.config(resource) == settings)
        };
        auto_create::shown(&ctx.broker, shown).await;
    }
    outcomes.into_iter().map(Outcome).collect()
}

fn invalid(message: impl Into<String>) -> Refused {
    Refused::new(ErrorCode::InvalidRequest, message)
}

/// The change for the controller, and the settings as they will be.
fn checked(
    broker_id: i32,
    config: &BrokerConfig,
    image: &Image,
    change: &ResourceChange<'_>,
) -> Result<(ConfigAlteration, Settings), Refused> {
    check_shape(&change.wanted)?;
    let name = change.name;
    let (scope, resource) = match ResourceType::from_i8(change.resource_type) {
        Some(ResourceType::Topic) => {
            if name.is_empty() {
                return Err(invalid("Topics have no settings in common."));
            }
            topic_name::check(name)
                .map_err(|why| Refused::new(ErrorCode::InvalidTopicException, why))?;
            (Scope::Topic, ConfigResource::topic(name))
        }
        Some(ResourceType::Broker) if name.is_empty() => {
            (Scope::AllBrokers, ConfigResource::broker(None))
        }
        Some(ResourceType::Broker) => {
            own_broker(name, broker_id)?;
            (Scope::Broker, ConfigResource::broker(Some(broker_id)))
        }
        Some(ResourceType::BrokerLogger | ResourceType::ClientMetrics | ResourceType::Group) => {
            return Err(invalid("Klamm has no settings for this type of resource yet."));
        }
        None => return Err(invalid(format!("Unknown resource type {}.", change.resource_type))),
    };
    let current = image.config(&resource);
    let (settings, how) = match &change.wanted {
        Wanted::Whole(all) => {
            let settings = whole(all);
            check(scope, config, &settings)?;
            (settings.clone(), ConfigChange::Replace(settings))
        }
        Wanted::Steps(steps) => {
            let changes = steps.iter().map(step).collect::<Result<Vec<_>, _>>()?;
            let settings = apply(scope, config, current, &changes)?;
            (settings, ConfigChange::Edit(changes.iter().map(edit).collect()))
        }
    };
    if scope == Scope::Topic && image.topic(name).is_none() {
        let message = format!("There is no topic '{name}'.");
        return Err(Refused::new(ErrorCode::UnknownTopicOrPartition, message));
    }
    Ok((ConfigAlteration { resource, change: how }, settings))
}

/// No key twice, a value wherever one is needed.
fn check_shape(wanted: &Wanted<'_>) -> Result<(), Refused> {
    const DELETE: i8 = 1;
    let keys: Vec<(&str, bool)> = match wanted {
        Wanted::Whole(all) => all.iter().map(|(key, value)| (*key, value.is_some())).collect(),
        Wanted::Steps(steps) => {
            let complete =
                |operation: i8, value: Option<&str>| operation == DELETE || value.is_some();
            steps.iter().map(|(key, op, value)| (*key, complete(*op, *value))).collect()
        }
    };
    let mut seen = BTreeSet::new();
    if let Some((key, _)) = keys.iter().find(|(key, _)| !seen.insert(*key)) {
        return Err(invalid(format!("{key} stands more than once.")));
    }
    if let Some((key, _)) = keys.iter().find(|(_, complete)| !complete) {
        return Err(invalid(format!("{key} has no value.")));
    }
    Ok(())
}

fn whole(all: &[(&str, Option<&str>)]) -> Settings {
    all.iter()
        .map(|(key, value)| ((*key).to_owned(), value.unwrap_or_default().to_owned()))
        .collect()
}

fn step<'a>(
    (name, operation, value): &(&'a str, i8, Option<&'a str>),
) -> Result<Change<'a>, Refused> {
    let operation = Operation::from_i8(*operation)
        .ok_or_else(|| invalid(format!("There is no operation {operation}.")))?;
    Ok(Change { name, operation, value: value.unwrap_or_default() })
}

fn edit(change: &Change<'_>) -> ConfigEdit {
    let value = change.value.to_owned();
    let op = match change.operation {
        Operation::Set => EditOp::Set(value),
        Operation::Delete => EditOp::Delete,
        Operation::Append => EditOp::Append(value),
        Operation::Subtract => EditOp::Subtract(value),
    };
    ConfigEdit { key: change.name.to_owned(), op }
}
