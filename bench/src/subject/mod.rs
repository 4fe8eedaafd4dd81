//! The brokers that are compared, as processes: started, stopped, killed, started again.

pub(crate) mod discard;
pub(crate) mod floor;
mod kafka;
mod klamm;
pub(crate) mod nisshi;

use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::bed::Bed;
use crate::load::wire;
use crate::{Result, measure};

/// Longest wait for a broker that starts or stops: reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// The least that the machine needs for the work: small programs without a protocol.
    Floor,
    /// Klamm with `flush=os`, which promises what Kafka promises.
    Klamm,
    /// Klamm as it comes: `flush=acked`.
    KlammAcked,
    /// Klamm with `record.validation=full`, which reads every record as Kafka does.
    KlammFull,
    /// Apache Kafka.
    Kafka,
    /// Nisshi, in memory.
    Nisshi,
}

impl Kind {
    /// As tables call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Klamm => "Klamm, flush=os",
            Self::KlammAcked => "Klamm, flush=acked",
            Self::KlammFull => "Klamm, full validation",
            Self::Kafka => "Apache Kafka",
            Self::Nisshi => "Nisshi",
        }
    }

    /// As folders and the result's file call it.
    pub(crate) fn slug(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Klamm => "klamm",
            Self::KlammAcked => "klamm-acked",
            Self::KlammFull => "klamm-full",
            Self::Kafka => "kafka",
            Self::Nisshi => "nisshi",
        }
    }
}

/// A setting of a broker: whose it is (`klamm`, `kafka`, or `both`), key and value.
pub(crate) type Setting = (&'static str, &'static str, &'static str);

/// A broker that runs. Dropping it kills it.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) address: String,
    /// Its own folder; the data lies in `data` below it.
    pub(crate) dir: PathBuf,
    settings: Vec<Setting>,
    child: Child,
}

impl Server {
    /// Starts a broker on an empty folder and waits until it accepts connections.
    pub(crate) fn start(kind: Kind, bed: &Bed, settings: &[Setting]) -> Result<Self> {
        let dir = bed.dir.join(kind.slug());
        bed.leftovers.put(&dir)?;
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let address = format!("127.0.0.1:{}", free_port()?);
        if kind == Kind::Kafka {
            kafka::format(bed, &dir, &address, settings)?;
        }
        let child = spawn(kind, bed, &dir, &address, settings)?;
        let settings = settings.to_vec();
        let server = Self { kind, address, dir, settings, child };
        server.await_answer()?;
        Ok(server)
    }

    /// Kills it and starts another on an empty folder, with the same settings.
    pub(crate) fn replace(&mut self, bed: &Bed) -> Result<()> {
        self.kill()?;
        *self = Self::start(self.kind, bed, &self.settings)?;
        Ok(())
    }

    /// Starts the process again, on the same folder and address, without waiting for it.
    pub(crate) fn start_again(&mut self, bed: &Bed) -> Result<()> {
        self.child = spawn(self.kind, bed, &self.dir, &self.address, &self.settings)?;
        Ok(())
    }

    /// Listening is not enough: Kafka closes connections that come before it is ready.
    fn await_answer(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answered = wire::Connection::open(&self.address, PATIENCE).and_then(|mut c| {
                c.api_versions()?;
                c.metadata("none", false)
            });
            match answered {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    let (name, log) = (self.kind.name(), self.log());
                    return Err(format!("{name} does not start: {error}; see {}", log.display()));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU seconds used since it started.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        measure::cpu_s(self.pid())
    }

    /// What it wrote to its standard error.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Kills it without warning.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let said = |error| format!("{}: {error}", self.kind.name());
        self.child.kill().map_err(said)?;
        self.child.wait().map_err(said)?;
        Ok(())
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.ok_or("a child without a process id")?, Signal::TERM)
            .map_err(|error| format!("{}: {error}", self.kind.name()))?;
        // Its standard output closes with it; there is nothing else that could be awaited with a limit.
        while self.child.try_wait().map_err(|e| e.to_string())?.is_none() {
            if begun.elapsed() > PATIENCE {
                return Err(format!("{} does not stop", self.kind.name()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(begun.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(kind: Kind, bed: &Bed, dir: &Path, address: &str, own: &[Setting]) -> Result<Child> {
    let mut command = match kind {
        Kind::Klamm => klamm::command(bed, dir, address, "os", own),
        Kind::KlammAcked => klamm::command(bed, dir, address, "acked", own),
        Kind::KlammFull => {
            let own = [own, &[("klamm", "record.validation", "full")]].concat();
            klamm::command(bed, dir, address, "os", &own)
        }
        Kind::Kafka => kafka::command(bed, dir)?,
        Kind::Nisshi => nisshi::command(bed, address)?,
        Kind::Floor => return Err("the floor is no broker".to_owned()),
    };
    let log = dir.join("log");
    let log = OpenOptions::new().create(true).append(true).open(&log).map_err(|e| e.to_string())?;
    let output = log.try_clone().map_err(|e| e.to_string())?;
    command.stdin(Stdio::null()).stdout(output).stderr(log);
    command.spawn().map_err(|error| format!("{}: {error}", kind.name()))
}

/// `command`, on the core that brokers have where each side has one.
pub(crate) fn placed(bed: &Bed, program: &Path) -> Command {
    if !bed.pinned {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program);
    command
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    Ok(listener.local_addr().map_err(|e| e.to_string())?.port())
}
