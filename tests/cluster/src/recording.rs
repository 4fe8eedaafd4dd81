//! What all clients said, in the order in which it was heard, with the time.
//!
//! The lines of a client are in `README.md`. Times are those of the hearing, so that all are by one clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use klamm_history::{
    Acks, Fetched, Isolation, Operation, Outcome, Poll, Record, Send, Sent, TopicPartition,
};
use tokio::sync::watch;
use tokio::time::Instant;

/// In the history a record without an order is a producer's of its own; their numbers begin here.
const FIRST_WITHOUT_ORDER: u32 = 1 << 16;

/// Lines of several clients may be recorded in another order than they were heard, within this time.
const SAME_TIME: Duration = Duration::from_secs(5);

/// A client.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) role: Role,
}

/// What a client is there for.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    Produces { idempotent: bool, acks: Acks },
    Consumes { group: String },
}

/// An acknowledged record that had to be safe.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    sent: Instant,
    at: Instant,
}

/// A time in which a partition acknowledged nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pause {
    pub(crate) time: Duration,
    pub(crate) until: Instant,
}

/// Something that the application was told and could not put right by going on.
#[derive(Clone, Debug)]
pub(crate) struct ClientError {
    at: Instant,
    pub(crate) text: String,
}

/// What a group has read and committed of a partition.
#[derive(Debug, Default)]
struct Share {
    read: BTreeSet<i64>,
    /// The highest offset that was acknowledged.
    committed: i64,
}

/// All that was said.
#[derive(Debug)]
pub(crate) struct Recording {
    topic: String,
    sources: Vec<Source>,
    operations: Vec<Operation>,
    /// Records of producers without an order.
    unordered: u32,
    /// Where each record's operation is, and when it was sent.
    sends: BTreeMap<u64, (usize, Instant)>,
    acknowledged: BTreeMap<i32, Vec<Acknowledged>>,
    /// When each idempotent producer sent its last record that was acknowledged, by partition.
    last_sent: BTreeMap<(u32, i32), Instant>,
    groups: BTreeMap<String, BTreeMap<i32, Share>>,
    /// Consumers that go on somewhere that they did not say.
    unplaced: BTreeSet<(u32, i32)>,
    pub(crate) errors: Vec<ClientError>,
    /// What a client noticed and got over, by text.
    pub(crate) remarks: BTreeMap<String, u64>,
    /// What groups must not do.
    pub(crate) group_faults: Vec<String>,
    /// Counts what was heard.
    heard: watch::Sender<u64>,
}

impl Recording {
    pub(crate) fn of(topic: &str) -> Recording {
        Recording {
            topic: topic.to_owned(),
            sources: Vec::new(),
            operations: Vec::new(),
            unordered: 0,
            sends: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            last_sent: BTreeMap::new(),
            groups: BTreeMap::new(),
            unplaced: BTreeSet::new(),
            errors: Vec::new(),
            remarks: BTreeMap::new(),
            group_faults: Vec::new(),
            heard: watch::Sender::new(0),
        }
    }

    /// Takes a client in; answers its number.
    pub(crate) fn add(&mut self, source: Source) -> u32 {
        if let Role::Consumes { group } = &source.role {
            self.groups.entry(group.clone()).or_default();
        }
        self.sources.push(source);
        u32::try_from(self.sources.len() - 1).expect("few clients")
    }

    /// A line of a client, heard now.
    pub(crate) fn take(&mut self, number: u32, line: &str, now: Instant) {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let taken = match what {
            "S" => two(rest).and_then(|(id, partition)| self.on_sent(number, id, partition, now)),
            "A" => two(rest).and_then(|(id, offset)| self.on_acknowledged(id, offset, now)),
            "F" => self.on_failed(number, rest, now),
            "M" => two(rest).and_then(|(part, position)| self.on_moved(number, part, position)),
            "P" => self.on_polled(number, rest),
            "C" => two(rest).and_then(|(part, offset)| self.on_committed(number, part, offset)),
            "I" => {
                let name = &self.sources[index(number)].name;
                *self.remarks.entry(format!("{name}: {rest}")).or_default() += 1;
                Some(())
            }
            "E" => {
                self.on_error(number, rest, now);
                Some(())
            }
            _ => None,
        };
        if taken.is_none() {
            self.on_error(number, &format!("said what is not understood: {line:?}"), now);
        }
        self.heard.send_modify(|heard| *heard += 1);
    }

    /// Tells when something was heard.
    pub(crate) fn heard(&self) -> watch::Receiver<u64> {
        self.heard.subscribe()
    }

    fn on_sent(&mut self, number: u32, id: u64, partition: i64, now: Instant) -> Option<()> {
        let Role::Produces { idempotent, acks } = self.sources[index(number)].role else {
            return None;
        };
        let sent = Sent {
            partition: self.partition(i32::try_from(partition).ok()?),
            value: id,
            key: None,
            tombstone: false,
            outcome: Outcome::Unknown,
        };
        self.sends.insert(id, (self.operations.len(), now));
        // Only an idempotent producer keeps the order where a leader goes: others send on while an
        // earlier request of theirs, to the old one, is still to be repeated.
        let order = if idempotent { number } else { FIRST_WITHOUT_ORDER + self.unordered };
        self.unordered += u32::from(!idempotent);
        self.operations.push(Operation::Send(Send {
            producer: order,
            idempotent,
            acks,
            transaction: None,
            records: vec![sent],
        }));
        Some(())
    }

    fn on_acknowledged(&mut self, id: u64, offset: i64, now: Instant) -> Option<()> {
        let (operation, sent_at) = *self.sends.get(&id)?;
        let Operation::Send(send) = &mut self.operations[operation] else { return None };
        let sent = send.records.first_mut()?;
        sent.outcome = Outcome::Acked((offset >= 0).then_some(offset));
        if send.acks == Acks::All {
            let partition = sent.partition.partition;
            let acknowledged = Acknowledged { sent: sent_at, at: now };
            self.acknowledged.entry(partition).or_default().push(acknowledged);
            if send.idempotent {
                self.last_sent.insert((send.producer, partition), sent_at);
            }
        }
        Some(())
    }

    /// A record that a client gave up: whether it was written is not known.
    fn on_failed(&mut self, number: u32, rest: &str, now: Instant) -> Option<()> {
        let (id, why) = rest.split_once(' ')?;
        let id: u64 = id.parse().ok()?;
        self.sends.get(&id)?;
        let Role::Produces { idempotent, .. } = self.sources[index(number)].role else {
            return None;
        };
        if idempotent {
            self.on_error(number, &format!("gave a record up: {why}"), now);
        } else {
            let name = &self.sources[index(number)].name;
            *self.remarks.entry(format!("{name} gave a record up: {why}")).or_default() += 1;
        }
        Some(())
    }

    fn on_moved(&mut self, number: u32, partition: i64, position: i64) -> Option<()> {
        let partition = i32::try_from(partition).ok()?;
        if position < 0 {
            self.unplaced.insert((number, partition));
        } else {
            self.unplaced.remove(&(number, partition));
            self.check_position(number, partition, position);
        }
        self.operations.push(Operation::Moved {
            consumer: number,
            partition: self.partition(partition),
            position: (position >= 0).then_some(position),
        });
        Some(())
    }

    fn on_polled(&mut self, number: u32, rest: &str) -> Option<()> {
        let (partition, rest) = rest.split_once(' ')?;
        let partition: i32 = partition.parse().ok()?;
        let (offset, value): (i64, u64) = two(rest)?;
        if self.unplaced.remove(&(number, partition)) {
            self.check_position(number, partition, offset);
        }
        self.share(number, partition)?.read.insert(offset);
        let records = vec![Record { offset, value }];
        self.operations.push(Operation::Poll(Poll {
            consumer: number,
            isolation: Isolation::ReadUncommitted,
            transaction: None,
            fetched: vec![Fetched { partition: self.partition(partition), records }],
        }));
        Some(())
    }

    fn on_committed(&mut self, number: u32, partition: i64, offset: i64) -> Option<()> {
        let share = self.share(number, i32::try_from(partition).ok()?)?;
        share.committed = share.committed.max(offset);
        Some(())
    }

    fn on_error(&mut self, number: u32, text: &str, at: Instant) {
        let text = format!("{}: {text}", self.sources[index(number)].name);
        self.errors.push(ClientError { at, text });
    }

    /// A member goes on no earlier than where its group had got to by what was acknowledged.
    fn check_position(&mut self, number: u32, partition: i32, position: i64) {
        let name = self.sources[index(number)].name.clone();
        let committed = self.share(number, partition).map_or(0, |share| share.committed);
        if position < committed {
            self.group_faults.push(format!(
                "{name} goes on at offset {position} of partition {partition}, behind the commit {committed}"
            ));
        }
    }

    fn share(&mut self, number: u32, partition: i32) -> Option<&mut Share> {
        let Role::Consumes { group } = &self.sources[index(number)].role else { return None };
        Some(self.groups.get_mut(group)?.entry(partition).or_default())
    }

    fn partition(&self, number: i32) -> TopicPartition {
        TopicPartition::new(&self.topic, number)
    }

    /// For each partition, how long after `since` a record was acknowledged that was sent after it.
    pub(crate) fn next_acknowledged(&self, since: Instant) -> BTreeMap<i32, Pause> {
        let next = |acknowledged: &Vec<Acknowledged>| {
            // They are in the order of their times, but for what clients said at the same time.
            let begin = acknowledged.partition_point(|record| record.at + SAME_TIME < since);
            let found = acknowledged[begin..].iter().find(|record| record.sent >= since);
            found.map(|record| Pause { time: record.at - since, until: record.at })
        };
        let found = self.acknowledged.iter();
        found.filter_map(|(partition, all)| Some((*partition, next(all)?))).collect()
    }

    /// The idempotent producers and partitions with nothing acknowledged that was sent after `since`.
    pub(crate) fn waiting(&self, since: Instant, partitions: i32) -> Vec<String> {
        let mut waiting = Vec::new();
        for (number, source) in (0..).zip(&self.sources) {
            let Role::Produces { idempotent: true, .. } = source.role else { continue };
            let waits = |partition: &i32| {
                self.last_sent.get(&(number, *partition)).is_none_or(|sent| *sent < since)
            };
            let waits = (0..partitions).filter(waits);
            waiting.extend(waits.map(|partition| format!("{} in {partition}", source.name)));
        }
        waiting
    }

    /// For each partition, the longest time between two acknowledgements from `since` on.
    pub(crate) fn longest_pauses(&self, since: Instant) -> BTreeMap<i32, Pause> {
        let longest = |acknowledged: &Vec<Acknowledged>| {
            let mut later: Vec<_> = acknowledged.iter().map(|record| record.at).collect();
            later.retain(|at| *at >= since);
            later.sort_unstable();
            let before = std::iter::once(since).chain(later.iter().copied());
            before.zip(&later).map(|(from, at)| Pause { time: *at - from, until: *at }).max()
        };
        let found = self.acknowledged.iter();
        found.filter_map(|(partition, all)| Some((*partition, longest(all)?))).collect()
    }

    /// What applications were told from `since` on.
    pub(crate) fn errors_since(&self, since: Instant) -> Vec<ClientError> {
        self.errors.iter().filter(|error| error.at >= since).cloned().collect()
    }

    /// Whether every group has read every partition up to its end.
    pub(crate) fn is_drained(&self, ends: &BTreeMap<i32, i64>) -> bool {
        self.groups.values().all(|shares| {
            ends.iter().filter(|(_, end)| **end > 0).all(|(partition, end)| {
                let read = shares.get(partition).and_then(|share| share.read.last());
                read.is_some_and(|last| *last >= end - 1)
            })
        })
    }

    /// Records at these offsets that no member of some group was given.
    pub(crate) fn missed(&self, offsets: &BTreeMap<i32, BTreeSet<i64>>) -> Vec<String> {
        let mut missed = Vec::new();
        for (group, shares) in &self.groups {
            for (partition, offsets) in offsets {
                let none = BTreeSet::new();
                let read = shares.get(partition).map_or(&none, |share| &share.read);
                missed.extend(offsets.difference(read).map(|offset| {
                    format!("group {group} missed offset {offset} of partition {partition}")
                }));
            }
        }
        missed
    }

    /// How many members there are, and how many records they read, by group.
    pub(crate) fn reads(&self) -> BTreeMap<&str, usize> {
        let count = |shares: &BTreeMap<i32, Share>| shares.values().map(|s| s.read.len()).sum();
        self.groups.iter().map(|(group, shares)| (group.as_str(), count(shares))).collect()
    }

    /// What the history is made of.
    pub(crate) fn operations(&self) -> &[Operation] {
        &self.operations
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).expect("fits")
}

/// Two numbers with a space between them.
fn two<A: std::str::FromStr, B: std::str::FromStr>(text: &str) -> Option<(A, B)> {
    let (first, second) = text.split_once(' ')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording() -> Recording {
        let mut recording = Recording::of("t");
        let role = Role::Produces { idempotent: true, acks: Acks::All };
        recording.add(Source { name: "producer".to_owned(), role });
        for name in ["one", "two"] {
            let role = Role::Consumes { group: "g".to_owned() };
            recording.add(Source { name: name.to_owned(), role });
        }
        recording
    }

    #[test]
    fn the_next_acknowledgement_is_of_a_record_sent_after_the_fault() {
        let mut recording = recording();
        let begin = Instant::now();
        let after = |ms| begin + Duration::from_millis(ms);
        recording.take(0, "S 1 0", begin);
        let fault = after(10);
        recording.take(0, "S 2 0", after(20));
        recording.take(0, "A 1 0", after(20));
        assert_eq!(recording.next_acknowledged(fault), BTreeMap::new());
        recording.take(0, "A 2 1", after(50));
        let pause =
            |ms| BTreeMap::from([(0, Pause { time: Duration::from_millis(ms), until: after(50) })]);
        assert_eq!(recording.next_acknowledged(fault), pause(40));
        assert_eq!(recording.longest_pauses(fault), pause(30));
    }

    #[test]
    fn a_group_that_goes_back_behind_its_commit_is_a_fault() {
        let mut recording = recording();
        for line in ["M 0 -1", "P 0 0 7", "P 0 1 8", "C 0 2"] {
            recording.take(1, line, Instant::now());
        }
        recording.take(2, "M 0 2", Instant::now());
        assert_eq!(recording.group_faults, Vec::<String>::new());
        recording.take(2, "M 0 1", Instant::now());
        assert_eq!(recording.group_faults.len(), 1);
        recording.take(1, "M 0 -1", Instant::now());
        recording.take(1, "P 0 0 7", Instant::now());
        assert_eq!(recording.group_faults.len(), 2);
    }

    #[test]
    fn a_producer_waits_until_something_new_is_acknowledged() {
        let mut recording = recording();
        let begin = Instant::now();
        let after = |ms| begin + Duration::from_millis(ms);
        recording.take(0, "S 1 0", after(1));
        recording.take(0, "A 1 0", after(9));
        assert_eq!(recording.waiting(begin, 2), ["producer in 1"]);
        recording.take(0, "S 2 1", after(5));
        recording.take(0, "A 2 0", after(9));
        assert_eq!(recording.waiting(begin, 2), Vec::<String>::new());
        assert_eq!(recording.waiting(after(2), 2), ["producer in 0"]);
    }

    #[test]
    fn what_no_member_read_is_missed() {
        let mut recording = recording();
        recording.take(1, "P 0 0 7", Instant::now());
        recording.take(2, "P 0 2 9", Instant::now());
        assert!(recording.is_drained(&BTreeMap::from([(0, 3), (1, 0)])));
        assert!(!recording.is_drained(&BTreeMap::from([(0, 4)])));
        let offsets = BTreeMap::from([(0, BTreeSet::from([0, 1, 2]))]);
        assert_eq!(recording.missed(&offsets), ["group g missed offset 1 of partition 0"]);
    }

    #[test]
    fn an_idempotent_producer_that_gives_up_and_a_line_without_sense_are_errors() {
        let mut recording = recording();
        recording.take(0, "S 1 0", Instant::now());
        recording.take(0, "F 1 too late", Instant::now());
        recording.take(0, "A 9 0", Instant::now());
        recording.take(0, "?", Instant::now());
        assert_eq!(recording.errors.len(), 3);
    }
}
