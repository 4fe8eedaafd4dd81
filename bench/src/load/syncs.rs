//! How often a broker syncs: `perf` counts its system calls while a load runs.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Result;
use crate::bed::Bed;

const EVENTS: &str = "syscalls:sys_enter_fdatasync,syscalls:sys_enter_fsync,syscalls:sys_enter_syncfs,syscalls:sys_enter_msync";
/// Longest that `perf` may take to begin.
const BEGIN_MAX: Duration = Duration::from_secs(5);

/// A count under way. Dropping it ends it.
pub(crate) struct Syncs {
    perf: Option<Child>,
    /// The process for whose life `perf` counts.
    clock: Option<Pid>,
}

impl Syncs {
    /// Counts from now on; counts nothing where there is no `perf`.
    pub(crate) fn count(bed: &Bed, pid: u32) -> Result<Self> {
        let begun = bed.dir.join("perf-has-begun");
        let _ = std::fs::remove_file(&begun);
        let mut perf = Command::new("perf");
        perf.args(["stat", "-x", ",", "-e", EVENTS, "-p", &pid.to_string(), "--", "sh", "-c"]);
        // Its child runs only once all events are open, and for as long as the count goes on.
        perf.arg(format!("echo $$ > '{}'; exec sleep 86400", begun.display()));
        perf.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let Ok(mut child) = perf.spawn() else { return Ok(Self { perf: None, clock: None }) };
        let since = Instant::now();
        loop {
            let said = std::fs::read_to_string(&begun).unwrap_or_default();
            if let Some(clock) = said.strip_suffix('\n').and_then(|pid| pid.parse().ok()) {
                return Ok(Self { perf: Some(child), clock: Pid::from_raw(clock) });
            }
            let ended = child.try_wait().map_err(|e| e.to_string())?.is_some();
            if ended || since.elapsed() > BEGIN_MAX {
                let _ = child.kill();
                let _ = child.wait();
                return Ok(Self { perf: None, clock: None });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends the count: all calls of the kinds that make data durable.
    pub(crate) fn finish(mut self) -> Result<Option<f64>> {
        let Some(child) = self.perf.take() else { return Ok(None) };
        // `perf` does not heed a signal of its own while what it runs goes on.
        kill_process(self.clock.take().ok_or("a count without a clock")?, Signal::TERM)
            .map_err(|e| format!("perf: {e}"))?;
        let output = child.wait_with_output().map_err(|e| format!("perf: {e}"))?;
        Ok(total(&String::from_utf8_lossy(&output.stderr)))
    }
}

impl Drop for Syncs {
    fn drop(&mut self) {
        if let Some(clock) = self.clock {
            let _ = kill_process(clock, Signal::TERM);
        }
        if let Some(child) = &mut self.perf {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The sum of what `perf stat -x,` prints; `None` if it counted nothing at all.
fn total(text: &str) -> Option<f64> {
    let lines = text.lines().filter(|line| line.contains("sys_enter_"));
    let counts: Vec<f64> =
        lines.filter_map(|line| line.split(',').next()?.trim().parse().ok()).collect();
    (!counts.is_empty()).then(|| counts.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_all_kinds_are_added_up() {
        let text = "12,,syscalls:sys_enter_fdatasync,100,100.00,,\n\
                    <not supported>,,syscalls:sys_enter_msync,0,100.00,,\n\
                    3,,syscalls:sys_enter_syncfs,100,100.00,,\n";
        assert_eq!(total(text), Some(15.0));
        assert_eq!(total("perf: no permission\n"), None);
    }
}
