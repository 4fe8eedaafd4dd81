//! `cargo xtask`: code generation, documentation and repository checks.

mod codegen;

use std::path::PathBuf;
use std::process::ExitCode;

type Verb = fn(&[String]) -> Result<(), String>;

/// Name, what it does, and the function that does it.
const VERBS: &[(&str, &str, Verb)] =
    &[("codegen", "generate the protocol's messages from their schemas", codegen::run)];

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
    match run(&arguments[1..]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
