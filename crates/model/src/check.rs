//! Running the checker on a scenario.

use std::fmt;

use stateright::{Checker, HasDiscoveries, Model};

use crate::action::Action;
use crate::rule::Rules;
use crate::scenarios::Scenario;
use crate::{Cluster, Invariants, Limits};

/// What the checker found.
#[derive(Debug)]
pub struct Report {
    /// Its name.
    pub scenario: &'static str,
    /// States visited; with no counter-example, all that can be reached within the limits.
    pub states: usize,
    /// Steps taken; several may lead to one state.
    pub steps: usize,
    /// The longest of the shortest ways to a state, in steps.
    pub depth: usize,
    /// The violated invariant, and how to get there.
    pub counter_example: Option<(&'static str, Vec<Action>)>,
    /// What was to be reached and was not.
    pub unseen: Vec<&'static str>,
}

/// Visits every state that can be reached, or stops at the first violation.
///
/// One thread, breadth first: the same run each time, and a shortest counter-example.
pub fn check(scenario: &Scenario, limits: Limits, rules: Rules, invariants: Invariants) -> Report {
    let cluster = Cluster { rules, limits, invariants };
    let checker =
        cluster.checker().threads(1).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let discoveries = checker.discoveries();
    let mut unseen = Vec::new();
    let mut failures = Vec::new();
    for property in cluster.properties() {
        let found = discoveries.get(property.name);
        match property.expectation.discovery_is_failure() {
            true => failures.extend(found.map(|path| (property.name, path.clone().into_actions()))),
            false if found.is_none() => unseen.push(property.name),
            false => {}
        }
    }
    failures.sort_by_key(|(_, actions)| actions.len());
    Report {
        scenario: scenario.name,
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        counter_example: failures.into_iter().next(),
        unseen,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, states, steps, depth, .. } = self;
        write!(f, "{scenario}: {states} states, {steps} steps, depth {depth}")?;
        if let Some((invariant, actions)) = &self.counter_example {
            write!(f, "; {invariant} broken in {} steps:", actions.len())?;
            for action in actions {
                write!(f, "\n    {action:?}")?;
            }
        }
        for unseen in &self.unseen {
            write!(f, "; never seen: {unseen}")?;
        }
        Ok(())
    }
}
