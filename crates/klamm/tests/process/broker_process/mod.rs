//! Starts, stops and kills the real binary, and speaks to it over plain sockets.

mod asking;
mod batches;
mod connection;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, kill_process};

pub(crate) use batches::{batch, batch_of, idempotent, reseal};
pub(crate) use connection::{Connection, framed};
pub(crate) use rustix::process::Signal;

/// Longest wait for anything: reaching it is a failure, never a pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How to start a broker.
#[derive(Clone)]
pub(crate) struct Launch {
    data_dir: PathBuf,
    listen: String,
    args: Vec<String>,
    /// The most that the process may have; `None` leaves what the test has.
    descriptors: Option<u32>,
}

/// A broker that accepts connections. Dropping it kills it.
pub(crate) struct BrokerProcess {
    running: Running,
    launch: Launch,
    address: SocketAddr,
}

/// What a process left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: String,
}

/// The process with what reads its outputs.
struct Running {
    child: Child,
    stdout: Vec<String>,
    lines: Receiver<String>,
    stderr: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Launch {
    /// A broker on `data_dir`, small where the defaults are for bigger machines.
    pub(crate) fn on(data_dir: &Path) -> Launch {
        let launch = Launch {
            data_dir: data_dir.to_owned(),
            listen: "127.0.0.1:0".to_owned(),
            args: Vec::new(),
            descriptors: None,
        };
        launch.set("offsets.topic.num.partitions=1").set("group.initial.rebalance.delay.ms=0")
    }

    /// The process may have so many descriptors and no more.
    pub(crate) fn descriptors(mut self, count: u32) -> Launch {
        self.descriptors = Some(count);
        self
    }

    pub(crate) fn set(mut self, setting: &str) -> Launch {
        self.args.extend(["--set".to_owned(), setting.to_owned()]);
        self
    }

    pub(crate) fn config(mut self, file: &Path) -> Launch {
        self.args.extend(["--config".to_owned(), file.display().to_string()]);
        self
    }

    pub(crate) fn listen(mut self, address: &str) -> Launch {
        self.listen = address.to_owned();
        self
    }

    /// Starts it and waits until it accepts connections.
    pub(crate) fn start(self) -> BrokerProcess {
        match self.try_start() {
            Ok(broker) => broker,
            Err(ended) => panic!("the broker did not start: {ended:#?}"),
        }
    }

    /// Starts a broker that has to refuse; answers what it says.
    pub(crate) fn refused(self) -> Ended {
        match self.try_start() {
            Ok(broker) => panic!("the broker started: {}", broker.stderr()),
            Err(ended) => ended,
        }
    }

    /// Starts it; answers what it left behind where it refuses.
    pub(crate) fn try_start(self) -> Result<BrokerProcess, Ended> {
        let mut running = Running::spawn(&self);
        match running.next_line() {
            None => Err(running.wait()),
            Some(line) => {
                let address = line.rsplit(' ').next().and_then(|address| address.parse().ok());
                let address = address.unwrap_or_else(|| panic!("no address in {line:?}"));
                Ok(BrokerProcess { running, launch: self, address })
            }
        }
    }
}

impl BrokerProcess {
    /// A broker on `data_dir` with the tests' usual settings.
    pub(crate) fn start(data_dir: &Path) -> BrokerProcess {
        Launch::on(data_dir).start()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// What it has said so far.
    pub(crate) fn stderr(&self) -> String {
        self.running.stderr.lock().expect("no panic while locked").clone()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn stop(mut self, signal: Signal) -> Ended {
        self.running.signal(signal);
        self.running.wait()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(mut self) -> Ended {
        self.running.wait()
    }

    /// Kills it without warning; answers how to start it again.
    pub(crate) fn kill(mut self) -> Launch {
        self.running.signal(Signal::KILL);
        self.running.wait();
        self.launch.clone()
    }

    /// Stops it in order; answers how to start it again.
    pub(crate) fn stop_cleanly(self) -> Launch {
        let launch = self.launch.clone();
        let ended = self.stop(Signal::TERM);
        assert!(ended.status.success(), "SIGTERM: {ended:#?}");
        launch
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.running.child.id());
        let status = std::fs::read_to_string(path).expect("the process lives");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a VmRSS line");
        let digits = line.split_whitespace().nth(1).expect("a number");
        digits.parse().expect("KiB")
    }

    /// A connection opened now is served, and the process has not complained of a panic.
    pub(crate) fn assert_serves(&self) {
        self.connect().assert_alive();
        let stderr = self.stderr();
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

impl Ended {
    /// The one line that says why it did not start: the only one that is no log line.
    pub(crate) fn complaint(&self) -> &str {
        assert!(!self.status.success(), "{self:#?}");
        assert!(self.stdout.is_empty(), "{self:#?}");
        let is_log = |line: &&str| [" INFO ", " WARN ", " DEBUG "].iter().any(|l| line.contains(l));
        let lines: Vec<_> = self.stderr.lines().filter(|line| !is_log(line)).collect();
        assert_eq!(lines.len(), 1, "not one line: {:#?}", self.stderr);
        assert!(!lines[0].contains("panicked"), "{}", lines[0]);
        lines[0]
    }
}

impl Running {
    fn spawn(launch: &Launch) -> Running {
        let binary = env!("CARGO_BIN_EXE_klamm");
        let mut command = match launch.descriptors {
            None => Command::new(binary),
            Some(count) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {count} && exec \"$0\" \"$@\""), binary]);
                shell
            }
        };
        let mut child = command
            .args(["serve", "--listen", &launch.listen, "--data-dir"])
            .arg(&launch.data_dir)
            .args(&launch.args)
            .env_remove("KLAMM_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary was built");
        let stdout = child.stdout.take().expect("piped");
        let mut stderr_pipe = child.stderr.take().expect("piped");
        let (sender, lines) = channel();
        let out = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let stderr = Arc::new(Mutex::new(String::new()));
        let collected = Arc::clone(&stderr);
        let err = std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(len @ 1..) = stderr_pipe.read(&mut chunk) {
                let text = String::from_utf8_lossy(&chunk[..len]);
                collected.lock().expect("no panic while locked").push_str(&text);
            }
        });
        Running { child, stdout: Vec::new(), lines, stderr, readers: vec![out, err] }
    }

    /// The next line on standard output, or none when it has ended.
    fn next_line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.stdout.push(line.clone());
                Some(line)
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                let stderr = self.stderr.lock().expect("no panic while locked");
                panic!("neither ready nor ended after {PATIENCE:?}: {stderr}")
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), signal).expect("our own child");
    }

    fn wait(&mut self) -> Ended {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                break status;
            }
            let stderr = self.stderr.lock().expect("no panic while locked").clone();
            assert!(begun.elapsed() < PATIENCE, "still running: {stderr}");
            std::thread::sleep(Duration::from_millis(2));
        };
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader does not panic");
        }
        self.stdout.extend(self.lines.try_iter());
        let stderr = self.stderr.lock().expect("no panic while locked").clone();
        Ended { status, stdout: std::mem::take(&mut self.stdout), stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again and again until the answer is there, no longer than [`PATIENCE`].
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
