//! The `klamm` binary: one file per verb, no logic.

mod cli;
mod failure;
mod line;
mod output;
mod signal;
mod time_text;
mod verbs;

use std::process::ExitCode;

use clap::Parser;
use klamm_env::Env;
use tracing_subscriber::EnvFilter;

use cli::Cli;
use failure::{Failure, Outcome};

/// Which log lines are shown, in the form of `tracing-subscriber`'s filters.
const LOG_VARIABLE: &str = "KLAMM_LOG";

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(cli.verb.log_level());
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has had enough of it.
        Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("klamm: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn start_logging(default_level: &str) {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE);
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(default_level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

fn run(cli: Cli) -> Outcome {
    let env = Env::real()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(verbs::run(&env, cli.verb));
    // A thread may still wait for input that nobody needs any more.
    runtime.shutdown_background();
    outcome
}
