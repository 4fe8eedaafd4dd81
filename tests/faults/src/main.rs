//! Kills a real broker again and again under load, and checks what its clients saw.
//!
//! ```text
//! kills [--rounds N] [--seed N] [--flush acked|os] [--compaction]
//! ```
//!
//! A round ends with kill -9 at a moment that the seed draws, while appends are under way. After the
//! last, every partition is read whole and the history is checked. `--compaction` demands that the
//! cleaner removed records. The program is `KLAMM_BIN`, or the checkout's release build.

mod broker;
mod last_read;
mod load;
mod topics;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use klamm_client::{Admin, ClientConfig, Cluster};
use klamm_env::Env;
use klamm_history::{History, Operation, Outcome, Report, check};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;

use broker::Broker;
use load::Shared;
use topics::KINDS;

/// The longest that a round goes on after its first acknowledgement.
const ROUND_MS_MAX: u64 = 800;
/// The longest wait for a sign of life from the load: reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most faults of a run that are shown.
const SHOWN_MAX: usize = 20;

struct Options {
    rounds: u32,
    seed: u64,
    flushes: Vec<&'static str>,
    compaction: bool,
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("usage: kills [--rounds N] [--seed N] [--flush acked|os] [--compaction]");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut failed = 0;
    for flush in &options.flushes {
        let local = tokio::task::LocalSet::new();
        failed += usize::from(!local.block_on(&runtime, run(&options, flush)));
    }
    println!("{} passed, {failed} failed", options.flushes.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options() -> Option<Options> {
    let mut options =
        Options { rounds: 100, seed: 1, flushes: vec!["acked", "os"], compaction: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match &argument[..] {
            "--rounds" => options.rounds = arguments.next()?.parse().ok()?,
            "--seed" => options.seed = arguments.next()?.parse().ok()?,
            "--flush" => match &arguments.next()?[..] {
                "acked" => options.flushes = vec!["acked"],
                "os" => options.flushes = vec!["os"],
                _ => return None,
            },
            "--compaction" => options.compaction = true,
            _ => return None,
        }
    }
    Some(options)
}

fn binary() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/klamm");
    std::env::var_os("KLAMM_BIN").map_or_else(built, PathBuf::from)
}

/// One broker's lives under one flush mode; answers whether all held.
async fn run(options: &Options, flush: &'static str) -> bool {
    println!("flush={flush}: {} kills, seed {}", options.rounds, options.seed);
    let dir = tempfile::tempdir().expect("a directory");
    let mut broker = Broker::start(&binary(), dir.path(), flush);
    let cluster = connect(broker.address()).await;
    topics::create(&Admin::new(cluster.clone())).await.expect("topics");

    let (stop, over) = watch::channel(false);
    let shared = Shared {
        next_value: Arc::default(),
        in_flight: watch::Sender::new(0),
        acked: watch::Sender::new(0),
        over,
    };
    let mut clients = Vec::new();
    for (number, kind) in (0..).zip(KINDS) {
        for (number, idempotent) in [(2 * number, true), (2 * number + 1, false)] {
            let seed = options.seed.wrapping_mul(1000).wrapping_add(u64::from(number));
            let (shared, cluster) = (shared.clone(), connect(broker.address()).await);
            let client = load::produce(shared, cluster, kind, number, idempotent, seed);
            clients.push(tokio::task::spawn_local(client));
        }
        let (shared, cluster) = (shared.clone(), connect(broker.address()).await);
        clients.push(tokio::task::spawn_local(load::consume(shared, cluster, kind, number)));
    }

    let kills_in_flight = kill_in_rounds(options, &mut broker, &shared).await;
    stop.send_replace(true);
    let mut history = History::default();
    for client in clients {
        history.operations.extend(client.await.expect("a client does not panic"));
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        history.final_reads = last_read::read_all(&cluster).await.expect("a whole read");
        // Every checkpoint that deletion waits for, and every pass, may have been cut short by a
        // kill; now nothing disturbs them.
        let report = check(&history);
        let compacted = !options.compaction || report.acked_compacted > 0;
        let done = compacted && retention_deleted(&history, &report);
        if done || tokio::time::Instant::now() > deadline {
            break;
        }
    }
    let said = broker.said();
    let holds = judge(options, &history, kills_in_flight, &said);
    if !holds {
        println!("  what the broker left is in {}", dir.keep().display());
    }
    holds
}

async fn connect(address: &str) -> Cluster {
    let config = ClientConfig {
        retry_backoff: Duration::from_millis(5),
        retry_backoff_max: Duration::from_millis(50),
        ..ClientConfig::new([address])
    };
    Cluster::connect(Env::real().expect("the machine"), config).await.expect("the broker is there")
}

/// Answers how many kills came while appends were under way.
async fn kill_in_rounds(options: &Options, broker: &mut Broker, shared: &Shared) -> u32 {
    let mut random = SmallRng::seed_from_u64(options.seed);
    let mut kills_in_flight = 0;
    for round in 0..options.rounds {
        let before = *shared.acked.borrow();
        let mut acked = shared.acked.subscribe();
        // A value that is held would lock out whoever counts.
        let lives =
            tokio::time::timeout(PATIENCE, acked.wait_for(|acked| *acked > before)).await.is_ok();
        assert!(lives, "nothing acknowledged in round {round}:\n{}", broker.said());
        let moment = random.random_range(0..ROUND_MS_MAX);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        let mut in_flight = shared.in_flight.subscribe();
        let any =
            tokio::time::timeout(PATIENCE, in_flight.wait_for(|count| *count > 0)).await.is_ok();
        assert!(any, "nothing was sent in round {round}");
        // Nothing is awaited between here and the kill: they are still under way.
        kills_in_flight += u32::from(*shared.in_flight.borrow() > 0);
        broker.kill_and_restart();
    }
    kills_in_flight
}

fn judge(options: &Options, history: &History, kills_in_flight: u32, said: &str) -> bool {
    let report = check(history);
    tell(history, &report, kills_in_flight);
    let wanted = [
        ("no anomaly", report.anomalies.is_empty()),
        ("every kill came while appends were in flight", kills_in_flight == options.rounds),
        ("retention deleted segments", retention_deleted(history, &report)),
        ("acknowledged records were there to check", report.acked_found > 0),
        ("compaction removed records", !options.compaction || report.acked_compacted > 0),
        ("the broker did not panic", !said.contains("panicked")),
    ];
    for (what, _) in wanted.iter().filter(|(_, holds)| !holds) {
        println!("  FAILED: {what}");
    }
    wanted.iter().all(|(_, holds)| *holds)
}

/// Whether retention deleted from the topic that only it deletes from.
fn retention_deleted(history: &History, report: &Report) -> bool {
    let reads = &history.final_reads;
    let deleted = reads.iter().any(|(name, read)| name.topic == "plain" && read.log_start > 0);
    deleted && report.acked_deleted > 0
}

fn tell(history: &History, report: &Report, kills_in_flight: u32) {
    let outcomes = history.operations.iter().flat_map(|operation| match operation {
        Operation::Send(send) => send.records.iter().map(|sent| sent.outcome).collect(),
        _ => Vec::new(),
    });
    let (acked, unknown): (Vec<_>, Vec<_>) =
        outcomes.partition(|outcome| matches!(outcome, Outcome::Acked(_)));
    println!("  kills while appends were in flight: {kills_in_flight}");
    println!("  records: {} acknowledged, {} of unknown fate", acked.len(), unknown.len());
    println!(
        "  owed records: {} found, {} deleted by retention, {} removed by compaction",
        report.acked_found, report.acked_deleted, report.acked_compacted
    );
    println!("  plain producers' duplicates: {}", report.duplicates_allowed);
    println!("  anomalies: {}", report.anomalies.len());
    for anomaly in report.anomalies.iter().take(SHOWN_MAX) {
        println!("    {anomaly:?}");
    }
    if !report.anomalies.is_empty() {
        for (partition, read) in &history.final_reads {
            println!("  {partition:?} was read from {} to {}", read.log_start, read.end);
        }
    }
}
