//! Fetches of followers, and consumers that are better off with a follower (KIP-392).

use klamm_protocol::messages::fetch::FetchRequest;

use super::Part;
use crate::replication::{Allowance, ReplicaFetch};
use crate::request::RequestContext;

/// A broker that follows.
#[derive(Clone, Copy)]
pub(super) struct Replica {
    id: i32,
    broker_epoch: i64,
}

/// Who asks.
#[derive(Clone, Copy)]
pub(super) enum Asker {
    Consumer,
    Replica(Replica),
    /// It says that it is a replica, and is none.
    Stranger,
}

impl Asker {
    /// Who sent `request`.
    pub(super) fn of(ctx: &RequestContext, request: &FetchRequest) -> Asker {
        let id = request.replica_id.max(request.replica_state.replica_id);
        if id < 0 {
            return Asker::Consumer;
        }
        let image = ctx.broker.image();
        let own = image.broker(ctx.broker.id);
        let among_brokers =
            own.is_some_and(|own| own.inter_broker_listener == ctx.connection.listener.name);
        let broker_epoch = request.replica_state.replica_epoch;
        let registered = image.broker(id).is_some_and(|it| it.broker_epoch == broker_epoch);
        if among_brokers && registered && id != ctx.broker.id {
            Asker::Replica(Replica { id, broker_epoch })
        } else {
            Asker::Stranger
        }
    }
}

/// Notes what a follower says that it holds, where its log is the same as this one up to there.
pub(super) fn take_word(ctx: &RequestContext, parts: &[Part], replica: Replica) {
    let image = ctx.broker.image();
    // The broker's two nodes are read one after the other: an older epoch node would say of an unsound
    // restart that it was none.
    let epoch = image.broker_epoch(replica.id).filter(|epoch| epoch.epoch == replica.broker_epoch);
    let Some(epoch) = epoch else { return };
    for part in parts {
        let Ok(partition) = &part.partition else { continue };
        let leader_epoch = part.wanted.current_leader_epoch;
        let agrees = || {
            let reader = partition.readable().ok()??;
            let offset = part.wanted.fetch_offset;
            let within = offset >= reader.log_start_offset() && offset <= reader.log_end_offset();
            (within && part.compare(reader).ok()?.is_none()).then_some(offset)
        };
        let Some(offset) = agrees() else { continue };
        let sound_since = epoch.sound_since(partition.flush_class());
        let Replica { id, broker_epoch } = replica;
        let stays = !epoch.shutting_down;
        let log_start = part.wanted.log_start_offset;
        let fetch = ReplicaFetch { id, broker_epoch, sound_since, stays, offset, log_start };
        // Refused where the epoch is over: the read says so.
        if let Ok(true) = partition.replica_fetched(leader_epoch, fetch) {
            ctx.broker.isr_changes.look_at(partition);
        }
    }
}

/// Whether `replica.selector.class` sends consumers to followers.
pub(super) fn are_followers_read(ctx: &RequestContext) -> bool {
    let config = ctx.broker.config();
    let selector = config.replica_selector_class.as_deref().unwrap_or_default();
    selector.ends_with(".RackAwareReplicaSelector")
}

/// The leader's quota (KIP-73) in one look of a fetch.
pub(super) struct Throttle<'a> {
    ctx: &'a RequestContext,
    /// The follower that asks; nobody else is held back.
    replica: Option<Replica>,
    /// What the quota allows, once something has to know.
    allowance: Option<Allowance>,
    /// Bytes of partitions that the quota is for.
    bytes: u64,
}

impl Throttle<'_> {
    pub(super) fn new(ctx: &RequestContext, replica: Option<Replica>) -> Throttle<'_> {
        Throttle { ctx, replica, allowance: None, bytes: 0 }
    }

    /// What may go of this partition. Whom its high watermark waits for is not held back.
    pub(super) fn allows(&mut self, part: &Part) -> Allowance {
        const EVERYTHING: Allowance = Allowance::Bytes(u64::MAX);
        let (Some(replica), Ok(partition)) = (self.replica, &part.partition) else {
            return EVERYTHING;
        };
        if !partition.throttled().leader {
            return EVERYTHING;
        }
        let broker = &self.ctx.broker;
        let ask = || broker.quotas.leader.allowance(&broker.config());
        let allowance = *self.allowance.get_or_insert_with(ask);
        match allowance {
            EVERYTHING => EVERYTHING,
            _ if partition.waits_for(replica.id) => EVERYTHING,
            Allowance::Bytes(bytes) => Allowance::Bytes(bytes.saturating_sub(self.bytes)),
            Allowance::NothingFor(_) => allowance,
        }
    }

    /// Notes what was found in this partition.
    pub(super) fn note(&mut self, part: &Part, bytes: u64) {
        if let (Some(_), Ok(partition)) = (self.replica, &part.partition)
            && partition.throttled().leader
        {
            self.bytes += bytes;
        }
    }

    /// All that was noted goes to the follower.
    pub(super) fn record(self) {
        self.ctx.broker.quotas.leader.record(self.bytes);
    }
}

/// The follower that a consumer in `rack` should rather read from: in sync, in that rack, holding what
/// is asked for. `None` where the leader is in the rack itself, or `replica.selector.class` does not
/// ask for it.
pub(super) fn preferred(ctx: &RequestContext, rack: &str, part: &Part) -> Option<i32> {
    if rack.is_empty() || !are_followers_read(ctx) {
        return None;
    }
    let image = ctx.broker.image();
    let in_rack = |id: i32| image.broker(id).is_some_and(|it| it.rack.as_deref() == Some(rack));
    if in_rack(ctx.broker.id) {
        return None;
    }
    let partition = part.partition.as_ref().ok()?;
    let holders = partition.holders(part.wanted.fetch_offset).into_iter();
    let near = holders.filter(|(id, _)| in_rack(*id));
    near.max_by_key(|(id, end)| (*end, -id)).map(|(id, _)| id)
}
