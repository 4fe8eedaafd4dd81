//! What happened, as a table.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fault::Kind;
use crate::inject::Happened;

/// One kind of fault, all times it happened.
#[derive(Default)]
struct Row {
    fired: usize,
    count: usize,
    led: Vec<Duration>,
    others: Vec<Duration>,
    healed: Vec<Duration>,
    errors: usize,
}

/// Prints a line for each kind of fault.
pub(crate) fn print(happened: &[Happened]) {
    let mut rows: BTreeMap<Kind, Row> = BTreeMap::new();
    for one in happened {
        let row = rows.entry(one.kind).or_default();
        row.count += 1;
        row.fired += usize::from(one.fired);
        row.led.extend(&one.led);
        row.others.extend(&one.others);
        row.healed.push(one.healed);
        row.errors += one.errors.len();
    }
    println!("\nSeconds without an acknowledgement, per partition, median and worst:");
    println!(
        "{:<17}{:>9}  {:>16}  {:>16}  {:>16}  {:>7}",
        "fault", "fired", "led by victim", "other partitions", "until in sync", "errors"
    );
    for (kind, row) in rows {
        println!(
            "{:<17}{:>9}  {:>16}  {:>16}  {:>16}  {:>7}",
            kind.name(),
            format!("{} of {}", row.fired, row.count),
            spread(row.led),
            spread(row.others),
            spread(row.healed),
            row.errors
        );
    }
}

/// Median and worst, in seconds.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(worst)) => {
            format!("{:.2} / {:.2}", median.as_secs_f64(), worst.as_secs_f64())
        }
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_median_and_worst() {
        let times = [3, 1, 2].map(Duration::from_secs).to_vec();
        assert_eq!(spread(times), "2.00 / 3.00");
        assert_eq!(spread(Vec::new()), "-");
    }
}
