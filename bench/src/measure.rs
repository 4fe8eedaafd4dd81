//! What is measured of processes and of the machine: CPU seconds, memory, disturbance, percentiles.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::Result;

/// What a run found, by name. The names that end in `_s_per_gb` are CPU seconds of the broker (all
/// threads) per 1e9 payload bytes.
pub(crate) type Figures = BTreeMap<String, f64>;

/// Bytes of a gigabyte, as payloads are counted.
pub(crate) const GB: f64 = 1e9;

/// Clock ticks a second of `/proc/PID/stat`: fixed in the kernel's interface on all of Linux.
const TICKS_PER_S: f64 = 100.0;
/// `PF_KTHREAD` in the flags of `/proc/PID/stat`.
const KERNEL_THREAD: u64 = 0x0020_0000;
/// Names of the fields of `/proc/PID/stat`, counted behind the command's closing parenthesis.
mod field {
    pub(super) const FLAGS: usize = 6;
    pub(super) const UTIME: usize = 11;
    pub(super) const STIME: usize = 12;
    pub(super) const CUTIME: usize = 13;
    pub(super) const CSTIME: usize = 14;
}

fn stat(pid: &str) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let behind = &text[text.rfind(')')? + 2..];
    // Field 0 is the state, a letter; negative fields (tty) are of no interest.
    Some(behind.split(' ').map(|f| f.trim().parse().unwrap_or(0)).collect())
}

/// CPU seconds that all threads of a process have used, in user and kernel mode.
pub(crate) fn cpu_s(pid: u32) -> Result<f64> {
    let stat = stat(&pid.to_string()).ok_or_else(|| format!("process {pid} is gone"))?;
    Ok((stat[field::UTIME] + stat[field::STIME]) as f64 / TICKS_PER_S)
}

/// Resident memory of a process in MB (1e6): all of it, and what is not backed by files.
pub(crate) fn resident_mb(pid: u32) -> Result<(f64, f64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(|error| format!("process {pid}: {error}"))?;
    let kib = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|l| l.split_whitespace().nth(1)).and_then(|n| n.parse::<f64>().ok())
    };
    let found = (kib("VmRSS:"), kib("RssAnon:"));
    let (Some(all), Some(anonymous)) = found else {
        return Err(format!("process {pid} says nothing of its memory"));
    };
    Ok((all * 1.024e-3, anonymous * 1.024e-3))
}

/// Number of a process's open descriptors.
pub(crate) fn descriptors(pid: u32) -> Result<f64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"));
    Ok(entries.map_err(|error| format!("process {pid}: {error}"))?.count() as f64)
}

/// What disturbed a run, in CPUs (1.0 is one core all the time).
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Disturbance {
    /// Taken by the host.
    pub(crate) steal: f64,
    /// Used by processes that are neither ours nor the kernel's.
    pub(crate) others: f64,
}

/// Most that a run may lose to the host, in CPUs.
const STEAL_MAX: f64 = 0.15;
/// Most that strangers may use during a run, in CPUs.
const OTHERS_MAX: f64 = 0.2;

impl Disturbance {
    /// Whether a run under it counts.
    pub(crate) fn is_quiet(self) -> bool {
        self.steal <= STEAL_MAX && self.others <= OTHERS_MAX
    }
}

/// The machine's clocks at one moment.
pub(crate) struct Watch {
    since: Instant,
    steal_s: f64,
    /// Busy, less what we and our brokers used.
    rest_s: f64,
    /// Ticks of the kernel's threads that live, by their id.
    kernel: BTreeMap<u32, u64>,
}

impl Watch {
    /// `brokers` are our children that live on: those that have ended are in our own account.
    pub(crate) fn start(brokers: &[u32]) -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").map_err(|e| format!("/proc/stat: {e}"))?;
        let line = text.lines().next().unwrap_or_default();
        let ticks: Vec<f64> =
            line.split_whitespace().skip(1).map(|n| n.parse().unwrap_or(0.0)).collect();
        let [user, nice, system, _, _, _, _, steal, ..] = ticks[..] else {
            return Err("/proc/stat has no line for all CPUs".to_owned());
        };
        let own = stat("self").ok_or("no /proc/self/stat")?;
        let mut known = own[field::UTIME] + own[field::STIME];
        known += own[field::CUTIME] + own[field::CSTIME];
        for pid in brokers {
            // One that has just been killed is in our own account already.
            known += stat(&pid.to_string()).map_or(0, |s| s[field::UTIME] + s[field::STIME]);
        }
        Ok(Self {
            since: Instant::now(),
            steal_s: steal / TICKS_PER_S,
            rest_s: (user + nice + system - known as f64) / TICKS_PER_S,
            kernel: kernel_ticks()?,
        })
    }

    /// What has happened since `start`; `brokers` are those of then that still live.
    pub(crate) fn disturbance(&self, brokers: &[u32]) -> Result<Disturbance> {
        let now = Self::start(brokers)?;
        // Of threads that have ended meanwhile it is not known what they used until then.
        let used = |(pid, ticks): (&u32, &u64)| {
            ticks.saturating_sub(self.kernel.get(pid).copied().unwrap_or(0))
        };
        let kernel_s = now.kernel.iter().map(used).sum::<u64>() as f64 / TICKS_PER_S;
        let elapsed_s = now.since.duration_since(self.since).as_secs_f64().max(1e-3);
        Ok(Disturbance {
            steal: (now.steal_s - self.steal_s).max(0.0) / elapsed_s,
            others: (now.rest_s - self.rest_s - kernel_s).max(0.0) / elapsed_s,
        })
    }
}

fn kernel_ticks() -> Result<BTreeMap<u32, u64>> {
    let entries = fs::read_dir("/proc").map_err(|error| format!("/proc: {error}"))?;
    let mut ticks = BTreeMap::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(stat) =
            name.to_str().and_then(stat).filter(|s| s[field::FLAGS] & KERNEL_THREAD != 0)
        {
            ticks.insert(pid, stat[field::UTIME] + stat[field::STIME]);
        }
    }
    Ok(ticks)
}

/// The value below which `share` of all lie (nearest rank); `None` of none.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

/// The middle of the values; the mean of the two middle ones of an even number.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[half]),
        _ => Some(f64::midpoint(sorted[half - 1], sorted[half])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut values, 0.5), Some(50.0));
        assert_eq!(percentile(&mut values, 0.99), Some(99.0));
        assert_eq!(percentile(&mut values, 0.999), Some(100.0));
        assert_eq!(percentile(&mut [], 0.5), None);
    }

    #[test]
    fn the_median_of_an_even_number_is_between() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn our_own_work_is_no_disturbance_but_is_seen() {
        let pid = std::process::id();
        let before = cpu_s(pid).expect("we live");
        let watch = Watch::start(&[]).expect("a Linux machine");
        let begun = Instant::now();
        let mut sum = 0_u64;
        while begun.elapsed().as_millis() < 200 {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        assert!(sum > 0);
        assert!(cpu_s(pid).expect("we live") > before);
        // Others may be busy meanwhile, on as many CPUs as there are and for a tick more.
        let found = watch.disturbance(&[]).expect("a Linux machine");
        let cpus = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        assert!((0.0..=cpus + 0.5).contains(&found.others), "{found:?}");
    }
}
