//! Several values at one offset: it was given twice, or a record moved.

use crate::anomaly::{Anomaly, Report};
use crate::view::View;

pub(crate) fn check(view: &View<'_>, report: &mut Report) {
    for (partition, log) in &view.logs {
        for (offset, values) in log.at.iter().filter(|(_, values)| values.len() > 1) {
            report.anomalies.push(Anomaly::InconsistentOffset {
                partition: (*partition).clone(),
                offset: *offset,
                values: values.iter().copied().collect(),
            });
        }
    }
}
