//! Kafka's own tools: EndToEndLatency and ProducerPerformance.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use super::Load;
use super::admin::Admin;
use super::blast;
use super::produce::{TOPIC, await_end, warm};
use crate::Result;
use crate::bed::Bed;
use crate::measure::{Figures, GB};
use crate::subject::Server;

/// Heap of a tool.
const HEAP: &str = "-Xmx512m";
/// Bytes of a record of JSON.
const JSON_LEN: usize = 940;
/// Records that differ; the tool draws from them.
const JSON_RECORDS: usize = 2000;

/// Runs a tool to its end: what it said on standard output.
fn tool(bed: &Bed, class: &str, arguments: &[&str]) -> Result<String> {
    let java = bed.tools.java(&bed.root, HEAP, class)?;
    let mut command = bed.client(Path::new(java.get_program()));
    command.args(java.get_args()).args(arguments).stdin(Stdio::null());
    let output = command.output().map_err(|e| format!("java: {e}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    Err(format!(
        "{class} ended with {}: {said} {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// One record at a time, produced and consumed, by `EndToEndLatency`.
pub(crate) struct EndToEnd {
    pub(crate) record_bytes: usize,
    pub(crate) records: u64,
    pub(crate) acks: &'static str,
}

impl Load for EndToEnd {
    fn bytes_per_run(&self) -> u64 {
        0
    }

    fn prepare(&self, bed: &Bed, server: &mut Server) -> Result<()> {
        warm(bed, server)?;
        Admin::connect(&server.address)?.create_topic(TOPIC, 1, &[])?;
        self.run(bed, server).map(drop)
    }

    fn run(&self, bed: &Bed, server: &mut Server) -> Result<Figures> {
        let admin = Admin::connect(&server.address)?;
        let end_before = admin.end_offset(TOPIC, 1)?;
        let records = bed.count(self.records, 200);
        let (count, len) = (records.to_string(), self.record_bytes.to_string());
        let arguments = [&server.address, TOPIC, &count, self.acks, &len];
        // It compares what it consumed with what it produced, record by record, and fails otherwise.
        let said = tool(bed, "org.apache.kafka.tools.EndToEndLatency", &arguments)?;
        await_end(&admin, 1, end_before + records)?;
        end_to_end_figures(&said).ok_or_else(|| format!("EndToEndLatency said: {said}"))
    }

    fn floor(&self, bed: &Bed) -> Result<Option<Figures>> {
        blast::round_trips(bed, bed.count(self.records, 200), self.record_bytes).map(Some)
    }
}

fn end_to_end_figures(said: &str) -> Option<Figures> {
    let mean = said.lines().find_map(|line| line.strip_prefix("Avg latency: "))?;
    let mean = mean.split_whitespace().next()?.parse().ok()?;
    let percentiles = said.lines().find_map(|line| line.strip_prefix("Percentiles: "))?;
    let of = |name: &str| {
        let part = percentiles.split(", ").find_map(|part| part.strip_prefix(name))?;
        part.trim_start_matches([' ', '=']).parse::<f64>().ok()
    };
    Some(Figures::from([
        ("mean_ms".to_owned(), mean),
        ("p50_ms".to_owned(), of("50th")?),
        ("p99_ms".to_owned(), of("99th")?),
        ("p99_9_ms".to_owned(), of("99.9th")?),
    ]))
}

/// JSON in batches of 64 KiB from the Java client, by `ProducerPerformance`.
pub(crate) struct JavaProduce {
    pub(crate) compression: &'static str,
    /// Uncompressed bytes of one run at full scale.
    pub(crate) bytes: u64,
}

impl Load for JavaProduce {
    fn bytes_per_run(&self) -> u64 {
        self.bytes
    }

    fn prepare(&self, bed: &Bed, server: &mut Server) -> Result<()> {
        warm(bed, server)?;
        Admin::connect(&server.address)?.create_topic(TOPIC, 1, &[])?;
        self.run(bed, server).map(drop)
    }

    fn run(&self, bed: &Bed, server: &mut Server) -> Result<Figures> {
        let payload = bed.dir.join("payload.json");
        if !payload.exists() {
            fs::write(&payload, json()).map_err(|e| e.to_string())?;
        }
        let payload = payload.to_str().ok_or("a path that is not UTF-8")?;
        let records = bed.bytes(self.bytes) / JSON_LEN as u64;
        let admin = Admin::connect(&server.address)?;
        let (end_before, stored_before) = (admin.end_offset(TOPIC, 1)?, stored(server)?);
        let before = server.cpu_s()?;
        let said = tool(
            bed,
            "org.apache.kafka.tools.ProducerPerformance",
            &[
                "--bootstrap-server",
                &server.address,
                "--topic",
                TOPIC,
                "--num-records",
                &records.to_string(),
                "--throughput",
                "-1",
                "--payload-file",
                payload,
                "--command-property",
                &format!("compression.type={}", self.compression),
                "batch.size=65536",
                "linger.ms=5",
                "acks=1",
            ],
        )?;
        let cpu_s = server.cpu_s()? - before;
        await_end(&admin, 1, end_before + records)?;
        let gb = records as f64 * JSON_LEN as f64 / GB;
        let stored_gb = (stored(server)? - stored_before) as f64 / GB;
        let (per_s, p99_ms) =
            totals(&said).ok_or_else(|| format!("ProducerPerformance said: {said}"))?;
        Ok(Figures::from([
            ("cpu_s_per_gb".to_owned(), cpu_s / gb),
            ("cpu_s_per_stored_gb".to_owned(), cpu_s / stored_gb),
            ("compression".to_owned(), gb / stored_gb),
            ("records_per_s".to_owned(), per_s),
            ("gb_per_s".to_owned(), per_s * JSON_LEN as f64 / GB),
            ("p99_ms".to_owned(), p99_ms),
        ]))
    }

    fn floor(&self, bed: &Bed) -> Result<Option<Figures>> {
        blast::write(bed, bed.bytes(self.bytes), 64 * 1024).map(Some)
    }
}

/// Bytes in the segments of the topic's only partition.
fn stored(server: &Server) -> Result<u64> {
    let dir = server.data().join(format!("{TOPIC}-0"));
    let entries = fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let logs = entries.flatten().filter(|e| e.path().extension().is_some_and(|end| end == "log"));
    Ok(logs.filter_map(|log| log.metadata().ok()).map(|log| log.len()).sum())
}

/// Records a second and the 99th percentile in ms, of all records.
fn totals(said: &str) -> Option<(f64, f64)> {
    let line = said.lines().rfind(|line| line.contains("99.9th"))?;
    let part = |end: &str| line.split(", ").find_map(|part| part.trim().strip_suffix(end));
    let per_s = line.split(", ").find(|part| part.contains("records/sec"))?;
    let per_s = per_s.split_whitespace().next()?.parse().ok()?;
    Some((per_s, part(" ms 99th")?.parse().ok()?))
}

/// Records that compress to a half or a third, as events of a shop do: the same field names, ids
/// and amounts that differ, some text.
fn json() -> String {
    const WORDS: [&str; 16] = [
        "delivery", "order", "window", "green", "market", "paper", "river", "stone", "basket",
        "garden", "letter", "copper", "winter", "harbour", "engine", "lantern",
    ];
    // A generator of its own, so that every session has the same records.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut all = String::new();
    for number in 0..JSON_RECORDS {
        let mut record = format!(
            "{{\"event\":\"order_placed\",\"sequence\":{number},\"customer\":\"{:016x}\",\"session\":\"{:016x}\",\
             \"amount\":{}.{:02},\"currency\":\"EUR\",\"items\":[",
            next(),
            next(),
            next() % 1000,
            next() % 100
        );
        for item in 0..6 {
            let comma = if item == 0 { "" } else { "," };
            record.push_str(&format!(
                "{comma}{{\"sku\":\"{:010x}\",\"quantity\":{}}}",
                next() & 0xff_ffff_ffff,
                next() % 9 + 1
            ));
        }
        record.push_str("],\"note\":\"");
        while record.len() < JSON_LEN - 2 {
            // Two words and a number in turn: words alone would compress five times.
            record.push_str(WORDS[usize::try_from(next() % 16).unwrap_or(0)]);
            record.push(' ');
            record.push_str(WORDS[usize::try_from(next() % 16).unwrap_or(0)]);
            record.push_str(&format!(" {:08x} ", next() & 0xffff_ffff));
        }
        record.truncate(JSON_LEN - 2);
        all.push_str(&record);
        all.push_str("\"}\n");
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_to_end_latencies_are_read() {
        let said = "0\t1.2\n1000\t0.5\nAvg latency: 0.5640 ms\n\nPercentiles: 50th = 0, 99th = 1, 99.9th = 5\n";
        let figures = end_to_end_figures(said).expect("figures");
        assert_eq!(figures["mean_ms"], 0.564);
        assert_eq!((figures["p50_ms"], figures["p99_ms"], figures["p99_9_ms"]), (0.0, 1.0, 5.0));
    }

    #[test]
    fn producer_totals_are_read() {
        let said = "1 records sent, 1.0 records/sec (0.1 MB/sec), 1 ms avg latency, 1 ms max latency.\n\
            1000 records sent, 106382.978723 records/sec (95.37 MB/sec), 12.31 ms avg latency, 400.00 ms max latency, 10 ms 50th, 20 ms 95th, 30 ms 99th, 40 ms 99.9th.\n";
        assert_eq!(totals(said), Some((106_382.978_723, 30.0)));
    }

    #[test]
    fn records_are_json_of_one_length() {
        let all = json();
        let mut count = 0;
        for line in all.lines() {
            assert_eq!(line.len(), JSON_LEN);
            serde_json::from_str::<serde_json::Value>(line).expect("JSON");
            count += 1;
        }
        assert_eq!(count, JSON_RECORDS);
    }
}
