//! Lost writes and unseen records.

use crate::anomaly::{Anomaly, Report};
use crate::history::{Acks, End, Outcome};
use crate::view::{Log, Origin, View};

pub(crate) fn check(view: &View<'_>, report: &mut Report) {
    for (value, origin) in &view.origins {
        let log = &view.logs[&origin.sent.partition];
        if is_owed(view, *origin, log) {
            judge(*value, *origin, log, report);
        }
    }
}

/// Whether the record must be there for good: it was promised, or a consumer was given it.
fn is_owed(view: &View<'_>, origin: Origin<'_>, log: &Log<'_>) -> bool {
    let is_acked =
        matches!(origin.sent.outcome, Outcome::Acked(_)) && origin.send.acks == Acks::All;
    let is_polled = log.of.get(&origin.sent.value).is_some_and(|offsets| {
        offsets.iter().any(|offset| log.polled.contains(&(origin.sent.value, *offset)))
    });
    (is_acked || is_polled) && view.end_of(origin) == End::Committed
}

fn judge(value: u64, origin: Origin<'_>, log: &Log<'_>, report: &mut Report) {
    let partition = origin.sent.partition.clone();
    let offset = log.offset_of(value);
    let Some(read) = log.last else {
        // Without a whole read only the polls tell.
        let furthest = log.polled.iter().map(|(_, offset)| *offset).max();
        let was_polled = offset.is_some_and(|offset| log.polled.contains(&(value, offset)));
        if was_polled {
            report.acked_found += 1;
        } else if offset < furthest {
            report.anomalies.push(Anomaly::LostWrite { partition, offset, value });
        } else {
            report.anomalies.push(Anomaly::Unseen { partition, offset, value });
        }
        return;
    };
    let is_kept = log
        .of
        .get(&value)
        .is_some_and(|offsets| offsets.iter().any(|offset| log.kept.get(offset) == Some(&value)));
    match offset {
        _ if is_kept => report.acked_found += 1,
        Some(offset) if offset < read.log_start => report.acked_deleted += 1,
        Some(offset) if offset >= read.end => {
            report.anomalies.push(Anomaly::Unseen { partition, offset: Some(offset), value });
        }
        // Whether it had to stay is the rule of compaction's to say; without a key it had to.
        _ if read.compacted && origin.sent.key.is_some() => report.acked_compacted += 1,
        // Told no offset: deletion may have taken it.
        None if read.log_start > 0 => report.acked_deleted += 1,
        _ => report.anomalies.push(Anomaly::LostWrite { partition, offset, value }),
    }
}
