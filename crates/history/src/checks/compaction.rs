//! A compacted partition read from its start gives every key its last value (I16).

use std::collections::{BTreeMap, BTreeSet};

use crate::anomaly::{Anomaly, Report};
use crate::history::{Acks, End, Outcome, TopicPartition};
use crate::view::{Log, Origin, View};

/// What was written under one key.
#[derive(Default)]
struct Writes<'a> {
    /// The last write of which it is known that it is there, with its offset.
    last: Option<(i64, Origin<'a>)>,
    /// Whether a tombstone may have been written after it.
    may_be_deleted: bool,
}

pub(crate) fn check(view: &View<'_>, report: &mut Report) {
    let compacted = view.logs.iter().filter(|(_, log)| log.is_compacted());
    for (partition, log) in compacted {
        let found = replay(view, log);
        for (key, writes) in writes(view, partition, log) {
            judge(partition, log, key, &writes, found.get(key).copied(), report);
        }
    }
}

/// The last record of each key in the whole read, tombstones included.
fn replay<'a>(view: &View<'a>, log: &Log<'_>) -> BTreeMap<&'a str, (i64, Origin<'a>)> {
    let mut found = BTreeMap::new();
    for (offset, value) in &log.kept {
        let Some(origin) = view.origins.get(value) else { continue };
        if let Some(key) = &origin.sent.key
            && view.end_of(*origin) != End::Aborted
        {
            found.insert(&key[..], (*offset, *origin));
        }
    }
    found
}

fn writes<'a>(
    view: &View<'a>,
    partition: &TopicPartition,
    log: &Log<'_>,
) -> BTreeMap<&'a str, Writes<'a>> {
    let mut by_key: BTreeMap<&str, Writes<'_>> = BTreeMap::new();
    let here = view.origins.values().filter(|origin| origin.sent.partition == *partition);
    for origin in here {
        let Some(key) = &origin.sent.key else { continue };
        let end = view.end_of(*origin);
        if origin.sent.outcome == Outcome::Failed || end == End::Aborted {
            continue;
        }
        let writes = by_key.entry(key).or_default();
        let is_acked =
            matches!(origin.sent.outcome, Outcome::Acked(_)) && origin.send.acks == Acks::All;
        let seen = log.of.get(&origin.sent.value).and_then(BTreeSet::last);
        match seen.filter(|_| end == End::Committed) {
            // A plain producer may have written it again, later, where nobody saw it.
            Some(offset) => {
                if writes.last.is_none_or(|(last, _)| last < *offset) {
                    writes.last = Some((*offset, *origin));
                }
                let may_repeat = !origin.send.idempotent && !is_acked;
                writes.may_be_deleted |= origin.sent.tombstone && may_repeat;
            }
            None => writes.may_be_deleted |= origin.sent.tombstone,
        }
    }
    by_key
}

fn judge(
    partition: &TopicPartition,
    log: &Log<'_>,
    key: &str,
    writes: &Writes<'_>,
    found: Option<(i64, Origin<'_>)>,
    report: &mut Report,
) {
    let Some((offset, last)) = writes.last else { return };
    // The read may have been in the middle of what retention took: then it has seen an earlier value
    // and not the last, both of which are deleted by now.
    let is_deleted = offset < log.log_start();
    let is_right = match found {
        // `last` is the latest of all that was seen, the whole read included.
        Some((found, _)) => found == offset || is_deleted,
        None => last.sent.tombstone || writes.may_be_deleted || is_deleted,
    };
    // A tombstone that was cleaned leaves nothing of its key; an older value must not come back.
    // Past the end of the read it is unseen, and told as that.
    let is_read = log.last.is_some_and(|read| offset < read.end);
    if !is_right && is_read {
        report.anomalies.push(Anomaly::WrongLastValue {
            partition: partition.clone(),
            key: key.to_owned(),
            offset,
            value: last.sent.value,
            found: found.map(|(_, origin)| origin.sent.value),
        });
    }
}
