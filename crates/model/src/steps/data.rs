//! Records: append, sync, fetch, truncate, and the high watermark that follows from them.

use crate::Cluster;
use crate::rule::Rule;
use crate::state::{
    Breach, Broker, Flush, Id, Mail, Members, NOBODY, Progress, Record, Session, State, Sync,
    WhileLost,
};

/// What a follower asks for.
#[derive(Clone, Copy)]
struct Request {
    topic: u8,
    leader_epoch: u8,
    broker_epoch: u8,
    end: u8,
}

/// What a leader answers.
#[derive(Clone, Copy)]
struct Answer {
    record: Record,
    high_watermark: u8,
}

impl Cluster {
    /// Whether the broker takes itself for the leader.
    pub(crate) fn leads(&self, state: &State, id: Id) -> bool {
        let broker = state.broker(id);
        let node = &broker.applied;
        // R12: an epoch belongs to the incarnation that it was given to.
        let own = !self.rules.on(Rule::R12OwnIncarnation)
            || node.isr.0[id as usize] >= broker.first_epoch;
        broker.up && node.topic != 0 && node.leader == id && own
    }

    /// R3: whether the broker is still listed from before a restart that was not sound.
    pub(crate) fn is_excluded(&self, state: &State, id: Id) -> bool {
        let node = &state.broker(id).applied;
        let listed = node.isr.or(node.elr).0[id as usize];
        listed != 0 && listed < state.registration(id).sound_since(node.flush)
    }

    /// A producer's record with acks=all.
    pub(crate) fn append(&self, state: &State, id: Id) -> Option<State> {
        let broker = state.broker(id);
        // R21: too few replicas to confirm it.
        if self.rules.on(Rule::R21Frozen) && broker.applied.isr.len() < broker.applied.min_isr {
            return None;
        }
        // R5: policy fence.
        if broker.session == Session::Lost && self.limits.fence {
            return None;
        }
        let (mut state, offset, record) = self.append_record(state, id)?;
        if !self.rules.on(Rule::R21Waiter) {
            state.broker_mut(id).waiter = Some((offset, record));
        }
        self.advance(&mut state, id);
        Some(state)
    }

    /// A producer's record with acks=1, answered at the append.
    pub(crate) fn append_weakly(&self, state: &State, id: Id) -> Option<State> {
        let lost = state.broker(id).session == Session::Lost;
        if lost && self.rules.on(Rule::R5bNoWeakAcks) {
            return None;
        }
        let (mut state, _, _) = self.append_record(state, id)?;
        if lost {
            state.observer.note(Breach::LostAcked);
        }
        self.advance(&mut state, id);
        Some(state)
    }

    fn append_record(&self, state: &State, id: Id) -> Option<(State, u8, Record)> {
        let broker = state.broker(id);
        let spent = state.observer.spent.records;
        if spent == self.limits.records || broker.log.is_full() || !self.leads(state, id) {
            return None;
        }
        let mut state = *state;
        state.observer.spent.records += 1;
        let epoch = broker.applied.leader_epoch;
        let record = Record { epoch, value: state.observer.spent.records };
        let offset = broker.log.len();
        let appender = (id + 1, broker.incarnation + 1);
        if broker.topic == state.tree.node.topic {
            let known = &mut state.observer.appenders[epoch as usize];
            if *known == (0, 0) {
                *known = appender;
            } else if *known != appender {
                state.observer.note(Breach::SharedEpoch);
            }
        }
        self.put(state.broker_mut(id), record);
        Some((state, offset, record))
    }

    fn put(&self, broker: &mut Broker, record: Record) {
        broker.log.append(record);
        if self.limits.prompt_syncs {
            broker.log.synced = broker.log.len();
            broker.log.durable = broker.log.len();
        }
    }

    /// A whole sync that nothing comes between.
    pub(crate) fn sync(&self, state: &State, id: Id) -> Option<State> {
        let log = &state.broker(id).log;
        if !state.broker(id).up || log.synced == log.len() && log.durable == log.len() {
            return None;
        }
        let mut state = *state;
        let log = &mut state.broker_mut(id).log;
        log.synced = log.len();
        log.durable = log.len();
        self.advance(&mut state, id);
        Some(state)
    }

    pub(crate) fn begin_sync(&self, state: &State, id: Id) -> Option<State> {
        let broker = state.broker(id);
        if !broker.up || broker.sync.is_some() || broker.log.durable == broker.log.len() {
            return None;
        }
        let mut state = *state;
        let target = broker.log.len();
        state.broker_mut(id).sync = Some(Sync { target, covers: target, overlapped: false });
        Some(state)
    }

    pub(crate) fn end_sync(&self, state: &State, id: Id) -> Option<State> {
        let sync = state.broker(id).sync?;
        let mut state = *state;
        let broker = state.broker_mut(id);
        broker.sync = None;
        broker.log.durable = broker.log.durable.max(sync.covers);
        // R18b: it confirms the log end before it began, and only if no truncation came between.
        if !sync.overlapped || !self.rules.on(Rule::R18bOverlap) {
            broker.log.synced = broker.log.synced.max(sync.target.min(broker.log.len()));
        }
        self.advance(&mut state, id);
        Some(state)
    }

    /// A fetch and its answer, with nothing between.
    pub(crate) fn fetch(&self, state: &State, follower: Id) -> Option<State> {
        let leader = state.broker(follower).applied.leader;
        let request = self.request(state, follower)?;
        let mut state = *state;
        let answer = self.take_fetch(&mut state, leader, follower, request)?;
        self.take_answer(&mut state, follower, request, answer);
        Some(state)
    }

    /// A fetch that is on its way.
    pub(crate) fn send_fetch(&self, state: &State, follower: Id) -> Option<State> {
        let leader = state.broker(follower).applied.leader;
        let Request { topic, leader_epoch, broker_epoch, end } = self.request(state, follower)?;
        let mut state = *state;
        let mail = Mail::Fetch { topic, leader_epoch, broker_epoch, end };
        state.broker_mut(follower).mail[leader as usize] = Some(mail);
        Some(state)
    }

    /// A leader takes a fetch that may be old by now.
    pub(crate) fn take_sent_fetch(&self, state: &State, leader: Id, from: Id) -> Option<State> {
        let Mail::Fetch { topic, leader_epoch, broker_epoch, end } =
            state.broker(from).mail[leader as usize]?
        else {
            return None;
        };
        let request = Request { topic, leader_epoch, broker_epoch, end };
        let mut state = *state;
        let answer = self.take_fetch(&mut state, leader, from, request);
        state.broker_mut(from).mail[leader as usize] = answer.map(|answer| Mail::Fetched {
            topic,
            leader_epoch,
            end,
            record: answer.record,
            high_watermark: answer.high_watermark,
        });
        Some(state)
    }

    /// A follower takes an answer that may be old by now.
    pub(crate) fn take_sent_answer(&self, state: &State, follower: Id, from: Id) -> Option<State> {
        let Mail::Fetched { topic, leader_epoch, end, record, high_watermark } =
            state.broker(follower).mail[from as usize]?
        else {
            return None;
        };
        let mut state = *state;
        state.broker_mut(follower).mail[from as usize] = None;
        let broker = state.broker(follower);
        // R14 holds for answers too: one to an earlier epoch, or to another fetch, is dropped.
        let current = broker.applied.leader_epoch == leader_epoch || !self.rules.on(Rule::R14);
        if broker.up && broker.topic == topic && broker.applied.leader == from && current {
            let request = Request { topic, leader_epoch, broker_epoch: broker.epoch, end };
            let answer = Answer { record, high_watermark };
            self.take_answer(&mut state, follower, request, answer);
        }
        Some(state)
    }

    /// What the follower would ask for now.
    fn request(&self, state: &State, follower: Id) -> Option<Request> {
        let broker = state.broker(follower);
        let node = &broker.applied;
        let follows = broker.up && node.topic != 0 && node.leader != NOBODY;
        if !follows || node.leader == follower {
            return None;
        }
        // R16: first in step with the leader of this epoch.
        if self.rules.on(Rule::R16Handshake) && !broker.in_step {
            return None;
        }
        // R3: no counting fetch while listed from before an unsound restart.
        if self.is_excluded(state, follower) {
            return None;
        }
        // R17: the offset says that everything below it is synced.
        let unsynced = broker.log.synced < broker.log.len();
        if self.rules.on(Rule::R17Synced) && node.flush != Flush::Os && unsynced {
            return None;
        }
        Some(Request {
            topic: broker.topic,
            leader_epoch: node.leader_epoch,
            broker_epoch: broker.epoch,
            end: broker.log.len(),
        })
    }

    fn take_fetch(
        &self,
        state: &mut State,
        leader: Id,
        from: Id,
        request: Request,
    ) -> Option<Answer> {
        if !self.leads(state, leader) || state.broker(leader).topic != request.topic {
            return None;
        }
        let fenced = state.broker(leader).session == Session::Lost && self.limits.fence;
        let broker = state.broker_mut(leader);
        // R14: only at the leader's own epoch.
        let equal = broker.applied.leader_epoch == request.leader_epoch;
        if fenced || self.rules.on(Rule::R14) && !equal || request.end > broker.log.len() {
            return None;
        }
        let known = &mut broker.progress[from as usize];
        // R17: keyed by the broker epoch; a fetch of an earlier one is refused.
        if self.rules.on(Rule::R17BrokerEpoch) {
            if request.broker_epoch < known.broker_epoch {
                return None;
            }
            *known = Progress { broker_epoch: request.broker_epoch, end: request.end };
        } else {
            let end = known.end.max(request.end);
            *known = Progress { broker_epoch: request.broker_epoch, end };
        }
        self.advance(state, leader);
        let broker = state.broker(leader);
        Some(Answer {
            record: broker.log.get(request.end).unwrap_or_default(),
            high_watermark: broker.high_watermark,
        })
    }

    fn take_answer(&self, state: &mut State, follower: Id, request: Request, answer: Answer) {
        let broker = state.broker_mut(follower);
        if broker.log.len() != request.end {
            return;
        }
        if answer.record.value != 0 {
            self.put(broker, answer.record);
        }
        let reached = answer.high_watermark.min(broker.log.len());
        broker.high_watermark = broker.high_watermark.max(reached);
        self.answer_waiter(state, follower);
    }

    /// R16: the epoch handshake, look-up after look-up until the logs agree.
    pub(crate) fn truncate(&self, state: &State, follower: Id) -> Option<State> {
        let broker = state.broker(follower);
        let leader = broker.applied.leader;
        let follows = broker.up && broker.applied.topic != 0 && leader != follower;
        if !follows || leader == NOBODY || broker.in_step || !self.leads(state, leader) {
            return None;
        }
        if self.is_excluded(state, follower) {
            return None;
        }
        let other = state.broker(leader);
        // R14: look-ups too are answered only at the same epoch.
        let equal = other.applied.leader_epoch == broker.applied.leader_epoch;
        if other.topic != broker.topic || self.rules.on(Rule::R14) && !equal {
            return None;
        }
        let len = common_prefix(broker, other);
        let may_be_deep = broker.log.last_epoch() < broker.applied.unclean_epoch;
        let mut state = *state;
        if len < broker.high_watermark && !(may_be_deep && self.rules.on(Rule::R16Unclean)) {
            state.observer.note(Breach::Stuck);
            return Some(state);
        }
        let broker = state.broker_mut(follower);
        if len < broker.log.len() {
            broker.log.truncate(len);
            if let Some(sync) = &mut broker.sync {
                sync.covers = sync.covers.min(len);
                sync.overlapped = true;
            }
        }
        broker.high_watermark = broker.high_watermark.min(len);
        broker.in_step = true;
        Some(state)
    }

    /// R19, R21: moves a leader's high watermark as far as it may go now.
    pub(crate) fn advance(&self, state: &mut State, id: Id) {
        if !self.leads(state, id) {
            return;
        }
        let broker = state.broker(id);
        let node = &broker.applied;
        if self.rules.on(Rule::R21Frozen) && node.isr.len() < node.min_isr {
            return;
        }
        if broker.session == Session::Lost && self.limits.fence {
            return;
        }
        let reached = self
            .maximal_isr(broker)
            .ids()
            .map(|member| match member == id {
                true if node.flush == Flush::Os => broker.log.len(),
                true => broker.log.synced,
                false => broker.progress[member as usize].end,
            })
            .min()
            .unwrap_or(0);
        let lost = broker.session == Session::Lost;
        let broker = state.broker_mut(id);
        broker.high_watermark = broker.high_watermark.max(reached);
        let broker = *broker;
        commit(state, &broker, lost);
        self.answer_waiter(state, id);
    }

    /// R19: committed, pending additions, unconfirmed removals.
    pub(crate) fn maximal_isr(&self, broker: &Broker) -> Members {
        let committed = broker.applied.isr;
        match broker.change {
            None => committed,
            Some(change) if !change.counted => committed,
            Some(change) if self.rules.on(Rule::R19Maximal) => committed.or(change.target),
            // Off: a removal counts at once, an addition when it is stored.
            Some(change) if change.target.len() < committed.len() => change.target,
            Some(_) => committed,
        }
    }

    /// Without R21 a producer may be answered in another epoch than it wrote in.
    fn answer_waiter(&self, state: &mut State, id: Id) {
        let broker = state.broker_mut(id);
        let Some((offset, record)) = broker.waiter else { return };
        if broker.high_watermark > offset {
            broker.waiter = None;
            if broker.log.get(offset) != Some(record) {
                state.observer.note(Breach::FalseAck);
            }
        }
    }
}

/// The observer learns what a leader's high watermark has passed.
fn commit(state: &mut State, leader: &Broker, lost: bool) {
    let node = &state.tree.node;
    // What a leader of before an unclean election confirms is lost by the operator's word.
    if leader.topic != node.topic || leader.applied.leader_epoch < node.unclean_epoch {
        return;
    }
    let while_lost = match lost {
        false => WhileLost::Nothing,
        true if leader.applied.leader_epoch < node.leader_epoch => WhileLost::ConfirmedReplaced,
        true => WhileLost::Confirmed,
    };
    for (offset, record) in leader.log.records().iter().enumerate() {
        if offset >= leader.high_watermark as usize {
            return;
        }
        let known = &mut state.observer.committed[offset];
        if known.value == 0 {
            *known = *record;
            state.observer.while_lost = state.observer.while_lost.max(while_lost);
            state.observer.confirmed_while_lost |= u8::from(lost) << offset;
        } else if *known != *record {
            state.observer.note(Breach::Rewritten);
        }
    }
}

/// Where the follower's log parts from the leader's, by the leader's answers alone.
fn common_prefix(follower: &Broker, leader: &Broker) -> u8 {
    let mut len = follower.log.len();
    while let Some(last) = len.checked_sub(1).and_then(|offset| follower.log.get(offset)) {
        let (epoch, end) = end_of_epoch(leader, last.epoch);
        if epoch == last.epoch {
            return len.min(end);
        }
        // The leader does not know the epoch: the next look-up is for one that is not younger.
        let older = follower.log.records()[..len as usize]
            .iter()
            .take_while(|record| record.epoch <= epoch)
            .count() as u8;
        len = older.min(end);
    }
    0
}

/// The youngest epoch up to the asked one that the leader's epoch cache knows, and its end.
fn end_of_epoch(leader: &Broker, asked: u8) -> (u8, u8) {
    let recorded = |epoch: u8| leader.unrecorded & (1 << epoch) == 0;
    let mut known = 0;
    for (offset, record) in leader.log.records().iter().enumerate() {
        if record.epoch > asked && recorded(record.epoch) {
            return (known, offset as u8);
        }
        if recorded(record.epoch) {
            known = record.epoch;
        }
    }
    let epoch = leader.applied.leader_epoch;
    if epoch > asked && recorded(epoch) {
        return (known, leader.epoch_start);
    }
    (known, leader.log.len())
}
