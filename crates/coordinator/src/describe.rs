//! DescribeGroups and ListGroups: what can be seen of a group.

use bytes::Bytes;

use crate::group::{Group, GroupState};
use crate::groups::Groups;
use crate::member::Member;

/// A group in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    /// What it is doing.
    pub state: GroupState,
    /// Empty for a group that never had members.
    pub protocol_type: String,
    /// The protocol members assign by; empty unless the group is stable.
    pub protocol: String,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// A member in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// The member.
    pub member_id: String,
    /// Set for a static member.
    pub group_instance_id: Option<String>,
    /// From its join.
    pub client_id: String,
    /// From its join.
    pub client_host: String,
    /// What it sent under the chosen protocol; empty unless the group is stable.
    pub metadata: Bytes,
    /// What it was assigned.
    pub assignment: Bytes,
}

/// A line of ListGroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// The group.
    pub group_id: String,
    /// Empty for a group that never had members.
    pub protocol_type: String,
    /// What it is doing.
    pub state: GroupState,
}

/// Which groups ListGroups wants. Empty lists want all.
#[derive(Clone, Debug, Default)]
pub struct GroupFilter {
    /// Names of states, in any case.
    pub states: Vec<String>,
    /// Names of types, in any case. All groups in here are `classic`.
    pub types: Vec<String>,
}

impl GroupFilter {
    fn admits(&self, state: GroupState) -> bool {
        let matches = |wanted: &String| wanted.trim().eq_ignore_ascii_case(state.name());
        self.states.is_empty() || self.states.iter().any(matches)
    }

    fn admits_classic(&self) -> bool {
        self.types.is_empty() || self.types.iter().any(|name| name.eq_ignore_ascii_case("classic"))
    }
}

impl Groups {
    /// A group in detail; `None` for what Kafka calls `Dead`.
    #[must_use]
    pub fn describe(&self, group_id: &str) -> Option<DescribedGroup> {
        let group = self.groups.get(group_id)?;
        let protocol = match group.state {
            GroupState::Stable => group.protocol.as_deref(),
            _ => None,
        };
        let describe = |member: &Member| DescribedMember {
            member_id: member.id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: member.metadata(protocol),
            assignment: member.assignment.clone(),
        };
        Some(DescribedGroup {
            state: group.state,
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.unwrap_or_default().to_owned(),
            members: group.members.values().map(describe).collect(),
        })
    }

    /// The groups that `filter` admits, by id.
    #[must_use]
    pub fn list(&self, filter: &GroupFilter) -> Vec<ListedGroup> {
        if !filter.admits_classic() {
            return Vec::new();
        }
        let listed = |group: &Group| ListedGroup {
            group_id: group.id.clone(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            state: group.state,
        };
        self.groups.values().filter(|group| filter.admits(group.state)).map(listed).collect()
    }
}
