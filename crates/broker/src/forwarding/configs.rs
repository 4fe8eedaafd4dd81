//! Questions about settings.

use futures_util::future::BoxFuture;
use klamm_cluster::ControllerHandle;
use klamm_cluster::controller::{ConfigAlteration, ConfigChange, ConfigEdit, EditOp};
use klamm_cluster::nodes::config::{ConfigKind, ConfigResource};
use klamm_protocol::messages::ask_controller::{
    AskControllerRequest, AskedAlteration, AskedEdit, AskedResult,
};

use super::question::{Again, Answers, Question};

/// Changes settings.
pub(crate) struct AlterConfigs {
    /// Whose, and how.
    pub alterations: Vec<ConfigAlteration>,
    /// Whether only to say what would happen.
    pub validate_only: bool,
}

impl AlterConfigs {
    /// As another broker asks, unless it makes no sense.
    pub(super) fn from_wire(
        asked: Vec<AskedAlteration>,
        validate_only: bool,
    ) -> Option<AlterConfigs> {
        let alterations = asked.into_iter().map(from_wire).collect::<Option<_>>()?;
        Some(AlterConfigs { alterations, validate_only })
    }
}

impl Question for AlterConfigs {
    type Done = ();

    fn items(&self) -> usize {
        self.alterations.len()
    }

    fn again(&self) -> Again {
        if self.validate_only { Again::AtOnce } else { Again::NextEpoch }
    }

    fn ask<'a>(&'a self, controller: &'a ControllerHandle) -> BoxFuture<'a, Answers<Self>> {
        Box::pin(controller.alter_configs(self.alterations.clone(), self.validate_only))
    }

    fn to_wire(&self) -> AskControllerRequest {
        AskControllerRequest {
            validate_only: self.validate_only,
            alterations: Some(self.alterations.iter().map(to_wire).collect()),
            ..Default::default()
        }
    }

    fn from_result(_: AskedResult) {}

    fn to_result((): ()) -> AskedResult {
        AskedResult::default()
    }
}

/// Every kind of resource and Kafka's number for it; those without one are Klamm's own.
const KINDS: [(ConfigKind, i8); 6] = [
    (ConfigKind::Topic, 2),
    (ConfigKind::Broker, 4),
    (ConfigKind::Group, 32),
    (ConfigKind::Client, 101),
    (ConfigKind::User, 102),
    (ConfigKind::Ip, 103),
];
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(super) fn to_wire(alteration: &ConfigAlteration) -> AskedAlteration {
    let ConfigAlteration { resource, change } = alteration;
    let kind = KINDS.iter().find(|(kind, _)| *kind == resource.kind).expect("every kind is there");
    let (replace, edits) = match change {
        ConfigChange::Replace(all) => {
            (true, all.iter().map(|(key, value)| edit(key, SET, Some(value))).collect())
        }
        ConfigChange::Edit(edits) => (false, edits.iter().map(asked_edit).collect()),
    };
    AskedAlteration { kind: kind.1, name: resource.name.clone(), replace, edits }
}

fn asked_edit(of: &ConfigEdit) -> AskedEdit {
    match &of.op {
        EditOp::Set(value) => edit(&of.key, SET, Some(value)),
        EditOp::Delete => edit(&of.key, DELETE, None),
        EditOp::Append(items) => edit(&of.key, APPEND, Some(items)),
        EditOp::Subtract(items) => edit(&of.key, SUBTRACT, Some(items)),
    }
}

fn edit(key: &str, operation: i8, value: Option<&String>) -> AskedEdit {
    AskedEdit { key: key.to_owned(), operation, value: value.cloned() }
}

/// The change, unless it makes no sense.
pub(super) fn from_wire(asked: AskedAlteration) -> Option<ConfigAlteration> {
    let AskedAlteration { kind, name, replace, edits } = asked;
    let (kind, _) = KINDS.iter().find(|(_, number)| *number == kind)?;
    let change = if replace {
        let all = edits.into_iter().map(|edit| Some((edit.key, edit.value?)));
        ConfigChange::Replace(all.collect::<Option<_>>()?)
    } else {
        ConfigChange::Edit(edits.into_iter().map(config_edit).collect::<Option<_>>()?)
    };
    Some(ConfigAlteration { resource: ConfigResource { kind: *kind, name }, change })
}

fn config_edit(asked: AskedEdit) -> Option<ConfigEdit> {
    let op = match (asked.operation, asked.value) {
        (SET, Some(value)) => EditOp::Set(value),
        (DELETE, _) => EditOp::Delete,
        (APPEND, Some(items)) => EditOp::Append(items),
        (SUBTRACT, Some(items)) => EditOp::Subtract(items),
        _ => return None,
    };
    Some(ConfigEdit { key: asked.key, op })
}
