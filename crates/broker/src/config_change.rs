//! What AlterConfigs and IncrementalAlterConfigs have in common: checks in Kafka's order, then the
//! controller. Every resource stands for itself.

use std::collections::BTreeSet;
use std::time::Duration;

use klamm_cluster::Image;
use klamm_cluster::controller::{ConfigAlteration, ConfigChange, ConfigEdit, EditOp};
use klamm_cluster::nodes::config::ConfigResource;
use klamm_protocol::ErrorCode;

use crate::auto_create;
use crate::config::{BrokerConfig, Change, Operation, Refused, Scope, Settings, apply, check};
use crate::config_resource::{ResourceType, own_broker};
use crate::forwarding::AlterConfigs;
use crate::request::RequestContext;
use crate::topic_name;

/// Patience with the controller: requests about settings say nothing of their own.
const PATIENCE: Duration = Duration::from_secs(30);

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
        outcomes.push(checked.map(|(alteration, change)| {
            expected.push((outcomes.len(), change));
            asked.push(alteration);
        }));
    }
    if !asked.is_empty() {
        let question = AlterConfigs { alterations: asked, validate_only };
        let answers = ctx.broker.controller.ask(question, PATIENCE).await;
        for ((at, _), answer) in expected.iter().zip(answers) {
            outcomes[*at] = answer.map_err(|refusal| Refused::new(refusal.code, refusal.message));
        }
    }
    if !validate_only {
        expected.retain(|(at, _)| outcomes[*at].is_ok());
        let shown = |image: &Image| expected.iter().all(|(_, change)| change.shows(image));
        auto_create::shown(&ctx.broker, shown).await;
    }
    outcomes.into_iter().map(Outcome).collect()
}

fn invalid(message: impl Into<String>) -> Refused {
    Refused::new(ErrorCode::InvalidRequest, message)
}

/// What an image shows once a change is there.
struct Expected {
    resource: ConfigResource,
    settings: Settings,
    /// The keys that matter; none: all. Others may change at the same time, or may have changed just
    /// before on another broker.
    keys: Option<Vec<String>>,
}

impl Expected {
    fn shows(&self, image: &Image) -> bool {
        let now = image.config(&self.resource);
        match &self.keys {
            None => *now == self.settings,
            Some(keys) => keys.iter().all(|key| now.get(key) == self.settings.get(key)),
        }
    }
}

/// The change for the controller, and what it leads to. Whether a topic is there says the controller:
/// another broker may have been asked for it just before.
fn checked(
    broker_id: i32,
    config: &BrokerConfig,
    image: &Image,
    change: &ResourceChange<'_>,
) -> Result<(ConfigAlteration, Expected), Refused> {
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
    let (settings, keys, how) = match &change.wanted {
        Wanted::Whole(all) => {
            let settings = whole(all);
            check(scope, config, &settings)?;
            (settings.clone(), None, ConfigChange::Replace(settings))
        }
        Wanted::Steps(steps) => {
            let changes = steps.iter().map(step).collect::<Result<Vec<_>, _>>()?;
            let settings = apply(scope, config, current, &changes)?;
            let keys = changes.iter().map(|change| change.name.to_owned()).collect();
            (settings, Some(keys), ConfigChange::Edit(changes.iter().map(edit).collect()))
        }
    };
    let expected = Expected { resource: resource.clone(), settings, keys };
    Ok((ConfigAlteration { resource, change: how }, expected))
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
