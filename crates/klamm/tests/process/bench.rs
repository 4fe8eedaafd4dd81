//! `klamm bench` against a broker: what it tells is what happened, and what is amiss fails it.

use std::net::SocketAddr;
use std::process::{Command, Output};

use serde_json::Value;

use crate::broker_process::{BrokerProcess, batch};

struct Fixture {
    _dir: tempfile::TempDir,
    broker: BrokerProcess,
}

impl Fixture {
    fn new() -> Fixture {
        let dir = tempfile::tempdir().expect("a directory");
        let broker = BrokerProcess::start(dir.path());
        Fixture { _dir: dir, broker }
    }

    fn bench(&self, line: &str) -> Output {
        bench(self.broker.address(), line)
    }

    /// What a run that succeeds tells.
    #[track_caller]
    fn report(&self, line: &str) -> Value {
        let output = self.bench(&format!("{line} --json"));
        assert_eq!(output.status.code(), Some(0), "{line}: {output:?}");
        serde_json::from_slice(&output.stdout).expect("one object")
    }

    /// What a run says that fails, in one line.
    #[track_caller]
    fn complaint(&self, line: &str, code: i32) -> String {
        let output = self.bench(line);
        assert_eq!(output.status.code(), Some(code), "{line}: {output:?}");
        assert!(output.stdout.is_empty(), "{line}: {output:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    fn end(&self, topic: &str, partitions: i32) -> i64 {
        let mut client = self.broker.connect();
        (0..partitions).map(|partition| client.list_offset(topic, partition, -1, -1).1).sum()
    }
}

fn bench(address: SocketAddr, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_klamm"));
    command.arg("bench").args(line.split_whitespace());
    command.args(["--bootstrap", &address.to_string()]).output().expect("the binary runs")
}

#[track_caller]
fn assert_latencies(told: &Value, count: u64) {
    assert_eq!(told["count"], count, "{told}");
    let numbers = ["p50", "p95", "p99", "p99.9", "max"].map(|name| told[name].as_f64());
    let numbers = numbers.map(|number| number.expect("a number of milliseconds"));
    // No loopback is that fast.
    assert!(numbers[0] > 0.01 && numbers.is_sorted(), "{told}");
}

#[test]
fn what_is_published_is_counted_and_read_back_whole() {
    let fixture = Fixture::new();
    let told = fixture.report(
        "produce t --partitions 3 --producers 2 --records 5001 --warm-up 0 --record-size 100 \
         --content text --compression lz4 --batch-size 5000",
    );
    assert_eq!(
        (&told["records"], &told["sent"], &told["arrived"]),
        (&5001.into(), &5001.into(), &5001.into())
    );
    assert_eq!(told["bytes"], 500_100);
    assert_latencies(&told["acknowledged_after_ms"], 5001);
    assert_eq!(fixture.end("t", 3), 5001);

    let told = fixture.report("consume t");
    assert_eq!(
        (&told["read"], &told["records"], &told["bytes"]),
        (&5001.into(), &5001.into(), &500_100.into())
    );
    let told = fixture.report("consume t --records 1000");
    assert_eq!(told["read"], 1000);
    let text = fixture.bench("consume t --check offsets");
    let text = String::from_utf8(text.stdout).expect("text");
    assert!(text.contains("checked: 5001 records with the warm-up, offset by offset\n"), "{text}");
}

#[test]
fn the_warm_up_is_published_and_not_counted() {
    let fixture = Fixture::new();
    let told = fixture.report("produce t --records 50 --warm-up 0.2 --rate 1000 --acks 1");
    assert_eq!(told["records"], 50);
    assert_latencies(&told["acknowledged_after_ms"], 50);
    // 1,000 a second for 0.2 s.
    assert_eq!((&told["sent"], &told["arrived"]), (&250.into(), &250.into()));
    assert_eq!(fixture.end("t", 1), 250);
}

#[test]
fn a_duration_ends_it_and_a_rate_holds_it_back() {
    let fixture = Fixture::new();
    let told = fixture.report("produce t --duration 0.5 --warm-up 0 --rate 200 --acks 0");
    let sent = told["sent"].as_u64().expect("a number");
    // A machine that stalls sends fewer, never more.
    assert!((1..=100).contains(&sent), "{told}");
    assert_eq!(told["arrived"], sent);
    assert!(told.get("acknowledged_after_ms").is_none(), "nothing is acknowledged: {told}");
    assert_eq!(fixture.report("consume t --duration 0.5")["read"], sent);
}

#[test]
fn latencies_end_to_end_are_told_for_every_record() {
    let fixture = Fixture::new();
    for line in [
        "latency t --partitions 2 --records 200 --warm-up-records 10",
        "latency t --records 200 --warm-up-records 10 --rate 2000",
    ] {
        let told = fixture.report(line);
        assert_latencies(&told["read_after_ms"], 200);
        assert_latencies(&told["acknowledged_after_ms"], 200);
    }
    assert_eq!(fixture.end("t", 2), 420);
}

#[test]
fn records_that_klamm_bench_did_not_write_fail_the_reading() {
    let fixture = Fixture::new();
    fixture.report("produce t --records 10 --warm-up 0");
    fixture.broker.connect().produce("t", &batch(b"somebody else's, as long as a mark is"));
    let told = fixture.complaint("consume t", 1);
    assert!(told.contains("t-0 at offset 10: not what klamm bench writes"), "{told}");
    assert_eq!(fixture.report("consume t --check offsets")["read"], 11);
}

#[test]
fn wrong_usage_is_2_and_failure_is_1() {
    let fixture = Fixture::new();
    for line in ["produce", "produce t --record-size 23", "consume t --check nothing", "nonsense"] {
        fixture.complaint(line, 2);
    }
    let told = fixture.complaint("consume missing", 1);
    assert!(told.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{told}");
    fixture.broker.connect().create_topic("t", 2);
    let told = fixture.complaint("produce t --partitions 3", 1);
    assert!(told.contains("topic t is there and has 2 partitions"), "{told}");
}
