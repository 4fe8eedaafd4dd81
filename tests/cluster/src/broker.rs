//! One broker: the real binary on a machine of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::network;

/// Where clients connect.
pub(crate) const CLIENTS_PORT: u16 = 9092;
/// Where other brokers connect.
pub(crate) const BROKERS_PORT: u16 = 9093;
/// Longest wait for a start or an end: reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of a broker's log that are shown where something went wrong.
const LOG_LINES_SHOWN: usize = 40;

/// What the brokers of these tests have in common.
const SETTINGS: &[&str] = &[
    "listener.security.protocol.map=CLIENTS:PLAINTEXT,BROKERS:PLAINTEXT",
    "inter.broker.listener.name=BROKERS",
    "zookeeper.connection.timeout.ms=30000",
    "default.replication.factor=3",
    "min.insync.replicas=2",
    "offsets.topic.replication.factor=3",
    "offsets.topic.num.partitions=3",
    "auto.create.topics.enable=false",
    "group.initial.rebalance.delay.ms=0",
    "group.min.session.timeout.ms=1000",
    // The least: segments are to be completed.
    "log.segment.bytes=1048576",
];

/// How soon brokers give each other up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The session in the ensemble, 2 of whose ticks are the least.
    pub(crate) session: Duration,
    /// How long a follower may lag and stay in sync.
    pub(crate) lag_max: Duration,
}

impl Limits {
    /// Short, so that a fault does not take long.
    pub(crate) const SHORT: Limits =
        Limits { session: Duration::from_secs(2), lag_max: Duration::from_secs(2) };
    /// Kafka's own, but for a session whose end is waited for.
    pub(crate) const KAFKA: Limits =
        Limits { session: Duration::from_secs(6), lag_max: Duration::from_secs(30) };
}

/// A broker, alive or not. Dropping it kills it.
pub(crate) struct Broker {
    id: i32,
    binary: PathBuf,
    dir: PathBuf,
    /// `zookeeper.connect`.
    ensemble: String,
    limits: Limits,
    child: Option<Child>,
}

impl Broker {
    pub(crate) fn new(
        id: i32,
        binary: &Path,
        dir: &Path,
        ensemble: &str,
        limits: Limits,
    ) -> Broker {
        Broker {
            id,
            binary: binary.to_owned(),
            dir: dir.join(id.to_string()),
            ensemble: ensemble.to_owned(),
            limits,
            child: None,
        }
    }

    pub(crate) fn id(&self) -> i32 {
        self.id
    }

    pub(crate) fn address(&self) -> String {
        format!("{}:{CLIENTS_PORT}", network::broker_host(self.id))
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Starts the process, which is not ready yet.
    pub(crate) fn spawn(&mut self) -> io::Result<()> {
        assert!(self.child.is_none(), "broker {} runs already", self.id);
        create_dir(&self.dir)?;
        let host = network::broker_host(self.id);
        let own = [
            format!("broker.id={}", self.id),
            format!("listeners=CLIENTS://{host}:{CLIENTS_PORT},BROKERS://{host}:{BROKERS_PORT}"),
            format!("zookeeper.connect={}", self.ensemble),
            format!("zookeeper.session.timeout.ms={}", self.limits.session.as_millis()),
            format!("replica.lag.time.max.ms={}", self.limits.lag_max.as_millis()),
        ];
        let settings = own.iter().map(String::as_str).chain(SETTINGS.iter().copied());
        let prefix = network::on_machine(self.id);
        let messages = std::fs::OpenOptions::new().create(true).append(true).open(self.log());
        let child = Command::new(&prefix[0])
            .args(&prefix[1..])
            .arg(&self.binary)
            .args(["serve", "--data-dir"])
            .arg(self.data_dir())
            .args(settings.flat_map(|setting| ["--set", setting]))
            .env("KLAMM_LOG", std::env::var("KLAMM_LOG").unwrap_or_else(|_| "info".to_owned()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(messages?)
            .kill_on_drop(true)
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it accepts connections.
    pub(crate) async fn ready(&mut self) -> Result<(), String> {
        let child = self.child.as_mut().expect("it was spawned");
        let stdout = child.stdout.take().expect("it was not ready before");
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        match line {
            Ok(Ok(Some(line))) if line.contains(" ready on ") => {
                // It says nothing more, but it may.
                tokio::task::spawn_local(async move {
                    while let Ok(Some(_)) = lines.next_line().await {}
                });
                Ok(())
            }
            other => Err(format!("broker {} did not start: {other:?}\n{}", self.id, self.end())),
        }
    }

    /// The process's id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("it runs")
    }

    /// Sends a signal to the process.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("our own child, not waited for yet");
    }

    /// How it ended by itself, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().expect("our own child"))
    }

    /// Ends it as `kill -9` does; answers whether it was alive until then.
    pub(crate) async fn kill(&mut self) -> bool {
        let was_alive = self.ended().is_none();
        if let Some(mut child) = self.child.take() {
            child.kill().await.expect("our own child");
        }
        was_alive
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    pub(crate) async fn stop(&mut self) -> Result<(), String> {
        self.signal(Signal::TERM);
        let child = self.child.as_mut().expect("it runs");
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        self.child = None;
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            other => Err(format!("broker {} did not stop: {other:?}\n{}", self.id, self.end())),
        }
    }

    /// Removes all that it has stored.
    #[expect(clippy::disallowed_methods, reason = "runs on the machine itself")]
    pub(crate) fn wipe(&self) -> io::Result<()> {
        std::fs::remove_dir_all(self.data_dir())?;
        std::fs::create_dir_all(self.data_dir())
    }

    /// Everything that it said, in all its lives.
    #[expect(clippy::disallowed_methods, reason = "runs on the machine itself")]
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log()).unwrap_or_default()).into_owned()
    }

    /// The end of what it said.
    pub(crate) fn end(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("broker.log")
    }
}

#[expect(clippy::disallowed_methods, reason = "runs on the machine itself")]
fn create_dir(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)
}
