//! `cargo xtask paths [--write] [--profiles DIR] [PATH...]`: what a produce and a fetch request cost,
//! counted and compared with `tests/paths/baseline.json`; `--write` makes the counts the baseline.

use std::path::Path;
use std::process::ExitCode;

use crate::test::script;

/// Runs the counting program as CI does.
pub(crate) fn run(root: &Path, arguments: &[String]) -> ExitCode {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match script(root, "tests/paths/run", &arguments).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            ExitCode::from(status.code().and_then(|code| code.try_into().ok()).unwrap_or(1))
        }
        Err(error) => {
            eprintln!("tests/paths/run: {error}");
            ExitCode::FAILURE
        }
    }
}
