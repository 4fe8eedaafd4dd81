//! All groups of one internal partition: the way in and out of the machine.

use std::collections::BTreeMap;

use klamm_protocol::ErrorCode;

use crate::answer::{Answer, JoinAnswer, LeaveAnswer, LeftMember, SyncAnswer};
use crate::config::GroupConfig;
use crate::group::{Group, GroupState, TopicOffsets};
use crate::proposal::{Proposal, Reply, Then};
use crate::rebalance::Step;
use crate::record::{GroupImage, Record};
use crate::request::{Heartbeat, Join, Leave, Sync, Ticket};
use crate::time::{Now, Time};
use crate::timers::{Timer, Timers};

/// The groups of one partition of `__consumer_offsets`. See the crate's page for how to call it.
#[derive(Debug)]
pub struct Groups {
    pub(crate) config: GroupConfig,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) timers: Timers,
    /// No committed offset expires for now.
    pub(crate) keeps_offsets: bool,
}

/// What of a group survives a failover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurableGroup {
    /// The last recorded generation.
    pub image: Option<GroupImage>,
    /// Committed offsets by topic and partition.
    pub offsets: BTreeMap<String, TopicOffsets>,
}

impl Groups {
    /// A machine without groups, to be loaded.
    #[must_use]
    pub fn new(config: GroupConfig) -> Groups {
        Groups { config, groups: BTreeMap::new(), timers: Timers::default(), keeps_offsets: false }
    }

    /// Lets no committed offset expire while `keeps`: the broker does not know whether it is still
    /// the coordinator.
    pub fn keep_offsets(&mut self, keeps: bool) {
        self.keeps_offsets = keeps;
    }

    /// Takes new settings; they hold from the next decision on.
    pub fn set_config(&mut self, config: GroupConfig) {
        self.config = config;
    }

    /// The only change of durable state: one record, in the order of the log.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Group { group, image: Some(image) } => {
                self.group_or_empty(&group).image = Some(image);
            }
            Record::Group { group, image: None } => self.forget_group(&group),
            Record::Offset { group, topic, partition, offset: Some(offset) } => {
                let group = self.group_or_empty(&group);
                group.offsets.entry(topic).or_default().insert(partition, offset);
            }
            Record::Offset { group, topic, partition, offset: None } => {
                let Some(group) = self.groups.get_mut(&group) else { return };
                let Some(partitions) = group.offsets.get_mut(&topic) else { return };
                partitions.remove(&partition);
                if partitions.is_empty() {
                    group.offsets.remove(&topic);
                }
            }
        }
    }

    fn group_or_empty(&mut self, group: &str) -> &mut Group {
        self.groups.entry(group.to_owned()).or_insert_with(|| Group::empty(group, None))
    }

    /// A group's tombstone. Offsets that outlive it (only an odd log has such) make it a group that
    /// never had members.
    fn forget_group(&mut self, id: &str) {
        let Some(group) = self.groups.remove(id) else { return };
        cancel_timers(&mut self.timers, &group);
        if !group.offsets.is_empty() {
            let offsets = group.offsets;
            self.groups.insert(id.to_owned(), Group { offsets, ..Group::empty(id, None) });
        }
    }

    /// Ends loading: every record up to the high watermark has been applied. Members get a full
    /// session to be heard of; a group over `group.max.size` is made to rebalance.
    pub fn loaded(&mut self, now: Now) {
        let ids: Vec<String> = self.groups.keys().cloned().collect();
        for id in ids {
            let Some(mut step) = self.step(&id, now) else { continue };
            step.group.revive();
            let sessions: Vec<(String, i32)> = step
                .group
                .members
                .values()
                .map(|member| (member.id.clone(), member.session_timeout_ms))
                .collect();
            for (member, session_timeout_ms) in sessions {
                step.expect_within(&member, i64::from(session_timeout_ms));
            }
            if step.group.members.len() > step.config.max_size {
                step.prepare_rebalance("the group is larger than group.max.size after loading");
            }
        }
        let interval = self.config.offsets_retention_check_interval_ms;
        self.timers.set(Timer::Retention, now.at.after(interval));
    }

    /// Everything durable, for tests and tools.
    #[must_use]
    pub fn durable(&self) -> BTreeMap<String, DurableGroup> {
        let durable = |group: &Group| DurableGroup {
            image: group.image.clone(),
            offsets: group.offsets.clone(),
        };
        self.groups.iter().map(|(id, group)| (id.clone(), durable(group))).collect()
    }

    /// The records of `proposal` are in the log: they take effect. The answers must not leave
    /// before the high watermark has reached the log's end as it is now.
    pub fn accept(&mut self, now: Now, proposal: Proposal) -> Vec<Reply> {
        let Proposal { records, mut replies, then, .. } = proposal;
        for record in records {
            self.apply(record);
        }
        if let Then::Assign { group, assignments } = then {
            let mut step = self.step(&group, now).expect("nothing came between sync and accept");
            step.assign(assignments);
            replies.append(&mut step.out.replies);
        }
        replies
    }

    /// The records of `proposal` were refused by the log with `error`: nothing durable changed, and
    /// what waited for the append is undone. Answers and notes come back in a proposal without
    /// records.
    pub fn reject(&mut self, now: Now, proposal: Proposal, error: ErrorCode) -> Proposal {
        let error = client_error(error);
        let mut proposal = proposal;
        let then = std::mem::take(&mut proposal.then);
        let mut out =
            Proposal { replies: proposal.into_failed_replies(error), ..Proposal::default() };
        match then {
            Then::Nothing => {}
            Then::Expire => {
                let interval = self.config.offsets_retention_check_interval_ms;
                self.timers.set(Timer::Retention, now.at.after(interval));
            }
            Then::Created { group } => self.undo_created(&group, error, &mut out),
            Then::Assign { group, .. } => {
                let mut step =
                    self.step(&group, now).expect("nothing came between sync and reject");
                step.refuse_syncs(error);
                step.prepare_rebalance("the assignment could not be stored");
                out.replies.append(&mut step.out.replies);
                out.notes.append(&mut step.out.notes);
            }
            Then::Replaced { group, new_member, old_member, was_leader } => {
                let mut step =
                    self.step(&group, now).expect("nothing came between join and reject");
                step.undo_replaced(&new_member, *old_member, was_leader);
            }
        }
        assert!(
            out.records.is_empty(),
            "undoing an append asks for another one: {:?}",
            out.records
        );
        out
    }

    fn undo_created(&mut self, id: &str, error: ErrorCode, out: &mut Proposal) {
        let mut group = self.groups.remove(id).expect("nothing came between join and reject");
        cancel_timers(&mut self.timers, &group);
        answer_parked(&mut group, error, out);
    }

    /// Leadership is lost: answers for every join and sync parked in here, all NOT_COORDINATOR.
    #[must_use]
    pub fn resign(mut self) -> Vec<Reply> {
        let mut out = Proposal::default();
        for group in self.groups.values_mut() {
            answer_parked(group, ErrorCode::NotCoordinator, &mut out);
        }
        out.replies
    }

    /// When the machine wants to be called with [`Groups::on_time`], if ever.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Handles one timer that is due; `None` if none is. Accept or reject what comes back, then
    /// call again.
    pub fn on_time(&mut self, now: Now) -> Option<Proposal> {
        let timer = self.timers.take_due(now.at)?;
        let id = match &timer {
            Timer::Retention => return Some(self.expire_offsets(now)),
            Timer::Session { group, .. } | Timer::Join { group } | Timer::Sync { group } => group,
        };
        let Some(mut step) = self.step(id, now) else { return Some(Proposal::default()) };
        match timer {
            Timer::Retention => {}
            Timer::Session { member, .. } => step.session_expired(&member),
            Timer::Join { .. } => step.join_time_is_up(),
            Timer::Sync { .. } => step.sync_time_is_up(),
        }
        Some(step.out)
    }

    /// JoinGroup.
    pub fn join(&mut self, now: Now, join: Join) -> Proposal {
        let refuse = |error| {
            let answer = JoinAnswer::failed(error, &join.member_id);
            Proposal::answer(join.ticket, Answer::Join(answer))
        };
        if join.group_id.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        let allowed = self.config.min_session_timeout_ms..=self.config.max_session_timeout_ms;
        if !allowed.contains(&join.session_timeout_ms) {
            return refuse(ErrorCode::InvalidSessionTimeout);
        }
        let id = join.group_id.clone();
        let is_new = !self.groups.contains_key(&id);
        if is_new && !join.member_id.is_empty() {
            return refuse(ErrorCode::UnknownMemberId);
        }
        if is_new && self.groups.len() >= self.config.max_groups {
            return refuse(ErrorCode::PolicyViolation);
        }
        if is_new {
            self.groups.insert(id.clone(), Group::empty(&id, Some(now.wall_ms)));
        }
        let mut step = self.step(&id, now).expect("the group is there, or was just made");
        step.join(join);
        if is_new {
            step.record_creation();
        }
        step.out
    }

    /// SyncGroup.
    pub fn sync(&mut self, now: Now, sync: Sync) -> Proposal {
        let refuse = |error| Proposal::answer(sync.ticket, Answer::Sync(SyncAnswer::failed(error)));
        if sync.group_id.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        let id = sync.group_id.clone();
        match self.step(&id, now) {
            Some(mut step) if step.group.state != GroupState::Empty => {
                step.sync(sync);
                step.out
            }
            _ => refuse(ErrorCode::UnknownMemberId),
        }
    }

    /// Heartbeat.
    pub fn heartbeat(&mut self, now: Now, beat: Heartbeat) -> Proposal {
        let code = self.heartbeat_code(now, &beat);
        Proposal::answer(beat.ticket, Answer::Heartbeat(code))
    }

    fn heartbeat_code(&mut self, now: Now, beat: &Heartbeat) -> ErrorCode {
        if beat.group_id.is_empty() {
            return ErrorCode::InvalidGroupId;
        }
        let Some(mut step) = self.step(&beat.group_id, now) else {
            return ErrorCode::UnknownMemberId;
        };
        let instance_id = beat.group_instance_id.as_deref();
        if let Err(error) = step.group.check_member(&beat.member_id, instance_id) {
            return error;
        }
        if beat.generation != step.group.generation {
            return ErrorCode::IllegalGeneration;
        }
        step.heard_of(&beat.member_id);
        match step.group.state {
            GroupState::PreparingRebalance => ErrorCode::RebalanceInProgress,
            GroupState::CompletingRebalance | GroupState::Stable => ErrorCode::None,
            GroupState::Empty => ErrorCode::UnknownMemberId,
        }
    }

    /// LeaveGroup.
    pub fn leave(&mut self, now: Now, leave: Leave) -> Proposal {
        let answer = |error, members| Answer::Leave(LeaveAnswer { error, members });
        if leave.group_id.is_empty() {
            return Proposal::answer(leave.ticket, answer(ErrorCode::InvalidGroupId, Vec::new()));
        }
        if let Some(mut step) = self.step(&leave.group_id, now) {
            step.leave(leave);
            return step.out;
        }
        let unknown = |leaving: crate::request::Leaving| LeftMember {
            member_id: leaving.member_id,
            group_instance_id: leaving.group_instance_id,
            error: ErrorCode::UnknownMemberId,
        };
        let members = leave.members.into_iter().map(unknown).collect();
        Proposal::answer(leave.ticket, answer(ErrorCode::None, members))
    }

    /// DeleteGroups, one group: tombstones for its offsets and for itself.
    pub fn delete_group(&mut self, ticket: Ticket, id: &str) -> Proposal {
        let code = match self.groups.get(id) {
            None => ErrorCode::GroupIdNotFound,
            Some(group) if group.state != GroupState::Empty => ErrorCode::NonEmptyGroup,
            Some(_) => ErrorCode::None,
        };
        let mut out = Proposal::answer(ticket, Answer::DeleteGroup(code));
        if let (ErrorCode::None, Some(group)) = (code, self.groups.get(id)) {
            out.records = group.offset_tombstones(|_, _, _| true);
            out.records.push(Record::Group { group: id.to_owned(), image: None });
        }
        out
    }

    pub(crate) fn step(&mut self, id: &str, now: Now) -> Option<Step<'_>> {
        Some(Step {
            group: self.groups.get_mut(id)?,
            timers: &mut self.timers,
            config: &self.config,
            now,
            out: Proposal::default(),
        })
    }
}

/// What a client is told when the log refused a record, or did not commit it in time.
pub fn client_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::InvalidFetchSize => ErrorCode::UnknownServerError,
        other => other,
    }
}

fn answer_parked(group: &mut Group, error: ErrorCode, out: &mut Proposal) {
    let (joins, syncs) = group.take_parked();
    for (ticket, member_id) in joins {
        out.reply(ticket, Answer::Join(JoinAnswer::failed(error, &member_id)));
    }
    for ticket in syncs {
        out.reply(ticket, Answer::Sync(SyncAnswer::failed(error)));
    }
}

fn cancel_timers(timers: &mut Timers, group: &Group) {
    timers.cancel(&Timer::Join { group: group.id.clone() });
    timers.cancel(&Timer::Sync { group: group.id.clone() });
    for member in group.members.keys().chain(&group.pending_join) {
        timers.cancel(&Timer::Session { group: group.id.clone(), member: member.clone() });
    }
}
