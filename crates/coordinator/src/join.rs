//! JoinGroup, inside one group.

use klamm_protocol::ErrorCode;

use crate::answer::{Answer, JoinAnswer};
use crate::group::GroupState;
use crate::member::Member;
use crate::proposal::Then;
use crate::rebalance::Step;
use crate::record::Record;
use crate::request::{Join, Ticket};

impl Step<'_> {
    pub(crate) fn join(&mut self, join: Join) {
        if !self.has_room_for(&join.member_id) {
            let ticket = join.ticket;
            self.remove_member(&join.member_id, ErrorCode::GroupMaxSizeReached);
            self.refuse_join(ticket, ErrorCode::GroupMaxSizeReached, "");
            // It may have been the last one the others waited for.
            return self.complete_join_if_all_joined();
        }
        if !self.group.supports(&join.protocol_type, &join.protocols) {
            return self.refuse_join(
                join.ticket,
                ErrorCode::InconsistentGroupProtocol,
                &join.member_id,
            );
        }
        match join.member_id.is_empty() {
            true => self.join_unknown(join),
            false => self.join_known(join),
        }
    }

    fn refuse_join(&mut self, ticket: Ticket, error: ErrorCode, member_id: &str) {
        self.out.reply(ticket, Answer::Join(JoinAnswer::failed(error, member_id)));
    }

    /// While members join, only those that have joined count: the last ones to come are left out of
    /// a group that shrank its limit.
    fn has_room_for(&self, member_id: &str) -> bool {
        let member = self.group.members.get(member_id);
        match self.group.state {
            GroupState::Empty => true,
            GroupState::PreparingRebalance => {
                member.is_some_and(|member| member.awaiting_join.is_some())
                    || self.group.awaiting_join() < self.config.max_size
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                member.is_some() || self.group.members.len() < self.config.max_size
            }
        }
    }

    /// A client without a member id.
    fn join_unknown(&mut self, join: Join) {
        match join.group_instance_id.clone() {
            Some(instance_id) => self.join_unknown_static(join, &instance_id),
            None if join.api_version >= 4 => self.require_member_id(join),
            None => {
                let member_id = format!("{}-{}", join.client_id, join.fresh);
                self.add_member(join, member_id);
            }
        }
    }

    fn join_unknown_static(&mut self, join: Join, instance_id: &str) {
        let member_id = format!("{instance_id}-{}", join.fresh);
        match self.group.static_members.get(instance_id).cloned() {
            Some(old_member_id) => self.replace_static(join, &old_member_id, member_id),
            None => self.add_member(join, member_id),
        }
    }

    /// Hands out a member id; the member is one when it comes back with it.
    fn require_member_id(&mut self, join: Join) {
        if self.group.pending_join.len() >= self.config.max_pending_members {
            return self.refuse_join(join.ticket, ErrorCode::GroupMaxSizeReached, "");
        }
        let member_id = format!("{}-{}", join.client_id, join.fresh);
        self.group.pending_join.insert(member_id.clone());
        self.expect_within(&member_id, i64::from(join.session_timeout_ms));
        self.refuse_join(join.ticket, ErrorCode::MemberIdRequired, &member_id);
    }

    fn add_member(&mut self, join: Join, member_id: String) {
        if self.group.state == GroupState::PreparingRebalance
            && self.group.previous == GroupState::Empty
        {
            self.group.new_member_added = true;
        }
        let reason = format!("member {member_id} joins{}", client_reason(&join));
        let protocol_type = join.protocol_type.clone();
        self.group.add(Member::joining(member_id.clone(), join), protocol_type);
        // It cannot send heartbeats before it knows its generation, and a client that gave up
        // leaves a dead member behind with every retry: so the join itself has a time.
        self.expect_within(&member_id, self.config.new_member_join_timeout_ms);
        self.rebalance_or_complete_join(&reason);
    }

    /// A client that names its member id.
    fn join_known(&mut self, join: Join) {
        let member_id = join.member_id.clone();
        if self.group.pending_join.contains(&member_id) {
            if join.group_instance_id.is_some() {
                // A member id from MEMBER_ID_REQUIRED belongs to a dynamic member.
                return self.refuse_join(join.ticket, ErrorCode::UnknownServerError, &member_id);
            }
            return self.add_member(join, member_id);
        }
        let instance_id = join.group_instance_id.as_deref();
        if let Err(error) = self.group.check_member(&member_id, instance_id) {
            return self.refuse_join(join.ticket, error, &member_id);
        }
        let is_leader = self.group.is_leader(&member_id);
        let is_unchanged =
            self.group.members.get(&member_id).is_some_and(|it| it.protocols == join.protocols);
        match self.group.state {
            GroupState::PreparingRebalance => self.rejoin(join, "rejoins"),
            // Perhaps the answer to its join got lost.
            GroupState::CompletingRebalance if is_unchanged => {
                self.tell_current_generation(join.ticket, &member_id, is_leader);
            }
            GroupState::CompletingRebalance => self.rejoin(join, "changed its metadata"),
            // The leader rejoins to have partitions assigned anew, metadata unchanged or not.
            GroupState::Stable if is_leader => self.rejoin(join, "rejoins as leader"),
            GroupState::Stable if is_unchanged => {
                self.tell_current_generation(join.ticket, &member_id, false);
            }
            GroupState::Stable => self.rejoin(join, "changed its metadata"),
            GroupState::Empty => {
                self.refuse_join(join.ticket, ErrorCode::UnknownMemberId, &member_id);
            }
        }
    }

    fn tell_current_generation(&mut self, ticket: Ticket, member_id: &str, with_members: bool) {
        let answer = self.group.generation_answer(member_id, with_members);
        self.out.reply(ticket, Answer::Join(answer));
    }

    fn rejoin(&mut self, join: Join, what: &str) {
        let reason = format!("member {} {what}{}", join.member_id, client_reason(&join));
        self.update_member(join);
        self.rebalance_or_complete_join(&reason);
    }

    fn update_member(&mut self, join: Join) {
        let member = self.group.members.get_mut(&join.member_id).expect("checked by the caller");
        let superseded = member.awaiting_join.replace(join.ticket);
        member.protocols = join.protocols;
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.session_timeout_ms = join.session_timeout_ms;
        if let Some(ticket) = superseded {
            // The client asked again, perhaps on another connection; the older question is void.
            self.refuse_join(ticket, ErrorCode::RebalanceInProgress, &join.member_id);
        }
    }

    /// A static member starts anew: same instance, new member id. The old one is fenced.
    fn replace_static(&mut self, join: Join, old_member_id: &str, member_id: String) {
        let was_leader = self.group.is_leader(old_member_id);
        let leader_before = self.group.leader.clone().unwrap_or_default();
        let old_member = self.swap_static(old_member_id, &member_id);
        let ticket = join.ticket;
        let knows_skipping = join.api_version >= 9;
        let reason = format!("static member {member_id} replaces {old_member_id}");
        self.update_member(Join { member_id: member_id.clone(), ..join });
        self.heard_of(&member_id);

        match self.group.state {
            GroupState::Stable if self.group.select_protocol() == self.group.protocol => {
                self.unpark_join(&member_id);
                let image = self.group.to_image(|member| member.assignment.clone());
                let group = self.group.id.clone();
                self.out.records.push(Record::Group { group: group.clone(), image: Some(image) });
                // A leader that knows of skipping is told that it leads and need not assign. An
                // older one is told that its former self leads, or it would assign.
                let mut answer =
                    self.group.generation_answer(&member_id, knows_skipping && was_leader);
                answer.skip_assignment = knows_skipping && was_leader;
                if !knows_skipping {
                    answer.leader = leader_before;
                }
                self.out.reply(ticket, Answer::Join(answer));
                let old_member = Box::new(old_member);
                self.out.then =
                    Then::Replaced { group, new_member: member_id, old_member, was_leader };
            }
            GroupState::Stable => self.prepare_rebalance(&format!("{reason}, other protocol")),
            // The leader may already be assigning to the old member id.
            GroupState::CompletingRebalance => self.prepare_rebalance(&reason),
            _ => self.complete_join_if_all_joined(),
        }
    }

    fn unpark_join(&mut self, member_id: &str) {
        let member = self.group.members.get_mut(member_id).expect("updated just now");
        member.awaiting_join = None;
    }

    /// Puts the member under its new id; its old self's parked requests are fenced.
    fn swap_static(&mut self, old_member_id: &str, member_id: &str) -> Member {
        let mut old = self.group.members.remove(old_member_id).expect("listed as static member");
        self.answer_parked(&mut old, ErrorCode::FencedInstanceId, old_member_id);
        self.cancel_session(old_member_id);
        let instance_id = old.instance_id.clone().expect("a static member has an instance id");
        self.group.static_members.insert(instance_id, member_id.to_owned());
        if self.group.is_leader(old_member_id) {
            self.group.leader = Some(member_id.to_owned());
        }
        if self.group.pending_sync.remove(old_member_id) {
            self.group.pending_sync.insert(member_id.to_owned());
        }
        let new = Member { id: member_id.to_owned(), is_new: false, ..old.clone() };
        self.group.members.insert(member_id.to_owned(), new);
        old
    }

    /// The record of a replacement could not be appended: the old self is back.
    pub(crate) fn undo_replaced(&mut self, new_member: &str, old: Member, was_leader: bool) {
        self.group.members.remove(new_member);
        self.cancel_session(new_member);
        let old_id = old.id.clone();
        let instance_id = old.instance_id.clone().expect("a static member has an instance id");
        self.group.static_members.insert(instance_id, old_id.clone());
        if self.group.pending_sync.remove(new_member) {
            self.group.pending_sync.insert(old_id.clone());
        }
        if was_leader {
            self.group.leader = Some(old_id.clone());
        }
        self.group.members.insert(old_id.clone(), old);
        self.heard_of(&old_id);
    }
}

fn client_reason(join: &Join) -> String {
    match join.reason.as_deref() {
        Some(reason) if !reason.is_empty() => format!(" (client: {reason})"),
        _ => String::new(),
    }
}
