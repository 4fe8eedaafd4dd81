//! One file per verb: its options, what it asks, what it shows.

pub(crate) mod bench;
pub(crate) mod consume;
pub(crate) mod group;
pub(crate) mod log;
pub(crate) mod produce;
pub(crate) mod serve;
pub(crate) mod topic;

use klamm_env::Env;

use crate::cli::Verb;
use crate::failure::Outcome;

/// Does what was asked.
pub(crate) async fn run(env: &Env, verb: Verb) -> Outcome {
    match verb {
        Verb::Serve(verb) => serve::run(env, verb).await,
        Verb::Topic(verb) => topic::run(env, verb).await,
        Verb::Produce(verb) => produce::run(env, verb).await,
        Verb::Consume(verb) => consume::run(env, verb).await,
        Verb::Group(verb) => group::run(env, verb).await,
        Verb::Log(verb) => log::run(env, verb),
        Verb::Bench(verb) => bench::run(env, verb).await,
    }
}
