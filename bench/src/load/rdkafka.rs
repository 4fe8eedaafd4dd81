//! `rdkafka_performance`, librdkafka's own load generator, as a process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Result;
use crate::bed::Bed;
use crate::measure::percentile;

/// Longest that one process may run, beyond what the load needs by itself.
const PATIENCE: Duration = Duration::from_secs(900);
/// Interval of the statistics, in milliseconds, of which requests are counted.
const STATISTICS_MS: &str = "200";
/// The same where each report is long, for topics of hundreds of partitions and more.
const LONG_STATISTICS_MS: &str = "1000";

/// Or a client now and then waits for half a second at its start, if the broker answers the first
/// question for metadata before the client knows its topic: librdkafka then gives up the connection that
/// it has, and looks at its timer for when to make the next one.
const CONNECTED_AT_ONCE: &str = "enable.sparse.connections=false";

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A producer's settings. Those that are not named stay as `rdkafka_performance` has them.
#[derive(Clone, Debug)]
pub(crate) struct Producer {
    pub(crate) topic: String,
    /// All to this partition; to random ones if `None`.
    pub(crate) partition: Option<i32>,
    pub(crate) record_bytes: u64,
    pub(crate) records: u64,
    pub(crate) acks: &'static str,
    /// Further settings, `key=value`.
    pub(crate) settings: Vec<String>,
    /// Records a second; as many as possible if `None`.
    pub(crate) rate: Option<u64>,
    /// Whether every record carries the time, and the time to its acknowledgement is noted.
    pub(crate) latency: bool,
    /// Whether the statistics are long.
    pub(crate) many_partitions: bool,
}

/// A consumer's settings.
#[derive(Clone, Debug)]
pub(crate) struct Consumer {
    pub(crate) topic: String,
    pub(crate) partitions: i32,
    /// Offset in each partition, or `end`.
    pub(crate) from: String,
    pub(crate) records: u64,
    pub(crate) settings: Vec<String>,
    /// Whether the time since each record was produced is noted.
    pub(crate) latency: bool,
    /// Whether it ends when it has read all partitions to their ends, however little that was.
    pub(crate) ends: bool,
}

/// What a process said at its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    /// Records acknowledged, or consumed.
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// Milliseconds from the first record to the last.
    pub(crate) took_ms: u64,
    /// Records that were not acknowledged; 0 of a consumer.
    pub(crate) failed: u64,
    /// Produce requests, from the statistics; 0 if the run was too short for any.
    pub(crate) requests: f64,
    /// Round trips of requests: medians and 99th percentiles of the windows, weighted, in ms.
    pub(crate) round_trip_p50_ms: Option<f64>,
    pub(crate) round_trip_p99_ms: Option<f64>,
    /// Of each record, where asked for, in ms.
    pub(crate) latencies_ms: Vec<f64>,
}

/// A process under way. Dropping it kills it.
pub(crate) struct Running {
    child: Child,
    output: PathBuf,
    statistics: Option<PathBuf>,
    latencies: Option<PathBuf>,
}

impl Producer {
    /// For `records` records of `record_bytes` bytes to one topic.
    pub(crate) fn new(topic: &str, record_bytes: u64, records: u64) -> Self {
        Self {
            topic: topic.to_owned(),
            partition: Some(0),
            record_bytes,
            records,
            acks: "1",
            settings: Vec::new(),
            rate: None,
            latency: false,
            many_partitions: false,
        }
    }

    pub(crate) fn start(&self, bed: &Bed, address: &str) -> Result<Running> {
        let files = Files::new(bed);
        let mut command = bed.client(&bed.tools.rdkafka_performance);
        command.args(["-P", "-q", "-b", address, "-t", &self.topic, "-a", self.acks]);
        command.args(["-s", &self.record_bytes.to_string(), "-c", &self.records.to_string()]);
        if let Some(partition) = self.partition {
            command.args(["-p", &partition.to_string()]);
        }
        if let Some(rate) = self.rate {
            command.args(["-r", &rate.to_string()]);
        }
        let interval = if self.many_partitions { LONG_STATISTICS_MS } else { STATISTICS_MS };
        command.args(["-T", interval, "-Y"]);
        command.arg(format!("cat > '{}'", files.statistics.display()));
        let latencies = self.latency.then(|| files.latencies.clone());
        start(command, &self.settings, files.output, Some(files.statistics), latencies)
    }

    /// Runs to the end; every record must have been acknowledged.
    pub(crate) fn run(&self, bed: &Bed, address: &str) -> Result<Said> {
        self.start(bed, address)?.verified(self.records)
    }
}

impl Consumer {
    /// For `records` records from the beginning of a topic of so many partitions.
    pub(crate) fn new(topic: &str, partitions: i32, records: u64) -> Self {
        Self {
            topic: topic.to_owned(),
            partitions,
            from: "beginning".to_owned(),
            records,
            settings: Vec::new(),
            latency: false,
            ends: false,
        }
    }

    pub(crate) fn start(&self, bed: &Bed, address: &str) -> Result<Running> {
        let files = Files::new(bed);
        let mut command = bed.client(&bed.tools.rdkafka_performance);
        command.args(["-C", "-q", "-b", address, "-t", &self.topic, "-o", &self.from]);
        command.args(["-c", &self.records.to_string(), "-i", "1000"]);
        if self.ends {
            command.arg("-e");
        }
        for partition in 0..self.partitions {
            command.args(["-p", &partition.to_string()]);
        }
        let latencies = self.latency.then(|| files.latencies.clone());
        start(command, &self.settings, files.output, None, latencies)
    }
}

struct Files {
    output: PathBuf,
    statistics: PathBuf,
    latencies: PathBuf,
}

impl Files {
    fn new(bed: &Bed) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = |name: &str| bed.dir.join(format!("client-{number}.{name}"));
        Self { output: file("out"), statistics: file("statistics"), latencies: file("latencies") }
    }
}

fn start(
    mut command: Command,
    settings: &[String],
    output: PathBuf,
    statistics: Option<PathBuf>,
    latencies: Option<PathBuf>,
) -> Result<Running> {
    for setting in settings {
        command.args(["-X", setting]);
    }
    if let Some(file) = &latencies {
        command.arg("-l").arg("-A").arg(file);
        command.args(["-X", CONNECTED_AT_ONCE]);
    }
    let file = File::create(&output).map_err(|e| format!("{}: {e}", output.display()))?;
    let errors = file.try_clone().map_err(|e| e.to_string())?;
    let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn();
    let child = child.map_err(|error| format!("rdkafka_performance: {error}"))?;
    Ok(Running { child, output, statistics, latencies })
}

impl Running {
    /// Waits for the end; exactly `records` records must have gone through.
    pub(crate) fn verified(self, records: u64) -> Result<Said> {
        self.finish_within(PATIENCE)?.all(records)
    }

    /// Waits for the end, for at most so long.
    pub(crate) fn finish_within(mut self, patience: Duration) -> Result<Said> {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                break status;
            }
            if begun.elapsed() > patience.max(PATIENCE) {
                return Err(format!("rdkafka_performance hangs; see {}", self.output.display()));
            }
            // A child's end is awaited with a limit; nothing is timed by it.
            std::thread::sleep(Duration::from_millis(2));
        };
        let output = fs::read_to_string(&self.output).map_err(|e| e.to_string())?;
        // Its status tells a failure too when a callback was still queued as all was delivered:
        // what counts is that nothing failed and, to the caller, that nothing is missing.
        let mut said = summary(&output)
            .ok_or_else(|| format!("rdkafka_performance ended with {status}: {}", tail(&output)))?;
        if said.failed > 0 {
            return Err(format!("{} records failed: {}", said.failed, tail(&output)));
        }
        if let Some(file) = &self.statistics {
            add_statistics(&mut said, file);
        }
        if let Some(file) = &self.latencies {
            let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
            said.latencies_ms =
                text.lines().filter_map(|us| us.parse::<f64>().ok()).map(|us| us / 1e3).collect();
        }
        Ok(said)
    }
}

impl Said {
    /// Only if exactly `records` records went through.
    pub(crate) fn all(self, records: u64) -> Result<Self> {
        if self.records == records {
            return Ok(self);
        }
        Err(format!("{} records instead of {records} went through", self.records))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has usually ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for file in [self.statistics.as_ref(), self.latencies.as_ref()].into_iter().flatten() {
            let _ = fs::remove_file(file);
        }
    }
}

fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}

/// Reads the last line of totals, of a producer or of a consumer.
fn summary(output: &str) -> Option<Said> {
    let line = output.lines().rfind(|line| {
        line.starts_with("% ")
            && (line.contains(" messages produced ") || line.contains("consumed in"))
    })?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |word: &str| {
        word.trim_matches(|c: char| !c.is_ascii_digit() && c != '-').parse::<i64>().ok()
    };
    let before = |name: &str| number(words[words.iter().position(|w| *w == name)?.checked_sub(1)?]);
    let behind = |name: &str| number(words.get(words.iter().position(|w| *w == name)? + 1)?);
    let bytes = words.iter().position(|word| word.starts_with("bytes)"))?;
    let bytes = number(words[bytes.checked_sub(1)?])?;
    let took_ms = u64::try_from(behind("in")?).ok()?;
    let produced = words.contains(&"produced");
    let records = if produced { before("delivered")? } else { before("messages")? };
    let failed = if produced { before("failed)")? } else { 0 };
    Some(Said {
        records: u64::try_from(records).ok()?,
        bytes: u64::try_from(bytes).ok()?,
        took_ms,
        failed: u64::try_from(failed).ok()?,
        ..Said::default()
    })
}

/// Adds what the statistics tell. The last report comes up to an interval before the end: requests
/// are what they were per record until then, times all records.
fn add_statistics(said: &mut Said, file: &Path) {
    let text = fs::read_to_string(file).unwrap_or_default();
    let reports: Vec<Value> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let brokers = |report: &Value| -> Vec<Value> {
        report["brokers"].as_object().map(|b| b.values().cloned().collect()).unwrap_or_default()
    };
    if let Some(last) = reports.last() {
        let requests: f64 = brokers(last).iter().filter_map(|b| b["req"]["Produce"].as_f64()).sum();
        let sent = last["txmsgs"].as_f64().unwrap_or(0.0);
        if sent > 0.0 {
            said.requests = requests / sent * said.records as f64;
        }
    }
    let windows: Vec<(f64, f64, f64)> = reports
        .iter()
        .flat_map(brokers)
        .filter_map(|broker| {
            let window = &broker["rtt"];
            let count = window["cnt"].as_f64().filter(|count| *count > 0.0)?;
            Some((count, window["p50"].as_f64()?, window["p99"].as_f64()?))
        })
        .collect();
    let count: f64 = windows.iter().map(|window| window.0).sum();
    if count > 0.0 {
        let mean = |of: fn(&(f64, f64, f64)) -> f64| {
            windows.iter().map(|window| window.0 * of(window)).sum::<f64>() / count / 1e3
        };
        said.round_trip_p50_ms = Some(mean(|window| window.1));
        said.round_trip_p99_ms = Some(mean(|window| window.2));
    }
}

/// Median, 99th and 99.9th percentile under their names.
pub(crate) fn percentiles(latencies_ms: &mut [f64]) -> Vec<(String, f64)> {
    [("p50_ms", 0.5), ("p99_ms", 0.99), ("p99_9_ms", 0.999)]
        .into_iter()
        .filter_map(|(name, share)| Some((name.to_owned(), percentile(latencies_ms, share)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producers_totals_are_read() {
        let output = "% Sending 3 messages of size 10 bytes\n\
            % 1000 messages produced (1024000 bytes), 1000 delivered (offset 999, 0 failed) in 12ms: 83333 msgs/s and 85.33 MB/s, 0 produce failures, 0 in queue, no compression\n\
            % Average application fetch latency: 1us\n";
        let said = summary(output).expect("totals");
        assert_eq!((said.records, said.bytes, said.took_ms), (1000, 1_024_000, 12));
        assert_eq!(said.failed, 0);
    }

    #[test]
    fn records_that_were_not_acknowledged_are_not_counted() {
        let output = "% 1000 messages produced (1024000 bytes), 900 delivered (offset -1, 100 failed) in 12ms: 1 msgs/s and 1.0 MB/s, 0 produce failures, 0 in queue, no compression\n";
        let said = summary(output).expect("totals");
        assert_eq!((said.records, said.failed), (900, 100));
    }

    #[test]
    fn a_consumers_totals_are_read() {
        let output = "% 5 messages (50 bytes) consumed in 7ms: 714 msgs/s (0.01 MB/s)\n";
        let said = summary(output).expect("totals");
        assert_eq!((said.records, said.bytes, said.took_ms), (5, 50, 7));
        assert!(summary("% ERROR: nothing\n").is_none());
    }
}
