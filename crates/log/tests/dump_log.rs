//! Apache Kafka's own tool reads what the log writes. `KAFKA_LIBS` names the directory of Kafka's
//! jars; without it (or without Java) the files are written all the same and nothing reads them.

#[expect(unreachable_pub, reason = "shared between test files")]
mod fixture;

use std::process::Command;

use fixture::{Fixture, NOW_MS, append_in_epoch, build, checkpoint};
use klamm_log::Log;
use klamm_protocol::compression::Compression;
use klamm_protocol::records::ProducerFields;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn fill(log: &mut Log, from: i32, to: i32) {
    let epoch = log.latest_epoch().unwrap_or(0) + 1;
    for n in from..to {
        let codec = CODECS[n as usize % CODECS.len()];
        let producer = ProducerFields { producer_id: 7, producer_epoch: 1, base_sequence: 3 * n };
        // Timestamps that go up and down.
        let at = NOW_MS + i64::from(n * 7919 % 500);
        let long = "y".repeat(n as usize % 300);
        let records = build(&["first", &long, "third"], producer, at, codec);
        append_in_epoch(log, records, epoch).expect("appended");
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "what was left out is to be seen")]
fn kafka_reads_logs_and_indexes_without_complaint() {
    let mut fixture = Fixture::new();
    fixture.config.segment_bytes = 6_000;
    fixture.config.index_interval_bytes = 300;
    let mut log = fixture.log();
    fill(&mut log, 0, 150);
    checkpoint(&mut log);
    fill(&mut log, 150, 200);
    drop(log);
    let mut log = fixture.log();
    fill(&mut log, 200, 260);
    log.truncate_to(600).expect("nobody reads");
    fill(&mut log, 200, 300);
    Fixture::close(log);

    let Some(libs) = std::env::var_os("KAFKA_LIBS") else {
        eprintln!("left out: kafka-dump-log, KAFKA_LIBS is not set");
        return;
    };
    let files: Vec<String> = fixture
        .names()
        .into_iter()
        .filter(|name| [".log", "index", ".snapshot"].iter().any(|suffix| name.ends_with(suffix)))
        .map(|name| fixture.path(&name).display().to_string())
        .collect();
    assert!(files.len() > 20, "{files:?}");
    let classes = format!("{}/*", libs.to_string_lossy());
    for options in [&["--deep-iteration", "--print-data-log"][..], &["--index-sanity-check"]] {
        let output = Command::new("java")
            .args([
                "-cp",
                &classes,
                "org.apache.kafka.tools.DumpLogSegments",
                "--files",
                &files.join(","),
            ])
            .args(options)
            .output()
            .expect("java runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        // The tool of 4.3 takes the first offset of every segment but the first for a gap.
        let usual = ["SLF4J", "StatusLogger", "Non-consecutive offsets in", "  -1 is followed by"];
        let complaints: Vec<_> =
            errors.lines().filter(|line| !usual.iter().any(|usual| line.contains(usual))).collect();
        assert!(output.status.success(), "{errors}");
        assert!(complaints.is_empty(), "{complaints:?}");
        let bad = ["isvalid: false", "Mismatches", "Found timestamp mismatch"];
        assert!(bad.iter().all(|bad| !text.contains(bad)), "{text}");
        if options.contains(&"--deep-iteration") {
            assert!(text.contains("producerId: 7 producerEpoch: 1"), "{text}");
            assert!(text.matches("isvalid: true").count() > 200, "{text}");
        }
    }
}
