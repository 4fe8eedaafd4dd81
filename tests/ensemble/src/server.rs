//! One server: a Java process.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{LOOK_AGAIN, LOOPBACK, SYNC_LIMIT_TICKS, TICK};

/// Longest answer to a four-letter word.
const WORD_ANSWER_MAX: u64 = 1 << 20;
/// Time that a server has for a four-letter word; a stopped one never answers.
const WORD_MAX: Duration = Duration::from_secs(2);

/// What a server is to its ensemble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It decides.
    Leader,
    /// It follows a leader.
    Follower,
    /// It is alone.
    Standalone,
    /// It serves nobody: down, stopped, or without a quorum.
    NotServing,
}

/// One server of an ensemble.
#[derive(Debug)]
pub struct Server {
    start: Start,
    client: SocketAddr,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    /// Ends the server when its pipe closes.
    shell: Child,
    pid: Pid,
    frozen: bool,
}

/// What it takes to start a server again.
#[derive(Clone, Debug)]
struct Start {
    libs: PathBuf,
    config: PathBuf,
    log: PathBuf,
}

/// Ports that were free a moment ago.
pub(crate) struct Ports {
    pub(crate) client: SocketAddr,
    pub(crate) quorum: u16,
    pub(crate) election: u16,
}

impl Ports {
    pub(crate) fn free(host: IpAddr) -> io::Result<Ports> {
        let client = TcpListener::bind((host, 0))?;
        let quorum = TcpListener::bind((LOOPBACK, 0))?;
        let election = TcpListener::bind((LOOPBACK, 0))?;
        Ok(Ports {
            client: client.local_addr()?,
            quorum: quorum.local_addr()?.port(),
            election: election.local_addr()?.port(),
        })
    }
}

/// The text of a server's configuration.
pub(crate) fn config(
    data: &Path,
    client: SocketAddr,
    peers: impl Iterator<Item = String>,
) -> String {
    let tick = TICK.as_millis();
    let mut lines = vec![
        format!("dataDir={}", data.display()),
        format!("clientPort={}", client.port()),
        format!("clientPortAddress={}", client.ip()),
        format!("tickTime={tick}"),
        "initLimit=20".to_owned(),
        format!("syncLimit={SYNC_LIMIT_TICKS}"),
        "maxClientCnxns=0".to_owned(),
        "admin.enableServer=false".to_owned(),
        "4lw.commands.whitelist=*".to_owned(),
        "authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider".to_owned(),
    ];
    lines.extend(peers);
    lines.join("\n") + "\n"
}

impl Server {
    pub(crate) fn start(
        libs: &Path,
        dir: &Path,
        id: usize,
        client: SocketAddr,
        config: &str,
    ) -> io::Result<Server> {
        let data = dir.join(id.to_string());
        std::fs::create_dir_all(&data)?;
        std::fs::write(data.join("myid"), id.to_string())?;
        let file = dir.join(format!("{id}.cfg"));
        std::fs::write(&file, config)?;
        let log = dir.join(format!("{id}.log"));
        let start = Start { libs: libs.to_owned(), config: file, log };
        let mut server = Server { start, client, process: None };
        server.restart()?;
        Ok(server)
    }

    /// Starts the server again, with what is on its disk.
    ///
    /// # Errors
    /// When Java cannot be started.
    pub fn restart(&mut self) -> io::Result<()> {
        let Start { libs, config, log } = &self.start;
        let file =
            |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name).display().to_string();
        // The shell ends the server when its end of the pipe closes: also when the test is killed.
        let script = r#"exec 3<&0; log=$1; shift
            "$@" </dev/null >>"$log" 2>&1 3<&- &
            echo $!; read -r _ <&3; kill -9 $!; wait $!"#;
        let mut shell = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(log)
            .args(["java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg(format!("-Dlogback.configurationFile={}", file("logback.xml")))
            .arg(format!("-Djava.security.auth.login.config={}", file("jaas.conf")))
            // A scratch directory: nothing in it has to survive a power loss.
            .args(["-Dzookeeper.forceSync=no", "-cp"])
            .arg(libs.join("*"))
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        let said = shell.stdout.take().expect("it is piped");
        BufReader::new(said).read_line(&mut line)?;
        let pid = line.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the server has no process id"))?;
        self.process = Some(Process { shell, pid, frozen: false });
        Ok(())
    }

    /// `host:port` for clients.
    pub fn address(&self) -> String {
        self.client.to_string()
    }

    /// Whether the process is there and not stopped by [`Server::freeze`].
    pub fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(|process| !process.frozen)
    }

    /// Ends the process as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::KILL);
            drop(process.shell.stdin.take());
            // It has nothing left to wait for.
            let _ = process.shell.wait();
        }
    }

    /// Stops the process without ending it (SIGSTOP).
    pub fn freeze(&mut self) {
        if let Some(process) = &mut self.process {
            process.signal(Signal::STOP);
            process.frozen = true;
        }
    }

    /// Lets the process go on (SIGCONT).
    pub fn thaw(&mut self) {
        if let Some(process) = &mut self.process {
            process.signal(Signal::CONT);
            process.frozen = false;
        }
    }

    /// What the server is at this moment.
    pub async fn mode(&self) -> Mode {
        let answer = self.word("srvr").await.unwrap_or_default();
        match answer.lines().find_map(|line| line.strip_prefix("Mode: ")) {
            Some("leader") => Mode::Leader,
            Some("follower") => Mode::Follower,
            Some("standalone") => Mode::Standalone,
            _ => Mode::NotServing,
        }
    }

    /// Waits until the server is as `wanted`.
    ///
    /// # Errors
    /// After `max`, with the end of the server's log.
    pub async fn wait_for(&self, max: Duration, wanted: impl Fn(Mode) -> bool) -> io::Result<()> {
        let looks = async {
            while !wanted(self.mode().await) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let waited = tokio::time::timeout(max, looks).await;
        waited.map_err(|_| {
            io::Error::other(format!("not in time; its log ends:\n{}", self.log_end()))
        })
    }

    /// The ephemeral nodes that the server lists, each with its session.
    pub(crate) async fn ephemerals(&self) -> Option<BTreeMap<String, String>> {
        let dump = self.word("dump").await.ok()?;
        let (_, listed) = dump.split_once("Sessions with Ephemerals")?;
        let mut session = "";
        let mut nodes = BTreeMap::new();
        // Sessions, each with its nodes below it, indented; then what clients are connected.
        let listed = listed.lines().skip(1).take_while(|line| !line.starts_with("Connections"));
        for line in listed {
            match line.strip_prefix('\t') {
                Some(path) => {
                    nodes.insert(path.to_owned(), session.to_owned());
                }
                None => session = line.trim_end_matches(':'),
            }
        }
        Some(nodes)
    }

    /// Waits until the server lists no ephemeral node of a session any more.
    pub(crate) async fn forgotten(&self, session: i64, max: Duration) -> io::Result<()> {
        let name = format!("{session:#x}:");
        let looks = async {
            loop {
                match self.word("dump").await {
                    Ok(dump) if !dump.lines().any(|line| line == name) => return,
                    _ => tokio::time::sleep(LOOK_AGAIN).await,
                }
            }
        };
        let waited = tokio::time::timeout(max, looks).await;
        waited.map_err(|_| io::Error::other(format!("session {name} is still listed")))
    }

    /// The last lines that the server has logged.
    pub fn log_end(&self) -> String {
        let log = std::fs::read_to_string(&self.start.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// The answer to a four-letter word.
    async fn word(&self, word: &str) -> io::Result<String> {
        let ask = async {
            let mut stream = TcpStream::connect(self.client).await?;
            stream.write_all(word.as_bytes()).await?;
            let mut answer = String::new();
            stream.take(WORD_ANSWER_MAX).read_to_string(&mut answer).await?;
            Ok(answer)
        };
        tokio::time::timeout(WORD_MAX, ask).await?
    }
}

impl Process {
    fn signal(&self, signal: Signal) {
        // Its shell has not waited for it: the id is still its own, dead or alive.
        let _ = kill_process(self.pid, signal);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
