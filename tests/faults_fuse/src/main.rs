//! Power loss with the real binary: the broker is killed while producers are at work, its disk
//! forgets what was not synced, and every record that was acknowledged must be where it was
//! acknowledged. `faults-fuse BROKER ROUNDS`, as root.
//!
//! First it is shown that the fault fires: with `flush=os` something acknowledged must be missing.

mod disk;
mod mount;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use klamm_client::{
    Acks, Admin, ClientConfig, Cluster, Consumer, ConsumerConfig, NewTopic, Producer,
    ProducerConfig, ProducerRecord, StartAt, TopicPartition,
};
use klamm_env::Env;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use disk::Disk;

const TOPIC: &str = "events";
/// As many as a group commit that would use `syncfs` elsewhere: the kernel passes none to FUSE, and the
/// broker has to sync file by file.
const PARTITIONS: i32 = 6;
/// Each with a connection of its own.
const PRODUCERS: i32 = 3;
/// The smallest that there is.
const SEGMENT: &str = "log.segment.bytes=1048576";
/// Some forty fill a segment.
const RECORD_BYTES: usize = 25_000;
/// Acknowledged records after which a round's kill comes: each partition rolls in most rounds.
const ROUND_RECORDS: usize = 400;
/// Longest wait for anything: reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

type Outcome<T> = Result<T, Box<dyn Error>>;
/// Values by partition and offset.
type Records = BTreeMap<(i32, i64), Bytes>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let [_, broker, rounds] = &args[..] else {
        eprintln!("usage: faults-fuse BROKER ROUNDS");
        return ExitCode::FAILURE;
    };
    if let Err(error) = try_mount() {
        // The machine's kernel and rights, not something that a script could install.
        println!("left out: faults-fuse: a FUSE file system cannot be mounted: {error}");
        return ExitCode::SUCCESS;
    }
    match run(Path::new(broker), rounds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn try_mount() -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    mount::mount(&Arc::new(Mutex::new(Disk::new())), folder.path()).map(drop)
}

fn run(broker: &Path, rounds: &str) -> Outcome<()> {
    let rounds: usize = rounds.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let seen = power_losses(broker, "os", 1).await?;
        if seen.missing == 0 {
            return Err("flush=os lost nothing: the fault did not fire".into());
        }
        println!("flush=os: {seen}, as it must be");
        let seen = power_losses(broker, "acked", rounds).await?;
        println!("flush=acked: {seen}");
        if seen.missing > 0 {
            return Err(format!("{} acknowledged records are gone", seen.missing).into());
        }
        if seen.losses == 0 {
            return Err("no unsynced write was dropped: the fault did not fire".into());
        }
        Ok(())
    })
}

/// What some rounds of power loss did.
struct Seen {
    acknowledged: usize,
    /// Acknowledged records that are not at their offset.
    missing: usize,
    /// Files and directories that lost something unsynced.
    losses: usize,
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Seen { acknowledged, missing, losses } = self;
        write!(f, "{acknowledged} acknowledged, {missing} missing, {losses} files lost something")
    }
}

async fn power_losses(broker: &Path, flush: &str, rounds: usize) -> Outcome<Seen> {
    let folder = tempfile::tempdir()?;
    let disk = Arc::new(Mutex::new(Disk::new()));
    let mut acknowledged = Records::new();
    let mut missing = 0;
    for round in 0..rounds {
        let session = mount::mount(&disk, folder.path())?;
        let mut running = Running::start(broker, folder.path(), flush)?;
        let killed = produce_and_kill(&mut running, round).await;
        // Killed in any case, or the mount stays busy.
        running.kill()?;
        mount::unmount(session)?;
        acknowledged.extend(killed?);
        disk.lock().unwrap_or_else(PoisonError::into_inner).lose_power();

        let session = mount::mount(&disk, folder.path())?;
        let mut running = Running::start(broker, folder.path(), flush)?;
        let found = read_all(&running.address).await;
        running.kill()?;
        mount::unmount(session)?;
        let found = found?;
        missing += acknowledged.iter().filter(|(at, value)| found.get(at) != Some(value)).count();
        println!("{flush} {round}: {} acknowledged, {missing} missing", acknowledged.len());
    }
    let losses = disk.lock().unwrap_or_else(PoisonError::into_inner).losses;
    Ok(Seen { acknowledged: acknowledged.len(), missing, losses })
}

/// A broker on a directory.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(broker: &Path, dir: &Path, flush: &str) -> Outcome<Running> {
        let mut child = Command::new(broker)
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir.join("data"))
            .args(["--set", &format!("flush={flush}"), "--set", SEGMENT])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        let running = Running { child, address };
        if running.address.is_empty() {
            Err("the broker did not start".into())
        } else {
            Ok(running)
        }
    }

    fn kill(&mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Killed already unless something failed before.
        let _ = self.kill();
    }
}

async fn connect(address: &str) -> Outcome<Cluster> {
    Ok(Cluster::connect(Env::real()?, ClientConfig::new([address])).await?)
}

/// Kills the broker while producers are at work; what they were told is durable.
async fn produce_and_kill(running: &mut Running, round: usize) -> Outcome<Records> {
    let cluster = connect(&running.address).await?;
    if round == 0 {
        let topic = NewTopic { partitions: Some(PARTITIONS), ..NewTopic::new(TOPIC) };
        Admin::new(cluster).create_topic(&topic).await?;
    }
    let acknowledged = Arc::new(Mutex::new(Records::new()));
    let enough = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    for producer in 0..PRODUCERS {
        let config = ProducerConfig { acks: Acks::All, ..ProducerConfig::default() };
        let own = Arc::new(Producer::new(connect(&running.address).await?, config)?);
        // Every partition is written to by two producers.
        for partition in (0..PARTITIONS).filter(|partition| partition % PRODUCERS != producer) {
            let (own, acknowledged) = (Arc::clone(&own), Arc::clone(&acknowledged));
            let enough = Arc::clone(&enough);
            let name = format!("round {round} producer {producer} partition {partition}");
            tasks.spawn(async move {
                for number in 0.. {
                    let mut value = format!("{name} {number}").into_bytes();
                    value.resize(RECORD_BYTES, b'.');
                    let value = Bytes::from(value);
                    let Ok(stored) = own.send_and_wait(record(partition, value.clone())).await
                    else {
                        return;
                    };
                    let mut known = acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
                    known.insert((partition, stored.offset), value);
                    if known.len() >= ROUND_RECORDS {
                        enough.notify_one();
                    }
                }
            });
        }
    }
    tokio::time::timeout(PATIENCE, enough.notified()).await?;
    running.kill()?;
    tasks.shutdown().await;
    let known = std::mem::take(&mut *acknowledged.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(known)
}

fn record(partition: i32, value: Bytes) -> ProducerRecord {
    ProducerRecord {
        topic: TOPIC.to_owned(),
        partition: Some(partition),
        key: None,
        value: Some(value),
        headers: Vec::new(),
        timestamp: None,
    }
}

/// All records there are; none where the topic itself is gone.
async fn read_all(address: &str) -> Outcome<Records> {
    let cluster = connect(address).await?;
    let known = cluster.refresh_existing(&[TOPIC.to_owned()]).await?;
    drop(known);
    let mut found = Records::new();
    if cluster.topic(TOPIC).await.is_err() {
        return Ok(found);
    }
    let mut consumer = Consumer::new(cluster, ConsumerConfig::default());
    let partitions = || (0..PARTITIONS).map(|partition| TopicPartition::new(TOPIC, partition));
    consumer.assign(partitions().map(|partition| (partition, StartAt::Earliest)));
    let caught_up = |consumer: &Consumer| {
        partitions().all(|partition| {
            let end = consumer.high_watermark(&partition);
            end.is_some() && consumer.position(&partition) >= end
        })
    };
    let reading = async {
        while !caught_up(&consumer) {
            for record in consumer.poll(Duration::from_millis(100)).await? {
                let value = record.value.unwrap_or_default();
                found.insert((record.partition, record.offset), value);
            }
        }
        Ok::<_, klamm_client::ClientError>(())
    };
    tokio::time::timeout(PATIENCE, reading).await??;
    Ok(found)
}
