//! Membership in a consumer group: the classic protocol, with partitions given up before each
//! rebalance.

pub(crate) mod assignor;
pub(crate) mod committed;
mod heartbeat;
mod join;
mod protocol;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use klamm_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cluster::{Cluster, Lane};
use crate::connection::Connection;
use crate::error::{ClientError, check};
use crate::metadata::TopicPartition;

use assignor::Assignor;
use heartbeat::HeartbeatEnd;
use join::Joined;
pub(crate) use protocol::decode_assignment;

/// LeaveGroup names several members from this version on.
const LEAVE_GROUP_BATCHED_FROM: i16 = 3;

/// How a member behaves.
#[derive(Clone, Debug)]
pub(crate) struct GroupConfig {
    pub(crate) group: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) assignors: Vec<Assignor>,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) poll_interval_max: Duration,
}

/// Who a member is to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberIdentityAt {
    pub(crate) member_id: String,
    pub(crate) generation: i32,
}

/// What tasks of one member share.
pub(crate) struct Member {
    pub(crate) cluster: Cluster,
    pub(crate) config: GroupConfig,
    pub(crate) topics: Vec<String>,
    lane: u64,
    state: Mutex<MemberState>,
}

struct MemberState {
    member_id: String,
    generation: i32,
    last_poll: Instant,
}

impl Member {
    /// The coordinator, over a connection that this member alone uses.
    pub(crate) async fn coordinator(&self) -> Result<Connection, ClientError> {
        self.cluster.coordinator(&self.config.group, Lane::Member(self.lane)).await
    }

    /// Looks the coordinator up again next time.
    pub(crate) fn forget_coordinator(&self) {
        self.cluster.forget_coordinator(&self.config.group);
    }

    pub(crate) fn identity(&self) -> MemberIdentityAt {
        let state = self.lock();
        MemberIdentityAt { member_id: state.member_id.clone(), generation: state.generation }
    }

    fn set_identity(&self, member_id: String, generation: i32) {
        let mut state = self.lock();
        state.member_id = member_id;
        state.generation = generation;
    }

    fn has_stopped_polling(&self) -> bool {
        self.lock().last_poll.elapsed() > self.config.poll_interval_max
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, MemberState> {
        self.state.lock().expect("no holder of the lock panics")
    }

    /// Tells the coordinator that this member is gone, unless it is one that will be back.
    async fn leave(&self) -> Result<(), ClientError> {
        let MemberIdentityAt { member_id, .. } = self.identity();
        if member_id.is_empty() || self.config.instance_id.is_some() {
            return Ok(());
        }
        let connection = self.coordinator().await?;
        let version = connection.version::<LeaveGroupRequest>(i16::MAX)?;
        let mut request =
            LeaveGroupRequest { group_id: self.config.group.clone(), ..Default::default() };
        if version >= LEAVE_GROUP_BATCHED_FROM {
            let reason = Some("the consumer is closed".to_owned());
            request.members = vec![MemberIdentity { member_id, reason, ..Default::default() }];
        } else {
            request.member_id = member_id;
        }
        let response = connection.request_at_most(&request, version).await?;
        check(response.error_code, None, || format!("leaving group {}", self.config.group))
    }
}

enum Phase {
    Outside,
    Joining(JoinHandle<Result<Joined, ClientError>>),
    Inside(JoinHandle<HeartbeatEnd>),
}

/// What happened to a member.
pub(crate) enum GroupEvent {
    /// These partitions are the member's.
    Assigned(Vec<TopicPartition>),
    /// The group rebalances: the partitions are to be given up, and may still be committed.
    Rebalancing,
    /// The coordinator has gone on without this member.
    Lost,
}

/// A member of a group. Dropped without [`leave`](Self::leave), it is missed by the coordinator
/// only when its session runs out.
pub(crate) struct Membership {
    member: Arc<Member>,
    phase: Phase,
}

impl Membership {
    pub(crate) fn new(cluster: Cluster, config: GroupConfig, topics: Vec<String>) -> Self {
        let state = MemberState {
            member_id: String::new(),
            generation: committed::NO_GENERATION,
            last_poll: Instant::now(),
        };
        let lane = cluster.new_lane();
        let member = Member { cluster, config, topics, lane, state: Mutex::new(state) };
        Self { member: Arc::new(member), phase: Phase::Outside }
    }

    pub(crate) fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Notes that the application is alive.
    pub(crate) fn polled(&self) {
        self.member.lock().last_poll = Instant::now();
    }

    /// What happens next; joins the group if that is due. May be dropped and called again.
    pub(crate) async fn next_event(&mut self) -> Result<GroupEvent, ClientError> {
        loop {
            match &mut self.phase {
                Phase::Outside => {
                    let joining = join::join(Arc::clone(&self.member));
                    self.phase = Phase::Joining(tokio::spawn(joining));
                }
                Phase::Joining(task) => {
                    let joined = task.await;
                    self.phase = Phase::Outside;
                    let joined = joined.map_err(|_| ClientError::Closed)??;
                    return Ok(self.enter(joined));
                }
                Phase::Inside(heartbeat) => {
                    let ended = heartbeat.await;
                    self.phase = Phase::Outside;
                    return Ok(match ended {
                        Ok(HeartbeatEnd::Rebalancing) => GroupEvent::Rebalancing,
                        Ok(HeartbeatEnd::Failed(error)) => return Err(error),
                        Ok(HeartbeatEnd::Lost) | Err(_) => GroupEvent::Lost,
                    });
                }
            }
        }
    }

    fn enter(&mut self, joined: Joined) -> GroupEvent {
        let Joined { assignment, led } = joined;
        let heartbeat = heartbeat::beat(Arc::clone(&self.member), led);
        self.phase = Phase::Inside(tokio::spawn(heartbeat));
        GroupEvent::Assigned(assignment)
    }

    /// Leaves the group.
    pub(crate) async fn leave(mut self) -> Result<(), ClientError> {
        self.stop();
        self.member.leave().await
    }

    fn stop(&mut self) {
        match &self.phase {
            Phase::Outside => {}
            Phase::Joining(task) => task.abort(),
            Phase::Inside(task) => task.abort(),
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.stop();
        self.member.cluster.drop_lane(self.member.lane);
    }
}
