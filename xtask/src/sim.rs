//! `cargo xtask sim [--seeds FROM..TO | --new COUNT] [--set KEY=VALUE]... [--minutes N]`: the cluster
//! simulation, one process for each seed, as many at a time as there are cores.
//!
//! `--new` takes seeds that belong to the commit: every commit is tried with others, and a run of one
//! commit can be repeated. Seeds that were not begun within `--minutes` are left out, and counted.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::test::cargo;

const SEEDS: Range<u64> = 0..20;
/// A simulation that takes longer hangs.
const SEED_MAX: Duration = Duration::from_secs(300);
/// Pause between two looks at a process.
const LOOK: Duration = Duration::from_millis(20);
const USAGE: &str =
    "usage: sim [--seeds FROM..TO | --new COUNT] [--set KEY=VALUE]... [--minutes N]";

struct Options {
    seeds: Range<u64>,
    set: Vec<String>,
    time_max: Option<Duration>,
}

/// Runs the seeds; all of them, also after one has failed.
///
/// # Errors
/// The seeds that fail, each with the command that repeats it.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let options = parse(root, arguments)?;
    build(root)?;
    println!("seeds {:?}", options.seeds);
    let deadline = options.time_max.map(|time_max| now() + time_max);
    let results = Mutex::new(Results { left: options.seeds.clone(), ..Results::default() });
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                // Not in the loop's head: the lock would be held through its body.
                let next = || lock(&results).take(deadline);
                while let Some(seed) = next() {
                    let told = simulate(root, seed, &options.set);
                    lock(&results).add(seed, &options.set, told);
                }
            });
        }
    });
    let results = results.into_inner().expect("no thread panicked");
    results.tell(options.seeds.end - options.seeds.start)
}

/// Builds it. With the rules that can be switched off, so that there is one build for all uses of it.
///
/// # Errors
/// When it does not build.
pub(crate) fn build(root: &Path) -> Result<(), String> {
    let what = ["--package", "klamm-sim", "--features", "mutants"];
    let words = [&["build", "--release", "--quiet"][..], &what].concat();
    let status = cargo(root, &words).status().map_err(|error| format!("cargo: {error}"))?;
    status.success().then_some(()).ok_or_else(|| "the simulation does not build".to_owned())
}

/// Two numbers with `..` between them.
pub(crate) fn parse_seeds(text: &str) -> Option<Range<u64>> {
    let (from, to) = text.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

fn parse(root: &Path, arguments: &[String]) -> Result<Options, String> {
    let usage = || USAGE.to_owned();
    let mut options = Options { seeds: SEEDS, set: Vec::new(), time_max: None };
    let mut arguments = arguments.iter();
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or_else(usage)?;
        match option.as_str() {
            "--seeds" => {
                options.seeds = parse_seeds(value).ok_or_else(usage)?;
            }
            "--new" => {
                let count: u64 = value.parse().map_err(|_| usage())?;
                let first = first_of_commit(root)?;
                options.seeds = first..first + count;
            }
            "--set" => options.set.extend(["--set".to_owned(), value.clone()]),
            "--minutes" => {
                let minutes: u64 = value.parse().map_err(|_| usage())?;
                options.time_max = Some(Duration::from_secs(60 * minutes));
            }
            _ => return Err(usage()),
        }
    }
    Ok(options)
}

/// The first seed of this commit: far from those of any other.
fn first_of_commit(root: &Path) -> Result<u64, String> {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(root).output();
    let output = output.map_err(|error| format!("git: {error}"))?;
    let commit = String::from_utf8_lossy(&output.stdout).into_owned();
    let head = commit.get(..8).and_then(|head| u64::from_str_radix(head, 16).ok());
    head.map(|head| head * 1_000).ok_or_else(|| "there is no commit to take seeds from".to_owned())
}

#[derive(Default)]
struct Results {
    left: Range<u64>,
    held: u64,
    /// What each broke; of the scenario that comes before that, nothing.
    failed: BTreeMap<u64, String>,
    /// Faults by kind, over all seeds that held.
    faults: BTreeMap<String, u64>,
}

impl Results {
    fn take(&mut self, deadline: Option<Instant>) -> Option<u64> {
        if deadline.is_some_and(|deadline| now() >= deadline) {
            return None;
        }
        self.left.next()
    }

    fn add(&mut self, seed: u64, set: &[String], told: Result<String, String>) {
        match told {
            Ok(figures) => {
                println!("seed {seed}: {}", figures.trim_end());
                self.held += 1;
                for (kind, count) in faults(&figures) {
                    *self.faults.entry(kind).or_default() += count;
                }
            }
            Err(why) => {
                println!("seed {seed} FAILS: {}", why.trim_end());
                let set: String = set.iter().map(|word| format!(" {word}")).collect();
                println!(
                    "again: cargo run --release -p klamm-sim --bin klamm-sim -- {seed} --cluster{set}"
                );
                let broken = why.rsplit_once(" fails: ").map_or(&*why, |(_, broken)| broken);
                self.failed.insert(seed, broken.lines().next().unwrap_or_default().to_owned());
            }
        }
    }

    fn tell(&self, asked: u64) -> Result<(), String> {
        let run = self.held + self.failed.len() as u64;
        let faults: Vec<_> = self.faults.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
        println!("faults: {}", faults.join(", "));
        println!("{} seeds hold, {} fail", self.held, self.failed.len());
        if run < asked {
            println!("{} of {asked} were not begun in time", asked - run);
        }
        // Once more, for whoever has the end of the output only.
        for (seed, broken) in &self.failed {
            println!("seed {seed}: {broken}");
        }
        match (run, self.failed.is_empty()) {
            (0, _) => Err("no seed was run".to_owned()),
            (_, true) => Ok(()),
            (_, false) => Err(format!("seeds that fail: {:?}", self.failed.keys())),
        }
    }
}

/// What stands after `faults: `, by kind.
fn faults(figures: &str) -> Vec<(String, u64)> {
    let listed = figures.split_once("faults: ").map_or("", |(_, listed)| listed);
    let pairs = listed.trim().split(", ").filter_map(|pair| pair.rsplit_once(' '));
    pairs.filter_map(|(kind, count)| Some((kind.to_owned(), count.parse().ok()?))).collect()
}

fn lock(results: &Mutex<Results>) -> std::sync::MutexGuard<'_, Results> {
    results.lock().expect("no thread panics")
}

/// One simulation in a process of its own; what it says when it holds, or why it does not.
pub(crate) fn simulate(root: &Path, seed: u64, set: &[String]) -> Result<String, String> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let mut command = Command::new(target.join("release/klamm-sim"));
    command.arg(seed.to_string()).args(["--cluster", "--summary"]).args(set);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let output = in_time(child.map_err(|error| format!("the simulation: {error}"))?)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Waits for the end of a process that writes less than a pipe holds.
fn in_time(mut child: Child) -> Result<Output, String> {
    let deadline = now() + SEED_MAX;
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        if now() >= deadline {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it takes longer than {SEED_MAX:?}"));
        }
        #[expect(clippy::disallowed_methods, reason = "the command runs outside the simulator")]
        std::thread::sleep(LOOK);
    }
    child.wait_with_output().map_err(|error| error.to_string())
}

#[expect(clippy::disallowed_methods, reason = "the command runs outside the simulator")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::faults;

    #[test]
    fn faults_are_read_from_the_figures() {
        let figures = "found: 3, faults: kill 2, ended by itself 1\n";
        let read = faults(figures);
        assert_eq!(read, [("kill".to_owned(), 2), ("ended by itself".to_owned(), 1)]);
        assert_eq!(faults("found: 3, faults: \n"), []);
    }
}
