//! Consumer groups and their offsets.

use std::collections::BTreeMap;

use klamm_protocol::ApiKey;
use klamm_protocol::messages::delete_groups::DeleteGroupsRequest;
use klamm_protocol::messages::describe_groups::{
    DescribeGroupsRequest, DescribedGroup, DescribedGroupMember,
};
use klamm_protocol::messages::list_groups::ListGroupsRequest;
use klamm_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};

use crate::cluster::Lane;
use crate::error::{ClientError, check};
use crate::group::committed::{self, CommittedOffset, OffsetToCommit};
use crate::group::decode_assignment;
use crate::metadata::TopicPartition;
use crate::retry::Retry;

use super::{Admin, To};

/// A group, in a word.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupListing {
    /// Its name.
    pub group: String,
    /// What its members do: `consumer`, or another word where they are not consumers.
    pub protocol_type: String,
    /// Kafka's word for its state; empty where the broker is too old to tell.
    pub state: String,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its name.
    pub group: String,
    /// Kafka's word for its state.
    pub state: String,
    /// What its members do.
    pub protocol_type: String,
    /// The rule that partitions are shared out by.
    pub assignor: String,
    /// Who is in it.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Given by the coordinator.
    pub member_id: String,
    /// What it calls itself over restarts.
    pub instance_id: Option<String>,
    /// What it calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// What it reads.
    pub partitions: Vec<TopicPartition>,
}

impl Admin {
    /// All groups there are, by name: each broker tells of those that it coordinates.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, ClientError> {
        let mut retry = Retry::new(self.cluster.config(), "groups");
        loop {
            match self.list_groups_once().await {
                Ok(groups) => return Ok(groups),
                Err(error) => retry.pause(error).await?,
            }
        }
    }

    async fn list_groups_once(&self) -> Result<Vec<GroupListing>, ClientError> {
        let metadata = self.cluster.refresh(&[]).await?;
        let mut groups = Vec::new();
        for broker in metadata.brokers.keys() {
            let connection = self.cluster.broker(*broker, Lane::General).await?;
            let response = connection.request(&ListGroupsRequest::default()).await?;
            check(response.error_code, None, || format!("groups of broker {broker}"))?;
            groups.extend(response.groups.into_iter().map(|group| GroupListing {
                group: group.group_id,
                protocol_type: group.protocol_type,
                state: group.group_state,
            }));
        }
        groups.sort();
        groups.dedup();
        Ok(groups)
    }

    /// A group and its members. A group that does not exist is `Dead`, as in Kafka before 4.0, or
    /// an error.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, ClientError> {
        let request = DescribeGroupsRequest {
            groups: vec![group.to_owned()],
            include_authorized_operations: false,
        };
        self.ask(To::Coordinator(group), &request, |response| {
            let described = response.groups.into_iter().next();
            let described = described.ok_or_else(|| incomplete(ApiKey::DescribeGroups, group))?;
            let message = described.error_message.as_deref();
            check(described.error_code, message, || format!("group {group}"))?;
            description(described)
        })
        .await
    }

    /// Deletes a group that has no members, with its offsets.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let request = DeleteGroupsRequest { groups_names: vec![group.to_owned()] };
        self.ask(To::Coordinator(group), &request, |response| {
            let result = response.results.into_iter().next();
            let result = result.ok_or_else(|| incomplete(ApiKey::DeleteGroups, group))?;
            check(result.error_code, None, || format!("deleting group {group}"))
        })
        .await
    }

    /// Everything that a group has committed.
    pub async fn group_offsets(
        &self,
        group: &str,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
        committed::fetch_committed(&self.cluster, group, None).await
    }

    /// Sets what a group has committed; refused while it has members.
    pub async fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, OffsetToCommit>,
    ) -> Result<(), ClientError> {
        committed::commit(&self.cluster, group, None, offsets).await
    }

    /// Forgets what a group has committed for these partitions; refused for topics that its
    /// members subscribe to.
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<(), ClientError> {
        let mut topics: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
        for TopicPartition { topic, partition } in partitions {
            let partition = OffsetDeleteRequestPartition { partition_index: *partition };
            topics.entry(topic).or_default().push(partition);
        }
        let topics = topics
            .into_iter()
            .map(|(name, partitions)| OffsetDeleteRequestTopic {
                name: name.to_owned(),
                partitions,
            })
            .collect();
        let request = OffsetDeleteRequest { group_id: group.to_owned(), topics };
        self.ask(To::Coordinator(group), &request, |response| {
            check(response.error_code, None, || format!("deleting offsets of group {group}"))?;
            for topic in response.topics {
                for partition in topic.partitions {
                    let (name, index) = (&topic.name, partition.partition_index);
                    check(partition.error_code, None, || {
                        format!("deleting the offset of group {group} in {name}-{index}")
                    })?;
                }
            }
            Ok(())
        })
        .await
    }
}

fn incomplete(api: ApiKey, group: &str) -> ClientError {
    ClientError::Incomplete { api, what: group.to_owned() }
}

fn description(described: DescribedGroup) -> Result<GroupDescription, ClientError> {
    let members: Result<_, _> = described.members.into_iter().map(member).collect();
    Ok(GroupDescription {
        group: described.group_id,
        state: described.group_state,
        protocol_type: described.protocol_type,
        assignor: described.protocol_data,
        members: members?,
    })
}

fn member(member: DescribedGroupMember) -> Result<GroupMember, ClientError> {
    let partitions = decode_assignment(member.member_assignment)
        .map_err(|source| ClientError::Decode { api: ApiKey::DescribeGroups, source })?;
    Ok(GroupMember {
        member_id: member.member_id,
        instance_id: member.group_instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        partitions,
    })
}
