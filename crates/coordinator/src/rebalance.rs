//! How a group gets from one generation to the next.

use bytes::Bytes;
use klamm_protocol::ErrorCode;

use crate::answer::{Answer, JoinAnswer, SyncAnswer};
use crate::config::GroupConfig;
use crate::group::{Group, GroupState};
use crate::member::Member;
use crate::proposal::{Proposal, Then};
use crate::record::Record;
use crate::time::Now;
use crate::timers::{Timer, Timers};

/// One group in the hands of one call: what may be touched, and what comes out.
pub(crate) struct Step<'a> {
    pub(crate) group: &'a mut Group,
    pub(crate) timers: &'a mut Timers,
    pub(crate) config: &'a GroupConfig,
    pub(crate) now: Now,
    pub(crate) out: Proposal,
}

impl Step<'_> {
    /// The member must be heard of within `ms` from now.
    pub(crate) fn expect_within(&mut self, member_id: &str, ms: i64) {
        let timer = self.session_timer(member_id);
        self.timers.set(timer, self.now.at.after(ms));
    }

    /// The member gave a sign of life: its session starts anew.
    pub(crate) fn heard_of(&mut self, member_id: &str) {
        let Some(member) = self.group.members.get(member_id) else { return };
        let session_timeout_ms = i64::from(member.session_timeout_ms);
        self.expect_within(member_id, session_timeout_ms);
    }

    pub(crate) fn cancel_session(&mut self, member_id: &str) {
        let timer = self.session_timer(member_id);
        self.timers.cancel(&timer);
    }

    fn session_timer(&self, member_id: &str) -> Timer {
        Timer::Session { group: self.group.id.clone(), member: member_id.to_owned() }
    }

    fn join_timer(&self) -> Timer {
        Timer::Join { group: self.group.id.clone() }
    }

    fn sync_timer(&self) -> Timer {
        Timer::Sync { group: self.group.id.clone() }
    }

    /// A group that a join has just made is recorded, so that its other members find it.
    pub(crate) fn record_creation(&mut self) {
        let group = self.group.id.clone();
        let image = Group::empty(&group, Some(self.now.wall_ms)).to_image(|_| Bytes::new());
        self.out.records.push(Record::Group { group: group.clone(), image: Some(image) });
        self.out.then = Then::Created { group };
    }

    /// Something changed that the next generation must reflect.
    pub(crate) fn rebalance_or_complete_join(&mut self, reason: &str) {
        match self.group.state {
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(),
            _ => self.prepare_rebalance(reason),
        }
    }

    /// Only time ends the wait for the first members of an empty group.
    pub(crate) fn complete_join_if_all_joined(&mut self) {
        let joining = self.group.state == GroupState::PreparingRebalance;
        if joining && self.group.previous != GroupState::Empty && self.group.have_all_joined() {
            self.complete_join();
        }
    }

    /// Starts the joining phase. Whoever waits for an assignment is told to join again.
    pub(crate) fn prepare_rebalance(&mut self, reason: &str) {
        if self.group.state == GroupState::CompletingRebalance {
            self.refuse_syncs(ErrorCode::RebalanceInProgress);
        }
        self.group.pending_sync.clear();
        let sync_timer = self.sync_timer();
        self.timers.cancel(&sync_timer);

        let is_initial = self.group.state == GroupState::Empty;
        self.group.enter(GroupState::PreparingRebalance, self.now.wall_ms);
        self.out.note(format!(
            "group {} prepares to rebalance after generation {}: {reason}",
            self.group.id, self.group.generation
        ));
        if is_initial {
            self.wait_for_first_members();
        } else if self.group.have_all_joined() {
            self.complete_join();
        } else {
            self.wait_for_joins();
        }
    }

    fn wait_for_joins(&mut self) {
        let timer = self.join_timer();
        self.timers.set(timer, self.now.at.after(self.group.rebalance_timeout_ms()));
    }

    fn wait_for_first_members(&mut self) {
        let delay = i64::from(self.config.initial_rebalance_delay_ms);
        let remaining = (self.group.rebalance_timeout_ms() - delay).max(0);
        self.group.initial_delay = Some((delay, remaining));
        let timer = self.join_timer();
        self.timers.set(timer, self.now.at.after(delay));
    }

    /// The joining phase has lasted long enough, or the initial delay has passed.
    pub(crate) fn join_time_is_up(&mut self) {
        if self.group.state != GroupState::PreparingRebalance {
            return;
        }
        let Some((delay, remaining)) = self.group.initial_delay.take() else {
            return self.complete_join();
        };
        if !self.group.new_member_added || remaining == 0 {
            return self.complete_join();
        }
        self.group.new_member_added = false;
        let next = i64::from(self.config.initial_rebalance_delay_ms).min(remaining);
        self.group.initial_delay = Some((next, (remaining - delay).max(0)));
        let timer = self.join_timer();
        self.timers.set(timer, self.now.at.after(next));
    }

    /// Ends the joining phase: dynamic members that did not join are out, the others are told of
    /// their generation.
    pub(crate) fn complete_join(&mut self) {
        let join_timer = self.join_timer();
        self.timers.cancel(&join_timer);
        self.group.initial_delay = None;
        self.drop_absent_dynamic_members();

        if !self.group.elect_joined_leader() && !self.group.members.is_empty() {
            self.out.note(format!(
                "group {} cannot complete its rebalance: no member joined",
                self.group.id
            ));
            return self.wait_for_joins();
        }
        self.group.begin_generation(self.now.wall_ms);
        match self.group.state {
            GroupState::Empty => self.record_emptied(),
            _ => self.tell_generation(),
        }
    }

    fn drop_absent_dynamic_members(&mut self) {
        let absent = |member: &&Member| member.awaiting_join.is_none() && !member.is_static();
        let ids: Vec<String> =
            self.group.members.values().filter(absent).map(|member| member.id.clone()).collect();
        for member_id in &ids {
            self.remove_member(member_id, ErrorCode::UnknownMemberId);
        }
        if !ids.is_empty() {
            self.out.note(format!(
                "group {} removed members that did not join in time: {}",
                self.group.id,
                ids.join(", ")
            ));
        }
    }

    fn record_emptied(&mut self) {
        self.out.note(format!(
            "group {} is empty at generation {}",
            self.group.id, self.group.generation
        ));
        let image = self.group.to_image(|_| Bytes::new());
        self.out.records.push(Record::Group { group: self.group.id.clone(), image: Some(image) });
    }

    fn tell_generation(&mut self) {
        self.out.note(format!(
            "group {} enters generation {} with {} members",
            self.group.id,
            self.group.generation,
            self.group.members.len()
        ));
        let ids: Vec<String> = self.group.members.keys().cloned().collect();
        for member_id in &ids {
            let answer = self.group.generation_answer(member_id, self.group.is_leader(member_id));
            let member = self.group.members.get_mut(member_id).expect("listed just now");
            member.is_new = false;
            if let Some(ticket) = member.awaiting_join.take() {
                self.out.reply(ticket, Answer::Join(answer));
            }
            self.heard_of(member_id);
        }
        self.group.pending_sync = ids.into_iter().collect();
        let timer = self.sync_timer();
        self.timers.set(timer, self.now.at.after(self.group.rebalance_timeout_ms()));
    }

    /// Takes a member (or a pending one) out and answers whatever it had parked.
    pub(crate) fn remove_member(&mut self, member_id: &str, error: ErrorCode) {
        self.cancel_session(member_id);
        let Some(mut member) = self.group.remove(member_id) else { return };
        self.answer_parked(&mut member, error, "");
    }

    pub(crate) fn answer_parked(&mut self, member: &mut Member, error: ErrorCode, told_id: &str) {
        if let Some(ticket) = member.awaiting_join.take() {
            self.out.reply(ticket, Answer::Join(JoinAnswer::failed(error, told_id)));
        }
        if let Some(ticket) = member.awaiting_sync.take() {
            self.out.reply(ticket, Answer::Sync(SyncAnswer::failed(error)));
        }
    }

    /// A member was not heard of in time.
    pub(crate) fn session_expired(&mut self, member_id: &str) {
        if self.group.pending_join.contains(member_id) {
            self.remove_member(member_id, ErrorCode::UnknownMemberId);
            return self.complete_join_without_waiting();
        }
        match self.group.members.get(member_id) {
            None => return,
            Some(member) if member.is_heard() => return,
            Some(_) => {}
        }
        self.remove_member(member_id, ErrorCode::UnknownMemberId);
        match self.group.state {
            GroupState::Stable | GroupState::CompletingRebalance => {
                self.prepare_rebalance(&format!("member {member_id} was not heard of in time"));
            }
            _ => self.complete_join_without_waiting(),
        }
    }

    /// As after a removal by time: not even the initial delay holds it up.
    fn complete_join_without_waiting(&mut self) {
        if self.group.state == GroupState::PreparingRebalance && self.group.have_all_joined() {
            self.complete_join();
        }
    }

    /// Members that have not asked for their assignment in time are out.
    pub(crate) fn sync_time_is_up(&mut self) {
        let waiting =
            matches!(self.group.state, GroupState::CompletingRebalance | GroupState::Stable);
        if !waiting || self.group.pending_sync.is_empty() {
            return;
        }
        let late: Vec<String> = self.group.pending_sync.iter().cloned().collect();
        for member_id in &late {
            self.remove_member(member_id, ErrorCode::UnknownMemberId);
        }
        self.prepare_rebalance(&format!("no sync in time from {}", late.join(", ")));
    }

    /// Clears the assignments and answers every parked sync with `error`.
    pub(crate) fn refuse_syncs(&mut self, error: ErrorCode) {
        let mut syncing = Vec::new();
        for member in self.group.members.values_mut() {
            member.assignment = Bytes::new();
            syncing.extend(member.awaiting_sync.take().map(|ticket| (ticket, member.id.clone())));
        }
        for (ticket, member_id) in syncing {
            self.out.reply(ticket, Answer::Sync(SyncAnswer::failed(error)));
            self.heard_of(&member_id);
        }
    }

    /// A member asked for its assignment; when all have, nobody waits for them any more.
    pub(crate) fn has_synced(&mut self, member_id: &str) {
        self.group.pending_sync.remove(member_id);
        if self.group.pending_sync.is_empty() {
            let timer = self.sync_timer();
            self.timers.cancel(&timer);
        }
    }
}
