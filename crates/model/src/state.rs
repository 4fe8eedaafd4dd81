//! What there is: the tree, the brokers, and what an observer remembers.
//!
//! Everything is small, of fixed size and `Copy`: a check visits millions of states. Numbers start
//! at 1 where 0 means *none*.

use std::hash::{Hash, Hasher};

use crate::symmetry;

/// Brokers at most; a scenario may have fewer.
pub(crate) const BROKERS: usize = 3;
/// Records that a log holds at most.
pub(crate) const RECORDS: usize = 3;
/// Leader epochs at most, and one for none.
pub(crate) const EPOCHS: usize = 8;
/// How many versions of the state node a reader may lag behind at most.
pub(crate) const LAG: usize = 2;

/// A broker, by its place.
pub type Id = u8;
/// A leader that is none.
pub(crate) const NOBODY: Id = u8::MAX;

/// A record: the epoch of its leader, and a value that no other record has. Value 0 is none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Record {
    pub(crate) epoch: u8,
    pub(crate) value: u8,
}

/// When an append counts as confirmed (R18c).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Flush {
    /// As soon as it is in the page cache.
    Os,
    /// Counts as acked, but restarts are still judged as under os.
    Syncing,
    /// When it is on stable storage.
    #[default]
    Acked,
}

/// A set of replicas, each with the broker epoch that it is listed at; 0 for who is not in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Members(pub(crate) [u8; BROKERS]);

impl Members {
    pub(crate) fn has(self, id: Id) -> bool {
        self.0[id as usize] != 0
    }

    pub(crate) fn len(self) -> u8 {
        self.0.iter().filter(|epoch| **epoch != 0).count() as u8
    }

    pub(crate) fn is_empty(self) -> bool {
        self.len() == 0
    }

    pub(crate) fn ids(self) -> impl Iterator<Item = Id> {
        (0..BROKERS as Id).filter(move |id| self.has(*id))
    }

    pub(crate) fn with(mut self, id: Id, broker_epoch: u8) -> Self {
        self.0[id as usize] = broker_epoch;
        self
    }

    pub(crate) fn without(self, id: Id) -> Self {
        self.with(id, 0)
    }

    /// Members of either, as `self` lists them where both do.
    pub(crate) fn or(mut self, other: Self) -> Self {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            if *mine == 0 {
                *mine = theirs;
            }
        }
        self
    }

    /// Members of `self` that are not in `other`.
    pub(crate) fn minus(mut self, other: Self) -> Self {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            if theirs != 0 {
                *mine = 0;
            }
        }
        self
    }
}

/// A state of the partition's node: `/topics/<uuid>/p/<n>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Node {
    /// Stands for the topic's UUID; 0 where no state is known.
    pub(crate) topic: u8,
    /// The partition epoch, and the node's version besides.
    pub(crate) version: u8,
    /// [`NOBODY`] for none.
    pub(crate) leader: Id,
    pub(crate) leader_epoch: u8,
    pub(crate) isr: Members,
    pub(crate) elr: Members,
    pub(crate) min_isr: u8,
    pub(crate) flush: Flush,
    /// The leader epoch of the last unclean election; 0 for never.
    pub(crate) unclean_epoch: u8,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            topic: 0,
            version: 0,
            leader: NOBODY,
            leader_epoch: 0,
            isr: Members::default(),
            elr: Members::default(),
            min_isr: 0,
            flush: Flush::default(),
            unclean_epoch: 0,
        }
    }
}

/// `/brokers/epochs/<id>` and `/brokers/ids/<id>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Registration {
    pub(crate) epoch: u8,
    pub(crate) incarnation: u8,
    /// The oldest broker epoch of the unbroken chain of registrations that were sound for any class.
    pub(crate) clean_since: u8,
    /// The same for the class acked.
    pub(crate) intact_since: u8,
    /// Whether the ephemeral node is there.
    pub(crate) listed: bool,
}

impl Registration {
    /// The oldest listing that is worth something (R3).
    pub(crate) fn sound_since(self, flush: Flush) -> u8 {
        match flush {
            Flush::Os | Flush::Syncing => self.clean_since,
            Flush::Acked => self.intact_since,
        }
    }
}

/// An election that an earlier controller sent and the ensemble has not yet seen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ControllerWrite {
    pub(crate) controller_epoch: u8,
    pub(crate) elected: Id,
    /// What it stores, if the version is still the one before.
    pub(crate) node: Node,
}

/// What the ensemble holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Tree {
    pub(crate) node: Node,
    /// Earlier states of the node, the last one first; topic 0 where there are none.
    pub(crate) past: [Node; LAG],
    pub(crate) brokers: [Registration; BROKERS],
    /// A registration that a process sent; it may land after the process has died.
    pub(crate) arriving: [Option<Arriving>; BROKERS],
    pub(crate) controller_epoch: u8,
    pub(crate) queued: Option<ControllerWrite>,
}

/// The multi of R1 on its way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Arriving {
    pub(crate) pair: Pair,
    pub(crate) judgement: Judgement,
}

/// A log, and how far it would survive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Log {
    records: [Record; RECORDS],
    len: u8,
    /// What the broker takes for durable.
    pub(crate) synced: u8,
    /// What is durable.
    pub(crate) durable: u8,
}

impl Log {
    pub(crate) fn len(&self) -> u8 {
        self.len
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len as usize == RECORDS
    }

    pub(crate) fn records(&self) -> &[Record] {
        &self.records[..self.len as usize]
    }

    pub(crate) fn get(&self, offset: u8) -> Option<Record> {
        self.records().get(offset as usize).copied()
    }

    pub(crate) fn last_epoch(&self) -> u8 {
        self.records().last().map_or(0, |record| record.epoch)
    }

    pub(crate) fn append(&mut self, record: Record) {
        self.records[self.len as usize] = record;
        self.len += 1;
    }

    /// Lowers the ends at once (R18b).
    pub(crate) fn truncate(&mut self, len: u8) {
        for record in self.records.iter_mut().skip(len as usize) {
            *record = Record::default();
        }
        self.len = self.len.min(len);
        self.synced = self.synced.min(len);
        self.durable = self.durable.min(len);
    }
}

/// A sync under way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Sync {
    /// The log end before it began.
    pub(crate) target: u8,
    /// How much of the log, as it is now, it makes durable.
    pub(crate) covers: u8,
    /// Whether the log was truncated since.
    pub(crate) overlapped: bool,
}

/// What a leader knows of a follower (R17).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Progress {
    /// 0 for unknown.
    pub(crate) broker_epoch: u8,
    pub(crate) end: u8,
}

/// An ISR change that a leader sent and whose outcome it does not know (R19).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Change {
    /// The version that it was sent for.
    pub(crate) version: u8,
    pub(crate) target: Members,
    /// Whether the leader counts it in its maximal ISR: always, while the rules hold.
    pub(crate) counted: bool,
    /// Whether the ensemble may still carry it out.
    pub(crate) queued: bool,
    /// Whether the connection broke before an answer came.
    pub(crate) unanswered: bool,
}

/// A broker epoch and the incarnation that registered or tried to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Pair {
    /// 0 for none.
    pub(crate) epoch: u8,
    pub(crate) incarnation: u8,
    /// Whether the boot id that was written with it is the machine's.
    pub(crate) same_boot: bool,
}

/// The registration file and the clean marker (R2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Files {
    pub(crate) registered: Pair,
    pub(crate) attempted: Pair,
    pub(crate) marker: Pair,
}

/// What a process found when it judged its restart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Judgement {
    /// Sound for any flush class.
    pub(crate) any: bool,
    /// Sound for the class acked.
    pub(crate) acked: bool,
}

/// What a broker knows of its session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Session {
    #[default]
    Ok,
    /// R4: the lease ran out, or the session did.
    Lost,
}

/// A request or an answer on its way between a follower and a leader.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Mail {
    Fetch { topic: u8, leader_epoch: u8, broker_epoch: u8, end: u8 },
    Fetched { topic: u8, leader_epoch: u8, end: u8, record: Record, high_watermark: u8 },
}

/// A broker: its machine's disk and, while `up`, its process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Broker {
    pub(crate) log: Log,
    pub(crate) files: Files,
    /// The topic whose log lies on the disk.
    pub(crate) topic: u8,

    pub(crate) up: bool,
    /// How often a process started here.
    pub(crate) incarnation: u8,
    /// The files as this process found them, until it is registered.
    pub(crate) found: Files,
    pub(crate) session: Session,
    /// The broker epoch of the current registration; 0 before the first one.
    pub(crate) epoch: u8,
    /// The first broker epoch of this incarnation.
    pub(crate) first_epoch: u8,
    /// No read of this session is older: topic and version.
    pub(crate) floor: (u8, u8),
    /// The partition's state that the broker acts on.
    pub(crate) applied: Node,
    pub(crate) high_watermark: u8,
    /// As follower: whether the log was truncated for this leader epoch.
    pub(crate) in_step: bool,
    /// As leader: the log end when the epoch began.
    pub(crate) epoch_start: u8,
    pub(crate) progress: [Progress; BROKERS],
    pub(crate) change: Option<Change>,
    pub(crate) sync: Option<Sync>,
    /// Led epochs whose start was not recorded, one bit each: R15 is off.
    pub(crate) unrecorded: u8,
    /// An acks=all producer that waits in spite of a new epoch: R21 is off.
    pub(crate) waiter: Option<(u8, Record)>,
    /// What is on its way from this follower to each leader, or back.
    pub(crate) mail: [Option<Mail>; BROKERS],
}

/// Something that must never happen, noted when it did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub(crate) enum Breach {
    /// I1: a tree write of an earlier controller was accepted.
    OldController,
    /// I2: two incarnations appended in one leader epoch.
    SharedEpoch,
    /// I2: a leader epoch did not grow.
    EpochFell,
    /// I8: a listing that an unsound restart had ended leads.
    UnsoundLeads,
    /// I8: a write listed somebody by a registration that an unsound restart had ended.
    UnsoundListed,
    /// R18c: a change of the flush class ended the listing of a member that had lost nothing.
    Disowned,
    /// I9: another record at an offset that was already confirmed.
    Rewritten,
    /// I10: acks=all answered for a record that is not at its offset.
    FalseAck,
    /// R16: a follower has to cut off what it knows to be committed, and may not.
    Stuck,
    /// I18: a broker without a session wrote to the tree.
    LostWrote,
    /// I18: a broker without a session answered acks=1.
    LostAcked,
}

/// What R5(c) lets happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) enum WhileLost {
    #[default]
    Nothing,
    /// A leader without a session confirmed a record.
    Confirmed,
    /// It did so after another leader had been elected.
    ConfirmedReplaced,
}

/// How much of each bounded thing has been used up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) records: u8,
    pub(crate) kills: u8,
    pub(crate) stops: u8,
    pub(crate) power_losses: u8,
    pub(crate) blackouts: u8,
    pub(crate) wipes: u8,
    pub(crate) session_losses: u8,
    pub(crate) unanswered: u8,
}

/// What an observer of everything remembers; no broker acts on it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Observer {
    /// Records that were below a leader's high watermark: acknowledged, or shown to consumers.
    pub(crate) committed: [Record; RECORDS],
    /// Who appended in each leader epoch: broker and incarnation, each 1 up.
    pub(crate) appenders: [(u8, u8); EPOCHS],
    breaches: u16,
    /// What a leader without a session confirmed: how far that went, and which offsets, a bit each.
    pub(crate) while_lost: WhileLost,
    pub(crate) confirmed_while_lost: u8,
    pub(crate) spent: Spent,
}

impl Observer {
    pub(crate) fn note(&mut self, breach: Breach) {
        self.breaches |= 1 << breach as u8;
    }

    pub(crate) fn saw(&self, breach: Breach) -> bool {
        self.breaches & (1 << breach as u8) != 0
    }

    /// Offsets and records that a leader without a session confirmed.
    pub(crate) fn confirmed_while_lost(&self) -> impl Iterator<Item = (u8, Record)> {
        let records = self.committed.iter().enumerate();
        records
            .filter(|(offset, _)| self.confirmed_while_lost & (1 << offset) != 0)
            .map(|(offset, record)| (offset as u8, *record))
    }

    pub(crate) fn committed_len(&self) -> u8 {
        self.committed.iter().take_while(|record| record.value != 0).count() as u8
    }
}

/// Everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct State {
    pub(crate) tree: Tree,
    pub(crate) brokers: [Broker; BROKERS],
    pub(crate) observer: Observer,
}

impl State {
    pub(crate) fn broker(&self, id: Id) -> &Broker {
        &self.brokers[id as usize]
    }

    pub(crate) fn broker_mut(&mut self, id: Id) -> &mut Broker {
        &mut self.brokers[id as usize]
    }

    pub(crate) fn registration(&self, id: Id) -> &Registration {
        &self.tree.brokers[id as usize]
    }

    pub(crate) fn registration_mut(&mut self, id: Id) -> &mut Registration {
        &mut self.tree.brokers[id as usize]
    }

    /// Whether the broker has a live session and knows it.
    pub(crate) fn connected(&self, id: Id) -> bool {
        let broker = self.broker(id);
        broker.up
            && broker.session == Session::Ok
            && self.registration(id).listed
            && broker.epoch == self.registration(id).epoch
    }
}

/// States that differ only in the brokers' names hash alike: the checker visits one of them.
impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let state = symmetry::representative(self);
        let mut packed = symmetry::Packed::new();
        state.tree.hash(&mut packed);
        state.brokers.hash(&mut packed);
        state.observer.hash(&mut packed);
        hasher.write(packed.bytes());
    }
}
