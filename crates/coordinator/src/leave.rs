//! LeaveGroup, inside one group.

use klamm_protocol::ErrorCode;

use crate::answer::{Answer, LeaveAnswer, LeftMember};
use crate::group::GroupState;
use crate::rebalance::Step;
use crate::request::{Leave, Leaving};

impl Step<'_> {
    pub(crate) fn leave(&mut self, leave: Leave) {
        let mut members = Vec::with_capacity(leave.members.len());
        let mut left = Vec::new();
        for leaving in leave.members {
            let error = match self.remove_leaving(&leaving) {
                Ok(member_id) => {
                    left.push(format!("{member_id}{}", client_reason(&leaving)));
                    ErrorCode::None
                }
                Err(error) => error,
            };
            members.push(LeftMember {
                member_id: leaving.member_id,
                group_instance_id: leaving.group_instance_id,
                error,
            });
        }
        self.out
            .reply(leave.ticket, Answer::Leave(LeaveAnswer { error: ErrorCode::None, members }));
        if left.is_empty() {
            return;
        }
        match self.group.state {
            GroupState::Stable | GroupState::CompletingRebalance => {
                self.prepare_rebalance(&format!("left: {}", left.join(", ")));
            }
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(),
            GroupState::Empty => {}
        }
    }

    fn remove_leaving(&mut self, leaving: &Leaving) -> Result<String, ErrorCode> {
        let member_id = match leaving.member_id.as_str() {
            // An administrator names a static member by its instance id alone.
            "" => {
                let instance_id = leaving.group_instance_id.as_ref();
                let named = instance_id.and_then(|id| self.group.static_members.get(id));
                named.cloned().ok_or(ErrorCode::UnknownMemberId)?
            }
            id if self.group.pending_join.contains(id) => id.to_owned(),
            id => {
                self.group.check_member(id, leaving.group_instance_id.as_deref())?;
                id.to_owned()
            }
        };
        self.remove_member(&member_id, ErrorCode::UnknownMemberId);
        Ok(member_id)
    }
}

fn client_reason(leaving: &Leaving) -> String {
    match leaving.reason.as_deref() {
        Some(reason) if !reason.is_empty() => format!(" (client: {reason})"),
        _ => String::new(),
    }
}
