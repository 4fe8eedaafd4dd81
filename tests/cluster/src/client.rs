//! A client in a process of its own, in whatever language, that says what it does and sees.
//!
//! A thread listens to each, so that what it says has its time also while the test is busy.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, PipeReader};
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::recording::{Recording, Source};

/// The longest that a client has to send what it holds and to leave.
const END_MAX: Duration = Duration::from_secs(90);
/// Lines that were heard and not yet recorded.
const LINES_MAX: usize = 1 << 16;

/// A client that runs.
pub(crate) struct Client {
    name: String,
    child: Child,
    /// Its end tells the client to end.
    stdin: ChildStdin,
    reader: JoinHandle<()>,
}

impl Client {
    /// Starts it; what it says goes into the recording, under the number of its source there.
    pub(crate) fn start(
        command: &[String],
        source: Source,
        recording: &Rc<RefCell<Recording>>,
        dir: &Path,
    ) -> io::Result<Client> {
        let name = source.name.clone();
        let messages = dir.join(format!("{name}.log"));
        let messages = File::options().create(true).append(true).open(messages)?;
        let (said, says) = io::pipe()?;
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(says)
            .stderr(messages)
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take().expect("it is piped");
        let mut lines = hear(said);
        let number = recording.borrow_mut().add(source);
        let recording = Rc::clone(recording);
        let reader = tokio::task::spawn_local(async move {
            while let Some((line, at)) = lines.recv().await {
                recording.borrow_mut().take(number, &line, at);
            }
        });
        Ok(Client { name, child, stdin, reader })
    }

    /// Whether it has ended by itself, which it must not.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_some())
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Tells it to end, and waits until it has said everything.
    pub(crate) async fn end(self) -> Result<(), String> {
        let Client { name, mut child, stdin, reader } = self;
        drop(stdin);
        let ended = tokio::time::timeout(END_MAX, child.wait()).await;
        match ended {
            Ok(Ok(status)) if status.success() => {}
            other => return Err(format!("client {name} did not end in order: {other:?}")),
        }
        reader.await.map_err(|error| format!("client {name}: {error}"))
    }
}

/// The lines of a client, each with the time when it was heard.
#[expect(clippy::disallowed_methods, reason = "runs on the machine itself")]
fn hear(said: PipeReader) -> mpsc::Receiver<(String, Instant)> {
    let (sender, lines) = mpsc::channel(LINES_MAX);
    std::thread::spawn(move || {
        for line in BufReader::new(said).lines().map_while(Result::ok) {
            if sender.blocking_send((line, Instant::now())).is_err() {
                return;
            }
        }
    });
    lines
}
