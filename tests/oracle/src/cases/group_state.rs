//! DescribeGroups, ListGroups, DeleteGroups.

use klamm_protocol::ApiKey;
use klamm_protocol::messages::delete_groups::DeleteGroupsRequest;
use klamm_protocol::messages::describe_groups::DescribeGroupsRequest;
use klamm_protocol::messages::leave_group::LeaveGroupRequest;
use klamm_protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};

use super::groups::{ready, stable};
use super::{Behaviour, of};
use crate::case::{Case, Step};

pub(super) const ALL: &[Behaviour] = &[
    of(ApiKey::DescribeGroups, "states", describe),
    of(ApiKey::ListGroups, "filters", list),
    of(ApiKey::DeleteGroups, "deleted and not", delete),
];

fn empty_group(case: &mut Case, suffix: &str) -> Step<String> {
    let group = case.named(suffix);
    let (member, _) = stable(case, &group)?;
    let leave =
        LeaveGroupRequest { group_id: group.clone(), member_id: member, ..Default::default() };
    case.quietly(2, &leave)?;
    Ok(group)
}

fn describe(case: &mut Case) -> Step {
    let group = case.named("stable");
    stable(case, &group)?;
    let empty = empty_group(case, "empty")?;
    let missing = case.named("missing");
    ready(case, &missing)?;
    let request = |groups: &[&str]| DescribeGroupsRequest {
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        include_authorized_operations: false,
    };
    case.ask("stable", &request(&[&group]));
    case.ask("empty", &request(&[&empty]));
    case.ask("missing", &request(&[&missing]));
    case.ask("no name", &request(&[""]));
    case.ask("several", &request(&[&group, &missing, &empty]));
    case.ask("none", &request(&[]));
    let operations =
        DescribeGroupsRequest { include_authorized_operations: true, ..request(&[&group]) };
    case.ask("operations", &operations);
    Ok(())
}

fn list(case: &mut Case) -> Step {
    let group = case.named("stable");
    stable(case, &group)?;
    let empty = empty_group(case, "empty")?;
    let filters: &[(&str, &[&str], &[&str])] = &[
        ("all", &[], &[]),
        ("stable", &["Stable"], &[]),
        ("in small letters", &["stable"], &[]),
        ("empty and dead", &["Empty", "Dead"], &[]),
        ("no such state", &["Odd"], &[]),
        ("classic", &[], &["classic"]),
        ("consumer", &[], &["consumer"]),
        ("no such type", &[], &["odd"]),
        ("stable and classic", &["Stable"], &["classic"]),
    ];
    for (step, states, types) in filters {
        let strings = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let request =
            ListGroupsRequest { states_filter: strings(states), types_filter: strings(types) };
        // The groups of other cases are there as well.
        let Ok(response) = case.quietly(case.version, &request) else { continue };
        let mut seen = own(&response, &[&group, &empty]);
        seen.insert(0, format!("{}", response.error_code));
        case.note(step, "groups", seen.join(" "));
    }
    Ok(())
}

fn own(response: &ListGroupsResponse, names: &[&str]) -> Vec<String> {
    let mut found: Vec<String> = response
        .groups
        .iter()
        .filter(|group| names.contains(&group.group_id.as_str()))
        .map(|group| format!("{group:?}"))
        .collect();
    found.sort();
    found
}

fn delete(case: &mut Case) -> Step {
    let busy = case.named("stable");
    stable(case, &busy)?;
    let empty = empty_group(case, "empty")?;
    let missing = case.named("missing");
    ready(case, &missing)?;
    let request = |groups: &[&str]| DeleteGroupsRequest {
        groups_names: groups.iter().map(|group| (*group).to_owned()).collect(),
    };
    case.ask("with members", &request(&[&busy]));
    case.ask("empty", &request(&[&empty]));
    case.ask("again", &request(&[&empty]));
    case.ask("missing", &request(&[&missing]));
    case.ask("no name", &request(&[""]));
    case.ask("twice", &request(&[&busy, &busy]));
    case.ask("none", &request(&[]));
    Ok(())
}
