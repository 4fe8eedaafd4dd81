//! One value at several offsets.

use crate::anomaly::{Anomaly, Report};
use crate::view::View;

pub(crate) fn check(view: &View<'_>, report: &mut Report) {
    for (partition, log) in &view.logs {
        for (value, offsets) in log.of.iter().filter(|(_, offsets)| offsets.len() > 1) {
            match view.origins.get(value) {
                Some(origin) if !origin.send.idempotent => report.duplicates_allowed += 1,
                _ => report.anomalies.push(Anomaly::Duplicate {
                    partition: (*partition).clone(),
                    offsets: offsets.iter().copied().collect(),
                    value: *value,
                }),
            }
        }
    }
}
