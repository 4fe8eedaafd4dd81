//! Counts what a request costs the broker, by path: instructions (callgrind) and system calls
//! (strace), against the baseline beside this program.
//!
//! ```text
//! paths BROKER BASELINE [--write] [--profiles DIR] [PATH...]
//! ```
//!
//! Counts do not depend on what else the machine does, so that they can be a gate where times
//! cannot. What they do not see: the kernel's own work, cache misses, and waiting. A long copy or
//! fill is one instruction for each byte here (`rep movsb`), which makes copies look dearer than
//! they are: none goes unseen.

mod baseline;
mod broker;
mod client;
mod count;
mod fetch;
mod paths;
mod produce;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use baseline::{Baseline, Counts, Verdict};
use paths::PATHS;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: paths BROKER BASELINE [--write] [--profiles DIR] [PATH...]";
/// Functions that a profile's text names.
const PROFILE_FUNCTIONS: usize = 60;

struct Options {
    broker: PathBuf,
    baseline: PathBuf,
    /// Make what is counted the baseline, where it is not within the tolerance.
    write: bool,
    /// Where the profiles go.
    profiles: Option<PathBuf>,
    /// The paths to count; all where it is empty.
    names: Vec<String>,
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        for path in PATHS {
            eprintln!("  {}", path.name);
        }
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("paths: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Option<Options> {
    let mut arguments = std::env::args().skip(1);
    let (broker, baseline) = (arguments.next()?.into(), arguments.next()?.into());
    let mut options = Options { broker, baseline, write: false, profiles: None, names: Vec::new() };
    while let Some(argument) = arguments.next() {
        match &argument[..] {
            "--write" => options.write = true,
            "--profiles" => options.profiles = Some(arguments.next()?.into()),
            name if PATHS.iter().any(|path| path.name == name) => options.names.push(argument),
            _ => return None,
        }
    }
    Some(options)
}

/// Whether everything is as the baseline says.
fn run(options: &Options) -> Outcome<bool> {
    let mut baseline = Baseline::read(&options.baseline)?;
    let chosen = PATHS.iter().filter(|path| {
        options.names.is_empty() || options.names.iter().any(|name| name == path.name)
    });
    let mut worst = Verdict::Within;
    println!("{:<32} {:>12} {:>12}  system calls per request", "path", "instructions", "baseline");
    for path in chosen {
        let counted = count(options, path).map_err(|error| format!("{}: {error}", path.name))?;
        let was = baseline.paths.get(path.name).map(|expected| expected.counts.instructions);
        let was = was.map_or_else(|| "-".to_owned(), |was| was.to_string());
        let calls = counted.system_calls.iter().map(|(name, count)| format!("{name} {count}"));
        let calls = calls.collect::<Vec<_>>().join(", ");
        println!("{:<32} {:>12} {was:>12}  {calls}", path.name, counted.instructions);
        let (verdict, told) = baseline.judge(path.name, &counted);
        for line in told {
            println!("    {line}");
        }
        worst = worst.max(verdict);
        // What is within the tolerance stays, or many small steps would pass unseen.
        if options.write && verdict != Verdict::Within {
            baseline.paths.entry(path.name.to_owned()).or_default().counts = counted;
        }
    }
    if options.write {
        baseline.paths.retain(|name, _| PATHS.iter().any(|path| path.name == name));
        baseline.write(&options.baseline)?;
        println!("what was outside the tolerance is written to {}", options.baseline.display());
        return Ok(true);
    }
    let tolerance = baseline.tolerance_percent;
    let again = "`cargo xtask paths --write` makes it the baseline";
    match worst {
        Verdict::Within => println!("all within {tolerance} % of the baseline"),
        Verdict::Cheaper => println!("FAILED: cheaper than the baseline says; {again}"),
        Verdict::Dearer => println!("FAILED: dearer than the baseline; where it must be, {again}"),
    }
    Ok(worst == Verdict::Within)
}

fn count(options: &Options, path: &paths::Path) -> Outcome<Counts> {
    let profile = match &options.profiles {
        Some(dir) => {
            #[expect(clippy::disallowed_methods, reason = "runs on the machine itself")]
            std::fs::create_dir_all(dir)?;
            Some(dir.join(format!("{}.callgrind", path.name)))
        }
        None => None,
    };
    let instructions = count::instructions(&options.broker, path, profile.as_deref())?;
    if let Some(profile) = profile {
        annotate(&profile, "yes", "inclusive")?;
        annotate(&profile, "no", "exclusive")?;
    }
    let system_calls = count::system_calls(&options.broker, path)?;
    Ok(Counts { instructions: instructions.round() as u64, system_calls })
}

/// Writes the functions that cost most beside a profile.
fn annotate(profile: &Path, inclusive: &str, name: &str) -> Outcome<()> {
    let mut annotate = Command::new("callgrind_annotate");
    annotate.args([&format!("--inclusive={inclusive}"), "--threshold=100", "--auto=no"]);
    let told = annotate.arg(profile).output()?;
    if !told.status.success() {
        return Err(String::from_utf8_lossy(&told.stderr).into_owned().into());
    }
    let told = String::from_utf8_lossy(&told.stdout);
    // The heading and the functions; what follows are source lines.
    let is_function = |line: &&str| line.trim_start().starts_with(|c: char| c.is_ascii_digit());
    let heading = told.lines().take_while(|line| !line.contains("PROGRAM TOTALS"));
    let functions = told.lines().filter(is_function).take(1 + PROFILE_FUNCTIONS);
    let text = heading.chain(functions).collect::<Vec<_>>().join("\n");
    #[expect(clippy::disallowed_methods, reason = "runs on the machine itself")]
    std::fs::write(profile.with_extension(format!("{name}.txt")), text + "\n")?;
    Ok(())
}
