//! The machine: what it is, and its memory made ready.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Result;

/// Where a session ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    pub(crate) file_system: String,
    pub(crate) congestion_control: String,
}

/// Free memory that is left over by the page cache's filling.
const LEFT_FREE: u64 = 1 << 30;
/// Most that is read to fill the page cache.
const PREFILL_MAX: u64 = 18 << 30;
const CHUNK: usize = 1 << 20;

impl Machine {
    /// This one; `dir` is where data will lie.
    pub(crate) fn describe(dir: &Path) -> Self {
        let line = |file: &str| fs::read_to_string(file).unwrap_or_default().trim().to_owned();
        let cpu = line("/proc/cpuinfo");
        let cpu = cpu.lines().find_map(|l| l.strip_prefix("model name"));
        let cpu =
            cpu.and_then(|l| l.split_once(": ")).map_or("unknown", |(_, name)| name).to_owned();
        Self {
            cpu,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: memory("MemTotal:") as f64 / f64::from(1 << 30),
            kernel: line("/proc/sys/kernel/osrelease"),
            file_system: file_system(dir),
            congestion_control: line("/proc/sys/net/ipv4/tcp_congestion_control"),
        }
    }
}

/// A line of `/proc/meminfo` in bytes; 0 if it is not there.
fn memory(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The type of the file system that is mounted closest above `dir`.
fn file_system(dir: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let above = fields.filter(|mount| mount.len() > 2 && dir.starts_with(mount[1]));
    let closest = above.max_by_key(|mount| mount[1].len());
    closest.map_or_else(|| "unknown".to_owned(), |mount| mount[2].to_owned())
}

/// Bytes that may still be written to the file system of `dir`.
pub(crate) fn free_disk(dir: &Path) -> Result<u64> {
    let found = rustix::fs::statvfs(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(found.f_bavail * found.f_frsize)
}

/// Fills the page cache by reading a file of holes, until little memory is free: the first touch of
/// memory that the host has not given yet costs more than a broker does. The file stays, since its
/// pages would be given back with it; it takes no room on the disk.
pub(crate) fn prefill(scratch: &Path) -> Result<()> {
    let path = scratch.join("holes");
    let said = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    file.and_then(|file| file.set_len(PREFILL_MAX)).map_err(said)?;
    let mut file = File::open(&path).map_err(said)?;
    let mut chunk = vec![0; CHUNK];
    while memory("MemFree:") > LEFT_FREE {
        for _ in 0..64 {
            if file.read(&mut chunk).map_err(said)? == 0 {
                return Ok(());
            }
        }
    }
    Ok(())
}
