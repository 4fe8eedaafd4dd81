//! Where a part of a scenario runs: folders, tools, sizes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::leftovers::Leftovers;
use crate::tools::Tools;

/// Everything that a load needs to know of its surroundings.
pub(crate) struct Bed {
    /// The checkout.
    pub(crate) root: PathBuf,
    /// The part's own folder, gone when the part is done.
    pub(crate) dir: PathBuf,
    /// Data of parts and runs that are done.
    pub(crate) leftovers: Leftovers,
    pub(crate) tools: Tools,
    /// Factor on every size; 1.0 is the real thing.
    pub(crate) scale: f64,
    /// Most bytes that one run may write, from the disk that there is.
    pub(crate) run_bytes_max: u64,
    /// Broker on core 0 and clients on core 1, rather than where the system puts them.
    pub(crate) pinned: bool,
    /// Bytes that Kafka gets before anything is measured; other brokers get a fifth.
    pub(crate) warm_bytes: u64,
    /// How long the soak takes, in seconds.
    pub(crate) soak_s: u64,
}

impl Bed {
    /// `bytes` at this session's scale and within its disk.
    pub(crate) fn bytes(&self, bytes: u64) -> u64 {
        ((bytes as f64 * self.scale) as u64).min(self.run_bytes_max)
    }

    /// `count` at this session's scale, at least `least`.
    pub(crate) fn count(&self, count: u64, least: u64) -> u64 {
        ((count as f64 * self.scale) as u64).max(least)
    }

    /// A program of the client's side, on the core that clients have where each side has one.
    pub(crate) fn client(&self, program: &Path) -> Command {
        if !self.pinned {
            return Command::new(program);
        }
        let mut command = Command::new("taskset");
        command.args(["-c", "1"]).arg(program);
        command
    }

    /// Makes everything durable that earlier runs wrote, so that no run pays for another.
    pub(crate) fn settle(&self) -> Result<()> {
        let dir = File::open(&self.dir).map_err(|e| format!("{}: {e}", self.dir.display()))?;
        rustix::fs::syncfs(dir).map_err(|e| format!("syncfs: {e}"))
    }
}
