//! `cargo xtask test`: everything that CI runs, step by step.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

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
        what: "clippy over all targets, warnings are errors",
        run: |root| {
            vec![cargo(
                root,
                &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"],
            )]
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
    let chosen: Vec<&Step> = match arguments {
        [] => STEPS.iter().collect(),
        [list] if list == "--list" => {
            for step in STEPS {
                println!("{:<15} {}", step.name, step.what);
            }
            return ExitCode::SUCCESS;
        }
        [only, names @ ..] if only == "--only" && !names.is_empty() => {
            let chosen: Vec<&Step> =
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
    let results: Vec<(&Step, bool, Duration)> =
        chosen.iter().map(|step| run_step(root, step)).collect();
    report(&results)
}

fn run_step<'a>(root: &Path, step: &'a Step) -> (&'a Step, bool, Duration) {
    println!("\n=== {}: {}", step.name, step.what);
    #[expect(clippy::disallowed_methods, reason = "the test command runs outside the simulator")]
    let start = Instant::now();
    let passed = (step.run)(root).iter_mut().all(|command| match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("cannot run {}: {error}", command.get_program().to_string_lossy());
            false
        }
    });
    (step, passed, start.elapsed())
}

fn report(results: &[(&Step, bool, Duration)]) -> ExitCode {
    println!("\n=== steps");
    for (step, passed, took) in results {
        println!(
            "{:<15} {:<6} {:>5} s",
            step.name,
            if *passed { "ok" } else { "FAILED" },
            took.as_secs()
        );
    }
    let passed = results.iter().filter(|(_, passed, _)| *passed).count();
    let failed = results.len() - passed;
    println!("{passed} passed, {failed} failed");
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
