//! From where a partition is wanted to the offset to read.

use std::collections::BTreeMap;

use crate::error::ClientError;
use crate::group::committed;
use crate::metadata::TopicPartition;
use crate::offsets::{OffsetSpec, list_offsets};

use super::{AutoOffsetReset, Consumer, Position, StartAt};

impl Consumer {
    /// Finds the offset of every partition whose position is only wanted so far.
    pub(super) async fn settle_positions(&mut self) -> Result<(), ClientError> {
        self.settle_committed().await?;
        let wanted = self.wanted_by_time();
        if wanted.is_empty() {
            return Ok(());
        }
        let isolation = self.config.isolation.wire();
        let mut found = list_offsets(&self.cluster, &wanted, isolation).await?;
        // A time after the last record's: from the end on.
        let beyond: BTreeMap<_, _> = found
            .iter()
            .filter(|(_, listed)| listed.offset < 0)
            .map(|(partition, _)| (partition.clone(), OffsetSpec::Latest))
            .collect();
        found.extend(list_offsets(&self.cluster, &beyond, isolation).await?);
        for (partition, listed) in found {
            self.settle(&partition, listed.offset, listed.leader_epoch);
        }
        Ok(())
    }

    fn settle(&mut self, partition: &TopicPartition, offset: i64, leader_epoch: i32) {
        if let Some(assigned) = self.assigned.get_mut(partition) {
            assigned.position = Position::At { offset, leader_epoch };
        }
    }

    fn wanted_by_time(&mut self) -> BTreeMap<TopicPartition, OffsetSpec> {
        let mut wanted = BTreeMap::new();
        for (partition, assigned) in &mut self.assigned {
            let Position::Wanted(start) = assigned.position else { continue };
            let spec = match start {
                StartAt::Earliest => OffsetSpec::Earliest,
                StartAt::Latest => OffsetSpec::Latest,
                StartAt::Timestamp(ms) => OffsetSpec::Timestamp(ms),
                StartAt::Offset(offset) => {
                    assigned.position = Position::At { offset, leader_epoch: -1 };
                    continue;
                }
                // Without a group there is nothing committed, and so it was reset before.
                StartAt::Committed => continue,
            };
            wanted.insert(partition.clone(), spec);
        }
        wanted
    }

    async fn settle_committed(&mut self) -> Result<(), ClientError> {
        let is_wanted = |position| position == Position::Wanted(StartAt::Committed);
        let partitions: Vec<_> = self
            .assigned
            .iter()
            .filter(|(_, assigned)| is_wanted(assigned.position))
            .map(|(partition, _)| partition.clone())
            .collect();
        if partitions.is_empty() {
            return Ok(());
        }
        let mut found = match &self.config.group {
            Some(group) => {
                committed::fetch_committed(&self.cluster, group, Some(&partitions)).await?
            }
            None => BTreeMap::new(),
        };
        for partition in partitions {
            match found.remove(&partition) {
                Some(committed) => {
                    self.settle(&partition, committed.offset, committed.leader_epoch);
                }
                None => self.reset(&partition)?,
            }
        }
        Ok(())
    }

    /// Wants the partition from where the configuration says.
    pub(super) fn reset(&mut self, partition: &TopicPartition) -> Result<(), ClientError> {
        let start = match self.config.auto_offset_reset {
            AutoOffsetReset::Earliest => StartAt::Earliest,
            AutoOffsetReset::Latest => StartAt::Latest,
            AutoOffsetReset::None => return Err(ClientError::NoPosition(partition.clone())),
        };
        if let Some(assigned) = self.assigned.get_mut(partition) {
            assigned.position = Position::Wanted(start);
        }
        Ok(())
    }
}
