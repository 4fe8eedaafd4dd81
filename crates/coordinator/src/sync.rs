//! SyncGroup, inside one group.

use bytes::Bytes;
use klamm_protocol::ErrorCode;

use crate::answer::{Answer, SyncAnswer};
use crate::group::GroupState;
use crate::proposal::Then;
use crate::rebalance::Step;
use crate::record::Record;
use crate::request::Sync;

impl Step<'_> {
    pub(crate) fn sync(&mut self, sync: Sync) {
        if let Err(error) = self.check_sync(&sync) {
            return self.out.reply(sync.ticket, Answer::Sync(SyncAnswer::failed(error)));
        }
        match self.group.state {
            GroupState::CompletingRebalance => self.sync_new_generation(sync),
            GroupState::Stable => {
                self.has_synced(&sync.member_id);
                let answer = self.sync_answer(&sync.member_id);
                self.out.reply(sync.ticket, Answer::Sync(answer));
            }
            GroupState::PreparingRebalance | GroupState::Empty => {
                let answer = SyncAnswer::failed(ErrorCode::RebalanceInProgress);
                self.out.reply(sync.ticket, Answer::Sync(answer));
            }
        }
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), ErrorCode> {
        self.group.check_member(&sync.member_id, sync.group_instance_id.as_deref())?;
        if sync.generation != self.group.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differ = |asked: &Option<String>, group: &Option<String>| {
            asked.is_some() && group.is_some() && asked != group
        };
        if differ(&sync.protocol_type, &self.group.protocol_type)
            || differ(&sync.protocol, &self.group.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    /// Followers wait for the leader; the leader's assignment is recorded.
    fn sync_new_generation(&mut self, sync: Sync) {
        let member = self.group.members.get_mut(&sync.member_id).expect("checked by check_sync");
        if let Some(superseded) = member.awaiting_sync.replace(sync.ticket) {
            let answer = SyncAnswer::failed(ErrorCode::RebalanceInProgress);
            self.out.reply(superseded, Answer::Sync(answer));
        }
        self.has_synced(&sync.member_id);
        if !self.group.is_leader(&sync.member_id) {
            return;
        }
        let assigned = |member_id: &str| {
            // As in Kafka's map of assignments, the last entry for a member counts.
            let entry = sync.assignments.iter().rev().find(|(id, _)| id == member_id);
            entry.map(|(_, assignment)| assignment.clone()).unwrap_or_default()
        };
        let image = self.group.to_image(|member| assigned(&member.id));
        let assignments = self.group.members.keys().map(|id| (id.clone(), assigned(id))).collect();
        let group = self.group.id.clone();
        self.out.records.push(Record::Group { group: group.clone(), image: Some(image) });
        self.out.then = Then::Assign { group, assignments };
    }

    /// The assignment is in the log: everybody who waits for it gets it.
    pub(crate) fn assign(&mut self, assignments: Vec<(String, Bytes)>) {
        for (member_id, assignment) in assignments {
            let member = self.group.members.get_mut(&member_id).expect("as when it was proposed");
            member.assignment = assignment;
            let Some(ticket) = member.awaiting_sync.take() else { continue };
            let answer = self.sync_answer(&member_id);
            self.out.reply(ticket, Answer::Sync(answer));
            self.heard_of(&member_id);
        }
        self.group.enter(GroupState::Stable, self.now.wall_ms);
    }

    fn sync_answer(&self, member_id: &str) -> SyncAnswer {
        let member = self.group.members.get(member_id).expect("checked by the caller");
        SyncAnswer {
            error: ErrorCode::None,
            protocol_type: self.group.protocol_type.clone(),
            protocol: self.group.protocol.clone(),
            assignment: member.assignment.clone(),
        }
    }
}
