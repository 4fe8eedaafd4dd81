//! `cargo xtask test`: everything that CI runs, step by step.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// How many of the last lines of a failed step are shown again at the end: few, or those of two steps
/// would not both be in what is kept of a long output.
const TAIL_LINES: usize = 12;
/// Characters of such a line that are shown.
const TAIL_LINE_CHARS: usize = 200;
/// A line longer than this is passed on in pieces.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// How long a process that a step left behind may keep the step's output open.
const LINGER: Duration = Duration::from_secs(10);

/// One step of the test command.
struct Step {
    name: &'static str,
    what: &'static str,
    run: fn(&Path) -> Vec<Command>,
}

/// The pinned version of the dependency-policy tool, installed into `scratch/tools` when missing.
const CARGO_DENY: &str = "0.20.2";

const STEPS: &[Step] = &[
    Step {
        name: "format",
        what: "rustfmt",
        run: |root| vec![cargo(root, &["fmt", "--all", "--check"])],
    },
    Step {
        name: "lints",
        what: "clippy over all targets and over the smallest program, warnings are errors",
        run: |root| {
            let all: &[&str] = &["--workspace", "--all-targets"];
            let smallest: &[&str] = &["--package", "klamm", "--no-default-features"];
            let lint = |what: &[&str]| {
                let words = [&["clippy", "--quiet"][..], what, &["--", "-D", "warnings"]].concat();
                cargo(root, &words)
            };
            vec![lint(all), lint(smallest)]
        },
    },
    Step { name: "policy", what: "licences, sources and bans of dependencies", run: policy },
    Step {
        name: "unit",
        what: "unit, property and behaviour tests, repository checks among them",
        run: |root| vec![cargo(root, &["test", "--workspace", "--quiet"])],
    },
    Step {
        name: "ensemble",
        what: "the coordination tree over three real ZooKeeper servers and their faults",
        run: |root| vec![script(root, "tests/ensemble/run", &[])],
    },
    Step {
        name: "release",
        what: "the binary",
        run: |root| vec![cargo(root, &["build", "--release", "--quiet", "--package", "klamm"])],
    },
    Step {
        name: "sim",
        what: "a cluster of real brokers under simulated faults, 100 seeds that no other commit had",
        run: |root| {
            let args = ["run", "--quiet", "--package", "xtask", "--", "sim", "--new", "100"];
            vec![cargo(root, &[&args[..], &["--minutes", "9"]].concat())]
        },
    },
    Step {
        name: "mutants",
        what: "the same without one of its rules after the other, each of which has to be missed",
        run: |root| vec![cargo(root, &["run", "--quiet", "--package", "xtask", "--", "mutants"])],
    },
    Step {
        name: "paths",
        what: "instructions and system calls of produce and fetch, against the baseline",
        run: |root| vec![script(root, "tests/paths/run", &[])],
    },
    Step {
        name: "faults-fuse",
        what: "power loss: unsynced writes dropped below the killed broker",
        run: |root| {
            let args = ["run", "--quiet", "--package", "klamm-faults-fuse", "--"];
            vec![cargo(root, &[&args[..], &["target/release/klamm", "5"]].concat())]
        },
    },
    Step {
        name: "clients",
        what: "kcat, confluent-kafka, kafka-python, aiokafka, kafkajs, Java, franz-go",
        run: |root| vec![script(root, "tests/foreign/run", &[])],
    },
    Step {
        name: "clients-cluster",
        what: "the same clients against three brokers, the ensemble's leader killed in the middle",
        run: |root| vec![script(root, "tests/foreign/run", &["--cluster"])],
    },
    Step {
        name: "real-input",
        what: "a real data set, the broker killed in the middle",
        run: |root| vec![script(root, "tests/foreign/real_input/run", &[])],
    },
    Step {
        name: "faults",
        what: "kill -9 in a loop under load, in both flush modes, the history checked",
        run: |root| vec![script(root, "tests/faults/run", &["--rounds", "8", "--compaction"])],
    },
    Step {
        name: "cluster",
        what: "three brokers on an ensemble, each kind of fault once, the history checked",
        run: |root| vec![script(root, "tests/cluster/run", &[])],
    },
    Step {
        name: "crates",
        what: "the integration suites of the crates rdkafka and rskafka",
        run: |root| vec![script(root, "tests/foreign/crates/run", &[])],
    },
    Step {
        name: "oracle",
        what: "the same requests to Apache Kafka and to Klamm, all fields compared",
        run: |root| vec![script(root, "tests/oracle/run", &["--slice"])],
    },
    Step {
        name: "storage",
        what: "what Java, librdkafka and franz-go see of the same logs on Apache Kafka and on Klamm",
        run: |root| vec![script(root, "tests/storage_differential/run", &[])],
    },
    Step {
        name: "storage-cluster",
        what: "the same of a cluster on Klamm, the ensemble's leader killed over and over",
        run: |root| vec![script(root, "tests/storage_differential/run", &["--cluster"])],
    },
    Step {
        name: "bench-smoke",
        what: "the benchmark in seconds, Klamm's CPU held against a loose multiple of the floor's",
        run: |root| vec![cargo(root, &[&crate::BENCH[..], &["--smoke"]].concat())],
    },
    Step {
        name: "footprint",
        what: "time to the first acknowledgement and memory, printed",
        run: |root| vec![script(root, "tests/footprint/run", &[])],
    },
];

/// Runs the steps that `arguments` ask for (`--list`, `--only NAME`), all by default.
pub(crate) fn run(root: &Path, arguments: &[String]) -> ExitCode {
    let chosen: Vec<&'static Step> = match arguments {
        [] => STEPS.iter().collect(),
        [list] if list == "--list" => {
            for step in STEPS {
                println!("{:<15} {}", step.name, step.what);
            }
            return ExitCode::SUCCESS;
        }
        [only, names @ ..] if only == "--only" && !names.is_empty() => {
            let chosen: Vec<&'static Step> =
                STEPS.iter().filter(|s| names.iter().any(|n| n == s.name)).collect();
            if chosen.len() != names.len() {
                eprintln!("xtask test: unknown step among {names:?}; --list names them");
                return ExitCode::from(2);
            }
            chosen
        }
        _ => {
            eprintln!("usage: cargo xtask test [--list | --only STEP...]");
            return ExitCode::from(2);
        }
    };
    let results: Vec<Outcome> = chosen.iter().map(|step| run_step(root, step)).collect();
    report(&results)
}

/// How a step ended.
struct Outcome {
    step: &'static Step,
    passed: bool,
    took: Duration,
    /// The last lines of what it said.
    tail: VecDeque<String>,
}

fn run_step(root: &Path, step: &'static Step) -> Outcome {
    println!("\n=== {}: {}", step.name, step.what);
    #[expect(clippy::disallowed_methods, reason = "the test command runs outside the simulator")]
    let start = Instant::now();
    let tail = Arc::default();
    let passed = (step.run)(root).iter_mut().all(|command| match run_heard(command, &tail) {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("cannot run {}: {error}", command.get_program().to_string_lossy());
            false
        }
    });
    let tail = std::mem::take(&mut *tail.lock().expect("nobody panics with it"));
    Outcome { step, passed, took: start.elapsed(), tail }
}

/// Runs a command whose output is passed on line by line, the last lines kept in `tail`.
fn run_heard(
    command: &mut Command,
    tail: &Arc<Mutex<VecDeque<String>>>,
) -> std::io::Result<ExitStatus> {
    let (reader, writer) = std::io::pipe()?;
    let mut child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
    // Our own ends of the pipe, or it would never be at its end.
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let (done, heard) = mpsc::channel::<()>();
    let tail = Arc::clone(tail);
    #[expect(clippy::disallowed_methods, reason = "the test command runs outside the simulator")]
    std::thread::spawn(move || {
        pass_on(reader, &tail);
        drop(done);
    });
    let status = child.wait()?;
    if heard.recv_timeout(LINGER) == Err(mpsc::RecvTimeoutError::Timeout) {
        eprintln!("a process that this step started goes on after its end");
    }
    Ok(status)
}

fn pass_on(reader: impl Read, tail: &Mutex<VecDeque<String>>) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while matches!((&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line), Ok(1..)) {
        let text = String::from_utf8_lossy(&line);
        print!("{text}");
        let mut tail = tail.lock().expect("nobody panics with it");
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(text.trim_end().chars().take(TAIL_LINE_CHARS).collect());
        drop(tail);
        line.clear();
    }
}

fn report(results: &[Outcome]) -> ExitCode {
    for Outcome { step, tail, .. } in results.iter().filter(|outcome| !outcome.passed) {
        println!("\n=== the end of {}, which failed", step.name);
        tail.iter().for_each(|line| println!("{line}"));
    }
    println!("\n=== steps");
    for Outcome { step, passed, took, .. } in results {
        println!(
            "{:<15} {:<6} {:>5} s",
            step.name,
            if *passed { "ok" } else { "FAILED" },
            took.as_secs()
        );
    }
    let passed = results.iter().filter(|outcome| outcome.passed).count();
    let failed = results.len() - passed;
    println!("{passed} steps passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(arguments);
    command
}

pub(crate) fn script(root: &Path, path: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(root.join(path));
    command.current_dir(root).args(arguments);
    command
}

fn policy(root: &Path) -> Vec<Command> {
    let tools = root.join("scratch/tools");
    let deny = tools.join("bin/cargo-deny");
    let mut commands = Vec::new();
    if !deny.exists() {
        let mut install = cargo(
            root,
            &["install", "cargo-deny", "--locked", "--quiet", "--version", CARGO_DENY, "--root"],
        );
        install.arg(&tools);
        // A tool of its own: neither our lock file nor our build folder.
        install.env("CARGO_TARGET_DIR", root.join("scratch/tools/target"));
        commands.push(install);
    }
    let mut check = Command::new(deny);
    check.current_dir(root).args(["check", "bans", "licenses", "sources"]);
    commands.push(check);
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail_of(output: &[u8]) -> Vec<String> {
        let tail = Mutex::default();
        pass_on(output, &tail);
        tail.into_inner().expect("nobody panics with it").into()
    }

    #[test]
    fn the_last_lines_are_kept_and_long_ones_cut() {
        let lines: String = (0..100).map(|nth| format!("line {nth}\n")).collect();
        let kept = tail_of(lines.as_bytes());
        assert_eq!(kept.len(), TAIL_LINES);
        assert_eq!(kept.last().map(String::as_str), Some("line 99"));
        assert_eq!(tail_of(b"no end of line"), ["no end of line"]);
        let long = vec![b'x'; 3 * usize::try_from(LINE_BYTES_MAX).expect("small") + 1];
        let lens: Vec<_> = tail_of(&long).iter().map(String::len).collect();
        assert_eq!(lens, [TAIL_LINE_CHARS, TAIL_LINE_CHARS, TAIL_LINE_CHARS, 1]);
    }
}
