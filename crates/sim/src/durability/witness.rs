//! Who remembers what was there and what was acknowledged, and compares.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Policy;
use super::left::{Left, Logs, Record, Records};

/// The topic that keeps everything.
pub(super) const KEPT: &str = "orders";
/// The one that is compacted.
pub(super) const COMPACTED: &str = "accounts";

type Partition = (String, i32);

/// What was seen so far.
#[derive(Default)]
pub(super) struct Witness {
    /// Every record of the logs as they are now, the compacted ones included.
    written: BTreeMap<Partition, Records>,
    /// The logs right before the last loss of power.
    before: Logs,
    /// The end of each log that was synced by then.
    synced_ends: BTreeMap<Partition, i64>,
    /// Acknowledged, and not known to be taken by a power loss since.
    acknowledged: BTreeMap<Partition, Records>,
    /// Acknowledged, and looked for in no log yet.
    unseen: Vec<(Partition, i64, Record)>,
    /// The key of everything that was ever sent, by what it says.
    sent: BTreeMap<String, Option<Bytes>>,
    /// Every place that a record was at, before some loss of power took it.
    taken: BTreeSet<(Partition, i64, String)>,
    acknowledged_count: usize,
    /// What the consumer has read at the end.
    consumed: BTreeMap<Partition, Records>,
    pub(super) states: u64,
    pub(super) lost: u64,
    pub(super) compacted: u64,
}

impl Witness {
    pub(super) fn on_sent(&mut self, record: &Record) {
        self.sent.insert(record.text.clone(), record.key.clone());
    }

    pub(super) fn on_acknowledged(&mut self, partition: Partition, offset: i64, record: Record) {
        self.unseen.push((partition.clone(), offset, record.clone()));
        self.acknowledged.entry(partition).or_default().insert(offset, record);
        self.acknowledged_count += 1;
    }

    pub(super) fn on_consumed(&mut self, partition: Partition, offset: i64, record: Record) {
        self.consumed.entry(partition).or_default().insert(offset, record);
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged_count
    }

    /// Takes note of the logs as they are, and of what is synced of them.
    pub(super) fn on_power_loss(&mut self, before: Logs, synced: &Logs) -> Result<(), String> {
        self.look(&before)?;
        self.before = before;
        self.synced_ends = ends(synced);
        Ok(())
    }

    /// The logs of a process that was not disturbed: they go on from what was known.
    fn look(&mut self, logs: &Logs) -> Result<(), String> {
        for (partition, left) in &logs.0 {
            let written = self.written.entry(partition.clone()).or_default();
            let known_end = written.last_key_value().map_or(0, |(offset, _)| offset + 1);
            if left.end < known_end {
                return Err(format!("{partition:?} ends at {}, not {known_end}", left.end));
            }
            for (offset, record) in &left.records {
                let known = written.entry(*offset).or_insert_with(|| record.clone());
                if known != record {
                    return Err(format!("{partition:?}, {offset}: {record:?} was {known:?}"));
                }
            }
            if partition.0 == COMPACTED {
                self.compacted = (written.len() - left.records.len()) as u64;
            }
        }
        // What is acknowledged by now was in a log, of this life or of one before.
        for (partition, offset, record) in std::mem::take(&mut self.unseen) {
            let place = (partition, offset, record.text.clone());
            if self.taken.contains(&place) {
                continue;
            }
            let (partition, ..) = &place;
            let written = self.written.entry(partition.clone()).or_default();
            let log = logs.0.get(partition);
            if log.is_some_and(|log| is_superseded(partition, offset, &record, log)) {
                written.entry(offset).or_insert_with(|| record.clone());
            }
            if written.get(&offset) != Some(&record) {
                return Err(format!("{place:?} was acknowledged and is in no log"));
            }
        }
        Ok(())
    }

    /// Checks what a power loss might leave.
    pub(super) fn check_left(&mut self, policy: Policy, left: &Logs) -> Result<(), String> {
        self.states += 1;
        let nothing = Left::default();
        for (partition, before) in &self.before.0 {
            let left = left.0.get(partition).unwrap_or(&nothing);
            let synced_end = self.synced_ends.get(partition).copied().unwrap_or(0);
            let check = || -> Result<(), String> {
                if left.end < synced_end || left.end > before.end {
                    let (end, all) = (left.end, before.end);
                    return Err(format!("the end is {end}, not {synced_end} to {all}"));
                }
                let written = self.written.get(partition).unwrap_or(&before.records);
                check_records(partition, before, left)?;
                self.check_written(written, before, left)?;
                match (policy, self.acknowledged.get(partition)) {
                    (Policy::Acked, Some(acknowledged)) => {
                        check_acknowledged(partition, acknowledged, left)
                    }
                    _ => Ok(()),
                }
            };
            check().map_err(|why| format!("{partition:?}: {why}"))?;
        }
        Ok(())
    }

    /// That every record is where it was.
    fn check_written(&self, written: &Records, before: &Left, left: &Left) -> Result<(), String> {
        for (at, record) in &left.records {
            match written.get(at) {
                Some(known) if known == record => {}
                // It was written and compacted away within one life.
                None if *at < before.end && self.sent.get(&record.text) == Some(&record.key) => {}
                known => return Err(format!("{record:?} at {at} was {known:?}")),
            }
        }
        Ok(())
    }

    /// The run goes on with what is left.
    pub(super) fn go_on_with(&mut self, left: Logs) {
        let ends = ends(&left);
        for (partition, written) in &mut self.written {
            let end = ends.get(partition).copied().unwrap_or(0);
            let gone = written.split_off(&end);
            self.lost += gone.len() as u64;
            let places = gone.into_iter().map(|(at, record)| (partition.clone(), at, record.text));
            self.taken.extend(places);
        }
        for (partition, acknowledged) in &mut self.acknowledged {
            acknowledged.split_off(&ends.get(partition).copied().unwrap_or(0));
        }
    }

    /// Compares the logs at the end with what was acknowledged and what was read.
    pub(super) fn on_end(&mut self, policy: Policy, logs: &Logs) -> Result<(), String> {
        self.look(logs)?;
        for (partition, left) in &logs.0 {
            let consumed = self.consumed.remove(partition).unwrap_or_default();
            let same = match partition.0.as_str() {
                COMPACTED => newest(&consumed, i64::MAX) == newest(&left.records, i64::MAX),
                _ => consumed == left.records,
            };
            if !same {
                return Err(format!("{partition:?}: {consumed:?} was read"));
            }
        }
        if policy == Policy::Acked {
            self.before = logs.clone();
            self.synced_ends = ends(logs);
            self.check_left(policy, logs)?;
            self.states -= 1;
            check_once(logs)?;
        }
        Ok(())
    }
}

fn ends(logs: &Logs) -> BTreeMap<Partition, i64> {
    logs.0.iter().map(|(partition, left)| (partition.clone(), left.end)).collect()
}

/// That nothing of what was there `before` is missing, up to where `left` ends.
fn check_records(partition: &Partition, before: &Left, left: &Left) -> Result<(), String> {
    if partition.0 == COMPACTED {
        let (then, now) = (newest(&before.records, left.end), newest(&left.records, i64::MAX));
        return if then == now { Ok(()) } else { Err(format!("{now:?} is not {then:?}")) };
    }
    match before.records.range(..left.end).find(|(at, _)| !left.records.contains_key(at)) {
        Some((at, record)) => {
            Err(format!("{record:?} at {at} is missing, the end is {}", left.end))
        }
        None => Ok(()),
    }
}

/// That what was acknowledged is there, or in a compacted log something newer of its key.
fn check_acknowledged(
    partition: &Partition,
    acknowledged: &Records,
    left: &Left,
) -> Result<(), String> {
    for (offset, record) in acknowledged {
        let is_there = left.records.get(offset) == Some(record);
        if !is_there && !is_superseded(partition, *offset, record, left) {
            return Err(format!("{record:?} was acknowledged at {offset} and is lost"));
        }
    }
    Ok(())
}

/// Whether a compacted log may have let go of a record.
fn is_superseded(partition: &Partition, offset: i64, record: &Record, log: &Left) -> bool {
    let mut newer = log.records.range(offset + 1..);
    partition.0 == COMPACTED && newer.any(|(_, newer)| newer.key == record.key)
}

/// That no record is there twice.
fn check_once(logs: &Logs) -> Result<(), String> {
    let mut texts = BTreeSet::new();
    for (partition, left) in &logs.0 {
        for (offset, record) in &left.records {
            if !texts.insert(&record.text) {
                return Err(format!(
                    "{} is there twice, again at {partition:?} {offset}",
                    record.text
                ));
            }
        }
    }
    Ok(())
}

/// The newest record of each key below `end`, and where it is.
fn newest(records: &Records, end: i64) -> BTreeMap<&Bytes, (i64, &str)> {
    let below = records.range(..end);
    let keyed = below.filter_map(|(at, record)| Some((record.key.as_ref()?, (*at, &*record.text))));
    keyed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: Option<&'static str>, text: &str) -> Record {
        Record { key: key.map(|key| Bytes::from_static(key.as_bytes())), text: text.to_owned() }
    }

    fn logs(topic: &str, end: i64, records: &[(i64, Option<&'static str>, &str)]) -> Logs {
        let records = records.iter().map(|(at, key, text)| (*at, record(*key, text))).collect();
        Logs(BTreeMap::from([((topic.to_owned(), 0), Left { end, records })]))
    }

    /// A witness of a log of which one record is synced and two are acknowledged.
    fn witness(topic: &str) -> Witness {
        let mut witness = Witness::default();
        for (offset, text) in [(0, "a"), (1, "b")] {
            witness.on_acknowledged((topic.to_owned(), 0), offset, record(Some("k"), text));
        }
        let all = [(0, Some("k"), "a"), (1, Some("k"), "b"), (2, Some("k"), "c")];
        let synced = logs(topic, 1, &all[..1]);
        witness.on_power_loss(logs(topic, 3, &all), &synced).expect("all is well");
        witness
    }

    #[test]
    fn a_prefix_passes() {
        let two = logs(KEPT, 2, &[(0, Some("k"), "a"), (1, Some("k"), "b")]);
        assert_eq!(witness(KEPT).check_left(Policy::Acked, &two), Ok(()));
        let one = logs(KEPT, 1, &[(0, Some("k"), "a")]);
        assert_eq!(witness(KEPT).check_left(Policy::Os, &one), Ok(()));
    }

    #[test]
    fn what_is_lost_changed_invented_or_missing_is_found() {
        let a = (0, Some("k"), "a");
        let bad = [
            // A synced record is gone.
            logs(KEPT, 0, &[]),
            // Another one is in its place.
            logs(KEPT, 2, &[a, (1, Some("k"), "x")]),
            // A gap.
            logs(KEPT, 3, &[a, (2, Some("k"), "c")]),
            // More than there was.
            logs(KEPT, 4, &[a, (1, Some("k"), "b"), (2, Some("k"), "c"), (3, Some("k"), "d")]),
        ];
        for left in bad {
            witness(KEPT).check_left(Policy::Os, &left).expect_err("a bad log");
        }
        let unacknowledged = logs(KEPT, 1, &[a]);
        witness(KEPT).check_left(Policy::Acked, &unacknowledged).expect_err("b is lost");
    }

    #[test]
    fn a_compacted_log_is_known_by_its_newest_values() {
        let good = logs(COMPACTED, 3, &[(2, Some("k"), "c")]);
        assert_eq!(witness(COMPACTED).check_left(Policy::Acked, &good), Ok(()));
        for bad in [logs(COMPACTED, 3, &[(0, Some("k"), "a")]), logs(COMPACTED, 2, &[])] {
            witness(COMPACTED).check_left(Policy::Os, &bad).expect_err("b and c are gone");
        }
    }

    #[test]
    fn an_acknowledgement_of_what_was_in_no_log_is_found() {
        let mut witness = witness(KEPT);
        witness.on_acknowledged((KEPT.to_owned(), 0), 7, record(None, "never"));
        let again = witness.before.clone();
        witness.on_power_loss(again, &Logs::default()).expect_err("it was never there");
    }
}
