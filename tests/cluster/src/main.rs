//! Three real brokers on a real ensemble under faults, and a check of what their clients saw.
//!
//! ```text
//! cluster [--faults N] [--seed S] [--fault KIND]... [--clients NAME,...] | --scale N,... | --list
//! ```
//!
//! With `--scale` no fault test but a measurement with so many partitions (`scale.rs`).
//!
//! Runs inside namespaces that `tests/cluster/run` makes for it (`network.rs`), which also says where
//! the programs are: `KLAMM_BIN`, `KLAMM_PYTHON`, `KLAMM_JAVA_LIBS`, `KLAMM_FRANZ_GO`.

mod broker;
mod client;
mod eyes;
mod fault;
mod inject;
mod last_read;
mod load;
mod moves;
mod network;
mod recording;
mod replicas;
mod report;
mod scale;
mod stage;
mod tools;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use klamm_client::{Admin, ClientConfig, Cluster, NewTopic};
use klamm_ensemble::Ensemble;
use klamm_env::Env;
use klamm_history::{FinalRead, History, Operation, Outcome, TopicPartition, check};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use broker::{Broker, Limits};
use eyes::Eyes;
use fault::{KINDS, Kind};
use inject::Happened;
use load::Program;
use recording::Recording;
use stage::{CHROOT, PARTITIONS, Stage, TOPIC, within};

/// The most of one sort of fault that is shown.
const SHOWN_MAX: usize = 20;
/// The longest that a broker has for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Pause between two looks at how far groups have read.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

struct Options {
    faults: usize,
    seed: u64,
    kinds: Vec<Kind>,
    clients: Option<Vec<String>>,
    /// Sizes to be measured instead, in partitions.
    scale: Vec<i32>,
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!(
            "usage: cluster [--faults N] [--seed S] [--fault KIND]... [--clients NAME,...] \
             | --scale N,... | --list"
        );
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let local = tokio::task::LocalSet::new();
    let dir = tempfile::tempdir().expect("a directory");
    let held = local.block_on(&runtime, async {
        match &options.scale[..] {
            [] => run(&options, dir.path()).await,
            sizes => scale::run(sizes, dir.path()).await,
        }
    });
    match held {
        Ok(true) if std::env::var_os("KLAMM_KEEP").is_none() => return ExitCode::SUCCESS,
        Ok(true) => {
            println!("what is left is in {}", dir.keep().display());
            return ExitCode::SUCCESS;
        }
        Ok(false) => {}
        Err(error) => println!("FAILED: {error}"),
    }
    println!("seed {}; what is left is in {}", options.seed, dir.keep().display());
    ExitCode::FAILURE
}

fn options() -> Option<Options> {
    let mut options = Options {
        faults: KINDS.len(),
        seed: 1,
        kinds: Vec::new(),
        clients: None,
        scale: Vec::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match &argument[..] {
            "--faults" => options.faults = arguments.next()?.parse().ok()?,
            "--seed" => options.seed = arguments.next()?.parse().ok()?,
            "--fault" => options.kinds.push(Kind::of(&arguments.next()?)?),
            "--clients" => {
                options.clients = Some(arguments.next()?.split(',').map(str::to_owned).collect());
            }
            "--scale" => {
                let sizes = arguments.next()?;
                let size = |text: &str| text.parse::<i32>().ok().filter(|size| *size > 0);
                options.scale = sizes.split(',').map(size).collect::<Option<_>>()?;
            }
            "--list" => {
                KINDS.iter().for_each(|(_, name, what)| println!("{name:<17} {what}"));
                std::process::exit(0);
            }
            _ => return None,
        }
    }
    if options.kinds.is_empty() {
        options.kinds = KINDS.map(|(kind, ..)| kind).to_vec();
    }
    Some(options)
}

/// One cluster's life; answers whether all held.
async fn run(options: &Options, dir: &Path) -> Result<bool, String> {
    let mut programs = load::programs();
    if let Some(wanted) = &options.clients {
        programs.retain(|program| wanted.iter().any(|name| name == program.name));
    }
    let names: Vec<_> = programs.iter().map(|program| program.name).collect();
    println!("{} faults, seed {}, clients {}", options.faults, options.seed, names.join(", "));

    let mut stage = set(options.seed, dir, &programs).await?;
    stage.start_all().await?;
    let cluster = connect(&stage.brokers, ANSWER_MAX).await?;
    create_topic(&cluster, &mut stage).await?;
    let bootstrap = bootstrap(&stage);
    let told = |error: std::io::Error| error.to_string();
    let producers = load::produce(&programs, &bootstrap, &stage.recording, dir).map_err(told)?;
    let consumers = load::consume(&programs, &bootstrap, &stage.recording, dir).map_err(told)?;
    let producer_count = producers.len();
    stage.clients = producers;
    stage.clients.extend(consumers);
    let whole = stage.heal().await?;
    println!("the cluster is whole after {:.1} s", whole.as_secs_f64());
    // A leader takes any first sequence from a producer that it does not know: they are to be known.
    stage.all_progress(tokio::time::Instant::now()).await?;

    let happened = all_faults(options, &mut stage).await?;

    let consumers = stage.clients.split_off(producer_count);
    for producer in stage.clients.drain(..) {
        producer.end().await?;
    }
    let read = within("the last read", last_read::read_all(&cluster)).await?;
    let final_reads = read.map_err(|error| error.to_string())?;
    drain(&stage, &final_reads).await?;
    for consumer in consumers {
        consumer.end().await?;
    }
    let tools = match load::java() {
        Some(java) => {
            let mut faults = tools::faults(&java, &bootstrap, &stage.leaders().await?).await;
            faults.extend(moves::faults(&java, &bootstrap, &cluster, dir).await);
            faults
        }
        None => {
            println!("left out: Kafka's tools");
            Vec::new()
        }
    };
    for broker in &mut stage.brokers {
        broker.stop().await?;
    }
    let replicas = replicas::differences(&stage.brokers);
    report::print(&happened);
    Ok(judge(&stage, &happened, final_reads, &tools, &replicas))
}

/// The networks, the ensemble, and three brokers that do not run yet.
async fn set(seed: u64, dir: &Path, programs: &[Program]) -> Result<Stage, String> {
    let told = |error: std::io::Error| error.to_string();
    network::make().map_err(told)?;
    let ensemble = Ensemble::start_at(&network::server_hosts()).await.map_err(told)?;
    let connect = format!("{}{CHROOT}", ensemble.addresses().join(","));
    let new = |id| Broker::new(id, &binary(), dir, &connect, Limits::SHORT);
    let brokers: Vec<Broker> = network::BROKERS.into_iter().map(new).collect();
    let addresses = brokers.iter().map(|broker| (broker.id(), broker.address())).collect();
    Ok(Stage {
        ensemble,
        brokers,
        clients: Vec::new(),
        eyes: Eyes::on(TOPIC, addresses).map_err(told)?,
        recording: Rc::new(RefCell::new(Recording::of(TOPIC))),
        group: programs.first().map(|program| program.name.to_owned()),
        random: SmallRng::seed_from_u64(seed),
    })
}

fn binary() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/klamm");
    std::env::var_os("KLAMM_BIN").map_or_else(built, PathBuf::from)
}

fn bootstrap(stage: &Stage) -> String {
    stage.brokers.iter().map(Broker::address).collect::<Vec<_>>().join(",")
}

async fn connect(brokers: &[Broker], answer_max: Duration) -> Result<Cluster, String> {
    let config = ClientConfig {
        connect_timeout: Duration::from_secs(2),
        request_timeout: answer_max,
        ..ClientConfig::new(brokers.iter().map(Broker::address))
    };
    let env = Env::real().map_err(|error| error.to_string())?;
    Cluster::connect(env, config).await.map_err(|error| error.to_string())
}

async fn create_topic(cluster: &Cluster, stage: &mut Stage) -> Result<(), String> {
    for id in network::BROKERS {
        stage.registered(id).await?;
    }
    let topic = NewTopic {
        partitions: Some(PARTITIONS),
        replication_factor: Some(3),
        ..NewTopic::new(TOPIC)
    };
    let created = Admin::new(cluster.clone()).create_topic(&topic).await;
    created.map_err(|error| error.to_string())
}

/// Makes the faults happen, one after the other, with a line for each.
async fn all_faults(options: &Options, stage: &mut Stage) -> Result<Vec<Happened>, String> {
    let kinds = fault::draw(&options.kinds, options.faults, &mut stage.random);
    let mut happened = Vec::new();
    for (number, kind) in kinds.into_iter().enumerate() {
        let begun = tokio::time::Instant::now();
        let one = stage.inject(kind).await?;
        let longest = one.longest.map_or_else(String::new, |(partition, pause)| {
            let until = stage.eyes.time_of_day(pause.until);
            format!(", partition {partition} {:.2} s until {until}", pause.time.as_secs_f64())
        });
        println!(
            "{:>3} {:<17} {:<28} {} in {:.1} s{longest}",
            number + 1,
            kind.name(),
            one.whom,
            if one.fired { "healed" } else { "DID NOT FIRE, healed" },
            begun.elapsed().as_secs_f64()
        );
        for error in one.errors.iter().take(SHOWN_MAX) {
            println!("      {error}");
        }
        happened.push(one);
    }
    Ok(happened)
}

/// Waits until every group has read all there is.
async fn drain(stage: &Stage, reads: &BTreeMap<TopicPartition, FinalRead>) -> Result<(), String> {
    let ends = reads.iter().map(|(name, read)| (name.partition, read.end)).collect();
    let mut heard = stage.recording.borrow().heard();
    let drained = async {
        while !stage.recording.borrow().is_drained(&ends) {
            // Also without a word: a group may be at the end already.
            let _ = tokio::time::timeout(LOOK_AGAIN, heard.changed()).await;
        }
    };
    within("every group reads all there is", drained).await
}

fn judge(
    stage: &Stage,
    happened: &[Happened],
    final_reads: BTreeMap<TopicPartition, FinalRead>,
    tools: &[String],
    replicas: &[String],
) -> bool {
    let recording = stage.recording.borrow();
    let offsets = |read: &FinalRead| read.records.iter().map(|record| record.offset).collect();
    let offsets: BTreeMap<i32, BTreeSet<i64>> =
        final_reads.iter().map(|(name, read)| (name.partition, offsets(read))).collect();
    let missed = recording.missed(&offsets);
    let history = History { operations: recording.operations().to_vec(), final_reads };
    let report = check(&history);
    tell(&recording, &history, &report);
    let anomalies: Vec<_> = report.anomalies.iter().map(|one| format!("{one:?}")).collect();
    let errors: Vec<_> = recording.errors.iter().map(|error| error.text.clone()).collect();
    let silent = happened.iter().filter(|one| !one.fired);
    let silent: Vec<_> = silent.map(|one| format!("{} {}", one.kind.name(), one.whom)).collect();
    let panics: Vec<_> = stage
        .brokers
        .iter()
        .filter(|broker| broker.said().contains("panicked"))
        .map(|broker| format!("broker {}", broker.id()))
        .collect();
    let found = usize::from(report.acked_found == 0);
    let nothing: Vec<_> = (0..found).map(|_| "nothing was acknowledged".to_owned()).collect();
    let checks: [(&str, &[String]); 9] = [
        ("anomalies of the history", &anomalies),
        ("faults that did not fire", &silent),
        ("errors that applications were told", &errors),
        ("groups behind their commits", &recording.group_faults),
        ("records that a group missed", &missed),
        ("replicas that differ", replicas),
        ("what Kafka's tools say wrongly", tools),
        ("brokers that panicked", &panics),
        ("checks of nothing", &nothing),
    ];
    for (what, faults) in checks {
        println!("{what}: {}", faults.len());
        faults.iter().take(SHOWN_MAX).for_each(|fault| println!("  {fault}"));
    }
    checks.iter().all(|(_, faults)| faults.is_empty())
}

fn tell(recording: &Recording, history: &History, report: &klamm_history::Report) {
    let outcomes = history.operations.iter().flat_map(|operation| match operation {
        Operation::Send(send) => send.records.iter().map(|sent| sent.outcome).collect(),
        _ => Vec::new(),
    });
    let (acked, unknown): (Vec<_>, Vec<_>) =
        outcomes.partition(|outcome| matches!(outcome, Outcome::Acked(_)));
    println!("\nrecords: {} acknowledged, {} of unknown fate", acked.len(), unknown.len());
    let untold = acked.iter().filter(|outcome| **outcome == Outcome::Acked(None)).count();
    println!("acknowledged without an offset: {untold}");
    println!("owed records found: {}", report.acked_found);
    println!("plain producers' duplicates: {}", report.duplicates_allowed);
    for (group, count) in recording.reads() {
        println!("group {group} read {count} records");
    }
    for (remark, times) in &recording.remarks {
        println!("noticed {times} times: {remark}");
    }
}
