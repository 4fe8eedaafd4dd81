//! `cargo xtask`: code generation, documentation and repository checks.

mod checks;
mod codegen;
mod fuzz;
mod model;
mod mutants;
mod paths;
mod powerloss;
mod sim;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The instrument is built with optimization: the programs of the floor are part of it.
const BENCH: [&str; 6] = ["run", "--release", "--quiet", "--package", "klamm-bench-suite", "--"];

type Verb = fn(&Path, &[String]) -> ExitCode;

/// Name, what it does, and the function that does it.
const VERBS: &[(&str, &str, Verb)] = &[
    ("bench", "Klamm beside Apache Kafka and the machine's floor (bench/README.md)", bench),
    ("check", "what the repository demands of itself", |_, a| told(checks::run(a))),
    ("codegen", "generate the protocol's messages from their schemas", |_, a| {
        told(codegen::run(a))
    }),
    ("fuzz", "the fuzz targets, ten minutes each", fuzz::run),
    ("paths", "what a request costs: instructions, system calls; --write", paths::run),
    ("model", "the model of the cluster's rules, within its larger bounds", model::run),
    (
        "mutants",
        "the cluster simulation without one of its rules, each of which has to be missed",
        { |root, a| told(mutants::run(root, a)) },
    ),
    ("powerloss", "the whole of the power loss tests, noted in docs/ledger", |root, a| {
        told(powerloss::run(root, a))
    }),
    ("sim", "the cluster simulation: --seeds FROM..TO, --new COUNT, --set KEY=VALUE", |root, a| {
        told(sim::run(root, a))
    }),
    ("test", "everything that CI runs", test::run),
];

/// The workspace's directory.
pub(crate) fn repository_root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let verb = arguments.first().and_then(|name| VERBS.iter().find(|verb| verb.0 == name));
    let Some((_, _, run)) = verb else {
        eprintln!("usage: cargo xtask VERB");
        for (name, about, _) in VERBS {
            eprintln!("  {name:<10} {about}");
        }
        return ExitCode::from(2);
    };
    run(&repository_root(), &arguments[1..])
}

fn bench(root: &Path, arguments: &[String]) -> ExitCode {
    match test::cargo(root, &BENCH).args(arguments).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => told(Err(format!("cargo: {error}"))),
    }
}

fn told(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
