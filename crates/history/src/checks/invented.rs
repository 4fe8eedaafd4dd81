//! Values that nobody sent there.

use crate::anomaly::{Anomaly, Report};
use crate::view::View;

pub(crate) fn check(view: &View<'_>, report: &mut Report) {
    for (partition, log) in &view.logs {
        for (value, offsets) in &log.of {
            let origin = view.origins.get(value);
            if origin.is_none_or(|origin| origin.sent.partition != **partition) {
                report.anomalies.push(Anomaly::Invented {
                    partition: (*partition).clone(),
                    offset: *offsets.first().expect("a value is seen somewhere"),
                    value: *value,
                });
            }
        }
    }
}
