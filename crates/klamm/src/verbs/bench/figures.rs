//! What a benchmark measured.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Three digits of every latency are kept, so that it takes at most some 100 KB whatever comes.
const DIGITS: u8 = 3;
const PERCENTILES: [(&str, f64); 4] =
    [("p50", 50.0), ("p95", 95.0), ("p99", 99.0), ("p99.9", 99.9)];

/// Latencies, in microseconds.
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Latencies {
        Latencies(Histogram::new(DIGITS).expect("a number of digits that it takes"))
    }

    pub(crate) fn add(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.record(us).expect("it grows to whatever comes");
    }

    pub(crate) fn merge(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("both grow");
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Milliseconds that this share of the latencies, in percent, does not exceed.
    fn percentile_ms(&self, percent: f64) -> f64 {
        ms(self.0.value_at_percentile(percent))
    }

    pub(crate) fn json(&self) -> Value {
        let mut told = json!({
            "count": self.0.len(),
            "mean": (self.0.mean().round() / 1000.0),
            "max": ms(self.0.max()),
        });
        for (name, percent) in PERCENTILES {
            told[name] = self.percentile_ms(percent).into();
        }
        told
    }

    pub(crate) fn text(&self) -> String {
        let percentiles =
            PERCENTILES.map(|(name, percent)| format!("{name} {:.3}", self.percentile_ms(percent)));
        let mean = self.0.mean() / 1000.0;
        format!("mean {mean:.3}, {}, max {:.3} ms", percentiles.join(", "), ms(self.0.max()))
    }
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// How much was done in which time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Throughput {
    pub(crate) records: u64,
    /// Bytes of the records' values.
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
}

impl Throughput {
    fn per_second(self, amount: u64) -> f64 {
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 { amount as f64 / seconds } else { 0.0 }
    }

    fn megabytes_per_second(self) -> f64 {
        self.per_second(self.bytes) / 1e6
    }

    /// Adds its numbers to a report.
    pub(crate) fn tell(self, report: &mut Value) {
        report["records"] = self.records.into();
        report["bytes"] = self.bytes.into();
        report["seconds"] = self.took.as_secs_f64().into();
        report["records_per_second"] = self.per_second(self.records).round().into();
        report["megabytes_per_second"] = self.megabytes_per_second().into();
    }

    pub(crate) fn text(self) -> String {
        format!(
            "{} records, {:.1} MB in {:.2} s: {:.0} records/s, {:.1} MB/s",
            self.records,
            self.bytes as f64 / 1e6,
            self.took.as_secs_f64(),
            self.per_second(self.records),
            self.megabytes_per_second(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_latencies_given() {
        let mut latencies = Latencies::new();
        for ms in 1..=1000 {
            latencies.add(Duration::from_millis(ms));
        }
        let json = latencies.json();
        for (name, expected) in
            [("p50", 500.0), ("p95", 950.0), ("p99", 990.0), ("p99.9", 999.0), ("max", 1000.0)]
        {
            let told = json[name].as_f64().expect("a number");
            assert!((told - expected).abs() <= expected / 500.0, "{name}: {told}");
        }
        assert_eq!(json["count"], 1000);
        let mut all = Latencies::new();
        assert!(all.is_empty());
        all.merge(&latencies);
        all.merge(&latencies);
        assert_eq!(all.json()["count"], 2000);
        assert!(all.text().starts_with("mean 500."), "{}", all.text());
    }

    #[test]
    fn throughput_is_by_second_and_in_megabytes() {
        let half = Duration::from_millis(500);
        let throughput = Throughput { records: 1000, bytes: 2_000_000, took: half };
        let expected = "1000 records, 2.0 MB in 0.50 s: 2000 records/s, 4.0 MB/s";
        assert_eq!(throughput.text(), expected);
        let mut report = json!({});
        throughput.tell(&mut report);
        assert_eq!(report["records_per_second"], 2000.0);
        assert_eq!(report["megabytes_per_second"], 4.0);
        assert_eq!(Throughput::default().per_second(5), 0.0);
    }
}
