//! `cargo xtask check`: what the repository demands of itself beyond compiler and clippy.
//!
//! Every check looks at the files' text alone and answers one line per fault; `cargo test` runs
//! them all.

mod dependencies;
mod documents;
mod files;
mod sources;

use crate::codegen;
use files::File;

type Check = fn(&[File]) -> Vec<String>;

/// What is demanded, and the function that finds where it is not so.
const CHECKS: &[(&str, Check)] = &[
    ("generated messages are up to date", generated_files),
    ("crates depend only downwards", dependencies::arrows),
    ("every handler opens with a header", sources::handler_headers),
    ("every crate's root is documented", sources::crate_docs),
    ("no production file is over the size limit", sources::sizes),
    ("nothing is left to be done later", sources::placeholders),
    ("modules have telling names", sources::module_names),
    ("there is a change log", documents::change_log),
    ("decisions have their four sections", documents::decisions),
    ("tests that the ledger of hazards names are there", documents::named_tests),
];

/// Runs all checks; files worth a look are named too, but are no fault.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    if !arguments.is_empty() {
        return Err("usage: cargo xtask check".into());
    }
    let files = files::load()?;
    for hint in sources::size_hints(&files) {
        println!("worth a look: {hint}");
    }
    let faults: Vec<String> = CHECKS
        .iter()
        .flat_map(|(demand, check)| {
            check(&files).into_iter().map(move |fault| format!("{demand}: {fault}"))
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

fn generated_files(_: &[File]) -> Vec<String> {
    codegen::check().err().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_as_it_demands() {
        run(&[]).unwrap_or_else(|faults| panic!("\n{faults}"));
    }
}
