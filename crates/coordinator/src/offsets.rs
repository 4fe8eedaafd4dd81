//! Committed offsets: commit, read, delete, expire.

use klamm_protocol::ErrorCode;
use uuid::Uuid;

use crate::answer::Answer;
use crate::group::{Group, GroupState};
use crate::groups::Groups;
use crate::proposal::{Proposal, Then};
use crate::record::{CommittedOffset, Record};
use crate::request::{Commit, CommitOffset, DeleteOffsets};
use crate::time::Now;
use crate::timers::Timer;

impl Groups {
    /// OffsetCommit. A commit is a sign of life of its member.
    pub fn commit(&mut self, now: Now, commit: Commit) -> Proposal {
        if let Err(error) = self.check_commit(&commit) {
            let codes = vec![error; commit.offsets.len()];
            return Proposal::answer(commit.ticket, Answer::Commit(codes));
        }
        if let Some(mut step) = self.step(&commit.group_id, now)
            && matches!(step.group.state, GroupState::Stable | GroupState::PreparingRebalance)
        {
            step.heard_of(&commit.member_id);
        }
        let expire_ms = commit.retention_ms.map(|ms| now.wall_ms.saturating_add(ms));
        let mut codes = Vec::with_capacity(commit.offsets.len());
        let mut records = Vec::with_capacity(commit.offsets.len());
        for offset in commit.offsets {
            let metadata = offset.metadata.as_deref().unwrap_or_default();
            if metadata.encode_utf16().count() > self.config.offset_metadata_max {
                codes.push(ErrorCode::OffsetMetadataTooLarge);
                continue;
            }
            codes.push(ErrorCode::None);
            records.push(offset_record(&commit.group_id, offset, now.wall_ms, expire_ms));
        }
        Proposal { records, ..Proposal::answer(commit.ticket, Answer::Commit(codes)) }
    }

    /// Who may commit: a member of the current generation; or anybody who claims no generation, as
    /// long as the group has no members.
    fn check_commit(&self, commit: &Commit) -> Result<(), ErrorCode> {
        let Some(group) = self.groups.get(&commit.group_id) else {
            return match commit.generation {
                ..0 if self.groups.len() >= self.config.max_groups => {
                    Err(ErrorCode::PolicyViolation)
                }
                ..0 => Ok(()),
                _ if commit.api_version >= 9 => Err(ErrorCode::GroupIdNotFound),
                _ => Err(ErrorCode::IllegalGeneration),
            };
        };
        if commit.generation < 0 && group.state == GroupState::Empty {
            return Ok(());
        }
        let claims_membership = commit.generation >= 0
            || !commit.member_id.is_empty()
            || commit.group_instance_id.is_some();
        if !claims_membership {
            return Err(ErrorCode::UnknownMemberId);
        }
        group.check_member(&commit.member_id, commit.group_instance_id.as_deref())?;
        if commit.generation != group.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        match group.state {
            // The member knows its generation but not yet what it owns in it.
            GroupState::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// The committed offset of one partition. One committed under another topic id than `topic_id`
    /// belongs to a deleted topic of the same name; a nil id is not compared.
    #[must_use]
    pub fn committed(
        &self,
        group: &str,
        topic: &str,
        topic_id: Uuid,
        partition: i32,
    ) -> Option<&CommittedOffset> {
        let offset = self.groups.get(group)?.offsets.get(topic)?.get(&partition)?;
        Some(offset).filter(|offset| same_topic(offset.topic_id, topic_id))
    }

    /// Every committed offset of a group, by topic and partition. Nothing for an unknown group.
    pub fn all_committed(
        &self,
        group: &str,
    ) -> impl Iterator<Item = (&str, i32, &CommittedOffset)> {
        let topics = self.groups.get(group).into_iter().flat_map(|group| &group.offsets);
        topics.flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, offset)| (topic.as_str(), *partition, offset))
        })
    }

    /// OffsetDelete.
    pub fn delete_offsets(&mut self, delete: DeleteOffsets) -> Proposal {
        let refuse = |error| Proposal::answer(delete.ticket, Answer::DeleteOffsets(Err(error)));
        if delete.group_id.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        let Some(group) = self.groups.get(&delete.group_id) else {
            return refuse(ErrorCode::GroupIdNotFound);
        };
        if group.state != GroupState::Empty && !group.is_consumer_group() {
            return refuse(ErrorCode::NonEmptyGroup);
        }
        let mut codes = Vec::with_capacity(delete.partitions.len());
        let mut records = Vec::new();
        for (topic, partition) in delete.partitions {
            if group.is_subscribed_to(&topic) {
                codes.push(ErrorCode::GroupSubscribedToTopic);
                continue;
            }
            codes.push(ErrorCode::None);
            if group.offsets.get(&topic).is_some_and(|offsets| offsets.contains_key(&partition)) {
                records.push(tombstone(&delete.group_id, &topic, partition));
            }
        }
        Proposal { records, ..Proposal::answer(delete.ticket, Answer::DeleteOffsets(Ok(codes))) }
    }

    /// A topic is gone: tombstones for what was committed in it, a bounded number at a time. Call
    /// again until a proposal without records comes back. Offsets committed under another id of the
    /// same name stay.
    pub fn forget_topic(&mut self, topic: &str, topic_id: Uuid) -> Proposal {
        let mut batch = TombstoneBatch::new(self.config.max_tombstone_batch_bytes);
        for group in self.groups.values() {
            for (partition, offset) in group.offsets.get(topic).into_iter().flatten() {
                if same_topic(offset.topic_id, topic_id)
                    && !batch.push(tombstone(&group.id, topic, *partition))
                {
                    return batch.into_proposal();
                }
            }
        }
        batch.into_proposal()
    }

    /// Retention: offsets of groups that have been empty for all of `offsets.retention.minutes`,
    /// and groups that are left with nothing. Kafka also drops, in a stable group, offsets of topics
    /// nobody subscribes to; we keep them until the group is empty.
    pub(crate) fn expire_offsets(&mut self, now: Now) -> Proposal {
        if self.keeps_offsets {
            let wait_ms = self.config.offsets_retention_check_interval_ms;
            self.timers.set(Timer::Retention, now.at.after(wait_ms));
            return Proposal::default();
        }
        let mut batch = TombstoneBatch::new(self.config.max_tombstone_batch_bytes);
        let retention_ms = self.config.offsets_retention_ms;
        let mut is_complete = true;
        for group in self.groups.values().filter(|group| group.state == GroupState::Empty) {
            let expired = group.offset_tombstones(|_, _, offset| {
                group.is_expired(offset, now.wall_ms, retention_ms)
            });
            let has_nothing_left = expired.len() == group.count_offsets();
            is_complete = expired.into_iter().all(|record| batch.push(record));
            if is_complete && has_nothing_left && group.pending_join.is_empty() {
                is_complete = batch.push(Record::Group { group: group.id.clone(), image: None });
            }
            if !is_complete {
                break;
            }
        }
        let wait_ms = match is_complete {
            true => self.config.offsets_retention_check_interval_ms,
            false => 1,
        };
        self.timers.set(Timer::Retention, now.at.after(wait_ms));
        Proposal { then: Then::Expire, ..batch.into_proposal() }
    }
}

impl Group {
    /// Tombstones for the offsets that `select` picks.
    pub(crate) fn offset_tombstones(
        &self,
        select: impl Fn(&str, i32, &CommittedOffset) -> bool,
    ) -> Vec<Record> {
        let mut records = Vec::new();
        for (topic, partitions) in &self.offsets {
            for (partition, offset) in partitions {
                if select(topic, *partition, offset) {
                    records.push(tombstone(&self.id, topic, *partition));
                }
            }
        }
        records
    }

    fn count_offsets(&self) -> usize {
        self.offsets.values().map(std::collections::BTreeMap::len).sum()
    }

    /// For an empty group. Retention starts when the group became empty or, if later, when the
    /// offset was committed: an administrator's reset of an idle group lasts as long as any commit.
    fn is_expired(&self, offset: &CommittedOffset, wall_ms: i64, retention_ms: i64) -> bool {
        if let Some(expire_ms) = offset.expire_ms {
            return wall_ms >= expire_ms;
        }
        let emptied_ms = match self.protocol_type.is_some() {
            true => self.state_since_ms.unwrap_or(offset.commit_ms),
            false => offset.commit_ms,
        };
        wall_ms.saturating_sub(emptied_ms.max(offset.commit_ms)) >= retention_ms
    }
}

/// Records up to a number of bytes, so that one batch stays well under any message size limit.
struct TombstoneBatch {
    records: Vec<Record>,
    room: usize,
}

impl TombstoneBatch {
    fn new(room: usize) -> TombstoneBatch {
        TombstoneBatch { records: Vec::new(), room }
    }

    /// False if there is no room left; the first record always finds some.
    fn push(&mut self, record: Record) -> bool {
        let size = record.tombstone_size();
        if size > self.room && !self.records.is_empty() {
            return false;
        }
        self.room = self.room.saturating_sub(size);
        self.records.push(record);
        true
    }

    fn into_proposal(self) -> Proposal {
        Proposal { records: self.records, ..Proposal::default() }
    }
}

fn tombstone(group: &str, topic: &str, partition: i32) -> Record {
    Record::Offset { group: group.to_owned(), topic: topic.to_owned(), partition, offset: None }
}

fn offset_record(
    group: &str,
    offset: CommitOffset,
    wall_ms: i64,
    expire_ms: Option<i64>,
) -> Record {
    // The one version of the record that has an expiry has neither epoch nor topic id.
    let (leader_epoch, topic_id) = match expire_ms {
        Some(_) => (-1, Uuid::nil()),
        None => (offset.leader_epoch, offset.topic_id),
    };
    let committed = CommittedOffset {
        offset: offset.offset,
        leader_epoch,
        metadata: offset.metadata.unwrap_or_default(),
        commit_ms: wall_ms,
        expire_ms,
        topic_id,
    };
    Record::Offset {
        group: group.to_owned(),
        topic: offset.topic,
        partition: offset.partition,
        offset: Some(committed),
    }
}

fn same_topic(one: Uuid, other: Uuid) -> bool {
    one.is_nil() || other.is_nil() || one == other
}
