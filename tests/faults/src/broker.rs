//! The real binary, killed and started again on the same directory and address.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Longest wait for a start: reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// Small where the defaults are for bigger machines, and quick to delete and to clean.
const SETTINGS: &[&str] = &[
    "offsets.topic.num.partitions=1",
    "log.retention.check.interval.ms=50",
    "log.cleaner.backoff.ms=50",
    "log.segment.delete.delay.ms=100",
];

/// A broker that accepts connections. Dropping it kills it.
pub(crate) struct Broker {
    binary: PathBuf,
    dir: PathBuf,
    flush: &'static str,
    address: String,
    child: Child,
}

impl Broker {
    /// Starts one on an empty directory, at an address of the system's choice.
    pub(crate) fn start(binary: &Path, dir: &Path, flush: &'static str) -> Self {
        let (child, address) = spawn(binary, dir, flush, "127.0.0.1:0");
        Self { binary: binary.to_owned(), dir: dir.to_owned(), flush, address, child }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Kills it without warning and starts it again.
    pub(crate) fn kill_and_restart(&mut self) {
        let already = self.child.try_wait().expect("our own child");
        assert!(already.is_none(), "the broker ended by itself: {already:?}\n{}", self.said());
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
        let (child, address) = spawn(&self.binary, &self.dir, self.flush, &self.address);
        assert_eq!(address, self.address, "it listens elsewhere");
        self.child = child;
    }

    /// All that it wrote to standard error, in all its lives.
    pub(crate) fn said(&self) -> String {
        #[expect(clippy::disallowed_methods, reason = "runs on the machine itself")]
        let said = std::fs::read(log_file(&self.dir)).expect("the broker's messages");
        String::from_utf8_lossy(&said).into_owned()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_file(dir: &Path) -> PathBuf {
    dir.join("broker.log")
}

fn spawn(binary: &Path, dir: &Path, flush: &str, listen: &str) -> (Child, String) {
    let messages = OpenOptions::new().create(true).append(true).open(log_file(dir));
    let mut child = Command::new(binary)
        .args(["serve", "--listen", listen, "--data-dir"])
        .arg(dir.join("data"))
        .args(SETTINGS.iter().flat_map(|setting| ["--set", setting]))
        .args(["--set", &format!("flush={flush}")])
        .env("KLAMM_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(messages.expect("a file for its messages"))
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
    let stdout = child.stdout.take().expect("piped");
    let (sender, lines) = channel();
    #[expect(clippy::disallowed_methods, reason = "runs on the machine itself")]
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    // No client has anything to do meanwhile, so that their thread may wait.
    match lines.recv_timeout(PATIENCE) {
        Ok(line) => {
            let address = line.rsplit(' ').next().expect("a last word").to_owned();
            (child, address)
        }
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the broker did not start: {error}; see {}", log_file(dir).display());
        }
    }
}
