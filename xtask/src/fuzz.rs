//! `cargo xtask fuzz`: the fuzz targets, one after the other.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The pinned version of the fuzzing tool, installed into `scratch/tools` when missing.
const CARGO_FUZZ: &str = "0.13.2";
/// How long a target runs unless it is said.
const SECONDS: u64 = 600;
/// The longest input.
const BYTES_MAX: usize = 4096;
/// Folders of crates that have fuzz targets.
const CRATES: [&str; 2] = ["crates/protocol", "crates/log"];

/// A fuzz target and the crate that it belongs to.
struct Target {
    crate_dir: PathBuf,
    name: String,
}

/// Runs the targets that `arguments` ask for (`[--seconds N] [TARGET...]`), all by default.
pub(crate) fn run(root: &Path, arguments: &[String]) -> ExitCode {
    let (seconds, names) = match arguments {
        [flag, seconds, names @ ..] if flag == "--seconds" => (seconds.parse(), names),
        names => (Ok(SECONDS), names),
    };
    let (Ok(seconds), Ok(all)) = (seconds, targets(root)) else {
        eprintln!("usage: cargo xtask fuzz [--seconds N] [TARGET...]");
        return ExitCode::from(2);
    };
    let is_chosen = |target: &Target| names.is_empty() || names.contains(&target.name);
    let chosen: Vec<Target> = all.into_iter().filter(is_chosen).collect();
    if chosen.len() < names.len() {
        eprintln!("xtask fuzz: unknown target among {names:?}");
        return ExitCode::from(2);
    }
    if !succeeds(install(root)) {
        return ExitCode::FAILURE;
    }
    // All are run, so that one finding does not hide another.
    let failed: Vec<&Target> =
        chosen.iter().filter(|target| !succeeds(Some(fuzz(root, target, seconds)))).collect();
    for target in &failed {
        println!("FAILED: {} of {}", target.name, target.crate_dir.display());
    }
    println!("{} targets ran, {} failed", chosen.len(), failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One target for each file in the crates' `fuzz/fuzz_targets`, by name.
#[expect(clippy::disallowed_methods, reason = "a tool for the repository's own files")]
fn targets(root: &Path) -> std::io::Result<Vec<Target>> {
    let mut found = Vec::new();
    for crate_dir in CRATES.map(|name| root.join(name)) {
        for entry in std::fs::read_dir(crate_dir.join("fuzz/fuzz_targets"))? {
            let path = entry?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            found.push(Target { crate_dir: crate_dir.clone(), name });
        }
    }
    found.sort_by(|a, b| (&a.crate_dir, &a.name).cmp(&(&b.crate_dir, &b.name)));
    Ok(found)
}

fn tools(root: &Path) -> PathBuf {
    root.join("scratch/tools")
}

/// The command that installs the tool; `None` where it is there.
fn install(root: &Path) -> Option<Command> {
    if tools(root).join("bin/cargo-fuzz").exists() {
        return None;
    }
    let mut install = crate::test::cargo(
        root,
        &["install", "cargo-fuzz", "--locked", "--quiet", "--version", CARGO_FUZZ, "--root"],
    );
    install.arg(tools(root));
    // A tool of its own: neither our lock file nor our build folder.
    install.env("CARGO_TARGET_DIR", tools(root).join("target"));
    Some(install)
}

#[expect(clippy::disallowed_methods, reason = "a tool for the repository's own files")]
fn fuzz(root: &Path, target: &Target, seconds: u64) -> Command {
    let fuzz_dir = target.crate_dir.join("fuzz");
    let corpus = fuzz_dir.join("corpus").join(&target.name);
    if let Err(error) = std::fs::create_dir_all(&corpus) {
        eprintln!("cannot create {}: {error}", corpus.display());
    }
    let mut command = Command::new(tools(root).join("bin/cargo-fuzz"));
    command.current_dir(&target.crate_dir).args(["fuzz", "run", &target.name]);
    // What is found is kept in the corpus, which is not part of the tree; the seeds are.
    command.arg(corpus);
    let seeds = fuzz_dir.join("seeds").join(&target.name);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    command
        .arg("--")
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={BYTES_MAX}"));
    // The sanitizers need flags that the stable compiler takes only so.
    command.env("RUSTC_BOOTSTRAP", "1");
    command
}

fn succeeds(command: Option<Command>) -> bool {
    let Some(mut command) = command else { return true };
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("cannot run {}: {error}", command.get_program().to_string_lossy());
            false
        }
    }
}
