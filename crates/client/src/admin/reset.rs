//! Moving a group to other offsets: first the plan, which may be looked at, then the change.

use std::collections::BTreeMap;

use crate::error::ClientError;
use crate::group::committed::OffsetToCommit;
use crate::metadata::TopicPartition;
use crate::offsets::OffsetSpec;

use super::Admin;

/// Where a group is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetTo {
    /// With the first record there is.
    Earliest,
    /// With the next record to be published.
    Latest,
    /// At this offset, or as near as there are records.
    Offset(i64),
    /// With the first record whose timestamp, in milliseconds, is this or later; at the end if
    /// there is none.
    Timestamp(i64),
    /// So many records on, or back, from where it is; as far as there are records.
    ShiftBy(i64),
}

/// What is to become of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedReset {
    /// Which one.
    pub partition: TopicPartition,
    /// What the group has committed so far.
    pub current: Option<i64>,
    /// What it would commit.
    pub target: i64,
}

/// A partition's ends, and the offset that was asked for by time.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    earliest: i64,
    latest: i64,
    by_time: Option<i64>,
}

impl Admin {
    /// Where `group` would go on in each partition of `topics`. Nothing is changed.
    pub async fn plan_reset(
        &self,
        group: &str,
        topics: &[String],
        to: ResetTo,
    ) -> Result<Vec<PlannedReset>, ClientError> {
        let mut partitions = Vec::new();
        for topic in topics {
            let described = self.describe_topic(topic).await?;
            let indexes = described.partitions.iter().map(|partition| partition.index);
            partitions.extend(indexes.map(|index| TopicPartition::new(topic, index)));
        }
        let committed = self.group_offsets(group).await?;
        let bounds = self.bounds(&partitions, to).await?;
        partitions
            .into_iter()
            .map(|partition| {
                let current = committed.get(&partition).map(|committed| committed.offset);
                let target = target(to, current, bounds[&partition])
                    .ok_or_else(|| ClientError::NoPosition(partition.clone()))?;
                Ok(PlannedReset { partition, current, target })
            })
            .collect()
    }

    async fn bounds(
        &self,
        partitions: &[TopicPartition],
        to: ResetTo,
    ) -> Result<BTreeMap<TopicPartition, Bounds>, ClientError> {
        let earliest = self.list(partitions, OffsetSpec::Earliest).await?;
        let latest = self.list(partitions, OffsetSpec::Latest).await?;
        let by_time = match to {
            ResetTo::Timestamp(ms) => self.list(partitions, OffsetSpec::Timestamp(ms)).await?,
            _ => BTreeMap::new(),
        };
        let bounds = |partition: &TopicPartition| Bounds {
            earliest: earliest[partition],
            latest: latest[partition],
            by_time: by_time.get(partition).copied().filter(|offset| *offset >= 0),
        };
        Ok(partitions.iter().map(|partition| (partition.clone(), bounds(partition))).collect())
    }

    async fn list(
        &self,
        partitions: &[TopicPartition],
        spec: OffsetSpec,
    ) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
        let wanted = partitions.iter().map(|partition| (partition.clone(), spec)).collect();
        let listed = self.list_offsets(&wanted).await?;
        Ok(listed.into_iter().map(|(partition, listed)| (partition, listed.offset)).collect())
    }

    /// Does what was planned; refused while the group has members.
    pub async fn reset_group(&self, group: &str, plan: &[PlannedReset]) -> Result<(), ClientError> {
        let offset = |planned: &PlannedReset| {
            (planned.partition.clone(), OffsetToCommit::from(planned.target))
        };
        self.alter_group_offsets(group, &plan.iter().map(offset).collect()).await
    }
}

/// Nothing if it is relative to an offset that there is not.
fn target(to: ResetTo, current: Option<i64>, bounds: Bounds) -> Option<i64> {
    let Bounds { earliest, latest, by_time } = bounds;
    let wanted = match to {
        ResetTo::Earliest => earliest,
        ResetTo::Latest => latest,
        ResetTo::Offset(offset) => offset,
        ResetTo::Timestamp(_) => by_time.unwrap_or(latest),
        ResetTo::ShiftBy(records) => current?.saturating_add(records),
    };
    Some(wanted.clamp(earliest, latest.max(earliest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_stay_within_the_partition() {
        let bounds = Bounds { earliest: 10, latest: 20, by_time: Some(15) };
        let target = |to| target(to, Some(12), bounds);
        assert_eq!(target(ResetTo::Earliest), Some(10));
        assert_eq!(target(ResetTo::Latest), Some(20));
        assert_eq!(target(ResetTo::Offset(13)), Some(13));
        assert_eq!(target(ResetTo::Offset(3)), Some(10));
        assert_eq!(target(ResetTo::Offset(33)), Some(20));
        assert_eq!(target(ResetTo::Timestamp(0)), Some(15));
        assert_eq!(target(ResetTo::ShiftBy(-1)), Some(11));
        assert_eq!(target(ResetTo::ShiftBy(i64::MAX)), Some(20));
        assert_eq!(target(ResetTo::ShiftBy(-100)), Some(10));
    }

    #[test]
    fn a_shift_needs_a_committed_offset_and_a_time_beyond_the_last_is_the_end() {
        let bounds = Bounds { earliest: 0, latest: 5, by_time: None };
        assert_eq!(target(ResetTo::ShiftBy(1), None, bounds), None);
        assert_eq!(target(ResetTo::Timestamp(9), None, bounds), Some(5));
    }
}
