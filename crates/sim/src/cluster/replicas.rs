//! What must hold of the disks of all brokers together.

use std::collections::BTreeMap;
use std::sync::Arc;

use klamm_cluster::Member;
use klamm_protocol::records::Batch;

use super::load::{TOPIC, value_of};
use super::machine::Machine;
use super::rules::{Listed, Rules};
use crate::disk::SimulatedDisk;
use crate::stored::{self, BATCH_BYTES_MAX, StoredLog, told};

/// A batch as all replicas have to have it: its bytes, and on which broker it was first seen.
type Known = (u64, i32);

/// Offset, leader epoch and content of a batch.
type Content = (i64, i32, u64);

/// Looks at disks.
#[derive(Default)]
pub(super) struct Replicas {
    /// By topic, partition, base offset and leader epoch.
    seen: BTreeMap<(Arc<str>, i32, i64, i32), Known>,
    /// Brokers that have lost their disk, and up to which broker epoch.
    wiped: BTreeMap<i32, i64>,
    /// Brokers that have lost their page cache, and up to which broker epoch: it is what partitions
    /// that are not durable have.
    dark: BTreeMap<i32, i64>,
    pub(super) looks: usize,
}

/// A partition's values by offset.
type Values = BTreeMap<i64, u64>;

impl Replicas {
    /// What a broker had confirmed up to this registration went with its disk.
    pub(super) fn note_wiped(&mut self, broker: i32, epoch: i64) {
        self.wiped.insert(broker, epoch);
    }

    /// What a broker had confirmed up to this registration went with its page cache.
    pub(super) fn note_dark(&mut self, broker: i32, epoch: i64) {
        self.dark.insert(broker, epoch);
    }

    /// Whether a member may lack, by the rules, what it confirmed.
    pub(super) fn is_excused(&self, partition: &Listed, member: Member) -> bool {
        let of = |lost: &BTreeMap<i32, i64>| {
            lost.get(&member.id).is_some_and(|epoch| member.epoch <= *epoch)
        };
        of(&self.wiped) || !partition.is_durable() && of(&self.dark)
    }

    /// Looks at all disks as they are, page caches included.
    ///
    /// # Errors
    /// Which invariant does not hold.
    pub(super) fn look(
        &mut self,
        machines: &[Arc<Machine>],
        rules: &Rules,
        acknowledged: &BTreeMap<i32, Values>,
    ) -> Result<(), String> {
        self.looks += 1;
        let listed = rules.listed()?;
        for machine in machines {
            let logs = read(machine.id, &machine.disk().fork(0))?;
            for log in &logs {
                self.match_log(machine.id, log)?;
            }
            for partition in listed.iter().filter(|partition| partition.topic == TOPIC) {
                if let Some(owed) = acknowledged.get(&partition.partition) {
                    self.check_member(machine.id, partition, &logs, owed)?;
                }
            }
        }
        Ok(())
    }

    /// I3: the same leader epoch at the same offset means the same bytes, on every disk at any time.
    fn match_log(&mut self, broker: i32, log: &StoredLog) -> Result<(), String> {
        // Compaction writes batches anew, each replica in its own time.
        if log.partition.topic.starts_with("__") {
            return Ok(());
        }
        for batch in &log.batches {
            let (topic, number) = (Arc::clone(&log.partition.topic), log.partition.partition);
            let key = (topic, number, batch.base_offset, batch.partition_leader_epoch);
            let hash = hash(batch.bytes());
            let (known, on) = *self.seen.entry(key).or_insert((hash, broker));
            if known != hash {
                let partition = &log.partition.dir_name();
                let (offset, epoch) = (batch.base_offset, batch.partition_leader_epoch);
                return Err(format!(
                    "I3: {partition} at {offset} of epoch {epoch} is one thing on broker {on} and \
                     another on broker {broker}"
                ));
            }
        }
        Ok(())
    }

    /// I4, I5: who is in the ISR or eligible has everything that was acknowledged.
    fn check_member(
        &self,
        broker: i32,
        partition: &Listed,
        logs: &[StoredLog],
        owed: &Values,
    ) -> Result<(), String> {
        let mut members = partition.node.isr.iter().chain(&partition.node.elr);
        let Some(member) = members.find(|member| member.id == broker) else { return Ok(()) };
        if self.is_excused(partition, *member) {
            return Ok(());
        }
        let has = values(logs, partition)?;
        for (offset, value) in owed {
            let found = has.get(offset);
            if found != Some(value) {
                let name = format!("{}-{}", partition.topic, partition.partition);
                return Err(format!(
                    "I4: {name} has {value} acknowledged at {offset}, broker {broker} has \
                     {found:?} there and is in {:?}",
                    partition.node
                ));
            }
        }
        Ok(())
    }

    /// The end: below `ends` all replicas have the same, and under `flush=acked` on stable storage.
    pub(super) fn check_end(
        &mut self,
        machines: &[Arc<Machine>],
        rules: &Rules,
        ends: &BTreeMap<i32, i64>,
    ) -> Result<(), String> {
        for partition in rules.listed()?.iter().filter(|partition| partition.topic == TOPIC) {
            let end = ends.get(&partition.partition).copied().unwrap_or(0);
            let mut first: Option<(i32, Vec<Content>)> = None;
            for machine in machines.iter().filter(|m| partition.replicas.contains(&m.id)) {
                let disk = machine.disk().fork(0);
                if partition.is_durable() {
                    disk.lose_all_unsynced();
                }
                let logs = read(machine.id, &disk)?;
                let below = below(&logs, partition, end)
                    .map_err(|why| format!("{why} on broker {}", machine.id))?;
                match &first {
                    None => first = Some((machine.id, below)),
                    Some((_, known)) if *known == below => {}
                    Some((other, known)) => {
                        let at = known.iter().zip(&below).position(|(a, b)| a != b);
                        return Err(format!(
                            "I3: {TOPIC}-{} below {end} is not the same on brokers {other} and {}: \
                             batch {at:?} of {} and {}",
                            partition.partition,
                            machine.id,
                            known.len(),
                            below.len()
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

fn read(broker: i32, disk: &Arc<SimulatedDisk>) -> Result<Vec<StoredLog>, String> {
    stored::logs(disk).map_err(|why| format!("I15: the disk of broker {broker}: {why}"))
}

fn log_of<'a>(logs: &'a [StoredLog], partition: &Listed) -> Option<&'a StoredLog> {
    logs.iter().find(|log| {
        let name = &log.partition;
        log.topic_id == partition.topic_id && name.partition == partition.partition
    })
}

fn values(logs: &[StoredLog], partition: &Listed) -> Result<Values, String> {
    let mut values = Values::new();
    for batch in log_of(logs, partition).into_iter().flat_map(|log| &log.batches) {
        for record in batch.records(BATCH_BYTES_MAX).map_err(told)? {
            let record = record.map_err(told)?;
            values.insert(record.offset, value_of(record.value.as_ref())?);
        }
    }
    Ok(values)
}

/// The batches below `end`.
fn below(logs: &[StoredLog], partition: &Listed, end: i64) -> Result<Vec<Content>, String> {
    let name = format!("{}-{}", partition.topic, partition.partition);
    let log = log_of(logs, partition);
    let has = log.map_or(0, |log| log.end);
    if has < end {
        return Err(format!("I10: {name} ends at {has}, not {end}"));
    }
    let batches = log.into_iter().flat_map(|log| &log.batches);
    let below = batches.filter(|batch| batch.base_offset < end);
    let content =
        |batch: &Batch| (batch.base_offset, batch.partition_leader_epoch, hash(batch.bytes()));
    Ok(below.map(content).collect())
}

fn hash(bytes: &[u8]) -> u64 {
    // FNV-1a.
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
