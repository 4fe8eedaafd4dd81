//! One classic group: who is in it, what it has recorded, which offsets it has committed.
//!
//! ```text
//!            join                     all joined or time is up          leader syncs
//!   Empty ---------> PreparingRebalance ------------> CompletingRebalance ---------> Stable
//!     ^                |  ^        ^                         |                         |
//!     +----------------+  |        +-------------------------+                         |
//!       nobody left       +------------------------------------------------------------+
//!                                   join, leave, silence, changed metadata
//! ```
//! A group that is not in memory is what Kafka calls `Dead`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use klamm_protocol::ErrorCode;

use crate::answer::{JoinAnswer, JoinedMember};
use crate::member::Member;
use crate::record::{CommittedOffset, GroupImage};
use crate::request::{Protocol, Ticket};
use crate::subscription;

/// The protocol type of Kafka's consumers, the only one whose metadata a broker reads.
pub(crate) const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// What a classic group is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// It has no members.
    Empty,
    /// Its members are joining the next generation.
    PreparingRebalance,
    /// The generation stands; its leader has not sent the assignment yet.
    CompletingRebalance,
    /// Every member may have its assignment.
    Stable,
}

impl GroupState {
    /// Kafka's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
        }
    }
}

pub(crate) type TopicOffsets = BTreeMap<i32, CommittedOffset>;

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: String,

    // Durable: changed by `Groups::apply` alone.
    /// The last recorded generation; none for a group that only ever committed offsets.
    pub(crate) image: Option<GroupImage>,
    pub(crate) offsets: BTreeMap<String, TopicOffsets>,

    // Live: made from the image when loading ends, lost with the process.
    pub(crate) state: GroupState,
    /// The state before this one. Empty while PreparingRebalance means that the group waits for
    /// its first members, and only time ends that.
    pub(crate) previous: GroupState,
    /// Wall clock of the last change of state; none if the record did not tell.
    pub(crate) state_since_ms: Option<i64>,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) members: BTreeMap<String, Member>,
    /// Instance id to member id.
    pub(crate) static_members: BTreeMap<String, String>,
    /// Member ids handed out with MEMBER_ID_REQUIRED that have not come back yet.
    pub(crate) pending_join: BTreeSet<String>,
    /// Members of this generation that have not asked for their assignment yet.
    pub(crate) pending_sync: BTreeSet<String>,
    /// What the members subscribe to; none if the broker cannot tell.
    pub(crate) subscribed: Option<BTreeSet<String>>,
    /// Somebody joined during the initial delay, which is extended once for it.
    pub(crate) new_member_added: bool,
    /// Last delay and what is left to wait of the initial rebalance.
    pub(crate) initial_delay: Option<(i64, i64)>,
}

impl Group {
    pub(crate) fn empty(id: &str, state_since_ms: Option<i64>) -> Group {
        Group {
            id: id.to_owned(),
            image: None,
            offsets: BTreeMap::new(),
            state: GroupState::Empty,
            previous: GroupState::Empty,
            state_since_ms,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_join: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            subscribed: None,
            new_member_added: false,
            initial_delay: None,
        }
    }

    /// Brings the group to life from what it has recorded.
    pub(crate) fn revive(&mut self) {
        let Some(image) = &self.image else { return };
        let protocol = image.protocol.as_deref();
        self.members = image
            .members
            .iter()
            .map(|member| (member.member_id.clone(), Member::loaded(member, protocol)))
            .collect();
        self.static_members = self
            .members
            .values()
            .filter_map(|member| Some((member.instance_id.clone()?, member.id.clone())))
            .collect();
        self.state = match self.members.is_empty() {
            true => GroupState::Empty,
            false => GroupState::Stable,
        };
        self.previous = self.state;
        self.state_since_ms = Some(image.state_since_ms).filter(|ms| *ms != -1);
        self.generation = image.generation;
        self.protocol_type = Some(image.protocol_type.clone()).filter(|name| !name.is_empty());
        self.protocol = image.protocol.clone();
        self.leader = image.leader.clone();
        self.subscribed = self.compute_subscribed();
    }

    /// What a failover would find if the members had `assignments`.
    pub(crate) fn to_image(&self, assignment_of: impl Fn(&Member) -> Bytes) -> GroupImage {
        let protocol = self.protocol.as_deref();
        GroupImage {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_since_ms: self.state_since_ms.unwrap_or(-1),
            members: self
                .members
                .values()
                .map(|member| member.image(protocol, assignment_of(member)))
                .collect(),
        }
    }

    pub(crate) fn enter(&mut self, state: GroupState, wall_ms: i64) {
        self.previous = self.state;
        self.state = state;
        self.state_since_ms = Some(wall_ms);
    }

    /// The codes Kafka gives a request that claims to come from a member.
    pub(crate) fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if current != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        match self.members.contains_key(member_id) {
            true => Ok(()),
            false => Err(ErrorCode::UnknownMemberId),
        }
    }

    pub(crate) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub(crate) fn awaiting_join(&self) -> usize {
        self.members.values().filter(|member| member.awaiting_join.is_some()).count()
    }

    pub(crate) fn have_all_joined(&self) -> bool {
        self.pending_join.is_empty() && self.awaiting_join() == self.members.len()
    }

    /// The longest of the members' rebalance timeouts.
    pub(crate) fn rebalance_timeout_ms(&self) -> i64 {
        let timeouts = self.members.values().map(|member| i64::from(member.rebalance_timeout_ms));
        timeouts.max().unwrap_or(0).max(0)
    }

    /// Whether a member that offers `protocols` can be in one generation with the others.
    pub(crate) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|offered| self.all_offer(&offered.name))
    }

    fn all_offer(&self, protocol: &str) -> bool {
        self.members.values().all(|member| member.offers(protocol))
    }

    /// Each member votes for the first of its protocols that all offer; most votes win, and among
    /// equals the one the leader prefers.
    pub(crate) fn select_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member.protocols.iter().find(|offered| self.all_offer(&offered.name));
            if let Some(vote) = vote {
                *votes.entry(&vote.name).or_default() += 1;
            }
        }
        let most = *votes.values().max()?;
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        let preferred = leader.and_then(|leader| {
            leader.protocols.iter().find(|offered| votes.get(offered.name.as_str()) == Some(&most))
        });
        let winner = preferred.map(|protocol| protocol.name.as_str());
        let first = votes.iter().find(|(_, count)| **count == most).map(|(name, _)| *name);
        winner.or(first).map(str::to_owned)
    }

    /// Makes a member that has joined the leader if the leader has not. False if nobody has.
    pub(crate) fn elect_joined_leader(&mut self) -> bool {
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        if leader.is_some_and(|leader| leader.awaiting_join.is_some()) {
            return true;
        }
        let joined = self.members.values().find(|member| member.awaiting_join.is_some());
        match joined.map(|member| member.id.clone()) {
            Some(member_id) => {
                self.leader = Some(member_id);
                true
            }
            None => false,
        }
    }

    /// Adds a member and makes it the leader if there is none.
    pub(crate) fn add(&mut self, member: Member, protocol_type: String) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type);
        }
        if let Some(instance_id) = &member.instance_id {
            let earlier = self.static_members.insert(instance_id.clone(), member.id.clone());
            assert_eq!(earlier, None, "instance {instance_id} of group {} added twice", self.id);
        }
        if self.leader.is_none() {
            self.leader = Some(member.id.clone());
        }
        self.pending_join.remove(&member.id);
        self.members.insert(member.id.clone(), member);
    }

    /// Takes a member out. Its parked requests are in what comes back.
    pub(crate) fn remove(&mut self, member_id: &str) -> Option<Member> {
        let member = self.members.remove(member_id);
        if let Some(instance_id) = member.as_ref().and_then(|member| member.instance_id.as_ref()) {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_join.remove(member_id);
        self.pending_sync.remove(member_id);
        member
    }

    pub(crate) fn begin_generation(&mut self, wall_ms: i64) {
        // A generation of -1 means "no member": never hand it out, not even after 2^31 of them.
        self.generation = self.generation.checked_add(1).unwrap_or(0);
        self.pending_sync.clear();
        self.protocol = self.select_protocol();
        self.subscribed = self.compute_subscribed();
        let next = match self.members.is_empty() {
            true => GroupState::Empty,
            false => GroupState::CompletingRebalance,
        };
        self.enter(next, wall_ms);
    }

    /// The answer that tells a member of the current generation.
    pub(crate) fn generation_answer(&self, member_id: &str, with_members: bool) -> JoinAnswer {
        let members = match with_members {
            true => self.joined_members(),
            false => Vec::new(),
        };
        JoinAnswer {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members,
        }
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref();
        let joined = |member: &Member| JoinedMember {
            member_id: member.id.clone(),
            group_instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        };
        self.members.values().map(joined).collect()
    }

    pub(crate) fn is_consumer_group(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// Whether a member may be reading `topic`. Without knowledge a consumer group may read any.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.is_consumer_group(),
        }
    }

    fn compute_subscribed(&self) -> Option<BTreeSet<String>> {
        if !self.is_consumer_group() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = Some(self.protocol.as_deref()?);
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscription::topics(&member.metadata(protocol))?);
        }
        Some(topics)
    }

    /// Every parked request of every member, taken out.
    pub(crate) fn take_parked(&mut self) -> (Vec<(Ticket, String)>, Vec<Ticket>) {
        let mut joins = Vec::new();
        let mut syncs = Vec::new();
        for member in self.members.values_mut() {
            joins.extend(member.awaiting_join.take().map(|ticket| (ticket, member.id.clone())));
            syncs.extend(member.awaiting_sync.take());
        }
        (joins, syncs)
    }
}
