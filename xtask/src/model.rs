//! `cargo xtask model [--small] [--without RULE] [--promises] [SCENARIO...]`: the model of the
//! cluster's rules within its larger bounds.

use std::path::Path;
use std::process::ExitCode;

use crate::test::cargo;

pub(crate) fn run(root: &Path, arguments: &[String]) -> ExitCode {
    let mut command = cargo(root, &["run", "--quiet", "--package", "klamm-model", "--"]);
    match command.args(arguments).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo: {error}");
            ExitCode::FAILURE
        }
    }
}
