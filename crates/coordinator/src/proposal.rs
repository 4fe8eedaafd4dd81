//! What one call of the machine wants done: records to append, answers to give afterwards.

use std::collections::BTreeSet;

use klamm_protocol::ErrorCode;

use crate::answer::Answer;
use crate::member::Member;
use crate::record::Record;
use crate::request::Ticket;

use bytes::Bytes;

/// One answer on its way to a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Whose answer it is.
    pub to: Ticket,
    /// The answer.
    pub answer: Answer,
}

/// What the machine wants done. Append [`Proposal::records`] in one batch, then hand the proposal
/// back to [`Groups::accept`](crate::Groups::accept) or [`Groups::reject`](crate::Groups::reject).
#[derive(Debug, Default)]
#[must_use = "a proposal is accepted or rejected; dropped, its tickets are never answered"]
pub struct Proposal {
    pub(crate) records: Vec<Record>,
    pub(crate) replies: Vec<Reply>,
    pub(crate) notes: Vec<String>,
    pub(crate) then: Then,
}

/// What waits for the append.
#[derive(Debug, Default)]
pub(crate) enum Then {
    #[default]
    Nothing,
    /// A join made this group; it does not exist if its record could not be appended.
    Created { group: String },
    /// The leader's assignment takes effect.
    Assign { group: String, assignments: Vec<(String, Bytes)> },
    /// Tombstones of retention; if they are refused, the next look is a whole interval away.
    Expire,
    /// A static member came back under a new member id in a stable group.
    Replaced { group: String, new_member: String, old_member: Box<Member>, was_leader: bool },
}

impl Proposal {
    pub(crate) fn answer(to: Ticket, answer: Answer) -> Proposal {
        Proposal { replies: vec![Reply { to, answer }], ..Proposal::default() }
    }

    /// To be appended in this order, in one batch. Often empty.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// One line each for the broker's log: rebalances and their reasons.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// For a shell that keeps committed offsets elsewhere than in the log: takes their records out, in
    /// their order. Once they are where they belong the shell hands each to
    /// [`Groups::apply`](crate::Groups::apply), and then the proposal back; other calls may come in
    /// between. The tombstone of a group that still has offsets to be deleted is dropped: the group
    /// goes by the next such proposal, when they have gone.
    #[must_use]
    pub fn take_offsets(&mut self) -> Vec<Record> {
        let records = std::mem::take(&mut self.records);
        let (offsets, rest): (Vec<Record>, Vec<Record>) =
            records.into_iter().partition(|record| matches!(record, Record::Offset { .. }));
        let has_offsets: BTreeSet<&str> = offsets.iter().map(Record::group).collect();
        let goes_on = |record: &Record| match record {
            Record::Group { group, image: None } => !has_offsets.contains(group.as_str()),
            _ => true,
        };
        self.records = rest.into_iter().filter(goes_on).collect();
        offsets
    }

    pub(crate) fn reply(&mut self, to: Ticket, answer: Answer) {
        self.replies.push(Reply { to, answer });
    }

    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// The answers when the append came to nothing: promises turn into `error`, refusals stand.
    pub(crate) fn into_failed_replies(self, error: ErrorCode) -> Vec<Reply> {
        let fail = |reply: Reply| match reply.answer.is_success() {
            true => Reply { to: reply.to, answer: reply.answer.failed(error) },
            false => reply,
        };
        self.replies.into_iter().map(fail).collect()
    }
}
