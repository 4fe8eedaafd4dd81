//! The broker under a tool that counts.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;

/// Longest wait for a start, under any tool.
const PATIENCE: Duration = Duration::from_secs(60);

const SETTINGS: &[&str] = &[
    // A count does not depend on the machine's cores.
    "event.loops=1",
    // What goes by the clock is not the requests'.
    "replica.high.watermark.checkpoint.interval.ms=3600000",
    "offsets.topic.num.partitions=1",
];

/// A broker that accepts connections, and the tool that it runs under. Dropping it kills both.
pub(crate) struct Broker {
    /// The tool, which is the broker's parent or the broker's own process.
    tool: Child,
    pid: Pid,
    address: SocketAddr,
}

impl Broker {
    /// Starts `binary` on an empty directory below `dir`, behind the words of `tool`.
    pub(crate) fn start(tool: &[String], binary: &Path, dir: &Path) -> Outcome<Broker> {
        let mut command = Command::new(&tool[0]);
        command.args(&tool[1..]).arg(binary);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir.join("data"));
        command.args(SETTINGS.iter().flat_map(|setting| ["--set", setting]));
        // Its complaints are the user's to see.
        command.env("KLAMM_LOG", "warn").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut tool = command.spawn().map_err(|error| format!("{}: {error}", tool[0]))?;
        let stdout = tool.stdout.take().expect("piped");
        let (sender, lines) = channel();
        #[expect(clippy::disallowed_methods, reason = "runs on the machine itself")]
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let started = lines.recv_timeout(PATIENCE).map_err(Into::into).and_then(|line| {
            let address = line.rsplit(' ').next().unwrap_or_default().parse()?;
            Ok((broker_of(&tool)?, address))
        });
        match started {
            Ok((pid, address)) => Ok(Broker { tool, pid, address }),
            Err(error) => {
                let _ = tool.kill();
                let _ = tool.wait();
                Err(error)
            }
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Stops it in order, so that the tool says all that it knows.
    pub(crate) fn stop(mut self) -> Outcome<()> {
        kill_process(self.pid, Signal::TERM)?;
        let status = self.tool.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the broker ends with {status}").into()) }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Ok(None) = self.tool.try_wait() {
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = self.tool.kill();
            let _ = self.tool.wait();
        }
    }
}

/// The tool's child where it has one, else the tool's own process.
fn broker_of(tool: &Child) -> Outcome<Pid> {
    let id = tool.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
    let pid = match children.split_whitespace().next() {
        Some(child) => child.parse()?,
        None => i32::try_from(id)?,
    };
    Pid::from_raw(pid).ok_or_else(|| "no process id".into())
}
