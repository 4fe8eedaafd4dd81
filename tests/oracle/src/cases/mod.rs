//! The script: a function for each behaviour.

mod alter_partition_reassignments;
mod api_versions;
mod configs;
mod create_topics;
mod delete_topics;
mod describe;
mod elect_leaders;
mod fetch;
mod group_state;
mod groups;
mod idempotence;
mod list_offsets;
mod malformed;
mod metadata;
mod offsets;
mod produce;

use klamm_protocol::{ApiKey, api};

use crate::case::{Case, Step};
use crate::compare::Entry;

/// A behaviour to try at every version of an API.
pub(crate) struct Behaviour {
    pub(crate) key: ApiKey,
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut Case) -> Step,
    /// Whether it is part of the slice for CI.
    pub(crate) in_slice: bool,
}

pub(crate) const fn of(key: ApiKey, name: &'static str, run: fn(&mut Case) -> Step) -> Behaviour {
    Behaviour { key, name, run, in_slice: true }
}

impl Behaviour {
    /// Left out of the slice.
    const fn long(mut self) -> Behaviour {
        self.in_slice = false;
        self
    }
}

/// A behaviour at one version.
pub(crate) struct Planned {
    pub(crate) name: String,
    version: i16,
    run: fn(&mut Case) -> Step,
}

impl Planned {
    /// Runs it against one broker.
    pub(crate) fn run(&self, address: &str) -> Vec<Entry> {
        match Case::start(address, &self.name, self.version) {
            Ok(mut case) => {
                let result = (self.run)(&mut case);
                case.finish(result)
            }
            Err(problem) => {
                let values = [("outcome".to_owned(), problem)].into();
                vec![Entry { label: "connect".to_owned(), values }]
            }
        }
    }
}

/// All cases; a slice keeps the oldest and the newest version of the shorter behaviours.
pub(crate) fn plan(slice: bool, only: Option<&str>) -> Vec<Planned> {
    let all = [
        api_versions::ALL,
        malformed::ALL,
        metadata::ALL,
        create_topics::ALL,
        delete_topics::ALL,
        describe::ALL,
        elect_leaders::ALL,
        alter_partition_reassignments::ALL,
        configs::ALL,
        produce::ALL,
        idempotence::ALL,
        fetch::ALL,
        list_offsets::ALL,
        groups::ALL,
        offsets::ALL,
        group_state::ALL,
    ];
    let mut planned = Vec::new();
    for behaviour in all.into_iter().flatten() {
        let served = api::find(behaviour.key).expect("cases are for what is served");
        for version in served.min..=served.max {
            let edge = version == served.min || version == served.max;
            if slice && !(behaviour.in_slice && edge) {
                continue;
            }
            let name = format!("{:?} v{version} {}", behaviour.key, behaviour.name);
            if only.is_none_or(|only| name.contains(only)) {
                planned.push(Planned { name, version, run: behaviour.run });
            }
        }
    }
    planned
}
